// Four lanes: what every x86-64 and aarch64 processor has.

#include "kernels.h"

#define KIRIE_LANES 4
#define NAME(name) kirie_baseline_##name
#define KIRIE_PRODUCT_ROWS 6
#define KIRIE_PRODUCT_VECTORS 2
#define KIRIE_SCORE_ROWS 6
#define KIRIE_SCORE_PANELS 1
#define KIRIE_VALUE_ROWS 6
#define KIRIE_VALUE_VECTORS 4

#include "set.inc"
