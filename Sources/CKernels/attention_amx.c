// Attention of the image encoders on bf16 numbers, for AMX: the two products go through tiles of 16 x 16 sums, and the
// packed keys and values of attention_bf16.c happen to lie the way that a tile reads them. Softmax and biases
// are those of the AVX-512 kernel.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target( \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

#include "attention_scores.h"
#include "attention_softmax.h"
#include "attention_bf16.h"
#include "tiles_amx.h"

#define HALF 16  // queries of one tile
#define GROUP 32  // queries that go together: two tiles, so that every tile of keys is used twice
#define BLOCK 512  // keys at a time: fewer would leave more beginnings and ends than the nearer cache makes up for
#define LINE (BLOCK + 16)  // floats from one query's scores to the next one's: lines lie in different sets of the cache

// scores (halves * 16, panels * 16) = queries (halves * 16, depth) by packed keys, `step` pairs of the depth at a time.
INLINE void score_panels(
    const int halves, size_t panels, size_t pairs, size_t step, const uint16_t *queries, const uint16_t *keys,
    float *scores) {
    const size_t query_bytes = pairs * 4, half = HALF * pairs * 2;
    size_t p = 0;
    for (; p + 2 <= panels; p += 2) {
        _tile_zero(0);
        _tile_zero(1);
        if (halves == 2) {
            _tile_zero(2);
            _tile_zero(3);
        }
        for (size_t d = 0; d < pairs; d += step) {
            _tile_loadd(4, queries + d * 2, query_bytes);
            _tile_loadd(6, keys + (p * pairs + d) * 32, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, keys + ((p + 1) * pairs + d) * 32, 64);
            _tile_dpbf16ps(1, 4, 7);
            if (halves == 2) {
                _tile_loadd(5, queries + half + d * 2, query_bytes);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, scores + p * 16, LINE * 4);
        _tile_stored(1, scores + p * 16 + 16, LINE * 4);
        if (halves == 2) {
            _tile_stored(2, scores + HALF * LINE + p * 16, LINE * 4);
            _tile_stored(3, scores + HALF * LINE + p * 16 + 16, LINE * 4);
        }
    }
    if (p == panels) return;
    _tile_zero(0);
    _tile_zero(2);
    for (size_t d = 0; d < pairs; d += step) {
        _tile_loadd(4, queries + d * 2, query_bytes);
        _tile_loadd(6, keys + (p * pairs + d) * 32, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (halves == 2) {
            _tile_loadd(5, queries + half + d * 2, query_bytes);
            _tile_dpbf16ps(2, 5, 6);
        }
    }
    _tile_stored(0, scores + p * 16, LINE * 4);
    if (halves == 2) _tile_stored(2, scores + HALF * LINE + p * 16, LINE * 4);
}

// sums (halves * 16, width) += weights by values, for `steps` times `pairs` pairs of keys.
INLINE void value_panels(
    const int halves, size_t steps, size_t pairs, const uint16_t *weights, const uint16_t *values, size_t width,
    float *sums) {
    const size_t sum_bytes = width * 4, half = HALF * width, weight_bytes = LINE * 4;
    size_t n = 0;
    for (; n + 32 <= width; n += 32) {
        _tile_loadd(0, sums + n, sum_bytes);
        _tile_loadd(1, sums + n + 16, sum_bytes);
        if (halves == 2) {
            _tile_loadd(2, sums + half + n, sum_bytes);
            _tile_loadd(3, sums + half + n + 16, sum_bytes);
        }
        for (size_t k = 0; k < steps; k++) {
            const uint16_t *value = values + (k * pairs * width + n) * 2;
            _tile_loadd(4, weights + k * pairs * 2, weight_bytes);
            _tile_loadd(6, value, sum_bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, value + 32, sum_bytes);
            _tile_dpbf16ps(1, 4, 7);
            if (halves == 2) {
                _tile_loadd(5, weights + HALF * LINE * 2 + k * pairs * 2, weight_bytes);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, sums + n, sum_bytes);
        _tile_stored(1, sums + n + 16, sum_bytes);
        if (halves == 2) {
            _tile_stored(2, sums + half + n, sum_bytes);
            _tile_stored(3, sums + half + n + 16, sum_bytes);
        }
    }
    if (n == width) return;
    _tile_loadd(0, sums + n, sum_bytes);
    if (halves == 2) _tile_loadd(2, sums + half + n, sum_bytes);
    for (size_t k = 0; k < steps; k++) {
        _tile_loadd(4, weights + k * pairs * 2, weight_bytes);
        _tile_loadd(6, values + (k * pairs * width + n) * 2, sum_bytes);
        _tile_dpbf16ps(0, 4, 6);
        if (halves == 2) {
            _tile_loadd(5, weights + HALF * LINE * 2 + k * pairs * 2, weight_bytes);
            _tile_dpbf16ps(2, 5, 6);
        }
    }
    _tile_stored(0, sums + n, sum_bytes);
    if (halves == 2) _tile_stored(2, sums + half + n, sum_bytes);
}

// out (halves * 16, tiles * 16) = factor * queries by one axis' relative positions: all of them, of which each query then
// needs a part.
INLINE void position_biases(
    const int halves, size_t tiles, size_t pairs, size_t step, const uint16_t *queries, bf16_matrix positions,
    float factor, sum_matrix out) {
    const size_t query_bytes = pairs * 4, half = HALF * pairs * 2;
    for (size_t n = 0; n < tiles; n++) {
        _tile_zero(0);
        _tile_zero(2);
        for (size_t d = 0; d < pairs; d += step) {
            _tile_loadd(4, queries + d * 2, query_bytes);
            _tile_loadd(6, positions.at + (d * positions.stride + n * 16) * 2, positions.stride * 4);
            _tile_dpbf16ps(0, 4, 6);
            if (halves == 2) {
                _tile_loadd(5, queries + half + d * 2, query_bytes);
                _tile_dpbf16ps(2, 5, 6);
            }
        }
        _tile_stored(0, out.at + n * 16, out.stride * 4);
        if (halves == 2) _tile_stored(2, out.at + HALF * out.stride + n * 16, out.stride * 4);
    }
    for (size_t r = 0; r < (size_t)halves * HALF; r++)
        for (size_t n = 0; n < tiles * 16; n += 16)
            store(out.at + r * out.stride + n, load(out.at + r * out.stride + n) * factor);
}

// One group's part of the scratch memory.
typedef struct {
    uint16_t *queries;   // (GROUP, pairs, 2)
    float *row_bias;     // (GROUP, row_stride): each query's products with all positions by row
    float *column_bias;  // (GROUP, column_stride): and by column
    float *sums;         // (GROUP, width)
    float *totals;       // (GROUP, 16)
    float *maximum;      // (GROUP)
} group_memory;

// Positions by row and by column in whole tiles.
INLINE size_t row_tiles_of(const kirie_attention_shape *shape) { return (2 * shape->key_rows + 14) / 16; }
INLINE size_t column_tiles_of(const kirie_attention_shape *shape) { return (2 * shape->key_columns + 14) / 16; }

// Each group's, with relative positions, which take more than a table, and one block of scores.
size_t kirie_amx_bf16_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    const size_t pairs = (shape->head_size + 1) / 2;
    const size_t positions = (row_tiles_of(shape) + column_tiles_of(shape)) * 16 + 32;
    const size_t group_size = GROUP * (pairs + positions + shape->head_padded + 16 + 1);
    return (queries + GROUP - 1) / GROUP * group_size + GROUP * LINE;
}

void kirie_amx_bf16_attention(const kirie_bf16_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    const size_t depth = shape->head_size, pairs = (depth + 1) / 2, width = shape->head_padded;
    const size_t columns = shape->key_columns_padded;
    // Positions by row and by column in whole tiles, and 16 numbers of slack for the vectors that begin within.
    const size_t row_tiles = row_tiles_of(shape), column_tiles = column_tiles_of(shape);
    const size_t row_stride = rel_h ? row_tiles * 16 + 16 : 0, column_stride = rel_w ? column_tiles * 16 + 16 : 0;
    const size_t panels_per_row = columns / 16, all_panels = shape->key_rows * panels_per_row;
    const size_t groups = (queries + GROUP - 1) / GROUP;
    const float inverse = 1.0f / scale, scale2 = scale * 1.44269504089f;
    const size_t step = tile_step(pairs);

    const size_t q_size = GROUP * pairs, h_size = GROUP * row_stride, w_size = GROUP * column_stride, o_size = GROUP * width;
    const size_t group_size = q_size + h_size + w_size + o_size + GROUP * 16 + GROUP;
    float *scores = scratch + groups * group_size;
#define MEMORY(g) \
    float *start = scratch + (g) * group_size; \
    const group_memory m = { \
        (uint16_t *)start, start + q_size, start + q_size + h_size, start + q_size + h_size + w_size, \
        start + q_size + h_size + w_size + o_size, start + q_size + h_size + w_size + o_size + GROUP * 16}

    size_t shaped = 0;
#define SHAPE(count) \
    if (shaped != (count)) shape_tiles(16, 16, shaped = (count))
    for (size_t g = 0; g < groups; g++) {
        MEMORY(g);
        const size_t rows = queries - g * GROUP < GROUP ? queries - g * GROUP : GROUP;
        memset(m.queries, 0, q_size * sizeof(float));
        memset(m.sums, 0, (o_size + GROUP * 16) * sizeof(float));  // and the totals behind them
        for (size_t r = 0; r < GROUP; r++) m.maximum[r] = -3e38f;
        for (size_t r = 0; r < rows; r++) {
            const uint16_t *query = q + (size_t)query_tokens[g * GROUP + r] * q_stride;
            uint16_t *line = m.queries + r * pairs * 2;
            size_t d = 0;
            for (; d + 32 <= depth; d += 32) _mm512_storeu_si512(line + d, _mm512_loadu_si512(query + d));
            for (; d < depth; d++) line[d] = query[d];
        }
        if (!rel_h) continue;
        SHAPE(step);
#define BIASES(halves) \
    position_biases( \
        halves, row_tiles, pairs, step, m.queries, (bf16_matrix){rel_h, rel_h_stride}, inverse, \
        (sum_matrix){m.row_bias, row_stride}); \
    position_biases( \
        halves, column_tiles, pairs, step, m.queries, (bf16_matrix){rel_w, rel_w_stride}, inverse, \
        (sum_matrix){m.column_bias, column_stride})
        if (rows > HALF) {
            BIASES(2);
        } else {
            BIASES(1);
        }
#undef BIASES
        // The lanes after a row's last key stand for none.
        for (size_t r = 0; r < rows; r++) {
            const size_t column = (size_t)query_places[g * GROUP + r] % shape->key_columns;
            float *bias = m.column_bias + r * column_stride + shape->key_columns - 1 - column;
            for (size_t i = shape->key_columns; i < columns; i++) bias[i] = -1e30f;
        }
    }

    for (size_t first = 0; first < all_panels; first += BLOCK / 16) {
        const size_t count = all_panels - first < BLOCK / 16 ? all_panels - first : BLOCK / 16, lanes = count * 16;
        for (size_t g = 0; g < groups; g++) {
            MEMORY(g);
            const size_t rows = queries - g * GROUP < GROUP ? queries - g * GROUP : GROUP;
            const uint16_t *keys = packed_k + first * pairs * 32, *values = packed_v + first * 16 * width;
            SHAPE(step);
            if (rows > HALF)
                score_panels(2, count, pairs, step, m.queries, keys, scores);
            else
                score_panels(1, count, pairs, step, m.queries, keys, scores);

            float tops[GROUP];
            for (size_t r = 0; r < rows; r++) {
                float *line = scores + r * LINE;
                const size_t place = (size_t)query_places[g * GROUP + r];
                const vf peaks = table
                    ? add_table(count, table + (place * all_panels + first) * 16, inverse, line)
                    : add_positions(
                          first, count, panels_per_row,
                          m.row_bias + r * row_stride + shape->key_rows - 1 - place / shape->key_columns,
                          m.column_bias + r * column_stride + shape->key_columns - 1 - place % shape->key_columns, line);
                const float peak = max_of(peaks);
                tops[r] = peak > m.maximum[r] ? peak : m.maximum[r];
            }
            // The weights lie where the scores were, half as wide.
            for (size_t r = 0; r < rows; r++) {
                float *line = scores + r * LINE, *total = m.totals + r * 16;
                const vf sum = weigh(lanes, line, scale2, tops[r] * scale2, (uint16_t *)line);
                const int grows = first > 0 && tops[r] > m.maximum[r];
                const vf factor = grows ? exp2_short((vf)((m.maximum[r] - tops[r]) * scale2)) : (vf)1.0f;
                add_block(grows, factor, sum, width, m.sums + r * width, total);
                m.maximum[r] = tops[r];
            }

            // An odd panel at the end is a step of half as many keys.
            const uint16_t *weights = (const uint16_t *)scores;
            const size_t steps = lanes / 32;
#define VALUES(count, pairs, weights, values) \
    if (rows > HALF) \
        value_panels(2, count, pairs, weights, values, width, m.sums); \
    else \
        value_panels(1, count, pairs, weights, values, width, m.sums)
            if (steps > 0) {
                SHAPE(16);
                VALUES(steps, 16, weights, values);
            }
            if (lanes % 32 != 0) {
                SHAPE(8);
                VALUES(1, 8, weights + steps * 32, values + steps * 32 * width);
            }
#undef VALUES
        }
    }
    _tile_release();
#undef SHAPE

    for (size_t i = 0; i < queries; i++) {
        MEMORY(i / GROUP);
        write_answer(
            depth, m.sums + i % GROUP * width, m.totals + i % GROUP * 16, out + (size_t)query_tokens[i] * out_stride);
    }
#undef MEMORY
}

#pragma clang attribute pop

#endif
