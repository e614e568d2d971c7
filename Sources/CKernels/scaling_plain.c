// The plain twins of the scaling of masks: the definitions, element by element, in double where a sum is long.

#include "kernels.h"

void kirie_plain_combine_rows(size_t count, const float *const *rows, const float *weights, float *y) {
    for (size_t n = 0; n < count; n++)
        y[n] = (float)((double)rows[0][n] * weights[0] + (double)rows[1][n] * weights[1]
            + (double)rows[2][n] * weights[2] + (double)rows[3][n] * weights[3]);
}

void kirie_plain_threshold_rows(
    size_t count, const float *const *rows, const float *weights, float offset, uint64_t *words, size_t *inner,
    size_t *outer) {
    for (size_t n = 0; n < count; n++) {
        float x;
        const float *const place[4] = {rows[0] + n, rows[1] + n, rows[2] + n, rows[3] + n};
        kirie_plain_combine_rows(1, place, weights, &x);
        if (n % 64 == 0) words[n / 64] = 0;
        words[n / 64] |= (uint64_t)(x > 0) << n % 64;
        *inner += x > offset;
        *outer += x > -offset;
    }
}
