#ifndef KIRIE_KERNELS_H
#define KIRIE_KERNELS_H

// Kernels that no library has: attention with relative positions, the fused steps of the mask decoder, depthwise
// convolution, and the element-wise functions between them. Every kernel exists once per instruction set (same
// source, other vector width) and once more in plain C, its twin for the tests; the choice is made at run time.
//
// Conventions: `float` matrices are row-major with a stride in elements; sizes are checked by the caller; no kernel
// allocates, locks or keeps state. Lengths marked "x 16" must be multiples of 16, which every vector width divides.

#include <stddef.h>
#include <stdint.h>

// MARK: instruction sets

typedef enum {
    KIRIE_PLAIN = 0,     // no vectors: the twin that the tests hold the others against
    KIRIE_BASELINE = 1,  // four lanes: SSE2, NEON
    KIRIE_AVX2 = 2,      // eight lanes with FMA
    KIRIE_AVX512 = 3,    // sixteen lanes: F, BW, DQ, VL
} kirie_level;

// Instruction sets in their order, each with all before it. The environment's KIRIE_MAX_ISA, one of these names (baseline,
// avx2, avx512, bf16, amx), keeps a process from using more than that; other words, and none, set no limit.
typedef enum {
    KIRIE_ISA_BASELINE = 0,
    KIRIE_ISA_AVX2 = 1,
    KIRIE_ISA_AVX512 = 2,
    KIRIE_ISA_BF16 = 3,
    KIRIE_ISA_AMX = 4,
} kirie_isa;

// What the environment said when this was first asked.
kirie_isa kirie_isa_limit(void);

// The best level that this processor and operating system run, within that limit.
kirie_level kirie_best_level(void);
// Whether the processor has AVX512_BF16 (two bf16 products per lane and step), and the limit allows it.
int kirie_has_bf16(void);
// Whether it also has AVX512_VNNI (four int8 products per lane and step).
int kirie_has_int8(void);
// Whether it also has AMX for bf16 (tiles of 16 x 16 sums), and the operating system lets this process use it.
int kirie_has_amx_bf16(void);

// The processors that this process may run on, at least 1.
int kirie_available_processors(void);

// Keeps the calling thread on the processor that is number `index`, from 0, of those on which it may run; returns 0, and
// changes nothing, where there is no such processor.
int kirie_pin_thread(int index);

// MARK: rows of numbers

// y = (x - mean) / sqrt(variance + epsilon) * gain + shift over each row of `columns` numbers, any count.
void kirie_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, float *y, size_t y_stride);
// x = x * Phi(x), exact (erf) form, in place; any count.
void kirie_gelu(size_t count, float *x);
// x = max(x, 0), in place; any count.
void kirie_relu(size_t count, float *x);
// y += x; any count.
void kirie_add(size_t count, const float *x, float *y);

// MARK: products of small matrices

// c[m][n] (+)= sum over k of a[m * a_row + k * a_column] * b[k][n], then + row_bias[m] or + column_bias[n] (either may
// be NULL). columns x 16. The sum over k runs in order for every element, so a row's bits do not depend on how many
// rows there are: a prompt decoded alone equals the same prompt in a batch.
void kirie_product(
    size_t rows, size_t columns, size_t depth, const float *a, size_t a_row, size_t a_column, const float *b,
    size_t b_stride, float *c, size_t c_stride, const float *row_bias, const float *column_bias, int accumulate);

// The same for `groups` products whose operands lie side by side: a_step, b_step and c_step from one to the next.
void kirie_products(
    size_t groups, size_t rows, size_t columns, size_t depth, const float *a, size_t a_step, size_t a_row,
    size_t a_column, const float *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride,
    int accumulate);
// y (columns, y_stride) = x (rows, columns) transposed; numbers of 32 bits, whatever they mean.
void kirie_transpose(size_t rows, size_t columns, const void *x, size_t x_stride, void *y, size_t y_stride);

// MARK: attention of the mask decoder (channel-major tiles of 64 image tokens)

// Softmax over the tokens, for each head and image token: s is (tokens * heads, 64), row t * heads + h.
void kirie_softmax_over_tokens(size_t tokens, size_t heads, float *s);

// One step of a running softmax along the image tokens, in place. s is (rows, 64), one row per (token, head); the
// first `valid` image tokens count, the others get the weight 0. Updates maximum[rows] and total[rows], and writes
// the factors by which everything summed so far has to shrink to factor[rows].
void kirie_softmax_step(size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor);
// x[r][n] *= factor[n]; columns x 16.
void kirie_scale_columns(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride);

// logits[m][n] += sum over r of weight[m * weight_stride + r] * gelu(x[r][n] + bias[r]) for 64 columns: the tail of
// the up-scaling and the product with the hypernetwork's weights, in one read.
void kirie_gelu_dot(
    size_t rows, size_t masks, const float *x, size_t x_stride, const float *bias, const float *weight,
    size_t weight_stride, float *logits, size_t logits_stride);

// x (rows, 64) = gain * x, less the mean over the rows; squares[64] is the sum of the squares of what is left. gain
// may be NULL.
void kirie_center_columns(size_t rows, float *x, const float *gain, float *squares);
// A norm's factor for each of 64 tokens whose features are known by their sum of squares only, which is
// running^2 * squares + sum over r of weights[r] * products[r], and is taken `scale` times (1 / channels):
// factor = 1 / sqrt(mean square + epsilon); running, the product of all factors so far, is multiplied by it.
void kirie_norm_factors(
    size_t rows, const float *weights, const float *products, const float *squares, float *running, float scale,
    float epsilon, float *factor);
// x (rows, 64) = gelu(norm over the rows of x + factor[n] * part + bias).
void kirie_upscale_norm(
    size_t rows, float *x, const float *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon);

// MARK: attention of the image encoders

// Where the keys of one window (or of the whole grid) lie and how they are stored for the kernels.
typedef struct {
    size_t head_size;      // numbers per head
    size_t head_padded;    // the same, rounded up to x 16
    size_t key_rows;       // rows of the window
    size_t key_columns;    // columns of the window
    size_t key_columns_padded;  // rounded up to x 16: a vector never spans two rows of keys
} kirie_attention_shape;

// Floats that kirie_attention_tile needs as scratch for up to `queries` queries.
size_t kirie_attention_scratch(const kirie_attention_shape *shape, size_t queries);
// Packs keys to (key_rows * key_columns_padded / 16, head_size, 16) and values to (key_rows * key_columns_padded,
// head_padded). tokens[key_rows * key_columns] gives the row of k and v; a negative one stands for padding, whose key
// and value are pad_k and pad_v (the projection of a zero vector: its bias). rows [first_row, last_row) are packed.
void kirie_attention_pack(
    const kirie_attention_shape *shape, const float *k, const float *v, size_t stride, const int32_t *tokens,
    const float *pad_k, const float *pad_v, size_t first_row, size_t last_row, float *packed_k, float *packed_v);
// out[query] = softmax(scale * q k^T + bias) v for `queries` queries, whose rows in q are query_tokens[i] and whose
// places in the window are query_places[i] = row * key_columns + column.
// bias: relative positions by row and column of Li et al., MViTv2 (rel_h and rel_w transposed and reversed:
// (head_size, 2 * key_rows - 1) and (head_size, 2 * key_columns - 1) with strides x 16 and 16 numbers of slack), or a
// table of (key_rows * key_columns, key_rows * key_columns_padded) with padding lanes at -1e30, or neither.
void kirie_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const float *q, size_t q_stride, const int32_t *query_tokens,
    const int32_t *query_places, float scale, const float *rel_h, size_t rel_h_stride, const float *rel_w,
    size_t rel_w_stride, const float *table, const float *packed_k, const float *packed_v, float *out,
    size_t out_stride, float *scratch);

// MARK: bf16

// The same on bf16 numbers (uint16_t: the upper halves of binary32), sums in fp32; only where kirie_has_bf16. Keys are
// packed in pairs along the head, (panels, head_size / 2, 16, 2), values in pairs along the keys, (keys / 2,
// head_padded, 2), and so are the relative positions along the head, (head_size / 2, stride, 2); an odd head is filled up
// with a zero. Scratch is as large as kirie_attention_scratch says. The plain twins define them.
void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y);
void kirie_bf16_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, uint16_t *y, size_t y_stride);
void kirie_bf16_attention_pack(
    const kirie_attention_shape *shape, const uint16_t *k, const uint16_t *v, size_t stride, const int32_t *tokens,
    const uint16_t *pad_k, const uint16_t *pad_v, size_t first_row, size_t last_row, uint16_t *packed_k,
    uint16_t *packed_v);
void kirie_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const uint16_t *rel_h,
    size_t rel_h_stride, const uint16_t *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k,
    const uint16_t *packed_v, uint16_t *out, size_t out_stride, float *scratch);
// What kirie_bf16_attention_tile chooses from: with AMX only where kirie_has_amx_bf16.
void kirie_avx512_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const uint16_t *rel_h,
    size_t rel_h_stride, const uint16_t *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k,
    const uint16_t *packed_v, uint16_t *out, size_t out_stride, float *scratch);
void kirie_amx_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const uint16_t *rel_h,
    size_t rel_h_stride, const uint16_t *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k,
    const uint16_t *packed_v, uint16_t *out, size_t out_stride, float *scratch);
// c[m][n] (+)= sum over k of a[m][k] * b[k][n] for `groups` products side by side; a (rows, 2 * pairs), b in pairs along
// the depth (pairs, b_stride, 2), c fp32; columns x 16; a_step and b_step in numbers. The sum over k runs in order.
void kirie_bf16_products(
    size_t groups, size_t rows, size_t columns, size_t pairs, const uint16_t *a, size_t a_step, size_t a_row,
    const uint16_t *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride, int accumulate);
// What kirie_bf16_products chooses from.
void kirie_avx512_bf16_products(
    size_t groups, size_t rows, size_t columns, size_t pairs, const uint16_t *a, size_t a_step, size_t a_row,
    const uint16_t *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride, int accumulate);
void kirie_amx_bf16_products(
    size_t groups, size_t rows, size_t columns, size_t pairs, const uint16_t *a, size_t a_step, size_t a_row,
    const uint16_t *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride, int accumulate);
// y in pairs along the rows (rows / 2, columns, 2) = x (rows, columns) narrowed; columns x 16; rows even.
void kirie_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y);
// y += x; any count.
void kirie_bf16_add(size_t count, const uint16_t *x, uint16_t *y);
void kirie_plain_bf16_add(size_t count, const uint16_t *x, uint16_t *y);
// As kirie_upscale_norm, `part` in bf16, the answer in pairs along the rows (rows / 2, 64, 2); x is used up. GELU by a
// polynomial, whose error is below 1.4e-5, or 3e-5 of an argument beyond 4.
void kirie_bf16_upscale_norm(
    size_t rows, float *x, const uint16_t *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon, uint16_t *y);
// As kirie_gelu_dot, with that GELU.
void kirie_bf16_gelu_dot(
    size_t rows, size_t masks, const float *x, size_t x_stride, const float *bias, const float *weight,
    size_t weight_stride, float *logits, size_t logits_stride);
void kirie_plain_bf16_products(
    size_t groups, size_t rows, size_t columns, size_t pairs, const uint16_t *a, size_t a_step, size_t a_row,
    const uint16_t *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride, int accumulate);
void kirie_plain_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y);
void kirie_plain_bf16_upscale_norm(
    size_t rows, float *x, const uint16_t *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon, uint16_t *y);
void kirie_plain_bf16_narrow(size_t count, const float *x, uint16_t *y);
void kirie_plain_bf16_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, uint16_t *y, size_t y_stride);
void kirie_plain_bf16_attention_pack(
    const kirie_attention_shape *shape, const uint16_t *k, const uint16_t *v, size_t stride, const int32_t *tokens,
    const uint16_t *pad_k, const uint16_t *pad_v, size_t first_row, size_t last_row, uint16_t *packed_k,
    uint16_t *packed_v);
void kirie_plain_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const uint16_t *rel_h,
    size_t rel_h_stride, const uint16_t *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k,
    const uint16_t *packed_v, uint16_t *out, size_t out_stride, float *scratch);

// MARK: fp32 products of bf16 parts

// A number as the sum of three bf16 numbers, each the rest of those before it rounded, and a product of two as the six
// products of parts that are not below 2^-24 of it, summed in fp32: what is lost is less than fp32's own rounding of the
// sums. Where AMX multiplies bf16 sixteen times as fast as the vector units multiply fp32, six are faster than one.
// Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", 2019, <https://arxiv.org/abs/1904.06376>. Numbers below 2^-110 may lose their lower parts.
// depth and columns x 32; memory of parts in whole cache lines.

// Numbers of bf16 that the parts of rows, and those of weights with their bias, take.
size_t kirie_bf16x3_row_numbers(size_t rows, size_t depth);
size_t kirie_bf16x3_weight_numbers(size_t columns, size_t depth);
// The parts of weight (columns, depth) and of bias (columns), which may be NULL; this and the next two only where
// kirie_has_amx_bf16.
void kirie_amx_bf16x3_pack_weights(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed);
// The parts of x (rows, depth).
void kirie_amx_bf16x3_split_rows(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y);
// y (rows, columns) (+)= x weight^T + bias of such parts. A row's sums run in the same order whatever rows go with it.
void kirie_amx_bf16x3_product(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride);
void kirie_plain_bf16x3_pack_weights(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed);
void kirie_plain_bf16x3_split_rows(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y);
void kirie_plain_bf16x3_product(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride);

// Attention on such parts: a window's keys and its values take as many numbers each, and there is scratch of its own; all else
// is as for kirie_attention_pack and kirie_attention_tile. head_size x 16; only where kirie_has_amx_bf16.
size_t kirie_bf16x3_key_numbers(const kirie_attention_shape *shape);
size_t kirie_bf16x3_attention_scratch(const kirie_attention_shape *shape, size_t queries);
void kirie_amx_bf16x3_attention_pack(
    const kirie_attention_shape *shape, const float *k, const float *v, size_t stride, const int32_t *tokens,
    const float *pad_k, const float *pad_v, size_t first_row, size_t last_row, uint16_t *packed_k,
    uint16_t *packed_v);
void kirie_amx_bf16x3_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const float *q, size_t q_stride, const int32_t *query_tokens,
    const int32_t *query_places, float scale, const float *rel_h, size_t rel_h_stride, const float *rel_w,
    size_t rel_w_stride, const float *table, const uint16_t *packed_k, const uint16_t *packed_v, float *out,
    size_t out_stride, float *scratch);
void kirie_plain_bf16x3_attention_pack(
    const kirie_attention_shape *shape, const float *k, const float *v, size_t stride, const int32_t *tokens,
    const float *pad_k, const float *pad_v, size_t first_row, size_t last_row, uint16_t *packed_k,
    uint16_t *packed_v);

// MARK: int8

// y (rows, columns) = x over its row's scale, to the nearest of -127 ... 127, ties to even; scales[r] = max |x[r]| / 127.
// Any count of columns; only where kirie_has_bf16.
void kirie_bf16_quantize_rows(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales);
// y (+)= sums (rows, columns) * row_scales[r] * column_scales[n] + bias[n]; any count of columns. Widely, or narrowed and
// then never added to what y holds.
void kirie_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, int accumulate, float *y, size_t y_stride);
void kirie_bf16_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride);
void kirie_plain_bf16_quantize_rows(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales);
void kirie_plain_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, int accumulate, float *y, size_t y_stride);
void kirie_plain_bf16_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride);

// MARK: convolution

// One row of a depthwise 3 x 3 convolution with zero padding of 1: rows of (width, channels) above, at and below the
// output row's centre (NULL where they lie outside the picture), stride 1 or 2 along the row, weight (9, channels),
// bias (channels); the answer (ceil(width / stride), channels) goes through GELU where asked. Any count of channels.
void kirie_depthwise3x3_row(
    size_t width, size_t channels, size_t stride, const float *above, const float *at, const float *below,
    const float *weight, const float *bias, int gelu, float *y);

// The same on bf16 numbers, weights and sums in fp32; only where kirie_has_bf16. GELU is the short one.
void kirie_bf16_depthwise3x3_row(
    size_t width, size_t channels, size_t stride, const uint16_t *above, const uint16_t *at, const uint16_t *below,
    const float *weight, const float *bias, int gelu, uint16_t *y);
// One row of a 3 x 3 convolution of stride 2 with zero padding of 1 over a picture of fp32 planes (planes, height, width),
// and GELU: y (ceil(width / 2), channels) in bf16, weight (planes, 9, channels). Channels in multiples of 32 are fast.
void kirie_bf16_planes3x3_row(
    size_t planes, size_t height, size_t width, size_t row, const float *x, size_t channels, const float *weight,
    const float *bias, uint16_t *y);
// x = x * Phi(x) in place, any count, by a polynomial: the error is below 5e-5 of x or 1.1e-4, and then that of bf16.
void kirie_bf16_gelu(size_t count, uint16_t *x);
void kirie_plain_bf16_depthwise3x3_row(
    size_t width, size_t channels, size_t stride, const uint16_t *above, const uint16_t *at, const uint16_t *below,
    const float *weight, const float *bias, int gelu, uint16_t *y);
void kirie_plain_bf16_planes3x3_row(
    size_t planes, size_t height, size_t width, size_t row, const float *x, size_t channels, const float *weight,
    const float *bias, uint16_t *y);
void kirie_plain_bf16_gelu(size_t count, uint16_t *x);

// MARK: masks at the picture's size

// y[n] = the sum of weights[i] * rows[i][n] for four rows; count x 16.
void kirie_combine_rows(size_t count, const float *const *rows, const float *weights, float *y);
// Bit n of words says whether that sum is above 0; counts those above 1 and above -1 into inner and outer. count x 64.
void kirie_threshold_rows(
    size_t count, const float *const *rows, const float *weights, uint64_t *words, size_t *inner, size_t *outer);

// MARK: one level's kernels

// The kernels of one instruction set under the names above, so that a test can hold each against its plain twin.
typedef struct {
    void (*layer_norm_rows)(
        size_t, size_t, const float *, size_t, const float *, const float *, float, float *, size_t);
    void (*gelu)(size_t, float *);
    void (*relu)(size_t, float *);
    void (*add)(size_t, const float *, float *);
    void (*product)(
        size_t, size_t, size_t, const float *, size_t, size_t, const float *, size_t, float *, size_t, const float *,
        const float *, int);
    void (*softmax_over_tokens)(size_t, size_t, float *);
    void (*softmax_step)(size_t, size_t, float *, float *, float *, float *);
    void (*scale_columns)(size_t, size_t, const float *, float *, size_t);
    void (*gelu_dot)(
        size_t, size_t, const float *, size_t, const float *, const float *, size_t, float *, size_t);
    void (*center_columns)(size_t, float *, const float *, float *);
    void (*norm_factors)(
        size_t, const float *, const float *, const float *, float *, float, float, float *);
    void (*upscale_norm)(
        size_t, float *, const float *, const float *, const float *, const float *, const float *, float);
    void (*attention_tile)(
        const kirie_attention_shape *, size_t, const float *, size_t, const int32_t *, const int32_t *, float,
        const float *, size_t, const float *, size_t, const float *, const float *, const float *, float *, size_t,
        float *);
    void (*depthwise3x3_row)(
        size_t, size_t, size_t, const float *, const float *, const float *, const float *, const float *, int,
        float *);
    void (*combine_rows)(size_t, const float *const *, const float *, float *);
    void (*threshold_rows)(size_t, const float *const *, const float *, uint64_t *, size_t *, size_t *);
} kirie_kernels;

// The kernels of that level; those of the best level that this processor runs where it does not run that one.
const kirie_kernels *kirie_kernels_of(kirie_level level);

#endif
