// The plain twins of the kernels on rows of numbers: the definitions, element by element, in double where a sum is long.

#include "kernels.h"

#include <math.h>

#include "bf16_numbers.h"
#include "plain.h"

void kirie_plain_layer_norm_rows(const kirie_layer_norm_arguments *arguments) {
    LAYER_NORM_ARGUMENTS;
    for (size_t r = 0; r < rows; r++)
        layer_norm(columns, x + r * x_stride, 1, gain, shift, epsilon, y + r * y_stride, 1);
}

void kirie_plain_gelu(size_t count, float *x) {
    for (size_t i = 0; i < count; i++) x[i] = gelu_of(x[i]);
}

void kirie_plain_quick_gelu(size_t count, float *x) {
    for (size_t i = 0; i < count; i++) x[i] = (float)(x[i] / (1 + exp(-1.702 * x[i])));
}

void kirie_plain_relu(size_t count, float *x) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

void kirie_plain_relu6(size_t count, float *x) {
    for (size_t i = 0; i < count; i++) x[i] = fminf(fmaxf(x[i], 0), 6);
}

void kirie_plain_add(size_t count, const float *x, float *y) {
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

void kirie_plain_bf16_layer_norm_rows(const kirie_bf16_layer_norm_arguments *arguments) {
    LAYER_NORM_ARGUMENTS;
    for (size_t r = 0; r < rows; r++) {
        const float *line = x + r * x_stride;
        double mean = 0, variance = 0;
        for (size_t n = 0; n < columns; n++) mean += line[n];
        mean /= columns;
        for (size_t n = 0; n < columns; n++) variance += (line[n] - mean) * (line[n] - mean);
        const double scale = 1 / sqrt(variance / columns + epsilon);
        for (size_t n = 0; n < columns; n++)
            y[r * y_stride + n] = narrow((float)((line[n] - mean) * scale) * gain[n] + shift[n]);
    }
}

void kirie_plain_bf16_narrow(size_t count, const float *x, uint16_t *y) {
    for (size_t n = 0; n < count; n++) y[n] = narrow(x[n]);
}

void kirie_plain_bf16_quick_gelu(size_t count, uint16_t *x) {
    for (size_t n = 0; n < count; n++) {
        const double number = widen(x[n]);
        x[n] = narrow((float)(number / (1 + exp(-1.702 * number))));
    }
}

void kirie_plain_bf16_add(size_t count, const uint16_t *x, uint16_t *y) {
    for (size_t n = 0; n < count; n++) y[n] = narrow(widen(x[n]) + widen(y[n]));
}

void kirie_plain_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++) y[(r / 2 * columns + n) * 2 + r % 2] = narrow(x[r * x_stride + n]);
}
