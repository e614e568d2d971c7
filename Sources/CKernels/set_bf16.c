// AVX512_BF16: x86-64 from Cooper Lake and Zen 4 on.

#include "kernels.h"

#if defined(__x86_64__)

kirie_bf16_narrow_kernel kirie_avx512_bf16_narrow;
kirie_bf16_layer_norm_kernel kirie_avx512_bf16_layer_norm_rows;
kirie_bf16_in_place_kernel kirie_avx512_bf16_gelu;
kirie_bf16_in_place_kernel kirie_avx512_bf16_quick_gelu;
kirie_bf16_add_kernel kirie_avx512_bf16_add;
kirie_bf16_pair_rows_kernel kirie_avx512_bf16_pair_rows;
kirie_bf16_product_kernel kirie_avx512_bf16_product;
kirie_gelu_dot_kernel kirie_avx512_bf16_gelu_dot;
kirie_bf16_upscale_norm_kernel kirie_avx512_bf16_upscale_norm;
kirie_bf16_attention_pack_kernel kirie_avx512_bf16_attention_pack;
kirie_bf16_attention_kernel kirie_avx512_bf16_attention;
kirie_attention_scratch_kernel kirie_avx512_bf16_attention_scratch;
kirie_bf16_depthwise3x3_row_kernel kirie_avx512_bf16_depthwise3x3_row;
kirie_bf16_depthwise_relu6_row_kernel kirie_avx512_bf16_depthwise_relu6_row;
kirie_bf16_planes3x3_row_kernel kirie_avx512_bf16_planes3x3_row;
kirie_bf16_quantize_rows_kernel kirie_avx512_bf16_quantize_rows;
kirie_dequantize_rows_kernel kirie_avx512_dequantize_rows;
kirie_bf16_dequantize_rows_kernel kirie_avx512_bf16_dequantize_rows;

const kirie_kernels kirie_bf16_kernels = {
    .bf16_narrow = kirie_avx512_bf16_narrow,
    .bf16_layer_norm_rows = kirie_avx512_bf16_layer_norm_rows,
    .bf16_gelu = kirie_avx512_bf16_gelu,
    .bf16_quick_gelu = kirie_avx512_bf16_quick_gelu,
    .bf16_add = kirie_avx512_bf16_add,
    .bf16_pair_rows = kirie_avx512_bf16_pair_rows,
    .bf16_product = kirie_avx512_bf16_product,
    .bf16_gelu_dot = kirie_avx512_bf16_gelu_dot,
    .bf16_upscale_norm = kirie_avx512_bf16_upscale_norm,
    .bf16_attention_pack = kirie_avx512_bf16_attention_pack,
    .bf16_attention = kirie_avx512_bf16_attention,
    .bf16_attention_scratch = kirie_avx512_bf16_attention_scratch,
    .bf16_depthwise3x3_row = kirie_avx512_bf16_depthwise3x3_row,
    .bf16_depthwise_relu6_row = kirie_avx512_bf16_depthwise_relu6_row,
    .bf16_planes3x3_row = kirie_avx512_bf16_planes3x3_row,
    .bf16_quantize_rows = kirie_avx512_bf16_quantize_rows,
    .dequantize_rows = kirie_avx512_dequantize_rows,
    .bf16_dequantize_rows = kirie_avx512_bf16_dequantize_rows,
};

#endif
