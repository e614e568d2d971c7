#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

// libcurl is opened when a download asks for it and never linked: its thirty dependent libraries cost every start
// of a process 8 ms, and only `model fetch` needs them. So nothing here names a symbol of libcurl; what Swift cannot
// do, calling a function with C variadic arguments, is done on the addresses that dlsym found.
// The numbers are libcurl's ABI, which does not change: https://curl.se/libcurl/abi.html.

enum kirie_curl_option {
    kirie_curl_timeout = 13,
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
    kirie_curl_proxy = 10004,
    kirie_curl_range = 10007,
    kirie_curl_user_agent = 10018,
    kirie_curl_open_socket_data = 10164,
    kirie_curl_write_function = 20011,
    kirie_curl_open_socket_function = 20163,
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

/// What libcurl is about to connect to: `struct curl_sockaddr`, whose address may be longer than `struct sockaddr`.
struct kirie_curl_address {
    int family;
    int type;
    int protocol;
    unsigned int length;
    struct sockaddr address;
};

/// Whether an address of IPv4, in the order of its bytes, is one of the public internet (IANA's special-purpose registry).
static inline int kirie_is_public_v4(const unsigned char *a) {
    return !(a[0] == 0 || a[0] == 10 || a[0] == 127 || a[0] >= 224 ||           // this network, private, loopback, multicast on
             (a[0] == 100 && (a[1] & 0xC0) == 64) || (a[0] == 169 && a[1] == 254) ||  // carriers, link-local
             (a[0] == 172 && (a[1] & 0xF0) == 16) || (a[0] == 192 && a[1] == 168) ||  // private
             (a[0] == 192 && a[1] == 0 && (a[2] == 0 || a[2] == 2)) ||                // protocols, documentation
             (a[0] == 192 && a[1] == 88 && a[2] == 99) || (a[0] == 198 && (a[1] & 0xFE) == 18) ||  // relays, benchmarks
             (a[0] == 198 && a[1] == 51 && a[2] == 100) || (a[0] == 203 && a[1] == 0 && a[2] == 113));
}

/// Whether an address of IPv6 is one of the public internet: 2000::/3 without what carries IPv4 or documentation.
static inline int kirie_is_public_v6(const unsigned char *a) {
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    if (memcmp(a, mapped, 12) == 0) return kirie_is_public_v4(a + 12);
    if ((a[0] & 0xE0) != 0x20) return 0;
    if (a[0] == 0x20 && a[1] == 0x01 && (a[2] & 0xFE) == 0) return 0;        // 2001::/23, Teredo among them
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0D && a[3] == 0xB8) return 0;  // 2001:db8::/32
    if (a[0] == 0x20 && a[1] == 0x02) return kirie_is_public_v4(a + 2);      // 6to4
    return 1;
}

/// Opens a socket for libcurl where the address is public; counts those that are not, and refuses them.
static int kirie_curl_open_public_socket(void *refusals, int purpose, struct kirie_curl_address *to) {
    int is_public = 0;
    (void)purpose;
    if (to->family == AF_INET && to->length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in address;
        memcpy(&address, &to->address, sizeof address);
        is_public = kirie_is_public_v4((const unsigned char *)&address.sin_addr);
    } else if (to->family == AF_INET6 && to->length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 address;
        memcpy(&address, (const char *)&to->address, sizeof address);
        is_public = kirie_is_public_v6((const unsigned char *)&address.sin6_addr);
    }
    if (!is_public) {
        ++*(int32_t *)refusals;
        return -1;  // CURL_SOCKET_BAD
    }
    return socket(to->family, to->type | SOCK_CLOEXEC, to->protocol);
}

/// Calls `curl_easy_setopt`, found at `setopt`, with a function that connects to public addresses alone.
static inline int kirie_curl_set_public_sockets(void *setopt, void *handle) {
    return ((int (*)(void *, int, ...))setopt)(handle, kirie_curl_open_socket_function, kirie_curl_open_public_socket);
}
