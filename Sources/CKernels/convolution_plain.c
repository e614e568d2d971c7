// The plain twins of the convolutions: the definitions, element by element, in double.

#include "kernels.h"

#include <math.h>

#include "bf16_numbers.h"
#include "plain.h"

static float exact_gelu(double x) { return (float)(0.5 * x * (1 + erf(x * 0.70710678118654752))); }

void kirie_plain_depthwise3x3_row(const kirie_depthwise3x3_arguments *arguments) {
    DEPTHWISE_ARGUMENTS;
    const float *rows[3] = {above, at, below};
    for (size_t ox = 0; ox < (width + stride - 1) / stride; ox++)
        for (size_t c = 0; c < channels; c++) {
            double sum = bias[c];
            for (size_t dy = 0; dy < 3; dy++)
                for (size_t dx = 0; dx < 3; dx++) {
                    const ptrdiff_t ix = (ptrdiff_t)(ox * stride + dx) - 1;
                    if (!rows[dy] || ix < 0 || ix >= (ptrdiff_t)width) continue;
                    sum += (double)rows[dy][(size_t)ix * channels + c] * weight[(dy * 3 + dx) * channels + c];
                }
            y[ox * channels + c] = gelu ? gelu_of((float)sum) : (float)sum;
        }
}

void kirie_plain_depthwise_relu6_row(const kirie_depthwise_relu6_arguments *arguments) {
    DEPTHWISE_RELU6_ARGUMENTS;
    for (size_t ox = 0; ox < (width + stride - 1) / stride; ox++)
        for (size_t c = 0; c < channels; c++) {
            double sum = bias[c];
            for (size_t dy = 0; dy < size; dy++)
                for (size_t dx = 0; dx < size; dx++) {
                    const ptrdiff_t ix = (ptrdiff_t)(ox * stride + dx) - (ptrdiff_t)before;
                    if (!rows[dy] || ix < 0 || ix >= (ptrdiff_t)width) continue;
                    sum += (double)rows[dy][(size_t)ix * channels + c] * weight[(dy * size + dx) * channels + c];
                }
            y[ox * channels + c] = (float)fmin(fmax(sum, 0), 6);
        }
}

void kirie_plain_bf16_gelu(size_t count, uint16_t *x) {
    for (size_t n = 0; n < count; n++) x[n] = narrow(exact_gelu(widen(x[n])));
}

void kirie_plain_bf16_depthwise3x3_row(const kirie_bf16_depthwise3x3_arguments *arguments) {
    DEPTHWISE_ARGUMENTS;
    const uint16_t *rows[3] = {above, at, below};
    for (size_t ox = 0; ox < (width + stride - 1) / stride; ox++)
        for (size_t c = 0; c < channels; c++) {
            double sum = bias[c];
            for (size_t dy = 0; dy < 3; dy++)
                for (size_t dx = 0; dx < 3; dx++) {
                    const ptrdiff_t ix = (ptrdiff_t)(ox * stride + dx) - 1;
                    if (!rows[dy] || ix < 0 || ix >= (ptrdiff_t)width) continue;
                    sum += (double)widen(rows[dy][(size_t)ix * channels + c]) * weight[(dy * 3 + dx) * channels + c];
                }
            y[ox * channels + c] = narrow(gelu ? exact_gelu(sum) : (float)sum);
        }
}

void kirie_plain_bf16_depthwise_relu6_row(const kirie_bf16_depthwise_relu6_arguments *arguments) {
    DEPTHWISE_RELU6_ARGUMENTS;
    for (size_t ox = 0; ox < (width + stride - 1) / stride; ox++)
        for (size_t c = 0; c < channels; c++) {
            double sum = bias[c];
            for (size_t dy = 0; dy < size; dy++)
                for (size_t dx = 0; dx < size; dx++) {
                    const ptrdiff_t ix = (ptrdiff_t)(ox * stride + dx) - (ptrdiff_t)before;
                    if (!rows[dy] || ix < 0 || ix >= (ptrdiff_t)width) continue;
                    sum += (double)widen(rows[dy][(size_t)ix * channels + c])
                        * weight[(dy * size + dx) * channels + c];
                }
            y[ox * channels + c] = narrow((float)fmin(fmax(sum, 0), 6));
        }
}

void kirie_plain_bf16_planes3x3_row(const kirie_bf16_planes3x3_arguments *arguments) {
    PLANES_ARGUMENTS;
    for (size_t ox = 0; ox < (width + 1) / 2; ox++)
        for (size_t c = 0; c < channels; c++) {
            double sum = bias[c];
            for (size_t plane = 0; plane < planes; plane++)
                for (size_t neighbour = 0; neighbour < 9; neighbour++) {
                    const ptrdiff_t iy = (ptrdiff_t)(2 * row + neighbour / 3) - 1;
                    const ptrdiff_t ix = (ptrdiff_t)(2 * ox + neighbour % 3) - 1;
                    if (iy < 0 || iy >= (ptrdiff_t)height || ix < 0 || ix >= (ptrdiff_t)width) continue;
                    sum += (double)x[(plane * height + (size_t)iy) * width + (size_t)ix]
                        * weight[(plane * 9 + neighbour) * channels + c];
                }
            y[ox * channels + c] = narrow(exact_gelu(sum));
        }
}
