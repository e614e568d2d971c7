// The tables of all instruction sets.

#ifndef KIRIE_DISPATCH_H
#define KIRIE_DISPATCH_H

#include "kirie_kernels.h"

extern const kirie_kernels kirie_plain_kernels;
extern const kirie_kernels kirie_baseline_kernels;
extern const kirie_kernels kirie_avx2_kernels;
extern const kirie_kernels kirie_avx512_kernels;

#endif
