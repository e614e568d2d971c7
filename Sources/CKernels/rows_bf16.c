// The bf16 kernels for AVX512_BF16: x86-64 from Cooper Lake and Zen 4 on.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

void kirie_avx512_bf16_narrow(size_t count, const float *x, uint16_t *y) {
    size_t n = 0;
    for (; n + 16 <= count; n += 16) store_narrow(y + n, load(x + n));
    for (; n < count; n++) y[n] = narrow_one(x[n]);
}

void kirie_avx512_bf16_layer_norm_rows(const kirie_bf16_layer_norm_arguments *arguments) {
    LAYER_NORM_ARGUMENTS;
    const size_t whole = columns / 16 * 16;
    for (size_t r = 0; r < rows; r++) {
        const float *line = x + r * x_stride;
        // Mean and variance in one pass, of what the numbers differ from a guess of their mean: squares of a difference do
        // not drown what is left of them.
        const float guess = whole > 0 ? sum_of(load(line)) / 16 : line[0];
        vf totals[2] = {0}, squares[2] = {0};
        size_t n = 0;
        for (; n + 32 <= whole; n += 32)
            EACH(i, 2) {
                const vf d = load(line + n + i * 16) - guess;
                totals[i] += d;
                squares[i] = FMA(d, d, squares[i]);
            }
        for (; n < whole; n += 16) {
            const vf d = load(line + n) - guess;
            totals[0] += d;
            squares[0] = FMA(d, d, squares[0]);
        }
        float total = sum_of(totals[0] + totals[1]), square = sum_of(squares[0] + squares[1]);
        for (; n < columns; n++) {
            total += line[n] - guess;
            square += (line[n] - guess) * (line[n] - guess);
        }
        const float shifted = total / columns, mean = guess + shifted;
        const float variance = square / columns - shifted * shifted;
        const float scale = 1.0f / __builtin_sqrtf((variance > 0 ? variance : 0) + epsilon);
        for (size_t n = 0; n < whole; n += 16)
            store_narrow(
                y + r * y_stride + n, FMA((load(line + n) - mean) * scale, load(gain + n), load(shift + n)));
        for (size_t n = whole; n < columns; n++)
            y[r * y_stride + n] = narrow_one((line[n] - mean) * scale * gain[n] + shift[n]);
    }
}

#pragma clang attribute pop

#endif
