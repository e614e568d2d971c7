// Kernels on bf16 numbers (the upper halves of binary32), with AVX512_BF16's two products per lane and step. Sums are
// kept in fp32 throughout. The plain twins below define them.

#include "kernels.h"

#include <math.h>
#include <string.h>

#include "bf16_numbers.h"

#define PLAIN_HEAD 512  // numbers of a head that are summed together

// MARK: plain twins

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

void kirie_plain_bf16_add(size_t count, const uint16_t *x, uint16_t *y) {
    for (size_t n = 0; n < count; n++) y[n] = narrow(widen(x[n]) + widen(y[n]));
}

void kirie_plain_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++) y[(r / 2 * columns + n) * 2 + r % 2] = narrow(x[r * x_stride + n]);
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

static double score(
    const kirie_attention_shape *shape, const uint16_t *query, size_t place, float scale, const uint16_t *rel_h,
    size_t rel_h_stride, const uint16_t *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k,
    size_t row, size_t column) {
    const size_t lane = row * shape->key_columns_padded + column, pairs = (shape->head_size + 1) / 2;
    const uint16_t *key = packed_k + lane / 16 * pairs * 32 + lane % 16 * 2;
    double sum = 0;
    for (size_t d = 0; d < shape->head_size; d++) {
        const double q = widen(query[d]);
        sum += q * scale * widen(key[d / 2 * 32 + d % 2]);
        if (rel_h) {
            const size_t h = shape->key_rows - 1 - place / shape->key_columns + row;
            const size_t w = shape->key_columns - 1 - place % shape->key_columns + column;
            sum += q * widen(rel_h[(d / 2 * rel_h_stride + h) * 2 + d % 2]);
            sum += q * widen(rel_w[(d / 2 * rel_w_stride + w) * 2 + d % 2]);
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
#define SCORE(row, column) \
    score( \
        shape, query, place, scale, rel_h, rel_h_stride, rel_w, rel_w_stride, table, packed_k, row, column)
        double peak = -INFINITY;
        for (size_t row = 0; row < shape->key_rows; row++)
            for (size_t column = 0; column < shape->key_columns; column++) peak = fmax(peak, SCORE(row, column));
        // Some numbers of the head at a time, whatever its size, each time with the weights computed anew.
        for (size_t first = 0; first < shape->head_size; first += PLAIN_HEAD) {
            const size_t count = shape->head_size - first < PLAIN_HEAD ? shape->head_size - first : PLAIN_HEAD;
            double total = 0, sums[PLAIN_HEAD] = {0};
            for (size_t row = 0; row < shape->key_rows; row++)
                for (size_t column = 0; column < shape->key_columns; column++) {
                    const double weight = exp(SCORE(row, column) - peak);
                    const size_t lane = row * shape->key_columns_padded + column;
                    total += weight;
                    for (size_t d = 0; d < count; d++)
                        sums[d] += weight * widen(packed_v[(lane / 2 * shape->head_padded + first + d) * 2 + lane % 2]);
                }
            for (size_t d = 0; d < count; d++)
                out[(size_t)query_tokens[i] * out_stride + first + d] = narrow((float)(sums[d] / total));
        }
#undef SCORE
    }
}
