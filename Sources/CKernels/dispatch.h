// The table of one instruction set's kernels.

#ifndef KIRIE_DISPATCH_H
#define KIRIE_DISPATCH_H

#include "kirie_kernels.h"

typedef struct {
    void (*layer_norm_rows)(
        size_t, size_t, const float *, size_t, const float *, const float *, float, float *, size_t);
    void (*layer_norm_columns)(size_t, size_t, float *, size_t, const float *, const float *, float);
    void (*gelu)(size_t, float *);
    void (*relu)(size_t, float *);
    void (*add)(size_t, const float *, float *);
    void (*product)(
        size_t, size_t, size_t, const float *, size_t, size_t, const float *, size_t, float *, size_t, const float *,
        const float *, int);
    void (*softmax_over_tokens)(size_t, size_t, float *);
    void (*softmax_step)(size_t, size_t, float *, float *, float *, float *);
    void (*transpose64)(size_t, const float *, float *, size_t);
    void (*scale_columns)(size_t, size_t, const float *, float *, size_t);
    void (*gelu_dot)(
        size_t, size_t, const float *, size_t, const float *, const float *, size_t, float *, size_t);
    void (*attention_tile)(
        const kirie_attention_shape *, size_t, const float *, size_t, const int32_t *, const int32_t *, float,
        const float *, size_t, const float *, size_t, const float *, const float *, const float *, float *, size_t,
        float *);
    void (*depthwise3x3_row)(
        size_t, size_t, size_t, const float *, const float *, const float *, const float *, const float *, int,
        float *);
} kirie_kernels;

extern const kirie_kernels kirie_plain_kernels;
extern const kirie_kernels kirie_baseline_kernels;
extern const kirie_kernels kirie_avx2_kernels;
extern const kirie_kernels kirie_avx512_kernels;

#endif
