// Sums of numbers in three bf16 parts in the tiles of AMX; included once by each file that makes them, inside its target
// attribute, after vectors_bf16.h and bf16x3.h. The tiles have the shape of shape_tiles(16, 16, 16).

// The upper parts of 32 numbers; what they leave of them stays in x.
INLINE __m512i take_part(__m512 x[2]) {
    const __m512i part = (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]);
    EACH(i, 2) {
        const __m256i half = i == 0 ? _mm512_castsi512_si256(part) : _mm512_extracti64x4_epi64(part, 1);
        x[i] = _mm512_sub_ps(x[i], (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    return part;
}

// The parts of 32 numbers along the depth as one line of a tile of rows each. Uses the numbers up.
INLINE void store_row(__m512 x[2], uint16_t *to) { EACH(i, PARTS) _mm512_storeu_si512(to + i * TILE, take_part(x)); }

// The parts of 32 numbers along the depth as one column of weights: pairs, a line of the tile each. Uses the numbers up.
INLINE void store_column(__m512 x[2], uint16_t *to) {
    const __m512i lines = _mm512_slli_epi32(
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 4);
    EACH(i, PARTS) _mm512_i32scatter_epi32(to + i * 2 * TILE, lines, take_part(x), 4);
}

// The sums of 32 rows and 32 columns are in tiles 0 to 3, rows in tiles 4 and 5, weights in tiles 6 and 7.

INLINE void begin_sums(int accumulate, const float *y, size_t y_stride) {
    if (accumulate) {
        _tile_loadd(0, y, y_stride * 4);
        _tile_loadd(1, y + 16, y_stride * 4);
        _tile_loadd(2, y + 16 * y_stride, y_stride * 4);
        _tile_loadd(3, y + 16 * y_stride + 16, y_stride * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
}

INLINE void end_sums(float *y, size_t y_stride) {
    _tile_stored(0, y, y_stride * 4);
    _tile_stored(1, y + 16, y_stride * 4);
    _tile_stored(2, y + 16 * y_stride, y_stride * 4);
    _tile_stored(3, y + 16 * y_stride + 16, y_stride * 4);
}

#define LOAD(tile, p) _tile_loadd(tile, p, 64)
#define ADD(sum, left, right) _tile_dpbf16ps(sum, left, right)

// One step of 32 numbers along the depth. Left times right parts: 3 1, 2 1, 2 2, 1 2, 1 3, 1 1, so that each time one side
// stays; loads stand between products, as early as the tile is free.
INLINE void add_step(const uint16_t *upper, const uint16_t *lower, const uint16_t *w) {
    LOAD(4, upper + 2 * TILE);
    LOAD(6, w);
    ADD(0, 4, 6);
    LOAD(7, w + TILE);
    ADD(1, 4, 7);
    LOAD(5, lower + 2 * TILE);
    ADD(2, 5, 6);
    LOAD(4, upper + TILE);
    ADD(3, 5, 7);
    LOAD(5, lower + TILE);
    ADD(0, 4, 6);
    ADD(1, 4, 7);
    ADD(2, 5, 6);
    LOAD(6, w + 2 * TILE);
    ADD(3, 5, 7);
    LOAD(7, w + 3 * TILE);
    ADD(0, 4, 6);
    ADD(2, 5, 6);
    ADD(1, 4, 7);
    LOAD(4, upper);
    ADD(3, 5, 7);
    LOAD(5, lower);
    ADD(0, 4, 6);
    ADD(1, 4, 7);
    ADD(2, 5, 6);
    LOAD(6, w + 4 * TILE);
    ADD(3, 5, 7);
    LOAD(7, w + 5 * TILE);
    ADD(0, 4, 6);
    ADD(2, 5, 6);
    LOAD(6, w);
    ADD(1, 4, 7);
    ADD(3, 5, 7);
    LOAD(7, w + TILE);
    ADD(0, 4, 6);
    ADD(2, 5, 6);
    ADD(1, 4, 7);
    ADD(3, 5, 7);
}
#undef ADD
