// Sixteen lanes: x86-64 from Skylake-SP and Zen 4 on.

#include "kernels.h"

#if defined(__x86_64__)

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#define KIRIE_LANES 16
#define NAME(name) kirie_avx512_##name
#define KIRIE_PRODUCT_ROWS 7
#define KIRIE_PRODUCT_VECTORS 4
#define KIRIE_SCORE_ROWS 12
#define KIRIE_SCORE_PANELS 2
#define KIRIE_VALUE_ROWS 6
#define KIRIE_VALUE_VECTORS 4

#include "set.inc"

#pragma clang attribute pop

#endif
