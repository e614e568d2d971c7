// Attention of the image encoders on bf16 numbers, for AVX512_BF16. Scores, softmax and the weighted sum of the values
// go block by block of keys, as in attention.inc; what differs is that a score's position bias is divided by the scale
// beforehand, so that sums start from it, and that the exponential is short: its weights are narrowed to 8 bits anyway.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

#include "attention_bf16.h"
#include "attention_softmax.h"

#define GROUP 14  // queries that go together: 14 x 2 vectors of sums fill the registers, and so often are keys read
#define BLOCK 512  // keys at a time: a group's scores stay in the first-level cache

// MARK: packing

// Sixteen rows of 16 numbers of 32 bits, transposed in registers.
INLINE void transpose16(__m512i x[16]) {
    __m512i t[16];
    EACH(i, 8) {
        t[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    EACH(i, 4) {
        x[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        x[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        x[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        x[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    EACH(i, 4) {
        t[i] = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xdd);
    }
    EACH(i, 4) {
        x[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        x[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        x[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        x[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

void kirie_avx512_bf16_attention_pack(const kirie_bf16_attention_pack_arguments *arguments) {
    ATTENTION_PACK_ARGUMENTS;
    const size_t depth = shape->head_size, width = shape->head_padded, pairs = depth / 2;
    const size_t columns = shape->key_columns, padded = shape->key_columns_padded;
    if (depth % 2 != 0) {
        kirie_plain_kernels.bf16_attention_pack(arguments);
        return;
    }
    for (size_t row = first_row; row < last_row; row++)
        for (size_t column = 0; column < padded; column += 16) {
            const size_t lane = row * padded + column;
            const uint16_t *from_k[16], *from_v[16];
            for (size_t i = 0; i < 16; i++) {
                from_k[i] = from_v[i] = NULL;
                if (column + i >= columns) continue;
                const int32_t token = tokens[row * columns + column + i];
                from_k[i] = token < 0 ? pad_k : k + (size_t)token * stride;
                from_v[i] = token < 0 ? pad_v : v + (size_t)token * stride;
            }
            uint16_t *keys = packed_k + lane / 16 * pairs * 32;
            for (size_t p = 0; p < pairs; p += 16) {
                const size_t count = pairs - p < 16 ? pairs - p : 16;
                const __mmask16 mask = (__mmask16)((1u << count) - 1);
                __m512i x[16];
                EACH(i, 16)
                    x[i] = from_k[i] ? _mm512_maskz_loadu_epi32(mask, from_k[i] + 2 * p) : _mm512_setzero_si512();
                transpose16(x);
                for (size_t i = 0; i < count; i++) _mm512_storeu_si512(keys + (p + i) * 32, x[i]);
            }
            for (size_t i = 0; i < 16; i += 2) {
                uint16_t *values = packed_v + (lane + i) * width;
                for (size_t d = 0; d < depth; d += 16) {
                    const __m256i zero = _mm256_setzero_si256();
                    const __mmask16 mask = (__mmask16)(depth - d < 16 ? (1u << (depth - d)) - 1 : 0xffff);
                    const __m256i even = from_v[i] ? _mm256_maskz_loadu_epi16(mask, from_v[i] + d) : zero;
                    const __m256i odd = from_v[i + 1] ? _mm256_maskz_loadu_epi16(mask, from_v[i + 1] + d) : zero;
                    _mm512_storeu_si512(
                        values + 2 * d,
                        _mm512_or_si512(
                            _mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16)));
                }
            }
        }
}

// MARK: attention

// Where scores start: at the biases of a key's row and of its column, a line a query, or, where there is a table, at each
// query's line of that times `inverse`, 1 over the scale.
typedef struct {
    size_t panels_per_row;
    matrix rows, columns;
    const float *const *table;
    float inverse;
} score_biases;

// Scores (GROUP, panels * 16) over the scale, and each query's largest score so far in 16 lanes.
INLINE void score_block(
    const int panels, size_t pairs, const uint16_t *queries, const uint16_t *keys, size_t first_panel,
    score_biases biases, sum_matrix scores, float *peaks) {
    vf sum[GROUP][2];
    EACH(p, panels) {
        const size_t panel = first_panel + p;
        const size_t row = panel / biases.panels_per_row, column = panel % biases.panels_per_row * 16;
        EACH(r, GROUP)
            sum[r][p] = biases.table
                ? load(biases.table[r] + panel * 16) * biases.inverse
                : load(biases.columns.at + r * biases.columns.stride + column)
                    + biases.rows.at[r * biases.rows.stride + row];
    }
    for (size_t d = 0; d < pairs; d++) {
        __m512bh key[2];
        EACH(p, panels) key[p] = load_pairs(keys + ((first_panel + p) * pairs + d) * 32);
        EACH(r, GROUP) {
            const __m512bh query = splat_pair(queries + (d * GROUP + r) * 2);
            EACH(p, panels) sum[r][p] = dot(sum[r][p], query, key[p]);
        }
    }
    EACH(r, GROUP) {
        EACH(p, panels) store(scores.at + r * scores.stride + p * 16, sum[r][p]);
        const vf peak = panels == 2 ? larger(sum[r][0], sum[r][1]) : sum[r][0];
        store(peaks + r * 16, larger(load(peaks + r * 16), peak));
    }
}

INLINE void value_block(
    const int vectors, size_t pairs, const uint16_t *weights, size_t weights_stride, const uint16_t *values,
    size_t width, float *out, size_t out_stride) {
    vf sum[GROUP][2];
    EACH(r, GROUP) EACH(v, vectors) sum[r][v] = load(out + r * out_stride + v * 16);
    for (size_t k = 0; k < pairs; k++) {
        __m512bh value[2];
        EACH(v, vectors) value[v] = load_pairs(values + k * width * 2 + v * 32);
        EACH(r, GROUP) {
            const __m512bh weight = splat_pair(weights + r * weights_stride + 2 * k);
            EACH(v, vectors) sum[r][v] = dot(sum[r][v], weight, value[v]);
        }
    }
    EACH(r, GROUP) EACH(v, vectors) store(out + r * out_stride + v * 16, sum[r][v]);
}

// y[i] = factor * sum over d of query[d] * table[d][i] for 16 * vectors numbers: a query's biases along one axis. Several
// sums where there are few vectors, for the products' latency.
INLINE void bias_lines(
    const int vectors, size_t pairs, const uint16_t *query, const uint16_t *table, size_t stride, float factor,
    float *y) {
    enum { most = 4 };
    const int parts = most / vectors;
    vf sum[most] = {0};
    size_t d = 0;
    for (; d + parts <= pairs; d += parts)
        EACH(i, parts) {
            const __m512bh pair = splat_pair(query + (d + i) * 2);
            EACH(v, vectors)
                sum[i * vectors + v] =
                    dot(sum[i * vectors + v], pair, load_pairs(table + ((d + i) * stride + v * 16) * 2));
        }
    for (; d < pairs; d++)
        EACH(v, vectors) sum[v] = dot(sum[v], splat_pair(query + d * 2), load_pairs(table + (d * stride + v * 16) * 2));
    EACH(v, vectors) {
        vf total = sum[v];
        EACH(i, parts) if (i > 0) total += sum[i * vectors + v];
        store(y + v * 16, total * factor);
    }
}

static void axis_bias(
    size_t lanes, size_t pairs, const uint16_t *query, const uint16_t *table, size_t stride, float factor, float *y) {
    size_t n = 0;
    for (; n + 64 <= lanes; n += 64) bias_lines(4, pairs, query, table + n * 2, stride, factor, y + n);
    for (; n < lanes; n += 16) bias_lines(1, pairs, query, table + n * 2, stride, factor, y + n);
}

// One group's part of the scratch memory.
typedef struct {
    uint16_t *queries;  // (pairs, GROUP, 2)
    float *row_bias;    // (GROUP, row_lanes)
    float *column_bias;  // (GROUP, columns)
    float *sums;        // (GROUP, width)
    float *totals;      // (GROUP, 16)
    float *maximum;     // (GROUP)
} group_memory;

INLINE size_t group_floats(const kirie_attention_shape *shape) {
    const size_t pairs = (shape->head_size + 1) / 2, row_lanes = (shape->key_rows + 15) / 16 * 16;
    return GROUP * (pairs + row_lanes + shape->key_columns_padded + shape->head_padded + 16) + 16;
}

// Each group's, one block of scores, and one query by itself.
size_t kirie_avx512_bf16_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    return (queries + GROUP - 1) / GROUP * group_floats(shape) + GROUP * BLOCK + (shape->head_size + 1) / 2;
}

void kirie_avx512_bf16_attention(const kirie_bf16_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    const size_t depth = shape->head_size, pairs = (depth + 1) / 2, width = shape->head_padded;
    const size_t columns = shape->key_columns_padded, row_lanes = (shape->key_rows + 15) / 16 * 16;
    const size_t panels_per_row = columns / 16, all_panels = shape->key_rows * panels_per_row;
    const size_t groups = (queries + GROUP - 1) / GROUP;
    const float inverse = 1.0f / scale, scale2 = scale * 1.44269504089f;

    const size_t q_size = pairs * GROUP, h_size = GROUP * row_lanes, w_size = GROUP * columns, o_size = GROUP * width;
    const size_t group_size = group_floats(shape);
    float *scores = scratch + groups * group_size;
    // One query by itself, an odd head filled up with a zero.
    uint16_t *query = (uint16_t *)(scores + GROUP * BLOCK);
    query[2 * pairs - 1] = 0;
#define MEMORY(g) \
    float *start = scratch + (g) * group_size; \
    const group_memory m = { \
        (uint16_t *)start, start + q_size, start + q_size + h_size, start + q_size + h_size + w_size, \
        start + q_size + h_size + w_size + o_size, start + q_size + h_size + w_size + o_size + GROUP * 16}

    for (size_t g = 0; g < groups; g++) {
        MEMORY(g);
        memset(start, 0, group_size * sizeof(float));
        for (size_t r = 0; r < GROUP; r++) {
            m.maximum[r] = -3e38f;
            const size_t index = g * GROUP + r;
            if (index >= queries) continue;
            memcpy(query, q + (size_t)query_tokens[index] * q_stride, depth * sizeof *query);
            for (size_t d = 0; d < pairs; d++) memcpy(m.queries + (d * GROUP + r) * 2, query + 2 * d, 4);
            float *bias = m.column_bias + r * columns;
            if (rel_h) {
                const size_t place = (size_t)query_places[index];
                axis_bias(
                    row_lanes, pairs, query, rel_h + (shape->key_rows - 1 - place / shape->key_columns) * 2, rel_h_stride,
                    inverse, m.row_bias + r * row_lanes);
                axis_bias(
                    columns, pairs, query, rel_w + (shape->key_columns - 1 - place % shape->key_columns) * 2,
                    rel_w_stride, inverse, bias);
            }
            for (size_t i = shape->key_columns; i < columns; i++) bias[i] = -1e30f;
        }
    }

    for (size_t first = 0; first < all_panels; first += BLOCK / 16) {
        const size_t count = all_panels - first < BLOCK / 16 ? all_panels - first : BLOCK / 16, lanes = count * 16;
        for (size_t g = 0; g < groups; g++) {
            MEMORY(g);
            float peaks[GROUP * 16], tops[GROUP];
            const float *lines[GROUP];
            for (size_t i = 0; i < GROUP * 16; i += 16) store(peaks + i, (vf)-3e38f);
            if (table)
                for (size_t r = 0; r < GROUP; r++) {
                    const size_t index = g * GROUP + r < queries ? g * GROUP + r : g * GROUP;
                    lines[r] = table + (size_t)query_places[index] * all_panels * 16;
                }
            size_t p = 0;
#define SCORES(panels, lines) \
    score_block( \
        panels, pairs, m.queries, packed_k, first + p, \
        (score_biases){panels_per_row, {m.row_bias, row_lanes}, {m.column_bias, columns}, lines, inverse}, \
        (sum_matrix){scores + p * 16, lanes}, peaks)
            if (table) {
                for (; p + 2 <= count; p += 2) SCORES(2, lines);
                if (p < count) SCORES(1, lines);
            } else {
                for (; p + 2 <= count; p += 2) SCORES(2, NULL);
                if (p < count) SCORES(1, NULL);
            }
#undef SCORES
            for (size_t r = 0; r < GROUP; r++) {
                const float peak = max_of(load(peaks + r * 16));
                tops[r] = peak > m.maximum[r] ? peak : m.maximum[r];
            }
            // The weights lie where the scores were, half as wide.
            for (size_t r = 0; r < GROUP; r++) {
                float *line = scores + r * lanes, *total = m.totals + r * 16;
                const vf sum = weigh(lanes, line, scale2, tops[r] * scale2, (uint16_t *)line);
                const int grows = first > 0 && tops[r] > m.maximum[r];
                const vf factor = grows ? exp2_short((vf)((m.maximum[r] - tops[r]) * scale2)) : (vf)1.0f;
                add_block(grows, factor, sum, width, m.sums + r * width, total);
                m.maximum[r] = tops[r];
            }
            const uint16_t *values = packed_v + first * 16 * width;
            size_t n = 0;
#define VALUES(vectors) \
    value_block( \
        vectors, lanes / 2, (const uint16_t *)scores, 2 * lanes, values + n * 2, width, m.sums + n, width)
            for (; n + 32 <= width; n += 32) VALUES(2);
            for (; n < width; n += 16) VALUES(1);
#undef VALUES
        }
    }

    for (size_t i = 0; i < queries; i++) {
        MEMORY(i / GROUP);
        write_answer(
            depth, m.sums + i % GROUP * width, m.totals + i % GROUP * 16, out + (size_t)query_tokens[i] * out_stride);
    }
#undef MEMORY
}

#pragma clang attribute pop

#endif
