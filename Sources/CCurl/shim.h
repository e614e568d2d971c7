#pragma once

// libcurl is opened when a download asks for it and never linked: its thirty dependent libraries cost every start
// of a process 8 ms, and only `model fetch` needs them. So nothing here names a symbol of libcurl; what Swift cannot
// do, calling a function with C variadic arguments, is done on the addresses that dlsym found.
// The numbers are libcurl's ABI, which does not change: https://curl.se/libcurl/abi.html.

enum kirie_curl_option {
    kirie_curl_low_speed_limit = 19,
    kirie_curl_low_speed_time = 20,
    kirie_curl_fail_on_error = 45,
    kirie_curl_follow_location = 52,
    kirie_curl_max_redirections = 68,
    kirie_curl_connect_timeout = 78,
    kirie_curl_no_signal = 99,
    kirie_curl_protocols = 181,
    kirie_curl_redirection_protocols = 182,
    kirie_curl_write_data = 10001,
    kirie_curl_url = 10002,
    kirie_curl_range = 10007,
    kirie_curl_user_agent = 10018,
    kirie_curl_write_function = 20011,
};

enum { kirie_curl_response_code = 0x200002, kirie_curl_http_and_https = 3, kirie_curl_global_all = 3 };

/// Calls `curl_easy_setopt`, found at `setopt`, with an option that takes a `long`.
static inline int kirie_curl_set_long(void *setopt, void *handle, int option, long value) {
    return ((int (*)(void *, int, ...))setopt)(handle, option, value);
}

/// Calls `curl_easy_setopt`, found at `setopt`, with an option that takes a pointer or a C string.
static inline int kirie_curl_set_pointer(void *setopt, void *handle, int option, const void *value) {
    return ((int (*)(void *, int, ...))setopt)(handle, option, value);
}

/// Receives `size * count` bytes; anything but that count back ends the transfer.
typedef unsigned long (*kirie_curl_receiver)(void *bytes, unsigned long size, unsigned long count, void *context);

/// Calls `curl_easy_setopt`, found at `setopt`, with the function that receives the body.
static inline int kirie_curl_set_receiver(void *setopt, void *handle, kirie_curl_receiver receiver) {
    return ((int (*)(void *, int, ...))setopt)(handle, kirie_curl_write_function, receiver);
}

/// Calls `curl_easy_getinfo`, found at `getinfo`, with a value that is a `long`.
static inline int kirie_curl_get_long(void *getinfo, void *handle, int info, long *value) {
    return ((int (*)(void *, int, ...))getinfo)(handle, info, value);
}
