#pragma once

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

// libtiff is opened when a TIFF picture is met and never linked: it draws in a dozen libraries, and few pictures are
// TIFF. So nothing here names a symbol of libtiff; what Swift cannot do, calling functions with C variadic arguments
// and reading a va_list, is done on the addresses that dlsym found.
// The numbers are the TIFF 6.0 tags and libtiff's ABI: https://libtiff.gitlab.io/libtiff/functions/TIFFGetField.html

enum kirie_tiff_tag {
    kirie_tiff_width = 256,
    kirie_tiff_height = 257,
    kirie_tiff_bits = 258,
    kirie_tiff_compression = 259,
    kirie_tiff_photometric = 262,
    kirie_tiff_orientation = 274,
    kirie_tiff_samples = 277,
    kirie_tiff_rows_per_strip = 278,
    kirie_tiff_planes = 284,
    kirie_tiff_colors = 320,
    kirie_tiff_tile_width = 322,
    kirie_tiff_tile_height = 323,
    kirie_tiff_extra_samples = 338,
    kirie_tiff_sample_format = 339,
    kirie_tiff_xmp = 700,
    kirie_tiff_jpeg_color_mode = 65538,
};

/// Calls `TIFFGetField`, or its twin that knows defaults, found at `function`, for a tag of one 16-bit number.
static inline int kirie_tiff_get16(void *function, void *tiff, uint32_t tag, uint16_t *value) {
    return ((int (*)(void *, uint32_t, ...))function)(tiff, tag, value);
}

/// The same for a tag of one 32-bit number.
static inline int kirie_tiff_get32(void *function, void *tiff, uint32_t tag, uint32_t *value) {
    return ((int (*)(void *, uint32_t, ...))function)(tiff, tag, value);
}

/// The same for a tag of a 16-bit count and an array that stays libtiff's.
static inline int kirie_tiff_get_list16(
    void *function, void *tiff, uint32_t tag, uint16_t *count, const uint16_t **values) {
    return ((int (*)(void *, uint32_t, ...))function)(tiff, tag, count, values);
}

/// The same for a tag of a 32-bit count and bytes that stay libtiff's.
static inline int kirie_tiff_get_bytes(
    void *function, void *tiff, uint32_t tag, uint32_t *count, const void **bytes) {
    return ((int (*)(void *, uint32_t, ...))function)(tiff, tag, count, bytes);
}

/// The same for the colour map: three arrays of 2^bits 16-bit numbers that stay libtiff's.
static inline int kirie_tiff_get_colors(
    void *function, void *tiff, const uint16_t **red, const uint16_t **green, const uint16_t **blue) {
    return ((int (*)(void *, uint32_t, ...))function)(tiff, kirie_tiff_colors, red, green, blue);
}

/// Calls `TIFFSetField`, found at `function`, for a tag of one whole number.
static inline int kirie_tiff_set(void *function, void *tiff, uint32_t tag, int value) {
    return ((int (*)(void *, uint32_t, ...))function)(tiff, tag, value);
}

/// Receives what libtiff complains of: whose file it is, which part of libtiff speaks, a format and what it takes.
typedef void (*kirie_tiff_handler)(void *client, const char *module, const char *format, va_list arguments);

/// Calls `TIFFSetErrorHandlerExt`, found at `function`.
static inline void kirie_tiff_set_handler(void *function, kirie_tiff_handler handler) {
    ((kirie_tiff_handler (*)(kirie_tiff_handler))function)(handler);
}

/// Writes a message into at most `size` bytes, its end included.
static inline void kirie_tiff_write_message(char *buffer, unsigned long size, const char *format, va_list arguments) {
    vsnprintf(buffer, size, format, arguments);
}
