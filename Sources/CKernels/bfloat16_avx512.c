// The bf16 kernels for AVX512_BF16: x86-64 from Cooper Lake and Zen 4 on.

#include "kirie_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "bfloat16_vectors.h"

void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y) {
    size_t n = 0;
    for (; n + 16 <= count; n += 16) store_narrow(y + n, load(x + n));
    for (; n < count; n++) y[n] = narrow_one(x[n]);
}

void kirie_bf16_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, uint16_t *y, size_t y_stride) {
    const size_t whole = columns / 16 * 16;
    for (size_t r = 0; r < rows; r++) {
        const float *line = x + r * x_stride;
        vf totals = 0, squares = 0;
        for (size_t n = 0; n < whole; n += 16) totals += load(line + n);
        float total = sum_of(totals), square = 0;
        for (size_t n = whole; n < columns; n++) total += line[n];
        const float mean = total / columns;
        for (size_t n = 0; n < whole; n += 16) {
            vf d = load(line + n) - mean;
            squares = FMA(d, d, squares);
        }
        for (size_t n = whole; n < columns; n++) square += (line[n] - mean) * (line[n] - mean);
        const float scale = 1.0f / __builtin_sqrtf((sum_of(squares) + square) / columns + epsilon);
        for (size_t n = 0; n < whole; n += 16)
            store_narrow(
                y + r * y_stride + n, FMA((load(line + n) - mean) * scale, load(gain + n), load(shift + n)));
        for (size_t n = whole; n < columns; n++)
            y[r * y_stride + n] = narrow_one((line[n] - mean) * scale * gain[n] + shift[n]);
    }
}

#pragma clang attribute pop

#else

// Elsewhere the plain twins stand in; nobody chooses bf16 there.

void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y) { kirie_plain_bf16_narrow(count, x, y); }

void kirie_bf16_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, uint16_t *y, size_t y_stride) {
    kirie_plain_bf16_layer_norm_rows(rows, columns, x, x_stride, gain, shift, epsilon, y, y_stride);
}

#endif
