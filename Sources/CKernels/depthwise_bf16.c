// Depthwise convolution with ReLU6 on bf16 numbers, for AVX512_BF16. Sums and weights are fp32; the numbers are widened on the
// way in and narrowed on the way out.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

#define DEPTHWISE_NUMBER uint16_t
#define DEPTHWISE_LOAD(p) widen_lanes(p)
#define DEPTHWISE_STORE(p, v) store_narrow(p, v)
#define DEPTHWISE_NAME(name) bf16_depthwise_##name

#include "depthwise_blocks.h"

void kirie_avx512_bf16_depthwise_relu6_row(const kirie_bf16_depthwise_relu6_arguments *arguments) {
    DEPTHWISE_RELU6_ARGUMENTS;
    const bf16_depthwise_picture x = {width, channels, before, rows, weight, bias};
    if (channels % KIRIE_LANES != 0 || !bf16_depthwise_vectors(size, stride, x, y))
        kirie_plain_kernels.bf16_depthwise_relu6_row(arguments);
}

#pragma clang attribute pop

#endif
