// The plain twins of the mask decoder's steps: the definitions, element by element, in double where a sum is long.

#include "kernels.h"

#include <math.h>

#include "bf16_numbers.h"
#include "plain.h"

void kirie_plain_softmax_over_tokens(size_t tokens, size_t heads, float *s) {
    for (size_t h = 0; h < heads; h++)
        for (size_t n = 0; n < 64; n++) {
            float *p = s + h * 64 + n, peak = p[0];
            double total = 0;
            for (size_t t = 1; t < tokens; t++) peak = fmaxf(peak, p[t * heads * 64]);
            for (size_t t = 0; t < tokens; t++) total += exp(p[t * heads * 64] - peak);
            for (size_t t = 0; t < tokens; t++)
                p[t * heads * 64] = (float)(exp(p[t * heads * 64] - peak) / total);
        }
}

void kirie_plain_softmax_step(size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor) {
    for (size_t i = 0; i < rows; i++) {
        float top = maximum[i];
        for (size_t n = 0; n < valid; n++) top = fmaxf(top, s[i * 64 + n]);
        double sum = 0;
        for (size_t n = 0; n < 64; n++) {
            s[i * 64 + n] = n < valid ? expf(s[i * 64 + n] - top) : 0;
            sum += s[i * 64 + n];
        }
        factor[i] = expf(maximum[i] - top);
        total[i] = (float)(total[i] * (double)factor[i] + sum);
        maximum[i] = top;
    }
}

void kirie_plain_scale_columns(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++) x[r * x_stride + n] *= factor[n];
}

void kirie_plain_gelu_dot(const kirie_gelu_dot_arguments *arguments) {
    GELU_DOT_ARGUMENTS;
    for (size_t m = 0; m < masks; m++)
        for (size_t n = 0; n < 64; n++) {
            double sum = logits[m * logits_stride + n];
            for (size_t r = 0; r < rows; r++)
                sum += (double)weight[m * weight_stride + r] * gelu_of(x[r * x_stride + n] + bias[r]);
            logits[m * logits_stride + n] = (float)sum;
        }
}

void kirie_plain_center_columns(size_t rows, float *x, const float *gain, float *squares) {
    for (size_t n = 0; n < 64; n++) {
        double mean = 0, sum = 0;
        for (size_t r = 0; r < rows; r++) {
            if (gain) x[r * 64 + n] *= gain[r];
            mean += x[r * 64 + n];
        }
        mean /= rows;
        for (size_t r = 0; r < rows; r++) {
            x[r * 64 + n] = (float)(x[r * 64 + n] - mean);
            sum += (double)x[r * 64 + n] * x[r * 64 + n];
        }
        squares[n] = (float)sum;
    }
}

void kirie_plain_norm_factors(
    size_t rows, const float *weights, const float *products, const float *squares, float *running, float scale,
    float epsilon, float *factor) {
    for (size_t n = 0; n < 64; n++) {
        double sum = (double)running[n] * running[n] * squares[n];
        for (size_t r = 0; r < rows; r++) sum += (double)weights[r * 64 + n] * products[r * 64 + n];
        factor[n] = (float)(1 / sqrt(fmax(sum, 0) * scale + epsilon));
        running[n] *= factor[n];
    }
}

void kirie_plain_upscale_norm(
    size_t rows, float *x, const float *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon) {
    for (size_t n = 0; n < 64; n++) {
        for (size_t r = 0; r < rows; r++) x[r * 64 + n] += factor[n] * part[r * 64 + n] + bias[r];
        layer_norm(rows, x + n, 64, gain, shift, epsilon, x + n, 64);
        for (size_t r = 0; r < rows; r++) x[r * 64 + n] = gelu_of(x[r * 64 + n]);
    }
}

void kirie_plain_bf16_upscale_norm(const kirie_bf16_upscale_norm_arguments *arguments) {
    UPSCALE_NORM_ARGUMENTS;
    for (size_t n = 0; n < 64; n++) {
        double mean = 0, variance = 0;
        for (size_t r = 0; r < rows; r++) {
            x[r * 64 + n] += factor[n] * widen(part[r * 64 + n]) + bias[r];
            mean += x[r * 64 + n];
        }
        mean /= rows;
        for (size_t r = 0; r < rows; r++) variance += (x[r * 64 + n] - mean) * (x[r * 64 + n] - mean);
        const double scale = 1 / sqrt(variance / rows + epsilon);
        for (size_t r = 0; r < rows; r++) {
            const double z = (x[r * 64 + n] - mean) * scale * gain[r] + shift[r];
            y[(r / 2 * 64 + n) * 2 + r % 2] = narrow((float)(0.5 * z * (1 + erf(z * 0.70710678118654752))));
        }
    }
}
