// How numbers in three bf16 parts lie in memory: in tiles of 16 rows of 64 bytes, which AMX takes as they are.
//
// Rows are (row tiles, depth / 32, part, 16, 32). Weights are panels of 32 columns: the bias as two tiles, whose first three
// numbers of a column are its parts, then (depth / 32, part, 2, 16, 16, 2) with neighbours along the depth in pairs.

// A window's keys are such panels of 32 keys along the head, without a bias, its values panels of 32 numbers of the head along
// the keys.

enum { PARTS = 3, TILE = 512 };

static inline size_t panel_numbers(size_t depth) { return (1 + depth / 32 * PARTS) * 2 * TILE; }

// Tiles of 32 keys of a window; the last one may be half empty.
static inline size_t attention_key_tiles(const kirie_attention_shape *shape) {
    return (shape->key_rows * shape->key_columns_padded + 31) / 32;
}

// Steps of 32 numbers of the head; the last one may be half empty.
static inline size_t attention_head_steps(const kirie_attention_shape *shape) { return (shape->head_size + 31) / 32; }
