// Memory moves that every instruction set shares.

#include "kirie_kernels.h"

#include <string.h>

size_t kirie_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    // The largest group any level uses is 14 queries; see attention.inc for what a group keeps.
    const size_t rows = 14, groups = (queries + 5) / 6;
    const size_t per_row =
        shape->head_size + (shape->key_rows + 15) / 16 * 16 + shape->key_columns_padded + shape->head_padded;
    // The bf16 kernels keep their totals in whole vectors. Then a block of scores.
    return (groups + 1) * (rows * (per_row + 16) + 32) + rows * 512;
}

void kirie_attention_pack(
    const kirie_attention_shape *shape, const float *k, const float *v, size_t stride, const int32_t *tokens,
    const float *pad_k, const float *pad_v, size_t first_row, size_t last_row, float *packed_k, float *packed_v) {
    const size_t depth = shape->head_size, width = shape->head_padded;
    const size_t columns = shape->key_columns, padded = shape->key_columns_padded;
    for (size_t row = first_row; row < last_row; row++)
        for (size_t column = 0; column < padded; column++) {
            const size_t lane = row * padded + column;
            float *key = packed_k + lane / 16 * depth * 16 + lane % 16;
            float *value = packed_v + lane * width;
            if (column >= columns) {
                for (size_t d = 0; d < depth; d++) key[d * 16] = 0;
                memset(value, 0, width * sizeof(float));
                continue;
            }
            const int32_t token = tokens[row * columns + column];
            const float *from_k = token < 0 ? pad_k : k + (size_t)token * stride;
            const float *from_v = token < 0 ? pad_v : v + (size_t)token * stride;
            for (size_t d = 0; d < depth; d++) key[d * 16] = from_k[d];
            memcpy(value, from_v, depth * sizeof(float));
            if (width > depth) memset(value + depth, 0, (width - depth) * sizeof(float));
        }
}
