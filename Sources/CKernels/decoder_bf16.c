// The mask decoder's bf16 kernels for AVX512_BF16.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

INLINE void product_block(
    const int height, const int vectors, size_t pairs, bf16_matrix a, bf16_matrix b, sum_matrix c, int accumulate) {
    vf sum[7][4];
    EACH(r, height) EACH(v, vectors) sum[r][v] = accumulate ? load(c.at + r * c.stride + v * 16) : (vf)0.0f;
    for (size_t k = 0; k < pairs; k++) {
        __m512bh row[4];
        EACH(v, vectors) row[v] = load_pairs(b.at + (k * b.stride + v * 16) * 2);
        EACH(r, height) {
            const __m512bh factor = splat_pair(a.at + r * a.stride + 2 * k);
            EACH(v, vectors) sum[r][v] = dot(sum[r][v], factor, row[v]);
        }
    }
    EACH(r, height) EACH(v, vectors) store(c.at + r * c.stride + v * 16, sum[r][v]);
}

INLINE void product_columns(
    const int vectors, size_t rows, size_t pairs, bf16_matrix a, bf16_matrix b, sum_matrix c, int accumulate) {
    const size_t blocks = (rows + 6) / 7;
    for (size_t i = 0, m = 0; i < blocks; i++) {
        const size_t height = (rows - m + blocks - i - 1) / (blocks - i);
#define CASE(h) \
    case h: \
        product_block( \
            h, vectors, pairs, (bf16_matrix){a.at + m * a.stride, a.stride}, b, \
            (sum_matrix){c.at + m * c.stride, c.stride}, accumulate); \
        break;
        switch (height) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) }
#undef CASE
        m += height;
    }
}

void kirie_avx512_bf16_product(const kirie_bf16_product_arguments *arguments) {
    PRODUCT_ARGUMENTS;
    LOCAL(pairs);
    const uint16_t *a = arguments->a, *b = arguments->b;
    float *c = arguments->c;
    for (size_t g = 0; g < groups; g++, a += a_step, b += b_step, c += c_step) {
        size_t n = 0;
#define COLUMNS(vectors) \
    product_columns( \
        vectors, rows, pairs, (bf16_matrix){a, a_row}, (bf16_matrix){b + n * 2, b_stride}, \
        (sum_matrix){c + n, c_stride}, accumulate)
        for (; n + 64 <= columns; n += 64) COLUMNS(4);
        for (; n + 32 <= columns; n += 32) COLUMNS(2);
        for (; n < columns; n += 16) COLUMNS(1);
#undef COLUMNS
    }
}

void kirie_avx512_bf16_add(size_t count, const uint16_t *x, uint16_t *y) {
    size_t n = 0;
    for (; n + 16 <= count; n += 16) store_narrow(y + n, widen_lanes(x + n) + widen_lanes(y + n));
    for (; n < count; n++) y[n] = narrow_one(widen_one(x[n]) + widen_one(y[n]));
}

void kirie_avx512_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y) {
    for (size_t r = 0; r + 1 < rows; r += 2)
        for (size_t n = 0; n < columns; n += 16)
            store_pairs(y + (r / 2 * columns + n) * 2, load(x + r * x_stride + n), load(x + (r + 1) * x_stride + n));
}

void kirie_avx512_bf16_upscale_norm(const kirie_bf16_upscale_norm_arguments *arguments) {
    UPSCALE_NORM_ARGUMENTS;
    for (size_t n = 0; n < 64; n += 16) {
        const vf part_scale = load(factor + n);
        vf total = 0, squares = 0;
        for (size_t r = 0; r < rows; r++) {
            const vf value = FMA(widen_lanes(part + r * 64 + n), part_scale, load(x + r * 64 + n) + bias[r]);
            total += value;
            store(x + r * 64 + n, value);
        }
        const vf mean = total / (float)rows;
        for (size_t r = 0; r < rows; r++) {
            const vf d = load(x + r * 64 + n) - mean;
            squares = FMA(d, d, squares);
        }
        const vf scale = 1.0f / __builtin_elementwise_sqrt(squares / (float)rows + epsilon);
        for (size_t r = 0; r + 1 < rows; r += 2) {
            const float *p = x + r * 64 + n;
            store_pairs(
                y + (r / 2 * 64 + n) * 2, vgelu_short(FMA((load(p) - mean) * scale, (vf)gain[r], (vf)shift[r])),
                vgelu_short(FMA((load(p + 64) - mean) * scale, (vf)gain[r + 1], (vf)shift[r + 1])));
        }
    }
}

INLINE void gelu_dot_block(
    const int masks, size_t rows, matrix x, const float *bias, matrix weight, sum_matrix logits) {
    for (size_t n = 0; n < 64; n += 16) {
        vf sum[4];
        EACH(m, masks) sum[m] = load(logits.at + m * logits.stride + n);
        for (size_t r = 0; r < rows; r++) {
            const vf g = vgelu_short(load(x.at + r * x.stride + n) + bias[r]);
            EACH(m, masks) sum[m] = FMA((vf)weight.at[m * weight.stride + r], g, sum[m]);
        }
        EACH(m, masks) store(logits.at + m * logits.stride + n, sum[m]);
    }
}

void kirie_avx512_bf16_gelu_dot(const kirie_gelu_dot_arguments *arguments) {
    GELU_DOT_ARGUMENTS;
    for (size_t m = 0; m < masks; m += 4) {
        const matrix in = {x, x_stride}, w = {weight + m * weight_stride, weight_stride};
        const sum_matrix l = {logits + m * logits_stride, logits_stride};
        switch (masks - m) {
        case 1: gelu_dot_block(1, rows, in, bias, w, l); break;
        case 2: gelu_dot_block(2, rows, in, bias, w, l); break;
        case 3: gelu_dot_block(3, rows, in, bias, w, l); break;
        default: gelu_dot_block(4, rows, in, bias, w, l);
        }
    }
}

#pragma clang attribute pop

#endif
