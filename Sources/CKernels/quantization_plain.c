// The plain twins of the int8 kernels: what they compute, for the tests.

#include "kernels.h"

#include <math.h>

#include "bf16_numbers.h"

void kirie_plain_bf16_quantize_rows(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales) {
    for (size_t r = 0; r < rows; r++) {
        const uint16_t *line = x + r * x_stride;
        float peak = 0;
        for (size_t n = 0; n < columns; n++) peak = fmaxf(peak, fabsf(widen(line[n])));
        const float inverse = peak > 0 ? 127 / peak : 0;
        for (size_t n = 0; n < columns; n++) y[r * columns + n] = (int8_t)nearbyintf(widen(line[n]) * inverse);
        scales[r] = peak / 127;
    }
}

void kirie_plain_dequantize_rows(const kirie_dequantize_arguments *arguments) {
    DEQUANTIZE_ARGUMENTS;
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++) {
            const float value = (float)sums[r * columns + n] * row_scales[r] * column_scales[n] + bias[n];
            y[r * y_stride + n] = accumulate ? y[r * y_stride + n] + value : value;
        }
}

void kirie_plain_bf16_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++)
            y[r * y_stride + n] =
                narrow((float)sums[r * columns + n] * row_scales[r] * column_scales[n] + bias[n]);
}
