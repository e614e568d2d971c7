// fp32 products of numbers in three bf16 parts, for AMX: six of its products take a third of the time of one in fp32.

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
#include "bf16x3.h"
#include "bf16x3_tiles_amx.h"

void kirie_amx_bf16x3_split_rows(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y) {
    const size_t steps = depth / 32, padded = (rows + 31) / 32 * 32;
    for (size_t r = 0; r < padded; r++) {
        uint16_t *to = y + r / 16 * steps * PARTS * TILE + r % 16 * 32;
        for (size_t k = 0; k < steps; k++, to += PARTS * TILE) {
            __m512 numbers[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            if (r < rows) EACH(i, 2) numbers[i] = _mm512_loadu_ps(x + r * x_stride + k * 32 + i * 16);
            store_row(numbers, to);
        }
    }
}

void kirie_amx_bf16x3_pack_weights(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed) {
    for (size_t n = 0; n < columns; n++) {
        uint16_t *panel = packed + n / 32 * panel_numbers(depth) + n % 32 / 16 * TILE + n % 16 * 2;
        if (n % 16 == 0) memset(panel, 0, TILE * sizeof *panel);
        float rest = bias ? bias[n] : 0;
        EACH(i, PARTS) {
            uint16_t *part = panel + i / 2 * 32 + i % 2;
            *part = narrow_one(rest);
            rest -= widen_one(*part);
        }
        for (size_t k = 0; k < depth; k += 32) {
            const float *row = weight + n * depth + k;
            __m512 numbers[2] = {_mm512_loadu_ps(row), _mm512_loadu_ps(row + 16)};
            store_column(numbers, panel + (2 + k / 32 * PARTS * 2) * TILE);
        }
    }
}

// y (32, 32) = rows times a panel; prefetches `lines` lines of `next` meanwhile, which it moves on.
INLINE void multiply_block(
    size_t steps, const uint16_t *x, const uint16_t *panel, float *y, size_t y_stride, const char **next,
    size_t lines) {
    // The bias is one row more of the weights, whose input is 1: the same tile row 16 times.
    static const uint16_t ones[32] __attribute__((aligned(64))) = {0x3f80, 0x3f80, 0x3f80};
    begin_sums(0, y, y_stride);
    _tile_loadd(4, ones, 0);
    LOAD(6, panel);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 4, 6);
    LOAD(7, panel + TILE);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(3, 4, 7);
    const uint16_t *w = panel + 2 * TILE, *lower = x + steps * PARTS * TILE;
    for (size_t k = 0; k < steps; k++, x += PARTS * TILE, lower += PARTS * TILE, w += PARTS * 2 * TILE) {
        for (size_t i = 0; i < lines; i++, *next += 64) _mm_prefetch(*next, _MM_HINT_T1);
        add_step(x, lower, w);
    }
    end_sums(y, y_stride);
}

void kirie_amx_bf16x3_product(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride) {
    const size_t steps = depth / 32, panel = panel_numbers(depth), blocks = (rows + 31) / 32;
    // While one panel is multiplied the next one comes into the second-level cache, spread over all steps.
    const size_t lines = (panel / 32 + steps * blocks - 1) / (steps * blocks);
    shape_tiles(16, 16, 16);
    for (size_t n = 0; n < columns; n += 32, packed += panel) {
        const char *next = (const char *)(n + 32 < columns ? packed + panel : packed);
        for (size_t r = 0; r < rows; r += 32) {
            const uint16_t *left = x + r * steps * 32 * PARTS;
            float *to = y + r * y_stride + n;
            if (!accumulate && r + 32 <= rows) {
                multiply_block(steps, left, packed, to, y_stride, &next, lines);
                continue;
            }
            // The sum is added to y as a whole: begun with y, every step of it would be rounded like a number of y's size.
            float block[32 * 32] __attribute__((aligned(64)));
            multiply_block(steps, left, packed, block, 32, &next, lines);
            for (size_t i = 0; i < 32 && r + i < rows; i++)
                EACH(h, 2) {
                    const vf sum = load(block + i * 32 + h * 16);
                    store(to + i * y_stride + h * 16, accumulate ? load(to + i * y_stride + h * 16) + sum : sum);
                }
        }
    }
    _tile_release();
}

#pragma clang attribute pop

#endif
