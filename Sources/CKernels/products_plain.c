// The plain twins of the products of small matrices: the definitions, element by element, in double where a sum is long.

#include "kernels.h"

#include "bf16_numbers.h"

void kirie_plain_product(const kirie_product_arguments *arguments) {
    PRODUCT_ARGUMENTS;
    LOCAL(depth);
    LOCAL(a_column);
    LOCAL(row_bias);
    LOCAL(column_bias);
    for (size_t g = 0; g < groups; g++) {
        const float *a = arguments->a + g * a_step, *b = arguments->b + g * b_step;
        float *c = arguments->c + g * c_step;
        for (size_t m = 0; m < rows; m++)
            for (size_t n = 0; n < columns; n++) {
                double sum = (row_bias ? row_bias[m] : 0) + (column_bias ? column_bias[n] : 0);
                if (accumulate) sum += c[m * c_stride + n];
                for (size_t k = 0; k < depth; k++) sum += (double)a[m * a_row + k * a_column] * b[k * b_stride + n];
                c[m * c_stride + n] = (float)sum;
            }
    }
}

void kirie_plain_bf16_product(const kirie_bf16_product_arguments *arguments) {
    PRODUCT_ARGUMENTS;
    LOCAL(pairs);
    const uint16_t *a = arguments->a, *b = arguments->b;
    float *c = arguments->c;
    for (size_t g = 0; g < groups; g++)
        for (size_t m = 0; m < rows; m++)
            for (size_t n = 0; n < columns; n++) {
                const uint16_t *line = a + g * a_step + m * a_row, *column = b + g * b_step + n * 2;
                double sum = accumulate ? c[g * c_step + m * c_stride + n] : 0;
                for (size_t k = 0; k < 2 * pairs; k++)
                    sum += (double)widen(line[k]) * widen(column[k / 2 * b_stride * 2 + k % 2]);
                c[g * c_step + m * c_stride + n] = (float)sum;
            }
}
