// The choice of the instruction set, made once, and the public names.

#define _GNU_SOURCE
#include "kernels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

kirie_set kirie_set_limit(void) {
    static _Atomic int limit = -1;  // -1 until first asked; to ask twice does no harm
    int found = atomic_load_explicit(&limit, memory_order_relaxed);
    if (found < 0) {
        static const char *const names[] = {"baseline", "avx2", "avx512", "bf16", "amx"};
        const char *name = getenv("KIRIE_MAX_ISA");
        found = KIRIE_AMX;
        for (int i = 0; name && i < 5; i++)
            if (strcmp(name, names[i]) == 0) found = KIRIE_BASELINE + i;
        atomic_store_explicit(&limit, found, memory_order_relaxed);
    }
    return (kirie_set)found;
}

#if defined(__x86_64__)
// Linux lends the tiles' 8 KiB a thread only to a process that asks: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA),
// <https://docs.kernel.org/arch/x86/xstate.html>.
static int asks_for_tiles(void) {
#if defined(__linux__)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return 0;
#endif
}
#endif

static kirie_set found_set(void) {
#if defined(__x86_64__)
    const kirie_set limit = kirie_set_limit();
    __builtin_cpu_init();
    const int has_fma = __builtin_cpu_supports("fma");
    if (limit < KIRIE_AVX2 || !has_fma || !__builtin_cpu_supports("avx2")) return KIRIE_BASELINE;
    if (limit < KIRIE_AVX512 || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")
        || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return KIRIE_AVX2;
    if (limit < KIRIE_BF16 || !__builtin_cpu_supports("avx512bf16")) return KIRIE_AVX512;
    if (limit < KIRIE_AMX || !__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")
        || !asks_for_tiles())
        return KIRIE_BF16;
    return KIRIE_AMX;
#else
    return KIRIE_BASELINE;
#endif
}

kirie_set kirie_best_set(void) {
    static _Atomic int best = -1;  // -1 until first asked; to ask twice does no harm
    int found = atomic_load_explicit(&best, memory_order_relaxed);
    if (found < 0) atomic_store_explicit(&best, found = found_set(), memory_order_relaxed);
    return (kirie_set)found;
}

int kirie_has_bf16(void) { return kirie_best_set() >= KIRIE_BF16; }

int kirie_has_int8(void) {
#if defined(__x86_64__)
    return kirie_has_bf16() && __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

int kirie_has_amx_bf16(void) { return kirie_best_set() >= KIRIE_AMX; }

// MARK: tables

static const kirie_kernels *const own[] = {
    &kirie_plain_kernels, &kirie_baseline_kernels,
#if defined(__x86_64__)
    &kirie_avx2_kernels, &kirie_avx512_kernels, &kirie_bf16_kernels, &kirie_amx_kernels,
#endif
};
enum { SETS = sizeof own / sizeof *own };

// Each set's table with what it lacks from the one below.
static kirie_kernels whole[SETS];

static void fill_tables(void) {
    typedef void any(void);  // a table is nothing but pointers to functions
    enum { entries = sizeof(kirie_kernels) / sizeof(any *) };
    for (size_t s = 0; s < SETS; s++)
        for (size_t i = 0; i < entries; i++) {
            any *kernel;
            memcpy(&kernel, (const char *)own[s] + i * sizeof kernel, sizeof kernel);
            if (!kernel && s > 0) memcpy(&kernel, (const char *)&whole[s - 1] + i * sizeof kernel, sizeof kernel);
            memcpy((char *)&whole[s] + i * sizeof kernel, &kernel, sizeof kernel);
        }
}

const kirie_kernels *kirie_kernels_of(kirie_set set) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_tables);
    const kirie_set best = kirie_best_set();
    return &whole[set < best ? set : best];
}

// NULL until first asked. Two threads that ask at once find the same answer.
static const kirie_kernels *_Atomic chosen = NULL;

static const kirie_kernels *kernels(void) {
    const kirie_kernels *found = atomic_load_explicit(&chosen, memory_order_acquire);
    if (!found) {
        found = kirie_kernels_of(KIRIE_AMX);
        atomic_store_explicit(&chosen, found, memory_order_release);
    }
    return found;
}

// MARK: the best set's kernels

void kirie_layer_norm_rows(const kirie_layer_norm_arguments *arguments) { kernels()->layer_norm_rows(arguments); }

void kirie_gelu(size_t count, float *x) { kernels()->gelu(count, x); }

void kirie_quick_gelu(size_t count, float *x) { kernels()->quick_gelu(count, x); }

void kirie_relu(size_t count, float *x) { kernels()->relu(count, x); }

void kirie_relu6(size_t count, float *x) { kernels()->relu6(count, x); }

void kirie_add(size_t count, const float *x, float *y) { kernels()->add(count, x, y); }

void kirie_product(const kirie_product_arguments *arguments) { kernels()->product(arguments); }

void kirie_softmax_over_tokens(size_t tokens, size_t heads, float *s) {
    kernels()->softmax_over_tokens(tokens, heads, s);
}

void kirie_softmax_step(size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor) {
    kernels()->softmax_step(rows, valid, s, maximum, total, factor);
}

void kirie_scale_columns(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride) {
    kernels()->scale_columns(rows, columns, factor, x, x_stride);
}

void kirie_gelu_dot(const kirie_gelu_dot_arguments *arguments) { kernels()->gelu_dot(arguments); }

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

void kirie_attention(const kirie_attention_arguments *arguments) { kernels()->attention(arguments); }

size_t kirie_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    return kernels()->attention_scratch(shape, queries);
}

void kirie_depthwise3x3_row(const kirie_depthwise3x3_arguments *arguments) { kernels()->depthwise3x3_row(arguments); }

void kirie_depthwise_relu6_row(const kirie_depthwise_relu6_arguments *arguments) {
    kernels()->depthwise_relu6_row(arguments);
}

void kirie_combine_rows(size_t count, const float *const *rows, const float *weights, float *y) {
    kernels()->combine_rows(count, rows, weights, y);
}

void kirie_threshold_rows(
    size_t count, const float *const *rows, const float *weights, float offset, uint64_t *words, size_t *inner,
    size_t *outer) {
    kernels()->threshold_rows(count, rows, weights, offset, words, inner, outer);
}

void kirie_bf16_narrow(size_t count, const float *x, uint16_t *y) { kernels()->bf16_narrow(count, x, y); }

void kirie_bf16_layer_norm_rows(const kirie_bf16_layer_norm_arguments *arguments) {
    kernels()->bf16_layer_norm_rows(arguments);
}

void kirie_bf16_gelu(size_t count, uint16_t *x) { kernels()->bf16_gelu(count, x); }

void kirie_bf16_quick_gelu(size_t count, uint16_t *x) { kernels()->bf16_quick_gelu(count, x); }

void kirie_bf16_add(size_t count, const uint16_t *x, uint16_t *y) { kernels()->bf16_add(count, x, y); }

void kirie_bf16_pair_rows(size_t rows, size_t columns, const float *x, size_t x_stride, uint16_t *y) {
    kernels()->bf16_pair_rows(rows, columns, x, x_stride, y);
}

void kirie_bf16_product(const kirie_bf16_product_arguments *arguments) { kernels()->bf16_product(arguments); }

void kirie_bf16_gelu_dot(const kirie_gelu_dot_arguments *arguments) { kernels()->bf16_gelu_dot(arguments); }

void kirie_bf16_upscale_norm(const kirie_bf16_upscale_norm_arguments *arguments) {
    kernels()->bf16_upscale_norm(arguments);
}

void kirie_bf16_attention_pack(const kirie_bf16_attention_pack_arguments *arguments) {
    kernels()->bf16_attention_pack(arguments);
}

void kirie_bf16_attention(const kirie_bf16_attention_arguments *arguments) { kernels()->bf16_attention(arguments); }

size_t kirie_bf16_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    return kernels()->bf16_attention_scratch(shape, queries);
}

void kirie_bf16_depthwise3x3_row(const kirie_bf16_depthwise3x3_arguments *arguments) {
    kernels()->bf16_depthwise3x3_row(arguments);
}

void kirie_bf16_depthwise_relu6_row(const kirie_bf16_depthwise_relu6_arguments *arguments) {
    kernels()->bf16_depthwise_relu6_row(arguments);
}

void kirie_bf16_planes3x3_row(const kirie_bf16_planes3x3_arguments *arguments) {
    kernels()->bf16_planes3x3_row(arguments);
}

void kirie_bf16_quantize_rows(
    size_t rows, size_t columns, const uint16_t *x, size_t x_stride, int8_t *y, float *scales) {
    kernels()->bf16_quantize_rows(rows, columns, x, x_stride, y, scales);
}

void kirie_dequantize_rows(const kirie_dequantize_arguments *arguments) { kernels()->dequantize_rows(arguments); }

void kirie_bf16_dequantize_rows(
    size_t rows, size_t columns, const int32_t *sums, const float *row_scales, const float *column_scales,
    const float *bias, uint16_t *y, size_t y_stride) {
    kernels()->bf16_dequantize_rows(rows, columns, sums, row_scales, column_scales, bias, y, y_stride);
}

void kirie_bf16x3_split_rows(size_t rows, size_t depth, const float *x, size_t x_stride, uint16_t *y) {
    kernels()->bf16x3_split_rows(rows, depth, x, x_stride, y);
}

void kirie_bf16x3_pack_weights(
    size_t columns, size_t depth, const float *weight, const float *bias, uint16_t *packed) {
    kernels()->bf16x3_pack_weights(columns, depth, weight, bias, packed);
}

void kirie_bf16x3_product(
    size_t rows, size_t columns, size_t depth, const uint16_t *x, const uint16_t *packed, int accumulate, float *y,
    size_t y_stride) {
    kernels()->bf16x3_product(rows, columns, depth, x, packed, accumulate, y, y_stride);
}

void kirie_bf16x3_attention_pack(const kirie_bf16x3_attention_pack_arguments *arguments) {
    kernels()->bf16x3_attention_pack(arguments);
}

void kirie_bf16x3_attention(const kirie_bf16x3_attention_arguments *arguments) {
    kernels()->bf16x3_attention(arguments);
}

size_t kirie_bf16x3_attention_scratch(const kirie_attention_shape *shape, size_t queries) {
    return kernels()->bf16x3_attention_scratch(shape, queries);
}
