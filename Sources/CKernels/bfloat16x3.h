// How numbers in three bf16 parts lie in memory: in tiles of 16 rows of 64 bytes, which AMX takes as they are.
//
// Rows are (row tiles, depth / 32, part, 16, 32). Weights are panels of 32 columns: the bias as two tiles, whose first three
// numbers of a column are its parts, then (depth / 32, part, 2, 16, 16, 2) with neighbours along the depth in pairs.

enum { PARTS = 3, TILE = 512 };

static inline size_t panel_numbers(size_t depth) { return (1 + depth / 32 * PARTS) * 2 * TILE; }
