// fp32 products of numbers in three bf16 parts: the plain twins, and the packing of weights.

#include "kirie_kernels.h"

#include <string.h>

#include "bfloat16_numbers.h"
#include "bfloat16x3.h"

static void split(float x, uint16_t parts[3]) {
    for (int i = 0; i < 3; i++) {
        parts[i] = narrow(x);
        x -= widen(parts[i]);
    }
}

size_t kirie_bf16x3_row_numbers(size_t rows, size_t depth) { return (rows + 31) / 32 * 32 * depth * PARTS; }

size_t kirie_bf16x3_weight_numbers(size_t columns, size_t depth) { return columns / 32 * panel_numbers(depth); }

void kirie_plain_bf16x3_split_rows(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y) {
    memset(y, 0, kirie_bf16x3_row_numbers(rows, depth) * sizeof *y);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < depth; k++) {
            uint16_t parts[PARTS];
            split(x[r * x_stride + k], parts);
            uint16_t *to = y + (r / 16 * (depth / 32) + k / 32) * PARTS * TILE + r % 16 * 32 + k % 32;
            for (size_t i = 0; i < PARTS; i++) to[i * TILE] = parts[i];
        }
}

void kirie_bf16x3_pack_weights(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed) {
    for (size_t n = 0; n < columns; n++) {
        uint16_t *panel = packed + n / 32 * panel_numbers(depth) + n % 32 / 16 * TILE + n % 16 * 2;
        uint16_t parts[PARTS];
        if (n % 16 == 0) memset(panel, 0, TILE * sizeof *panel);
        split(bias ? bias[n] : 0, parts);
        panel[0] = parts[0];
        panel[1] = parts[1];
        panel[32] = parts[2];
        panel += 2 * TILE;
        for (size_t k = 0; k < depth; k++) {
            split(weight[n * depth + k], parts);
            uint16_t *to = panel + k / 32 * PARTS * 2 * TILE + k % 32 / 2 * 32 + k % 2;
            for (size_t i = 0; i < PARTS; i++) to[i * 2 * TILE] = parts[i];
        }
    }
}

void kirie_plain_bf16x3_product(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++) {
            const uint16_t *panel = packed + n / 32 * panel_numbers(depth) + n % 32 / 16 * TILE + n % 16 * 2;
            float sum = accumulate ? y[r * y_stride + n] : 0;
            sum += widen(panel[0]);
            sum += widen(panel[1]);
            sum += widen(panel[32]);
            panel += 2 * TILE;
            for (size_t k = 0; k < depth; k++) {
                const uint16_t *left = x + (r / 16 * (depth / 32) + k / 32) * PARTS * TILE + r % 16 * 32 + k % 32;
                const uint16_t *right = panel + k / 32 * PARTS * 2 * TILE + k % 32 / 2 * 32 + k % 2;
                for (size_t i = PARTS; i-- > 0;)
                    for (size_t j = PARTS - i; j-- > 0;) sum += widen(left[i * TILE]) * widen(right[j * 2 * TILE]);
            }
            y[r * y_stride + n] = sum;
        }
}
