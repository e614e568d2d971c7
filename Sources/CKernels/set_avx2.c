// Eight lanes and fused multiply-add: x86-64 from Haswell on.

#include "kernels.h"

#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)

#define KIRIE_LANES 8
#define NAME(name) kirie_avx2_##name
#define KIRIE_PRODUCT_ROWS 6
#define KIRIE_PRODUCT_VECTORS 2
#define KIRIE_SCORE_ROWS 6
#define KIRIE_SCORE_PANELS 1
#define KIRIE_VALUE_ROWS 6
#define KIRIE_VALUE_VECTORS 2

#include "set.inc"

#pragma clang attribute pop

#endif
