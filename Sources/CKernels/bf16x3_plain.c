// fp32 products and attention of numbers in three bf16 parts: the sizes, and the plain twins.

#include "kernels.h"

#include <math.h>
#include <string.h>

#include "bf16_numbers.h"
#include "bf16x3.h"

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

void kirie_plain_bf16x3_pack_weights(
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
            float sum = widen(panel[0]);
            sum += widen(panel[1]);
            sum += widen(panel[32]);
            panel += 2 * TILE;
            for (size_t k = 0; k < depth; k++) {
                const uint16_t *left = x + (r / 16 * (depth / 32) + k / 32) * PARTS * TILE + r % 16 * 32 + k % 32;
                const uint16_t *right = panel + k / 32 * PARTS * 2 * TILE + k % 32 / 2 * 32 + k % 2;
                for (size_t i = PARTS; i-- > 0;)
                    for (size_t j = PARTS - i; j-- > 0;) sum += widen(left[i * TILE]) * widen(right[j * 2 * TILE]);
            }
            y[r * y_stride + n] = accumulate ? y[r * y_stride + n] + sum : sum;
        }
}

size_t kirie_bf16x3_key_numbers(const kirie_attention_shape *shape) {
    return attention_key_tiles(shape) * attention_head_steps(shape) * PARTS * 2 * TILE;
}

void kirie_plain_bf16x3_attention_pack(const kirie_bf16x3_attention_pack_arguments *arguments) {
    ATTENTION_PACK_ARGUMENTS;
    const size_t depth = shape->head_size, padded = shape->key_columns_padded;
    const size_t steps = attention_head_steps(shape), tiles = attention_key_tiles(shape);
    const size_t last = last_row < shape->key_rows ? last_row * padded : tiles * 32;
    for (size_t lane = first_row * padded; lane < last; lane++) {
        const size_t row = lane / padded, column = lane % padded;
        const int is_key = row < shape->key_rows && column < shape->key_columns;
        const int32_t token = is_key ? tokens[row * shape->key_columns + column] : -1;
        const float *key = token < 0 ? pad_k : k + (size_t)token * stride;
        const float *value = token < 0 ? pad_v : v + (size_t)token * stride;
        for (size_t d = 0; d < steps * 32; d++) {
            const int is_there = is_key && d < depth;
            uint16_t parts[PARTS];
            split(is_there ? key[d] : 0, parts);
            uint16_t *to = packed_k + (lane / 32 * steps + d / 32) * PARTS * 2 * TILE + lane % 32 / 16 * TILE
                + d % 32 / 2 * 32 + lane % 16 * 2 + d % 2;
            for (size_t i = 0; i < PARTS; i++) to[i * 2 * TILE] = parts[i];
            split(is_there ? value[d] : 0, parts);
            to = packed_v + (d / 32 * tiles + lane / 32) * PARTS * 2 * TILE + d % 32 / 16 * TILE + lane % 32 / 2 * 32
                + d % 16 * 2 + lane % 2;
            for (size_t i = 0; i < PARTS; i++) to[i * 2 * TILE] = parts[i];
        }
    }
}

// A number of keys or of values: the sum of its parts, the smallest first.
static double whole(const uint16_t *parts) {
    double sum = 0;
    for (size_t i = PARTS; i-- > 0;) sum += widen(parts[i * 2 * TILE]);
    return sum;
}

static double score(
    const kirie_bf16x3_attention_arguments *arguments, const float *query, size_t place, size_t row, size_t column) {
    ATTENTION_ARGUMENTS;
    const size_t lane = row * shape->key_columns_padded + column, steps = attention_head_steps(shape);
    double sum = 0;
    for (size_t d = 0; d < shape->head_size; d++) {
        const uint16_t *key = packed_k + (lane / 32 * steps + d / 32) * PARTS * 2 * TILE + lane % 32 / 16 * TILE
            + d % 32 / 2 * 32 + lane % 16 * 2 + d % 2;
        sum += (double)query[d] * scale * whole(key);
        if (rel_h) {
            sum += (double)query[d]
                * rel_h[d * rel_h_stride + shape->key_rows - 1 - place / shape->key_columns + row];
            sum += (double)query[d]
                * rel_w[d * rel_w_stride + shape->key_columns - 1 - place % shape->key_columns + column];
        }
    }
    if (table) sum += table[place * shape->key_rows * shape->key_columns_padded + lane];
    return sum;
}

// Two passes over the keys for each number, each score computed anew: slow, but plain, and in need of no memory.
void kirie_plain_bf16x3_attention(const kirie_bf16x3_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    const size_t tiles = attention_key_tiles(shape);
    for (size_t i = 0; i < queries; i++) {
        const float *query = q + (size_t)query_tokens[i] * q_stride;
        const size_t place = (size_t)query_places[i];
        double peak = -INFINITY;
        for (size_t row = 0; row < shape->key_rows; row++)
            for (size_t column = 0; column < shape->key_columns; column++)
                peak = fmax(peak, score(arguments, query, place, row, column));
        for (size_t d = 0; d < shape->head_size; d++) {
            double total = 0, sum = 0;
            for (size_t row = 0; row < shape->key_rows; row++)
                for (size_t column = 0; column < shape->key_columns; column++) {
                    const size_t lane = row * shape->key_columns_padded + column;
                    const double weight = exp(score(arguments, query, place, row, column) - peak);
                    total += weight;
                    sum += weight
                        * whole(packed_v + (d / 32 * tiles + lane / 32) * PARTS * 2 * TILE + d % 32 / 16 * TILE
                            + lane % 32 / 2 * 32 + d % 16 * 2 + lane % 2);
                }
            out[(size_t)query_tokens[i] * out_stride + d] = (float)(sum / total);
        }
    }
}
