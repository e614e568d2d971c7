// The mask decoder's products on bf16 numbers, for AMX. A row's sums run in the same order whatever rows go with it.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target( \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

#include "tiles_amx.h"

// c (17 to 32 rows, columns) (+)= a b: two tiles of rows, so that every right side is used twice.
INLINE void tall_block(
    size_t columns, size_t pairs, size_t step, bf16_matrix a, bf16_matrix b, sum_matrix c, int accumulate) {
    const uint16_t *lower_a = a.at + 16 * a.stride;
    float *lower_c = c.at + 16 * c.stride;
    for (size_t n = 0; n < columns; n += 32) {
        const int isPair = n + 32 <= columns;
        if (accumulate) {
            _tile_loadd(0, c.at + n, c.stride * 4);
            _tile_loadd(2, lower_c + n, c.stride * 4);
            if (isPair) {
                _tile_loadd(1, c.at + n + 16, c.stride * 4);
                _tile_loadd(3, lower_c + n + 16, c.stride * 4);
            }
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (size_t k = 0; k < pairs; k += step) {
            const uint16_t *right = b.at + (k * b.stride + n) * 2;
            _tile_loadd(4, a.at + k * 2, a.stride * 2);
            _tile_loadd(6, right, b.stride * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, lower_a + k * 2, a.stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            if (isPair) {
                _tile_loadd(7, right + 32, b.stride * 4);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, c.at + n, c.stride * 4);
        _tile_stored(2, lower_c + n, c.stride * 4);
        if (isPair) {
            _tile_stored(1, c.at + n + 16, c.stride * 4);
            _tile_stored(3, lower_c + n + 16, c.stride * 4);
        }
    }
}

// The same for up to 16 rows: four tiles of columns, so that every left side is used four times.
INLINE void flat_block(
    size_t columns, size_t pairs, size_t step, bf16_matrix a, bf16_matrix b, sum_matrix c, int accumulate) {
    size_t n = 0;
    for (; n + 64 <= columns; n += 64) {
        if (accumulate) {
            _tile_loadd(0, c.at + n, c.stride * 4);
            _tile_loadd(1, c.at + n + 16, c.stride * 4);
            _tile_loadd(2, c.at + n + 32, c.stride * 4);
            _tile_loadd(3, c.at + n + 48, c.stride * 4);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (size_t k = 0; k < pairs; k += step) {
            const uint16_t *right = b.at + (k * b.stride + n) * 2;
            _tile_loadd(4, a.at + k * 2, a.stride * 2);
            _tile_loadd(6, right, b.stride * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, right + 32, b.stride * 4);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(6, right + 64, b.stride * 4);
            _tile_dpbf16ps(2, 4, 6);
            _tile_loadd(7, right + 96, b.stride * 4);
            _tile_dpbf16ps(3, 4, 7);
        }
        _tile_stored(0, c.at + n, c.stride * 4);
        _tile_stored(1, c.at + n + 16, c.stride * 4);
        _tile_stored(2, c.at + n + 32, c.stride * 4);
        _tile_stored(3, c.at + n + 48, c.stride * 4);
    }
    for (; n < columns; n += 16) {
        if (accumulate)
            _tile_loadd(0, c.at + n, c.stride * 4);
        else
            _tile_zero(0);
        for (size_t k = 0; k < pairs; k += step) {
            _tile_loadd(4, a.at + k * 2, a.stride * 2);
            _tile_loadd(6, b.at + (k * b.stride + n) * 2, b.stride * 4);
            _tile_dpbf16ps(0, 4, 6);
        }
        _tile_stored(0, c.at + n, c.stride * 4);
    }
}

void kirie_amx_bf16_product(const kirie_bf16_product_arguments *arguments) {
    PRODUCT_ARGUMENTS;
    LOCAL(pairs);
    const uint16_t *a = arguments->a, *b = arguments->b;
    float *c = arguments->c;
    const size_t step = tile_step(pairs), whole = rows / 32 * 32, rest = rows - whole;
    if (whole > 0) {
        shape_tiles(16, 16, step);
        for (size_t g = 0; g < groups; g++)
            for (size_t m = 0; m < whole; m += 32)
                tall_block(
                    columns, pairs, step, (bf16_matrix){a + g * a_step + m * a_row, a_row},
                    (bf16_matrix){b + g * b_step, b_stride},
                    (sum_matrix){c + g * c_step + m * c_stride, c_stride}, accumulate);
    }
    if (rest > 0) {
        a += whole * a_row;
        c += whole * c_stride;
        if (rest > 16)
            shape_tiles(16, rest - 16, step);
        else
            shape_tiles(rest, rest, step);
        for (size_t g = 0; g < groups; g++, a += a_step, b += b_step, c += c_step) {
            const bf16_matrix left = {a, a_row}, right = {b, b_stride};
            const sum_matrix sums = {c, c_stride};
            if (rest > 16)
                tall_block(columns, pairs, step, left, right, sums, accumulate);
            else
                flat_block(columns, pairs, step, left, right, sums, accumulate);
        }
    }
    _tile_release();
}

#pragma clang attribute pop

#endif
