#ifndef KIRIE_KERNELS_H
#define KIRIE_KERNELS_H

// Kernels that no library has: attention with relative positions, the fused steps of the mask decoder, depthwise
// convolution, and the element-wise functions between them. Each has a plain twin, which defines it and which the tests
// hold the others against, and one in every instruction set that does it better than the set below; the choice is made at
// run time.
//
// Conventions: matrices are row-major with a stride in elements; sizes are checked by the caller; no kernel allocates,
// locks or keeps state. Lengths marked "x 16" must be multiples of 16, which every vector width divides. A kernel with more
// than eight arguments takes them in a struct. `uint16_t` numbers are bf16: the upper halves of binary32; sums of them are
// in fp32.

#include <stddef.h>
#include <stdint.h>

// MARK: instruction sets

// In their order, each with all before it. The environment's KIRIE_MAX_ISA, one of the names baseline, avx2, avx512, bf16,
// amx, keeps a process from using more than that; other words, and none, set no limit.
typedef enum {
    KIRIE_PLAIN = 0,     // no vectors: the twin that the tests hold the others against
    KIRIE_BASELINE = 1,  // four lanes: SSE2, NEON
    KIRIE_AVX2 = 2,      // eight lanes with FMA
    KIRIE_AVX512 = 3,    // sixteen lanes: F, BW, DQ, VL
    KIRIE_BF16 = 4,      // AVX512_BF16: two bf16 products per lane and step
    KIRIE_AMX = 5,       // AMX for bf16: tiles of 16 x 16 sums
} kirie_set;

// What the environment said when this was first asked.
kirie_set kirie_set_limit(void);
// The best set that this processor and operating system run, within that limit.
kirie_set kirie_best_set(void);
int kirie_has_bf16(void);
// Whether the processor has AVX512_VNNI (four int8 products per lane and step) besides AVX512_BF16.
int kirie_has_int8(void);
int kirie_has_amx_bf16(void);

// The processors that this process may run on, at least 1.
int kirie_available_processors(void);

// Keeps the calling thread on the processor that is number `index`, from 0, of those on which it may run; returns 0, and
// changes nothing, where there is no such processor.
int kirie_pin_thread(int index);

// MARK: rows of numbers

// y = (x - mean) / sqrt(variance + epsilon) * gain + shift over each row of `columns` numbers, any count.
typedef struct {
    size_t rows, columns;
    const float *x;
    size_t x_stride;
    const float *gain, *shift;
    float epsilon;
    float *y;
    size_t y_stride;
} kirie_layer_norm_arguments;
typedef void kirie_layer_norm_kernel(const kirie_layer_norm_arguments *);
// The same to bf16.
typedef struct {
    size_t rows, columns;
    const float *x;
    size_t x_stride;
    const float *gain, *shift;
    float epsilon;
    uint16_t *y;
    size_t y_stride;
} kirie_bf16_layer_norm_arguments;
typedef void kirie_bf16_layer_norm_kernel(const kirie_bf16_layer_norm_arguments *);
// gelu: x = x * Phi(x), exact (erf) form, in place. quick_gelu: x = x / (1 + e^(-1.702 x)), in place. relu: x = max(x, 0),
// relu6: x = min(max(x, 0), 6), in place. Any count.
typedef void kirie_in_place_kernel(size_t count, float *x);
// GELU in place, any count, by a polynomial: the error is below 5e-5 of x or 1.1e-4, and then that of bf16. The quick one
// has an error below 1e-6 of x before that.
typedef void kirie_bf16_in_place_kernel(size_t count, uint16_t *x);
// y += x; any count.
typedef void kirie_add_kernel(size_t count, const float *x, float *y);
typedef void kirie_bf16_add_kernel(size_t count, const uint16_t *x, uint16_t *y);
// y = x to the nearest bf16 number, ties to even; any count.
typedef void kirie_bf16_narrow_kernel(size_t count, const float *x, uint16_t *y);
// y in pairs along the rows (rows / 2, columns, 2) = x (rows, columns) narrowed; columns x 16; rows even.
typedef void kirie_bf16_pair_rows_kernel(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y);

// MARK: products of small matrices

// For `groups` products whose operands lie side by side, a_step, b_step and c_step from one to the next:
// c[m][n] (+)= sum over k of a[m * a_row + k * a_column] * b[k][n], then + row_bias[m] or + column_bias[n] (either may be
// NULL; both are those of every group). columns x 16. The sum over k runs in order for every element, so a row's bits do
// not depend on how many rows there are: a prompt decoded alone equals the same prompt in a batch.
typedef struct {
    size_t groups, rows, columns, depth;
    const float *a;
    size_t a_step, a_row, a_column;
    const float *b;
    size_t b_step, b_stride;
    float *c;
    size_t c_step, c_stride;
    const float *row_bias, *column_bias;
    int accumulate;
} kirie_product_arguments;
typedef void kirie_product_kernel(const kirie_product_arguments *);
// The same of bf16 numbers: a (rows, 2 * pairs), b in pairs along the depth (pairs, b_stride, 2), c fp32; columns x 16;
// steps in numbers.
typedef struct {
    size_t groups, rows, columns, pairs;
    const uint16_t *a;
    size_t a_step, a_row;
    const uint16_t *b;
    size_t b_step, b_stride;
    float *c;
    size_t c_step, c_stride;
    int accumulate;
} kirie_bf16_product_arguments;
typedef void kirie_bf16_product_kernel(const kirie_bf16_product_arguments *);
// y (columns, y_stride) = x (rows, columns) transposed; numbers of 32 bits, whatever they mean.
void kirie_transpose(size_t rows, size_t columns, const void *x, size_t x_stride, void *y, size_t y_stride);

// MARK: the mask decoder's steps (channel-major tiles of 64 image tokens)

// Softmax over the tokens, for each head and image token: s is (tokens * heads, 64), row t * heads + h.
typedef void kirie_softmax_over_tokens_kernel(size_t tokens, size_t heads, float *s);
// One step of a running softmax along the image tokens, in place. s is (rows, 64), one row per (token, head); the
// first `valid` image tokens count, the others get the weight 0. Updates maximum[rows] and total[rows], and writes
// the factors by which everything summed so far is rescaled to factor[rows].
typedef void kirie_softmax_step_kernel(
    size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor);
// x[r][n] *= factor[n]; columns x 16.
typedef void kirie_scale_columns_kernel(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride);
// logits[m][n] += sum over r of weight[m * weight_stride + r] * gelu(x[r][n] + bias[r]) for 64 columns: the tail of
// the up-scaling and the product with the hypernetwork's weights, in one read. For bf16 with a GELU by a polynomial, whose
// error is below 1.4e-5, or 3e-5 of an argument beyond 4.
typedef struct {
    size_t rows, masks;
    const float *x;
    size_t x_stride;
    const float *bias, *weight;
    size_t weight_stride;
    float *logits;
    size_t logits_stride;
} kirie_gelu_dot_arguments;
typedef void kirie_gelu_dot_kernel(const kirie_gelu_dot_arguments *);
// x (rows, 64) = gain * x, less the mean over the rows; squares[64] is the sum of the squares of what is left. gain
// may be NULL.
typedef void kirie_center_columns_kernel(size_t rows, float *x, const float *gain, float *squares);
// A norm's factor for each of 64 tokens whose features are known by their sum of squares only, which is
// running^2 * squares + sum over r of weights[r] * products[r], and is taken `scale` times (1 / channels):
// factor = 1 / sqrt(mean square + epsilon); running, the product of all factors so far, is multiplied by it.
typedef void kirie_norm_factors_kernel(
    size_t rows, const float *weights, const float *products, const float *squares, float *running, float scale,
    float epsilon, float *factor);
// x (rows, 64) = gelu(norm over the rows of x + factor[n] * part + bias).
typedef void kirie_upscale_norm_kernel(
    size_t rows, float *x, const float *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon);
// The same with `part` in bf16 and the answer in pairs along the rows (rows / 2, 64, 2); x is used up. GELU as for bf16
// above.
typedef struct {
    size_t rows;
    float *x;
    const uint16_t *part;
    const float *factor, *bias, *gain, *shift;
    float epsilon;
    uint16_t *y;
} kirie_bf16_upscale_norm_arguments;
typedef void kirie_bf16_upscale_norm_kernel(const kirie_bf16_upscale_norm_arguments *);

// MARK: attention of the image encoders

// Where the keys of one window (or of the whole grid) lie and how they are stored for the kernels.
typedef struct {
    size_t head_size;      // numbers per head
    size_t head_padded;    // the same, rounded up to x 16
    size_t key_rows;       // rows of the window
    size_t key_columns;    // columns of the window
    size_t key_columns_padded;  // rounded up to x 16: a vector never spans two rows of keys
} kirie_attention_shape;

// Packs keys to (key_rows * key_columns_padded / 16, head_size, 16) and values to (key_rows * key_columns_padded,
// head_padded). tokens[key_rows * key_columns] gives the row of k and v; a negative one stands for padding, whose key
// and value are pad_k and pad_v (the projection of a zero vector: its bias). rows [first_row, last_row) are packed.
#define KIRIE_ATTENTION_PACK(number, packed) \
    const kirie_attention_shape *shape; \
    const number *k, *v; \
    size_t stride; \
    const int32_t *tokens; \
    const number *pad_k, *pad_v; \
    size_t first_row, last_row; \
    packed *packed_k, *packed_v;
typedef struct { KIRIE_ATTENTION_PACK(float, float) } kirie_attention_pack_arguments;
// bf16: keys in pairs along the head, (panels, head_size / 2, 16, 2), values in pairs along the keys, (keys / 2,
// head_padded, 2); an odd head is filled up with a zero.
typedef struct { KIRIE_ATTENTION_PACK(uint16_t, uint16_t) } kirie_bf16_attention_pack_arguments;
// fp32 numbers in three bf16 parts: see below; keys and values take kirie_bf16x3_key_numbers numbers each.
typedef struct { KIRIE_ATTENTION_PACK(float, uint16_t) } kirie_bf16x3_attention_pack_arguments;
typedef void kirie_bf16_attention_pack_kernel(const kirie_bf16_attention_pack_arguments *);
typedef void kirie_bf16x3_attention_pack_kernel(const kirie_bf16x3_attention_pack_arguments *);

// out[query] = softmax(scale * q k^T + bias) v for `queries` queries, whose rows in q are query_tokens[i] and whose
// places in the window are query_places[i] = row * key_columns + column.
// bias: relative positions by row and column of Li et al., MViTv2 (rel_h and rel_w transposed and reversed:
// (head_size, 2 * key_rows - 1) and (head_size, 2 * key_columns - 1) with strides x 16 and 16 numbers of slack), or a
// table of (key_rows * key_columns, key_rows * key_columns_padded) with padding lanes at -1e30, or neither.
#define KIRIE_ATTENTION(number, packed) \
    const kirie_attention_shape *shape; \
    size_t queries; \
    const number *q; \
    size_t q_stride; \
    const int32_t *query_tokens, *query_places; \
    float scale; \
    const number *rel_h; \
    size_t rel_h_stride; \
    const number *rel_w; \
    size_t rel_w_stride; \
    const float *table; \
    const packed *packed_k, *packed_v; \
    number *out; \
    size_t out_stride; \
    float *scratch;
typedef struct { KIRIE_ATTENTION(float, float) } kirie_attention_arguments;
// bf16: the relative positions in pairs along the head, (head_size / 2, stride, 2).
typedef struct { KIRIE_ATTENTION(uint16_t, uint16_t) } kirie_bf16_attention_arguments;
// fp32 numbers in three bf16 parts; head_size x 16.
typedef struct { KIRIE_ATTENTION(float, uint16_t) } kirie_bf16x3_attention_arguments;
typedef void kirie_attention_kernel(const kirie_attention_arguments *);
typedef void kirie_bf16_attention_kernel(const kirie_bf16_attention_arguments *);
typedef void kirie_bf16x3_attention_kernel(const kirie_bf16x3_attention_arguments *);
// The floats that the kernel beside it needs as scratch for up to `queries` queries.
typedef size_t kirie_attention_scratch_kernel(const kirie_attention_shape *shape, size_t queries);

// MARK: fp32 products of bf16 parts

// A number as the sum of three bf16 numbers, each the rest of those before it rounded, and a product of two as the six
// products of parts that are not below 2^-24 of it, summed in fp32: what is lost is less than fp32's own rounding of the
// sums. Where AMX multiplies bf16 sixteen times as fast as the vector units multiply fp32, six are faster than one; nobody
// chooses them elsewhere.
// Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", 2019, <https://arxiv.org/abs/1904.06376>. Numbers below 2^-110 may lose their lower parts.
// depth and columns x 32; memory of parts in whole cache lines.

// Numbers of bf16 that the parts of rows, and those of weights with their bias, and a window's keys or values, take.
size_t kirie_bf16x3_row_numbers(size_t rows, size_t depth);
size_t kirie_bf16x3_weight_numbers(size_t columns, size_t depth);
size_t kirie_bf16x3_key_numbers(const kirie_attention_shape *shape);
// The parts of weight (columns, depth) and of bias (columns), which may be NULL.
typedef void kirie_bf16x3_pack_weights_kernel(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed);
// The parts of x (rows, depth).
typedef void kirie_bf16x3_split_rows_kernel(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y);
// y (rows, columns) (+)= x weight^T + bias of such parts. A row's sums run in the same order whatever rows go with it.
typedef void kirie_bf16x3_product_kernel(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride);

// MARK: int8

// y (rows, columns) = x over its row's scale, to the nearest of -127 ... 127, ties to even; scales[r] = max |x[r]| / 127.
// Any count of columns.
typedef void kirie_bf16_quantize_rows_kernel(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales);
// y (+)= sums (rows, columns) * row_scales[r] * column_scales[n] + bias[n]; any count of columns.
typedef struct {
    size_t rows, columns;
    const int32_t *sums;
    const float *row_scales, *column_scales, *bias;
    int accumulate;
    float *y;
    size_t y_stride;
} kirie_dequantize_arguments;
typedef void kirie_dequantize_rows_kernel(const kirie_dequantize_arguments *);
// The same narrowed, and never added to what y holds.
typedef void kirie_bf16_dequantize_rows_kernel(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride);

// MARK: convolution

// One row of a depthwise 3 x 3 convolution with zero padding of 1: rows of (width, channels) above, at and below the
// output row's centre (NULL where they lie outside the picture), stride 1 or 2 along the row, weight (9, channels),
// bias (channels); the answer (ceil(width / stride), channels) goes through GELU where asked. Any count of channels.
typedef struct {
    size_t width, channels, stride;
    const float *above, *at, *below, *weight, *bias;
    int gelu;
    float *y;
} kirie_depthwise3x3_arguments;
typedef void kirie_depthwise3x3_row_kernel(const kirie_depthwise3x3_arguments *);
// The same on bf16 numbers, weights and sums in fp32. GELU is the short one.
typedef struct {
    size_t width, channels, stride;
    const uint16_t *above, *at, *below;
    const float *weight, *bias;
    int gelu;
    uint16_t *y;
} kirie_bf16_depthwise3x3_arguments;
typedef void kirie_bf16_depthwise3x3_row_kernel(const kirie_bf16_depthwise3x3_arguments *);
// One row of a depthwise convolution of size x size, 3 or 5, and ReLU6: rows[i], of (width, channels), is the i-th of the
// rows that the kernel covers (NULL where it lies outside the picture), stride 1 or 2 along the row, whose first answer covers
// `before` columns of zeros; weight (size * size, channels), bias (channels), y (ceil(width / stride), channels). Any count of
// channels; up to 4096 are fast.
#define KIRIE_DEPTHWISE_RELU6(number) \
    size_t width, channels, size, stride, before; \
    const number *const *rows; \
    const float *weight, *bias; \
    number *y;
typedef struct { KIRIE_DEPTHWISE_RELU6(float) } kirie_depthwise_relu6_arguments;
typedef void kirie_depthwise_relu6_row_kernel(const kirie_depthwise_relu6_arguments *);
// The same on bf16 numbers, weights and sums in fp32.
typedef struct { KIRIE_DEPTHWISE_RELU6(uint16_t) } kirie_bf16_depthwise_relu6_arguments;
typedef void kirie_bf16_depthwise_relu6_row_kernel(const kirie_bf16_depthwise_relu6_arguments *);
// One row of a 3 x 3 convolution of stride 2 with zero padding of 1 over a picture of fp32 planes (planes, height, width),
// and GELU: y (ceil(width / 2), channels) in bf16, weight (planes, 9, channels). Channels in multiples of 32 are fast.
typedef struct {
    size_t planes, height, width, row;
    const float *x;
    size_t channels;
    const float *weight, *bias;
    uint16_t *y;
} kirie_bf16_planes3x3_arguments;
typedef void kirie_bf16_planes3x3_row_kernel(const kirie_bf16_planes3x3_arguments *);

// MARK: masks at the picture's size

// y[n] = the sum of weights[i] * rows[i][n] for four rows; count x 16.
typedef void kirie_combine_rows_kernel(size_t count, const float *const *rows, const float *weights, float *y);
// Bit n of words says whether that sum is above 0; counts those above offset and above -offset into inner
// and outer. count x 64.
typedef void kirie_threshold_rows_kernel(
    size_t count, const float *const *rows, const float *weights, float offset, uint64_t *words, size_t *inner,
    size_t *outer);

// MARK: the tables

// The kernels of one instruction set. A set's own table may lack one, NULL, where the set below does it as well.
typedef struct {
    kirie_layer_norm_kernel *layer_norm_rows;
    kirie_in_place_kernel *gelu, *quick_gelu, *relu, *relu6;
    kirie_add_kernel *add;
    kirie_product_kernel *product;
    kirie_softmax_over_tokens_kernel *softmax_over_tokens;
    kirie_softmax_step_kernel *softmax_step;
    kirie_scale_columns_kernel *scale_columns;
    kirie_gelu_dot_kernel *gelu_dot;
    kirie_center_columns_kernel *center_columns;
    kirie_norm_factors_kernel *norm_factors;
    kirie_upscale_norm_kernel *upscale_norm;
    kirie_attention_kernel *attention;
    kirie_attention_scratch_kernel *attention_scratch;
    kirie_depthwise3x3_row_kernel *depthwise3x3_row;
    kirie_depthwise_relu6_row_kernel *depthwise_relu6_row;
    kirie_combine_rows_kernel *combine_rows;
    kirie_threshold_rows_kernel *threshold_rows;

    kirie_bf16_narrow_kernel *bf16_narrow;
    kirie_bf16_layer_norm_kernel *bf16_layer_norm_rows;
    kirie_bf16_in_place_kernel *bf16_gelu, *bf16_quick_gelu;
    kirie_bf16_add_kernel *bf16_add;
    kirie_bf16_pair_rows_kernel *bf16_pair_rows;
    kirie_bf16_product_kernel *bf16_product;
    kirie_gelu_dot_kernel *bf16_gelu_dot;
    kirie_bf16_upscale_norm_kernel *bf16_upscale_norm;
    kirie_bf16_attention_pack_kernel *bf16_attention_pack;
    kirie_bf16_attention_kernel *bf16_attention;
    kirie_attention_scratch_kernel *bf16_attention_scratch;
    kirie_bf16_depthwise3x3_row_kernel *bf16_depthwise3x3_row;
    kirie_bf16_depthwise_relu6_row_kernel *bf16_depthwise_relu6_row;
    kirie_bf16_planes3x3_row_kernel *bf16_planes3x3_row;
    kirie_bf16_quantize_rows_kernel *bf16_quantize_rows;
    kirie_dequantize_rows_kernel *dequantize_rows;
    kirie_bf16_dequantize_rows_kernel *bf16_dequantize_rows;

    kirie_bf16x3_split_rows_kernel *bf16x3_split_rows;
    kirie_bf16x3_pack_weights_kernel *bf16x3_pack_weights;
    kirie_bf16x3_product_kernel *bf16x3_product;
    kirie_bf16x3_attention_pack_kernel *bf16x3_attention_pack;
    kirie_bf16x3_attention_kernel *bf16x3_attention;
    kirie_attention_scratch_kernel *bf16x3_attention_scratch;
} kirie_kernels;

// Every kernel of that set, those that it lacks from the sets below; of the best set that this processor runs where it does
// not run that one.
const kirie_kernels *kirie_kernels_of(kirie_set set);

// fp32 keys and values are packed alike for every set.
void kirie_attention_pack(const kirie_attention_pack_arguments *arguments);

// The best set's kernels under their own names.
void kirie_layer_norm_rows(const kirie_layer_norm_arguments *arguments);
void kirie_gelu(size_t count, float *x);
void kirie_quick_gelu(size_t count, float *x);
void kirie_relu(size_t count, float *x);
void kirie_relu6(size_t count, float *x);
void kirie_add(size_t count, const float *x, float *y);
void kirie_product(const kirie_product_arguments *arguments);
void kirie_softmax_over_tokens(size_t tokens, size_t heads, float *s);
void kirie_softmax_step(size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor);
void kirie_scale_columns(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride);
void kirie_gelu_dot(const kirie_gelu_dot_arguments *arguments);
void kirie_center_columns(size_t rows, float *x, const float *gain, float *squares);
void kirie_norm_factors(
    size_t rows, const float *weights, const float *products, const float *squares, float *running, float scale,
    float epsilon, float *factor);
void kirie_upscale_norm(
    size_t rows, float *x, const float *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon);
void kirie_attention(const kirie_attention_arguments *arguments);
size_t kirie_attention_scratch(const kirie_attention_shape *shape, size_t queries);
void kirie_depthwise3x3_row(const kirie_depthwise3x3_arguments *arguments);
void kirie_depthwise_relu6_row(const kirie_depthwise_relu6_arguments *arguments);
void kirie_combine_rows(size_t count, const float *const *rows, const float *weights, float *y);
void kirie_threshold_rows(
    size_t count, const float *const *rows, const float *weights, float offset, uint64_t *words, size_t *inner,
    size_t *outer);

void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y);
void kirie_bf16_layer_norm_rows(const kirie_bf16_layer_norm_arguments *arguments);
void kirie_bf16_gelu(size_t count, uint16_t *x);
void kirie_bf16_quick_gelu(size_t count, uint16_t *x);
void kirie_bf16_add(size_t count, const uint16_t *x, uint16_t *y);
void kirie_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y);
void kirie_bf16_product(const kirie_bf16_product_arguments *arguments);
void kirie_bf16_gelu_dot(const kirie_gelu_dot_arguments *arguments);
void kirie_bf16_upscale_norm(const kirie_bf16_upscale_norm_arguments *arguments);
void kirie_bf16_attention_pack(const kirie_bf16_attention_pack_arguments *arguments);
void kirie_bf16_attention(const kirie_bf16_attention_arguments *arguments);
size_t kirie_bf16_attention_scratch(const kirie_attention_shape *shape, size_t queries);
void kirie_bf16_depthwise3x3_row(const kirie_bf16_depthwise3x3_arguments *arguments);
void kirie_bf16_depthwise_relu6_row(const kirie_bf16_depthwise_relu6_arguments *arguments);
void kirie_bf16_planes3x3_row(const kirie_bf16_planes3x3_arguments *arguments);
void kirie_bf16_quantize_rows(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales);
void kirie_dequantize_rows(const kirie_dequantize_arguments *arguments);
void kirie_bf16_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride);

void kirie_bf16x3_split_rows(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y);
void kirie_bf16x3_pack_weights(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed);
void kirie_bf16x3_product(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride);
void kirie_bf16x3_attention_pack(const kirie_bf16x3_attention_pack_arguments *arguments);
void kirie_bf16x3_attention(const kirie_bf16x3_attention_arguments *arguments);
size_t kirie_bf16x3_attention_scratch(const kirie_attention_shape *shape, size_t queries);

#endif
