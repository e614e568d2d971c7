// AMX for bf16: x86-64 from Sapphire Rapids on.

#include "kernels.h"

#if defined(__x86_64__)

kirie_bf16_product_kernel kirie_amx_bf16_product;
kirie_bf16_attention_kernel kirie_amx_bf16_attention;
kirie_attention_scratch_kernel kirie_amx_bf16_attention_scratch;
kirie_bf16x3_split_rows_kernel kirie_amx_bf16x3_split_rows;
kirie_bf16x3_pack_weights_kernel kirie_amx_bf16x3_pack_weights;
kirie_bf16x3_product_kernel kirie_amx_bf16x3_product;
kirie_bf16x3_attention_pack_kernel kirie_amx_bf16x3_attention_pack;
kirie_bf16x3_attention_kernel kirie_amx_bf16x3_attention;
kirie_attention_scratch_kernel kirie_amx_bf16x3_attention_scratch;

const kirie_kernels kirie_amx_kernels = {
    .bf16_product = kirie_amx_bf16_product,
    .bf16_attention = kirie_amx_bf16_attention,
    .bf16_attention_scratch = kirie_amx_bf16_attention_scratch,
    .bf16x3_split_rows = kirie_amx_bf16x3_split_rows,
    .bf16x3_pack_weights = kirie_amx_bf16x3_pack_weights,
    .bf16x3_product = kirie_amx_bf16x3_product,
    .bf16x3_attention_pack = kirie_amx_bf16x3_attention_pack,
    .bf16x3_attention = kirie_amx_bf16x3_attention,
    .bf16x3_attention_scratch = kirie_amx_bf16x3_attention_scratch,
};

#endif
