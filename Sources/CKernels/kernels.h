// What the kernels' files share: the tables, and the arguments that come in structs as locals.

#ifndef KIRIE_INTERNAL_KERNELS_H
#define KIRIE_INTERNAL_KERNELS_H

#include "kirie_kernels.h"

// Each set's own kernels.
extern const kirie_kernels kirie_plain_kernels;
extern const kirie_kernels kirie_baseline_kernels;
extern const kirie_kernels kirie_avx2_kernels;
extern const kirie_kernels kirie_avx512_kernels;
extern const kirie_kernels kirie_bf16_kernels;
extern const kirie_kernels kirie_amx_kernels;

#define LOCAL(name) __attribute__((unused)) const __auto_type name = arguments->name

// Arguments as locals: a kernel writes through pointers, and would read a struct again after each write.
#define ATTENTION_ARGUMENTS \
    LOCAL(shape); \
    LOCAL(queries); \
    LOCAL(q); \
    LOCAL(q_stride); \
    LOCAL(query_tokens); \
    LOCAL(query_places); \
    LOCAL(scale); \
    LOCAL(rel_h); \
    LOCAL(rel_h_stride); \
    LOCAL(rel_w); \
    LOCAL(rel_w_stride); \
    LOCAL(table); \
    LOCAL(packed_k); \
    LOCAL(packed_v); \
    LOCAL(out); \
    LOCAL(out_stride); \
    LOCAL(scratch)

#define ATTENTION_PACK_ARGUMENTS \
    LOCAL(shape); \
    LOCAL(k); \
    LOCAL(v); \
    LOCAL(stride); \
    LOCAL(tokens); \
    LOCAL(pad_k); \
    LOCAL(pad_v); \
    LOCAL(first_row); \
    LOCAL(last_row); \
    LOCAL(packed_k); \
    LOCAL(packed_v)

#define LAYER_NORM_ARGUMENTS \
    LOCAL(rows); \
    LOCAL(columns); \
    LOCAL(x); \
    LOCAL(x_stride); \
    LOCAL(gain); \
    LOCAL(shift); \
    LOCAL(epsilon); \
    LOCAL(y); \
    LOCAL(y_stride)

#define GELU_DOT_ARGUMENTS \
    LOCAL(rows); \
    LOCAL(masks); \
    LOCAL(x); \
    LOCAL(x_stride); \
    LOCAL(bias); \
    LOCAL(weight); \
    LOCAL(weight_stride); \
    LOCAL(logits); \
    LOCAL(logits_stride)

#define UPSCALE_NORM_ARGUMENTS \
    LOCAL(rows); \
    LOCAL(x); \
    LOCAL(part); \
    LOCAL(factor); \
    LOCAL(bias); \
    LOCAL(gain); \
    LOCAL(shift); \
    LOCAL(epsilon); \
    LOCAL(y)

#define DEQUANTIZE_ARGUMENTS \
    LOCAL(rows); \
    LOCAL(columns); \
    LOCAL(sums); \
    LOCAL(row_scales); \
    LOCAL(column_scales); \
    LOCAL(bias); \
    LOCAL(accumulate); \
    LOCAL(y); \
    LOCAL(y_stride)

#define DEPTHWISE_ARGUMENTS \
    LOCAL(width); \
    LOCAL(channels); \
    LOCAL(stride); \
    LOCAL(above); \
    LOCAL(at); \
    LOCAL(below); \
    LOCAL(weight); \
    LOCAL(bias); \
    LOCAL(gelu); \
    LOCAL(y)

#define DEPTHWISE_RELU6_ARGUMENTS \
    LOCAL(width); \
    LOCAL(channels); \
    LOCAL(size); \
    LOCAL(stride); \
    LOCAL(before); \
    LOCAL(rows); \
    LOCAL(weight); \
    LOCAL(bias); \
    LOCAL(y)

#define PLANES_ARGUMENTS \
    LOCAL(planes); \
    LOCAL(height); \
    LOCAL(width); \
    LOCAL(row); \
    LOCAL(x); \
    LOCAL(channels); \
    LOCAL(weight); \
    LOCAL(bias); \
    LOCAL(y)

// Both kinds of products; the fp32 ones have a_column, depth and biases besides.
#define PRODUCT_ARGUMENTS \
    LOCAL(groups); \
    LOCAL(rows); \
    LOCAL(columns); \
    LOCAL(a_step); \
    LOCAL(a_row); \
    LOCAL(b_step); \
    LOCAL(b_stride); \
    LOCAL(c_step); \
    LOCAL(c_stride); \
    LOCAL(accumulate)

#endif
