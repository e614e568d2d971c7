// Tiles of AMX; included once by each file of AMX kernels, inside its target attribute and after <immintrin.h>.
// Source: Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1, chapter 18.

// What the processor keeps of each tile: the layout that LDTILECFG reads.
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

// Tiles 0 to 3 are sums, 4 and 5 the left sides, 6 and 7 the right sides of products over `pairs` pairs of numbers, at
// most 16. `upper` rows are in tiles 0, 1 and 4, `lower` ones in 2, 3 and 5, at most 16 each. Forgets what the tiles held.
INLINE void shape_tiles(size_t upper, size_t lower, size_t pairs) {
    tile_shapes shapes = {.palette = 1};
    EACH(i, 8) {
        shapes.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? pairs * 4 : 64);
        shapes.rows[i] = (uint8_t)(i >= 6 ? pairs : i == 2 || i == 3 || i == 5 ? lower : upper);
    }
    _tile_loadconfig(&shapes);
}

// `pairs` in as few equal steps as a tile allows: how many pairs a step is.
INLINE size_t tile_step(size_t pairs) {
    size_t parts = (pairs + 15) / 16;
    while (pairs % parts != 0) parts++;
    return pairs / parts;
}
