// The bf16 kernels for AVX512_BF16: x86-64 from Cooper Lake and Zen 4 on.

#include "kirie_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "bfloat16_vectors.h"

#define GROUP 12  // queries whose scores are computed together: 12 x 2 vectors of sums fill the registers
#define BLOCK 512  // keys at a time: a group's scores stay in the first-level cache

void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y) {
    size_t n = 0;
    for (; n + 16 <= count; n += 16) store_narrow(y + n, load(x + n));
    for (; n < count; n++) y[n] = narrow_one(x[n]);
}

void kirie_bf16_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, uint16_t *y, size_t y_stride) {
    const size_t whole = columns / 16 * 16;
    for (size_t r = 0; r < rows; r++) {
        const float *line = x + r * x_stride;
        vf totals = 0, squares = 0;
        for (size_t n = 0; n < whole; n += 16) totals += load(line + n);
        float total = sum_of(totals), square = 0;
        for (size_t n = whole; n < columns; n++) total += line[n];
        const float mean = total / columns;
        for (size_t n = 0; n < whole; n += 16) {
            vf d = load(line + n) - mean;
            squares = FMA(d, d, squares);
        }
        for (size_t n = whole; n < columns; n++) square += (line[n] - mean) * (line[n] - mean);
        const float scale = 1.0f / __builtin_sqrtf((sum_of(squares) + square) / columns + epsilon);
        for (size_t n = 0; n < whole; n += 16)
            store_narrow(
                y + r * y_stride + n, FMA((load(line + n) - mean) * scale, load(gain + n), load(shift + n)));
        for (size_t n = whole; n < columns; n++)
            y[r * y_stride + n] = narrow_one((line[n] - mean) * scale * gain[n] + shift[n]);
    }
}

INLINE void score_block(
    const int panels, size_t pairs, float scale, const uint16_t *queries, const uint16_t *keys, size_t first_panel,
    size_t panels_per_row, const float *row_bias, size_t row_bias_stride, const float *column_bias,
    size_t column_bias_stride, const float *const *table, float *scores, size_t scores_stride, float *peaks) {
    vf sum[GROUP][2];
    EACH(r, GROUP) EACH(p, panels) sum[r][p] = 0;
    for (size_t d = 0; d < pairs; d++) {
        __m512bh key[2];
        EACH(p, panels) key[p] = load_pairs(keys + ((first_panel + p) * pairs + d) * 32);
        EACH(r, GROUP) {
            const __m512bh query = splat_pair(queries + (d * GROUP + r) * 2);
            EACH(p, panels) sum[r][p] = dot(sum[r][p], query, key[p]);
        }
    }
    EACH(p, panels) {
        const size_t panel = first_panel + p, row = panel / panels_per_row, column = panel % panels_per_row * 16;
        EACH(r, GROUP) {
            vf bias = table ? load(table[r] + panel * 16)
                            : load(column_bias + r * column_bias_stride + column) + row_bias[r * row_bias_stride + row];
            vf score = FMA(sum[r][p], (vf)scale, bias);
            store(scores + r * scores_stride + p * 16, score);
            store(peaks + r * 16, MAX(load(peaks + r * 16), score));
        }
    }
}

INLINE void value_block(
    const int vectors, size_t pairs, const uint16_t *weights, size_t weights_stride, const uint16_t *values,
    size_t width, float *out, size_t out_stride) {
    vf sum[6][4];
    EACH(r, 6) EACH(v, vectors) sum[r][v] = load(out + r * out_stride + v * 16);
    for (size_t k = 0; k < pairs; k++) {
        __m512bh value[4];
        EACH(v, vectors) value[v] = load_pairs(values + k * width * 2 + v * 32);
        EACH(r, 6) {
            const __m512bh weight = splat_pair(weights + r * weights_stride + 2 * k);
            EACH(v, vectors) sum[r][v] = dot(sum[r][v], weight, value[v]);
        }
    }
    EACH(r, 6) EACH(v, vectors) store(out + r * out_stride + v * 16, sum[r][v]);
}

void kirie_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const float *rel_h, size_t rel_h_stride,
    const float *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k, const uint16_t *packed_v,
    uint16_t *out, size_t out_stride, float *scratch) {
    const size_t depth = shape->head_size, pairs = (depth + 1) / 2, width = shape->head_padded;
    const size_t columns = shape->key_columns_padded, row_lanes = (shape->key_rows + 15) / 16 * 16;
    const size_t panels_per_row = columns / 16, all_panels = shape->key_rows * panels_per_row;
    const size_t groups = (queries + GROUP - 1) / GROUP;

    // Scratch, per group: queries in pairs; row bias; column bias; sums; maxima; totals. Then one block of scores and
    // the same in bf16.
    const size_t q_size = pairs * GROUP, h_size = GROUP * row_lanes, w_size = GROUP * columns, o_size = GROUP * width;
    const size_t group_size = q_size + h_size + w_size + o_size + 32;
    float *scores = scratch + groups * group_size;
    uint16_t *weights = (uint16_t *)(scores + GROUP * BLOCK);

    for (size_t g = 0; g < groups; g++) {
        uint16_t *qt = (uint16_t *)(scratch + g * group_size);
        float *bias_h = scratch + g * group_size + q_size, *bias_w = bias_h + h_size, *o = bias_w + w_size;
        float *maximum = o + o_size, *total = maximum + 16;
        memset(qt, 0, (q_size + h_size + w_size + o_size) * sizeof(float));
        for (size_t r = 0; r < GROUP; r++) {
            maximum[r] = -1e30f;
            total[r] = 0;
            const size_t index = g * GROUP + r;
            if (index >= queries) continue;
            const uint16_t *query = q + (size_t)query_tokens[index] * q_stride;
            for (size_t d = 0; d < depth; d++) qt[(d / 2 * GROUP + r) * 2 + d % 2] = query[d];
            float *bh = bias_h + r * row_lanes, *bw = bias_w + r * columns;
            if (rel_h) {
                const size_t place = (size_t)query_places[index];
                const float *th = rel_h + (shape->key_rows - 1 - place / shape->key_columns);
                const float *tw = rel_w + (shape->key_columns - 1 - place % shape->key_columns);
                for (size_t d = 0; d < depth; d++) {
                    const vf factor = widen_one(query[d]);
                    for (size_t i = 0; i < row_lanes; i += 16)
                        store(bh + i, FMA(factor, load(th + d * rel_h_stride + i), load(bh + i)));
                    for (size_t i = 0; i < columns; i += 16)
                        store(bw + i, FMA(factor, load(tw + d * rel_w_stride + i), load(bw + i)));
                }
            }
            for (size_t i = shape->key_columns; i < columns; i++) bw[i] = -1e30f;
        }
    }

    for (size_t first = 0; first < all_panels; first += BLOCK / 16) {
        const size_t count = all_panels - first < BLOCK / 16 ? all_panels - first : BLOCK / 16, lanes = count * 16;
        for (size_t g = 0; g < groups; g++) {
            const uint16_t *qt = (const uint16_t *)(scratch + g * group_size);
            float *bias_h = scratch + g * group_size + q_size, *bias_w = bias_h + h_size, *o = bias_w + w_size;
            float *maximum = o + o_size, *total = maximum + 16;
            float peaks[GROUP * 16];
            const float *lines[GROUP];
            for (size_t i = 0; i < GROUP * 16; i++) peaks[i] = -1e30f;
            if (table)
                for (size_t r = 0; r < GROUP; r++) {
                    const size_t index = g * GROUP + r < queries ? g * GROUP + r : g * GROUP;
                    lines[r] = table + (size_t)query_places[index] * all_panels * 16;
                }
            size_t p = 0;
            for (; p + 2 <= count; p += 2)
                score_block(
                    2, pairs, scale, qt, packed_k, first + p, panels_per_row, bias_h, row_lanes, bias_w, columns,
                    table ? lines : NULL, scores + p * 16, lanes, peaks);
            for (; p < count; p++)
                score_block(
                    1, pairs, scale, qt, packed_k, first + p, panels_per_row, bias_h, row_lanes, bias_w, columns,
                    table ? lines : NULL, scores + p * 16, lanes, peaks);
            for (size_t r = 0; r < GROUP; r++) {
                const float peak = max_of(load(peaks + r * 16)), top = peak > maximum[r] ? peak : maximum[r];
                const float *line = scores + r * lanes;
                vf sum = 0;
                for (size_t n = 0; n < lanes; n += 16) {
                    vf e = vexp(load(line + n) - top);
                    sum += e;
                    store_narrow(weights + r * lanes + n, e);
                }
                if (first > 0) {
                    const float factor = vexp((vf)(maximum[r] - top))[0];
                    for (size_t n = 0; n < width; n += 16)
                        store(o + r * width + n, load(o + r * width + n) * factor);
                    total[r] *= factor;
                }
                total[r] += sum_of(sum);
                maximum[r] = top;
            }
            const uint16_t *values = packed_v + first * 16 * width;
            for (size_t r = 0; r < GROUP; r += 6) {
                size_t n = 0;
                for (; n + 64 <= width; n += 64)
                    value_block(
                        4, lanes / 2, weights + r * lanes, lanes, values + n * 2, width, o + r * width + n, width);
                for (; n + 32 <= width; n += 32)
                    value_block(
                        2, lanes / 2, weights + r * lanes, lanes, values + n * 2, width, o + r * width + n, width);
                for (; n < width; n += 16)
                    value_block(
                        1, lanes / 2, weights + r * lanes, lanes, values + n * 2, width, o + r * width + n, width);
            }
        }
    }

    for (size_t i = 0; i < queries; i++) {
        const size_t g = i / GROUP, r = i % GROUP;
        const float *o = scratch + g * group_size + q_size + h_size + w_size;
        const float scale_out = 1.0f / (o + o_size + 16)[r];
        uint16_t *line = out + (size_t)query_tokens[i] * out_stride;
        size_t d = 0;
        for (; d + 16 <= depth; d += 16) store_narrow(line + d, load(o + r * width + d) * scale_out);
        for (; d < depth; d++) line[d] = narrow_one(o[r * width + d] * scale_out);
    }
}

#pragma clang attribute pop

#else

// Elsewhere the plain twins stand in; nobody chooses bf16 there.

void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y) { kirie_plain_bf16_narrow(count, x, y); }

void kirie_bf16_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, uint16_t *y, size_t y_stride) {
    kirie_plain_bf16_layer_norm_rows(rows, columns, x, x_stride, gain, shift, epsilon, y, y_stride);
}

void kirie_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const float *rel_h, size_t rel_h_stride,
    const float *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k, const uint16_t *packed_v,
    uint16_t *out, size_t out_stride, float *scratch) {
    kirie_plain_bf16_attention_tile(
        shape, queries, q, q_stride, query_tokens, query_places, scale, rel_h, rel_h_stride, rel_w, rel_w_stride,
        table, packed_k, packed_v, out, out_stride, scratch);
}

#endif
