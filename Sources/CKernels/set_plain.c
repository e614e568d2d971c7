// The plain twins: the definitions, element by element, in double where a sum is long. For the tests, and for what a processor
// has no better kernel for.

#include "kernels.h"

kirie_layer_norm_kernel kirie_plain_layer_norm_rows;
kirie_in_place_kernel kirie_plain_gelu;
kirie_in_place_kernel kirie_plain_relu;
kirie_in_place_kernel kirie_plain_relu6;
kirie_in_place_kernel kirie_plain_quick_gelu;
kirie_add_kernel kirie_plain_add;
kirie_product_kernel kirie_plain_product;
kirie_softmax_over_tokens_kernel kirie_plain_softmax_over_tokens;
kirie_softmax_step_kernel kirie_plain_softmax_step;
kirie_scale_columns_kernel kirie_plain_scale_columns;
kirie_gelu_dot_kernel kirie_plain_gelu_dot;
kirie_center_columns_kernel kirie_plain_center_columns;
kirie_norm_factors_kernel kirie_plain_norm_factors;
kirie_upscale_norm_kernel kirie_plain_upscale_norm;
kirie_attention_kernel kirie_plain_attention;
kirie_depthwise3x3_row_kernel kirie_plain_depthwise3x3_row;
kirie_depthwise_relu6_row_kernel kirie_plain_depthwise_relu6_row;
kirie_combine_rows_kernel kirie_plain_combine_rows;
kirie_threshold_rows_kernel kirie_plain_threshold_rows;
kirie_bf16_narrow_kernel kirie_plain_bf16_narrow;
kirie_bf16_layer_norm_kernel kirie_plain_bf16_layer_norm_rows;
kirie_bf16_in_place_kernel kirie_plain_bf16_gelu;
kirie_bf16_in_place_kernel kirie_plain_bf16_quick_gelu;
kirie_bf16_add_kernel kirie_plain_bf16_add;
kirie_bf16_pair_rows_kernel kirie_plain_bf16_pair_rows;
kirie_bf16_product_kernel kirie_plain_bf16_product;
kirie_bf16_upscale_norm_kernel kirie_plain_bf16_upscale_norm;
kirie_bf16_attention_pack_kernel kirie_plain_bf16_attention_pack;
kirie_bf16_attention_kernel kirie_plain_bf16_attention;
kirie_bf16_depthwise3x3_row_kernel kirie_plain_bf16_depthwise3x3_row;
kirie_bf16_depthwise_relu6_row_kernel kirie_plain_bf16_depthwise_relu6_row;
kirie_bf16_planes3x3_row_kernel kirie_plain_bf16_planes3x3_row;
kirie_bf16_quantize_rows_kernel kirie_plain_bf16_quantize_rows;
kirie_dequantize_rows_kernel kirie_plain_dequantize_rows;
kirie_bf16_dequantize_rows_kernel kirie_plain_bf16_dequantize_rows;
kirie_bf16x3_split_rows_kernel kirie_plain_bf16x3_split_rows;
kirie_bf16x3_pack_weights_kernel kirie_plain_bf16x3_pack_weights;
kirie_bf16x3_product_kernel kirie_plain_bf16x3_product;
kirie_bf16x3_attention_pack_kernel kirie_plain_bf16x3_attention_pack;
kirie_bf16x3_attention_kernel kirie_plain_bf16x3_attention;

static size_t no_scratch(const kirie_attention_shape *shape, size_t queries) {
    (void)shape, (void)queries;
    return 0;
}

const kirie_kernels kirie_plain_kernels = {
    .layer_norm_rows = kirie_plain_layer_norm_rows,
    .gelu = kirie_plain_gelu,
    .quick_gelu = kirie_plain_quick_gelu,
    .relu = kirie_plain_relu,
    .relu6 = kirie_plain_relu6,
    .add = kirie_plain_add,
    .product = kirie_plain_product,
    .softmax_over_tokens = kirie_plain_softmax_over_tokens,
    .softmax_step = kirie_plain_softmax_step,
    .scale_columns = kirie_plain_scale_columns,
    .gelu_dot = kirie_plain_gelu_dot,
    .center_columns = kirie_plain_center_columns,
    .norm_factors = kirie_plain_norm_factors,
    .upscale_norm = kirie_plain_upscale_norm,
    .attention = kirie_plain_attention,
    .attention_scratch = no_scratch,
    .depthwise3x3_row = kirie_plain_depthwise3x3_row,
    .depthwise_relu6_row = kirie_plain_depthwise_relu6_row,
    .combine_rows = kirie_plain_combine_rows,
    .threshold_rows = kirie_plain_threshold_rows,
    .bf16_narrow = kirie_plain_bf16_narrow,
    .bf16_layer_norm_rows = kirie_plain_bf16_layer_norm_rows,
    .bf16_gelu = kirie_plain_bf16_gelu,
    .bf16_quick_gelu = kirie_plain_bf16_quick_gelu,
    .bf16_add = kirie_plain_bf16_add,
    .bf16_pair_rows = kirie_plain_bf16_pair_rows,
    .bf16_product = kirie_plain_bf16_product,
    .bf16_gelu_dot = kirie_plain_gelu_dot,
    .bf16_upscale_norm = kirie_plain_bf16_upscale_norm,
    .bf16_attention_pack = kirie_plain_bf16_attention_pack,
    .bf16_attention = kirie_plain_bf16_attention,
    .bf16_attention_scratch = no_scratch,
    .bf16_depthwise3x3_row = kirie_plain_bf16_depthwise3x3_row,
    .bf16_depthwise_relu6_row = kirie_plain_bf16_depthwise_relu6_row,
    .bf16_planes3x3_row = kirie_plain_bf16_planes3x3_row,
    .bf16_quantize_rows = kirie_plain_bf16_quantize_rows,
    .dequantize_rows = kirie_plain_dequantize_rows,
    .bf16_dequantize_rows = kirie_plain_bf16_dequantize_rows,
    .bf16x3_split_rows = kirie_plain_bf16x3_split_rows,
    .bf16x3_pack_weights = kirie_plain_bf16x3_pack_weights,
    .bf16x3_product = kirie_plain_bf16x3_product,
    .bf16x3_attention_pack = kirie_plain_bf16x3_attention_pack,
    .bf16x3_attention = kirie_plain_bf16x3_attention,
    .bf16x3_attention_scratch = no_scratch,
};
