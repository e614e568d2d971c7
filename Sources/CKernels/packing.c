// Memory moves that every instruction set shares.

#include "kernels.h"

#include <string.h>

void kirie_transpose(size_t rows, size_t columns, const void *x, size_t x_stride, void *y, size_t y_stride) {
    const uint32_t *from = x;
    uint32_t *to = y;
    // By blocks of 16 x 16, so that both sides stay within a few cache lines.
    for (size_t r = 0; r < rows; r += 16)
        for (size_t n = 0; n < columns; n += 16) {
            const size_t height = rows - r < 16 ? rows - r : 16, width = columns - n < 16 ? columns - n : 16;
            for (size_t j = 0; j < width; j++)
                for (size_t i = 0; i < height; i++)
                    to[(n + j) * y_stride + r + i] = from[(r + i) * x_stride + n + j];
        }
}

void kirie_attention_pack(const kirie_attention_pack_arguments *arguments) {
    ATTENTION_PACK_ARGUMENTS;
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
