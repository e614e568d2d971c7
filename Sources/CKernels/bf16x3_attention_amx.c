// Attention of the image encoders on fp32 numbers in three bf16 parts, for AMX: both products go through the tiles, softmax
// and biases are in fp32.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target( \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

#include "attention_biases.h"
#include "attention_scores.h"
#include "attention_softmax.h"
#include "tiles_amx.h"
#include "bf16x3.h"
#include "bf16x3_tiles_amx.h"

#define GROUP 32  // queries that go together: two tiles
#define BLOCK 512  // keys at a time
#define LINE (BLOCK + 16)  // floats from one query's scores to the next one's: lines lie in different sets of the cache

void kirie_amx_bf16x3_attention_pack(const kirie_bf16x3_attention_pack_arguments *arguments) {
    ATTENTION_PACK_ARGUMENTS;
    const size_t steps = attention_head_steps(shape), padded = shape->key_columns_padded;
    const size_t key_tiles = attention_key_tiles(shape);
    const size_t first = first_row * padded, last = last_row < shape->key_rows ? last_row * padded : key_tiles * 32;
    for (size_t lane = first; lane < last; lane += 2) {
        const float *keys[2], *values[2];
        EACH(i, 2) {
            const size_t row = (lane + i) / padded, column = (lane + i) % padded;
            const int isKey = row < shape->key_rows && column < shape->key_columns;
            const int32_t token = isKey ? tokens[row * shape->key_columns + column] : 0;
            keys[i] = !isKey ? NULL : token < 0 ? pad_k : k + (size_t)token * stride;
            values[i] = !isKey ? NULL : token < 0 ? pad_v : v + (size_t)token * stride;
        }
        for (size_t d = 0; d < steps; d++) {
            __m512 key[2][2], value[2][2];
            EACH(i, 2) EACH(h, 2) {
                const size_t at = d * 32 + h * 16;
                const int isThere = keys[i] && at < shape->head_size;
                key[i][h] = isThere ? _mm512_loadu_ps(keys[i] + at) : _mm512_setzero_ps();
                value[i][h] = isThere ? _mm512_loadu_ps(values[i] + at) : _mm512_setzero_ps();
            }
            uint16_t *key_to = packed_k + (lane / 32 * steps + d) * PARTS * 2 * TILE + lane % 32 / 16 * TILE + lane % 16 * 2;
            uint16_t *value_to = packed_v + (d * key_tiles + lane / 32) * PARTS * 2 * TILE + lane % 32 / 2 * 32;
            EACH(i, 2) store_column(key[i], key_to + i * 2);
            EACH(part, PARTS) {
                const __m512i even = take_part(value[0]), odd = take_part(value[1]);
                EACH(h, 2) {
                    const __m256i low = h == 0 ? _mm512_castsi512_si256(even) : _mm512_extracti64x4_epi64(even, 1);
                    const __m256i high = h == 0 ? _mm512_castsi512_si256(odd) : _mm512_extracti64x4_epi64(odd, 1);
                    _mm512_storeu_si512(
                        value_to + part * 2 * TILE + h * TILE,
                        _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
                }
            }
        }
    }
}

// y (GROUP, 32) (+)= rows by weights, `steps` steps of both.
INLINE void multiply(
    size_t steps, const uint16_t *rows, const uint16_t *weights, int accumulate, float *y, size_t y_stride) {
    const uint16_t *lower = rows + steps * PARTS * TILE;
    begin_sums(accumulate, y, y_stride);
    for (size_t s = 0; s < steps; s++)
        add_step(rows + s * PARTS * TILE, lower + s * PARTS * TILE, weights + s * PARTS * 2 * TILE);
    end_sums(y, y_stride);
}

// The weights e^(line - top) of `lanes` keys in parts, as a row of tiles; answers their sum.
INLINE vf weigh_parts(size_t lanes, const float *line, float top, uint16_t *parts) {
    vf sums[2] = {0, 0};
    for (size_t n = 0; n < lanes; n += 32, parts += PARTS * TILE) {
        __m512 weights[2];
        EACH(i, 2) {
            const vf weight = vexp(load(line + n + i * 16) - top);
            sums[i] += weight;
            weights[i] = (__m512)weight;
        }
        store_row(weights, parts);
    }
    return sums[0] + sums[1];
}

// One group's part of the scratch memory.
typedef struct {
    uint16_t *queries;   // in parts, (2, width / 32, part, 16, 32), times the scale
    float *row_bias;     // (GROUP, row_lanes)
    float *column_bias;  // (GROUP, columns)
    float *sums;         // (GROUP, width)
    float *totals;       // (GROUP, 16)
    float *maximum;      // (GROUP)
} group_memory;

// The head's numbers in whole tiles.
INLINE size_t head_width(const kirie_attention_shape *shape) { return attention_head_steps(shape) * 32; }

INLINE size_t query_floats(const kirie_attention_shape *shape) { return GROUP * head_width(shape) * PARTS / 2; }

INLINE size_t row_lanes(const kirie_attention_shape *shape) { return (shape->key_rows + 15) / 16 * 16; }

INLINE size_t group_floats(const kirie_attention_shape *shape) {
    return query_floats(shape) + GROUP * (row_lanes(shape) + shape->key_columns_padded + head_width(shape) + 16 + 1);
}

INLINE group_memory memory_of(const kirie_attention_shape *shape, float *scratch, size_t group) {
    float *start = scratch + group * group_floats(shape), *rows = start + query_floats(shape);
    float *columns = rows + GROUP * row_lanes(shape), *sums = columns + GROUP * shape->key_columns_padded;
    float *totals = sums + GROUP * head_width(shape);
    return (group_memory){(uint16_t *)start, rows, columns, sums, totals, totals + GROUP * 16};
}

size_t kirie_amx_bf16x3_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    return (queries + GROUP - 1) / GROUP * group_floats(shape) + GROUP * LINE + GROUP * BLOCK * PARTS / 2;
}

void kirie_amx_bf16x3_attention(const kirie_bf16x3_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    const size_t depth = shape->head_size, width = head_width(shape), steps = width / 32;
    const size_t columns = shape->key_columns_padded;
    const size_t panels_per_row = columns / 16, all_panels = shape->key_rows * panels_per_row;
    const size_t key_tiles = attention_key_tiles(shape), groups = (queries + GROUP - 1) / GROUP;
    float *scores = scratch + groups * group_floats(shape);
    uint16_t *parts = (uint16_t *)(scores + GROUP * LINE);

    for (size_t g = 0; g < groups; g++) {
        const group_memory m = memory_of(shape, scratch, g);
        const size_t rows = queries - g * GROUP < GROUP ? queries - g * GROUP : GROUP;
        memset(m.queries, 0, query_floats(shape) * sizeof(float));
        memset(m.row_bias, 0, GROUP * (row_lanes(shape) + columns + width + 16) * sizeof(float));  // up to the totals
        for (size_t r = 0; r < GROUP; r++) m.maximum[r] = -1e30f;
        for (size_t r = 0; r < rows; r++) {
            const size_t place = (size_t)query_places[g * GROUP + r];
            const float *query = q + (size_t)query_tokens[g * GROUP + r] * q_stride;
            for (size_t d = 0; d < steps; d++) {
                __m512 numbers[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
                EACH(i, 2)
                    if (d * 32 + i * 16 < depth)
                        numbers[i] = _mm512_mul_ps(_mm512_loadu_ps(query + d * 32 + i * 16), _mm512_set1_ps(scale));
                store_row(numbers, m.queries + (r / 16 * steps + d) * PARTS * TILE + r % 16 * 32);
            }
            float *column_bias = m.column_bias + r * columns;
            if (rel_h) {
                axis_bias(
                    row_lanes(shape), depth, query, rel_h + (shape->key_rows - 1 - place / shape->key_columns),
                    rel_h_stride, m.row_bias + r * row_lanes(shape));
                axis_bias(
                    columns, depth, query, rel_w + (shape->key_columns - 1 - place % shape->key_columns), rel_w_stride,
                    column_bias);
            }
            for (size_t i = shape->key_columns; i < columns; i++) column_bias[i] = -1e30f;
        }
    }

    shape_tiles(16, 16, 16);
    for (size_t first = 0; first < all_panels; first += BLOCK / 16) {
        const size_t count = all_panels - first < BLOCK / 16 ? all_panels - first : BLOCK / 16;
        const size_t tiles = (count + 1) / 2;
        for (size_t g = 0; g < groups; g++) {
            const group_memory m = memory_of(shape, scratch, g);
            const size_t rows = queries - g * GROUP < GROUP ? queries - g * GROUP : GROUP;
            for (size_t t = 0; t < tiles; t++)
                multiply(
                    steps, m.queries, packed_k + (first / 2 + t) * steps * PARTS * 2 * TILE, 0, scores + t * 32,
                    LINE);
            for (size_t r = 0; r < rows; r++) {
                float *line = scores + r * LINE, *total = m.totals + r * 16;
                const size_t place = (size_t)query_places[g * GROUP + r];
                const vf peaks = table
                    ? add_table(count, table + (place * all_panels + first) * 16, 1, line)
                    : add_positions(
                          first, count, panels_per_row, m.row_bias + r * row_lanes(shape), m.column_bias + r * columns,
                          line);
                // An odd panel's neighbour holds no keys.
                if (count % 2 != 0) store(line + count * 16, (vf)-1e30f);
                const float peak = max_of(peaks), top = peak > m.maximum[r] ? peak : m.maximum[r];
                const vf sum =
                    weigh_parts(tiles * 32, line, top, parts + r / 16 * tiles * PARTS * TILE + r % 16 * 32);
                const int grows = first > 0 && top > m.maximum[r];
                const vf factor = grows ? vexp((vf)(m.maximum[r] - top)) : (vf)1.0f;
                add_block(grows, factor, sum, width, m.sums + r * width, total);
                m.maximum[r] = top;
            }
            for (size_t n = 0; n < steps; n++)
                multiply(
                    tiles, parts, packed_v + (n * key_tiles + first / 2) * PARTS * 2 * TILE, 1, m.sums + n * 32,
                    width);
        }
    }
    _tile_release();

    for (size_t i = 0; i < queries; i++) {
        const group_memory m = memory_of(shape, scratch, i / GROUP);
        const float inverse = 1.0f / sum_of(load(m.totals + i % GROUP * 16));
        float *line = out + (size_t)query_tokens[i] * out_stride;
        for (size_t d = 0; d < depth; d += 16)
            store(line + d, load(m.sums + i % GROUP * width + d) * inverse);
    }
}

#pragma clang attribute pop

#endif
