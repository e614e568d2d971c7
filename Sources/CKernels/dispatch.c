// The choice of the instruction set, made once, and the public names.

#define _GNU_SOURCE
#include "dispatch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

kirie_isa kirie_isa_limit(void) {
    static _Atomic int limit = -1;  // -1 until first asked; to ask twice does no harm
    int found = atomic_load_explicit(&limit, memory_order_relaxed);
    if (found < 0) {
        static const char *const names[] = {"baseline", "avx2", "avx512", "bf16", "amx"};
        const char *name = getenv("KIRIE_MAX_ISA");
        found = KIRIE_ISA_AMX;
        for (int i = 0; name && i < 5; i++)
            if (strcmp(name, names[i]) == 0) found = i;
        atomic_store_explicit(&limit, found, memory_order_relaxed);
    }
    return (kirie_isa)found;
}

kirie_level kirie_best_level(void) {
#if defined(__x86_64__)
    const kirie_isa limit = kirie_isa_limit();
    __builtin_cpu_init();
    if (limit >= KIRIE_ISA_AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        return KIRIE_AVX512;
    if (limit >= KIRIE_ISA_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return KIRIE_AVX2;
#endif
    return KIRIE_BASELINE;
}

int kirie_has_bf16(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return kirie_isa_limit() >= KIRIE_ISA_BF16 && kirie_best_level() == KIRIE_AVX512 && __builtin_cpu_supports("avx512bf16");
#else
    return 0;
#endif
}

int kirie_has_int8(void) {
#if defined(__x86_64__)
    return kirie_has_bf16() && __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

// Linux lends the tiles' 8 KiB a thread only to a process that asks: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA),
// <https://docs.kernel.org/arch/x86/xstate.html>.
static int asked_for_tiles(void) {
#if defined(__x86_64__) && defined(__linux__)
    __builtin_cpu_init();
    return kirie_isa_limit() >= KIRIE_ISA_AMX && kirie_has_bf16() && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16")
        && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return 0;
#endif
}

int kirie_has_amx_bf16(void) {
    static _Atomic int answer = -1;  // -1 until first asked; to ask twice does no harm
    int found = atomic_load_explicit(&answer, memory_order_relaxed);
    if (found < 0) atomic_store_explicit(&answer, found = asked_for_tiles(), memory_order_relaxed);
    return found;
}

const kirie_kernels *kirie_kernels_of(kirie_level level) {
    const kirie_level best = kirie_best_level();
    switch (level < best ? level : best) {
    case KIRIE_PLAIN: return &kirie_plain_kernels;
#if defined(__x86_64__)
    case KIRIE_AVX512: return &kirie_avx512_kernels;
    case KIRIE_AVX2: return &kirie_avx2_kernels;
#endif
    default: return &kirie_baseline_kernels;
    }
}

// NULL until first asked. Two threads that ask at once find the same answer.
static const kirie_kernels *_Atomic chosen = NULL;

static const kirie_kernels *kernels(void) {
    const kirie_kernels *found = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!found) {
        found = kirie_kernels_of(KIRIE_AVX512);
        atomic_store_explicit(&chosen, found, memory_order_relaxed);
    }
    return found;
}

void kirie_layer_norm_rows(
    size_t rows, size_t columns, const float *x, size_t x_stride, const float *gain, const float *shift,
    float epsilon, float *y, size_t y_stride) {
    kernels()->layer_norm_rows(rows, columns, x, x_stride, gain, shift, epsilon, y, y_stride);
}

void kirie_gelu(size_t count, float *x) { kernels()->gelu(count, x); }

void kirie_relu(size_t count, float *x) { kernels()->relu(count, x); }

void kirie_add(size_t count, const float *x, float *y) { kernels()->add(count, x, y); }

void kirie_product(
    size_t rows, size_t columns, size_t depth, const float *a, size_t a_row, size_t a_column, const float *b,
    size_t b_stride, float *c, size_t c_stride, const float *row_bias, const float *column_bias, int accumulate) {
    kernels()->product(
        rows, columns, depth, a, a_row, a_column, b, b_stride, c, c_stride, row_bias, column_bias, accumulate);
}

void kirie_softmax_over_tokens(size_t tokens, size_t heads, float *s) {
    kernels()->softmax_over_tokens(tokens, heads, s);
}

void kirie_softmax_step(size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor) {
    kernels()->softmax_step(rows, valid, s, maximum, total, factor);
}

void kirie_scale_columns(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride) {
    kernels()->scale_columns(rows, columns, factor, x, x_stride);
}

void kirie_gelu_dot(
    size_t rows, size_t masks, const float *x, size_t x_stride, const float *bias, const float *weight,
    size_t weight_stride, float *logits, size_t logits_stride) {
    kernels()->gelu_dot(rows, masks, x, x_stride, bias, weight, weight_stride, logits, logits_stride);
}

void kirie_products(
    size_t groups, size_t rows, size_t columns, size_t depth, const float *a, size_t a_step, size_t a_row,
    size_t a_column, const float *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride,
    int accumulate) {
    const kirie_kernels *level = kernels();
    for (size_t g = 0; g < groups; g++)
        level->product(
            rows, columns, depth, a + g * a_step, a_row, a_column, b + g * b_step, b_stride, c + g * c_step, c_stride,
            NULL, NULL, accumulate);
}

void kirie_center_columns(size_t rows, float *x, const float *gain, float *squares) {
    kernels()->center_columns(rows, x, gain, squares);
}

void kirie_norm_factors(
    size_t rows, const float *weights, const float *products, const float *squares, float *running, float scale,
    float epsilon, float *factor) {
    kernels()->norm_factors(rows, weights, products, squares, running, scale, epsilon, factor);
}

void kirie_upscale_norm(
    size_t rows, float *x, const float *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon) {
    kernels()->upscale_norm(rows, x, part, factor, bias, gain, shift, epsilon);
}

void kirie_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const float *q, size_t q_stride, const int32_t *query_tokens,
    const int32_t *query_places, float scale, const float *rel_h, size_t rel_h_stride, const float *rel_w,
    size_t rel_w_stride, const float *table, const float *packed_k, const float *packed_v, float *out,
    size_t out_stride, float *scratch) {
    kernels()->attention_tile(
        shape, queries, q, q_stride, query_tokens, query_places, scale, rel_h, rel_h_stride, rel_w, rel_w_stride,
        table, packed_k, packed_v, out, out_stride, scratch);
}

void kirie_bf16_attention_tile(
    const kirie_attention_shape *shape, size_t queries, const uint16_t *q, size_t q_stride,
    const int32_t *query_tokens, const int32_t *query_places, float scale, const uint16_t *rel_h,
    size_t rel_h_stride, const uint16_t *rel_w, size_t rel_w_stride, const float *table, const uint16_t *packed_k,
    const uint16_t *packed_v, uint16_t *out, size_t out_stride, float *scratch) {
    (kirie_has_amx_bf16() ? kirie_amx_bf16_attention_tile : kirie_avx512_bf16_attention_tile)(
        shape, queries, q, q_stride, query_tokens, query_places, scale, rel_h, rel_h_stride, rel_w, rel_w_stride,
        table, packed_k, packed_v, out, out_stride, scratch);
}

void kirie_bf16_products(
    size_t groups, size_t rows, size_t columns, size_t pairs, const uint16_t *a, size_t a_step, size_t a_row,
    const uint16_t *b, size_t b_step, size_t b_stride, float *c, size_t c_step, size_t c_stride, int accumulate) {
    (kirie_has_amx_bf16() ? kirie_amx_bf16_products : kirie_avx512_bf16_products)(
        groups, rows, columns, pairs, a, a_step, a_row, b, b_step, b_stride, c, c_step, c_stride, accumulate);
}

void kirie_depthwise3x3_row(
    size_t width, size_t channels, size_t stride, const float *above, const float *at, const float *below,
    const float *weight, const float *bias, int gelu, float *y) {
    kernels()->depthwise3x3_row(width, channels, stride, above, at, below, weight, bias, gelu, y);
}

void kirie_combine_rows(size_t count, const float *const *rows, const float *weights, float *y) {
    kernels()->combine_rows(count, rows, weights, y);
}

void kirie_threshold_rows(
    size_t count, const float *const *rows, const float *weights, uint64_t *words, size_t *inner, size_t *outer) {
    kernels()->threshold_rows(count, rows, weights, words, inner, outer);
}
