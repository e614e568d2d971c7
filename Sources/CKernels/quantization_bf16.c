// Rows of bf16 numbers to int8 and back, for AVX-512.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

// The last lanes of a row that is no whole number of vectors.
INLINE __mmask16 lanes_of(size_t count) { return (__mmask16)(count >= 16 ? 0xffff : (1u << count) - 1); }

INLINE vf widen_some(__mmask16 mask, const uint16_t *p) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16);
}

void kirie_avx512_bf16_quantize_rows(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales) {
    for (size_t r = 0; r < rows; r++) {
        const uint16_t *line = x + r * x_stride;
        vf peaks = 0;
        for (size_t n = 0; n < columns; n += 16)
            peaks = larger(
                peaks, __builtin_elementwise_abs(widen_some(lanes_of(columns - n), line + n)));
        const float peak = max_of(peaks), inverse = peak > 0 ? 127 / peak : 0;
        for (size_t n = 0; n < columns; n += 16) {
            const __mmask16 mask = lanes_of(columns - n);
            const __m512i whole = _mm512_cvtps_epi32((__m512)(widen_some(mask, line + n) * inverse));
            _mm512_mask_cvtepi32_storeu_epi8(y + r * columns + n, mask, whole);
        }
        scales[r] = peak / 127;
    }
}

INLINE vf dequantized(
    __mmask16 mask, const int32_t *sums, float row_scale, const float *column_scales, const float *bias) {
    const vf sum = (vf)_mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, sums));
    return FMA(
        sum * row_scale, (vf)_mm512_maskz_loadu_ps(mask, column_scales), (vf)_mm512_maskz_loadu_ps(mask, bias));
}

void kirie_avx512_dequantize_rows(const kirie_dequantize_arguments *arguments) {
    DEQUANTIZE_ARGUMENTS;
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n += 16) {
            const __mmask16 mask = lanes_of(columns - n);
            float *to = y + r * y_stride + n;
            vf value = dequantized(mask, sums + r * columns + n, row_scales[r], column_scales + n, bias + n);
            if (accumulate) value += (vf)_mm512_maskz_loadu_ps(mask, to);
            _mm512_mask_storeu_ps(to, mask, (__m512)value);
        }
}

void kirie_avx512_bf16_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n += 16) {
            const __mmask16 mask = lanes_of(columns - n);
            const vf value = dequantized(mask, sums + r * columns + n, row_scales[r], column_scales + n, bias + n);
            _mm256_mask_storeu_epi16(y + r * y_stride + n, mask, (__m256i)_mm512_cvtneps_pbh((__m512)value));
        }
}

#pragma clang attribute pop

#endif
