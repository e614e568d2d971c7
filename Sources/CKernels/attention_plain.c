// The plain twins of the attention of the image encoders: the definitions, element by element, in double where a sum is long.

#include "kernels.h"

#include <math.h>
#include <string.h>

#include "bf16_numbers.h"

#define PLAIN_HEAD 512  // numbers of a head that are summed together

// Two passes over the keys, one to find the scores' maximum and total and one to sum the values, each score computed
// anew: slow, but plain, and in need of no memory.
static double score(
    const kirie_attention_arguments *arguments, const float *query, size_t place, size_t row, size_t column) {
    ATTENTION_ARGUMENTS;
    const size_t lane = row * shape->key_columns_padded + column;
    const float *key = packed_k + lane / 16 * shape->head_size * 16 + lane % 16;
    double sum = 0;
    for (size_t d = 0; d < shape->head_size; d++) {
        sum += (double)query[d] * scale * key[d * 16];
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

void kirie_plain_attention(const kirie_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    (void)scratch;
    for (size_t i = 0; i < queries; i++) {
        const float *query = q + (size_t)query_tokens[i] * q_stride;
        float *line = out + (size_t)query_tokens[i] * out_stride;
        const size_t place = (size_t)query_places[i];
        double peak = -INFINITY;
        for (size_t row = 0; row < shape->key_rows; row++)
            for (size_t column = 0; column < shape->key_columns; column++)
                peak = fmax(peak, score(arguments, query, place, row, column));
        // Some numbers of the head at a time, whatever its size, each time with the weights computed anew.
        for (size_t first = 0; first < shape->head_size; first += PLAIN_HEAD) {
            const size_t count = shape->head_size - first < PLAIN_HEAD ? shape->head_size - first : PLAIN_HEAD;
            double total = 0, sums[PLAIN_HEAD] = {0};
            for (size_t row = 0; row < shape->key_rows; row++)
                for (size_t column = 0; column < shape->key_columns; column++) {
                    const double weight = exp(score(arguments, query, place, row, column) - peak);
                    const float *value = packed_v + (row * shape->key_columns_padded + column) * shape->head_padded;
                    total += weight;
                    for (size_t d = 0; d < count; d++) sums[d] += weight * value[first + d];
                }
            for (size_t d = 0; d < count; d++) line[first + d] = (float)(sums[d] / total);
        }
    }
}

void kirie_plain_bf16_attention_pack(const kirie_bf16_attention_pack_arguments *arguments) {
    ATTENTION_PACK_ARGUMENTS;
    const size_t depth = shape->head_size, pairs = (depth + 1) / 2, width = shape->head_padded;
    const size_t columns = shape->key_columns, padded = shape->key_columns_padded;
    for (size_t row = first_row; row < last_row; row++)
        for (size_t column = 0; column < padded; column++) {
            const size_t lane = row * padded + column;
            uint16_t *key = packed_k + lane / 16 * pairs * 32 + lane % 16 * 2;
            uint16_t *value = packed_v + lane / 2 * width * 2 + lane % 2;
            const uint16_t *from_k = NULL, *from_v = NULL;
            if (column < columns) {
                const int32_t token = tokens[row * columns + column];
                from_k = token < 0 ? pad_k : k + (size_t)token * stride;
                from_v = token < 0 ? pad_v : v + (size_t)token * stride;
            }
            if (from_k && depth % 2 == 0) {
                for (size_t p = 0; p < pairs; p++) memcpy(key + p * 32, from_k + 2 * p, 4);
            } else {
                for (size_t d = 0; d < 2 * pairs; d++)
                    key[d / 2 * 32 + d % 2] = from_k && d < depth ? from_k[d] : 0;
            }
            for (size_t d = 0; d < width; d++) value[d * 2] = from_v && d < depth ? from_v[d] : 0;
        }
}

static double bf16_score(
    const kirie_bf16_attention_arguments *arguments, const uint16_t *query, size_t place, size_t row, size_t column) {
    ATTENTION_ARGUMENTS;
    const size_t lane = row * shape->key_columns_padded + column, pairs = (shape->head_size + 1) / 2;
    const uint16_t *key = packed_k + lane / 16 * pairs * 32 + lane % 16 * 2;
    double sum = 0;
    for (size_t d = 0; d < shape->head_size; d++) {
        const double number = widen(query[d]);
        sum += number * scale * widen(key[d / 2 * 32 + d % 2]);
        if (rel_h) {
            const size_t h = shape->key_rows - 1 - place / shape->key_columns + row;
            const size_t w = shape->key_columns - 1 - place % shape->key_columns + column;
            sum += number * widen(rel_h[(d / 2 * rel_h_stride + h) * 2 + d % 2]);
            sum += number * widen(rel_w[(d / 2 * rel_w_stride + w) * 2 + d % 2]);
        }
    }
    if (table) sum += table[place * shape->key_rows * shape->key_columns_padded + lane];
    return sum;
}

void kirie_plain_bf16_attention(const kirie_bf16_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    (void)scratch;
    for (size_t i = 0; i < queries; i++) {
        const uint16_t *query = q + (size_t)query_tokens[i] * q_stride;
        const size_t place = (size_t)query_places[i];
        double peak = -INFINITY;
        for (size_t row = 0; row < shape->key_rows; row++)
            for (size_t column = 0; column < shape->key_columns; column++)
                peak = fmax(peak, bf16_score(arguments, query, place, row, column));
        // Some numbers of the head at a time, whatever its size, each time with the weights computed anew.
        for (size_t first = 0; first < shape->head_size; first += PLAIN_HEAD) {
            const size_t count = shape->head_size - first < PLAIN_HEAD ? shape->head_size - first : PLAIN_HEAD;
            double total = 0, sums[PLAIN_HEAD] = {0};
            for (size_t row = 0; row < shape->key_rows; row++)
                for (size_t column = 0; column < shape->key_columns; column++) {
                    const double weight = exp(bf16_score(arguments, query, place, row, column) - peak);
                    const size_t lane = row * shape->key_columns_padded + column;
                    total += weight;
                    for (size_t d = 0; d < count; d++)
                        sums[d] += weight * widen(packed_v[(lane / 2 * shape->head_padded + first + d) * 2 + lane % 2]);
                }
            for (size_t d = 0; d < count; d++)
                out[(size_t)query_tokens[i] * out_stride + first + d] = narrow((float)(sums[d] / total));
        }
    }
}
