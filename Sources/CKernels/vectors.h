// Vectors of KIRIE_LANES floats for one instruction set; included once by each level's file, inside its target
// attribute. Clang's vector types keep the kernels free of intrinsics: the same text becomes AVX-512, AVX2 or NEON.

#include "kirie_kernels.h"

typedef float vf __attribute__((ext_vector_type(KIRIE_LANES)));
typedef int32_t vi __attribute__((ext_vector_type(KIRIE_LANES)));
typedef vf vfu __attribute__((aligned(4)));

#define INLINE static inline __attribute__((always_inline, unused))
#define EACH(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#if defined(__x86_64__) && KIRIE_LANES == 4
#define FMA(a, b, c) ((a) * (b) + (c))  // SSE2 has none, and the library's is a call
#else
#define FMA(a, b, c) __builtin_elementwise_fma((a), (b), (c))
#endif
#define MAX(a, b) __builtin_elementwise_max((a), (b))

// Matrices in memory, with `stride` elements from one row to the next: what a block of a kernel works on. By value and
// inlined, their members are as good as locals.
typedef struct {
    const float *at;
    size_t stride;
} matrix;
typedef struct {
    float *at;
    size_t stride;
} sum_matrix;

INLINE vf load(const float *p) { return *(const vfu *)p; }
INLINE void store(float *p, vf v) { *(vfu *)p = v; }

// The larger of two numbers, neither of which is NaN: one instruction where the general form takes three.
INLINE vf larger(vf a, vf b) { return a > b ? a : b; }

// Lanes are joined by halves: a chain of sixteen would wait for each of its links.
#if KIRIE_LANES == 16
typedef float half_vf __attribute__((ext_vector_type(8)));
typedef float quarter_vf __attribute__((ext_vector_type(4)));
#define HALVE(v, join) \
    const half_vf half = join((v).lo, (v).hi); \
    const quarter_vf quarter = join(half.lo, half.hi)
#elif KIRIE_LANES == 8
typedef float quarter_vf __attribute__((ext_vector_type(4)));
#define HALVE(v, join) const quarter_vf quarter = join((v).lo, (v).hi)
#else
#define HALVE(v, join) const vf quarter = (v)
#endif
#define SUM(a, b) ((a) + (b))
#define LARGER(a, b) ((a) > (b) ? (a) : (b))

INLINE float sum_of(vf v) {
    HALVE(v, SUM);
    return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

// No lane is NaN.
INLINE float max_of(vf v) {
    HALVE(v, LARGER);
    const float a = LARGER(quarter[0], quarter[2]), b = LARGER(quarter[1], quarter[3]);
    return LARGER(a, b);
}
#undef HALVE

// e^x, relative error below 2e-7; below -87 the answer is 1.6e-38, which a softmax cannot tell from 0.
// Cody and Waite's reduction by ln 2 in two parts, then the Taylor polynomial of degree 6 on |r| <= ln(2)/2.
INLINE vf vexp(vf x) {
    x = MAX(x, (vf)-87.0f);
    vf n = __builtin_elementwise_roundeven(x * 1.44269504089f);
    vf r = FMA(n, (vf)-0.693145751953125f, x);
    r = FMA(n, (vf)-1.42860682030941723e-6f, r);
    vf p = FMA(r, (vf)(1.0f / 720), (vf)(1.0f / 120));
    p = FMA(p, r, (vf)(1.0f / 24));
    p = FMA(p, r, (vf)(1.0f / 6));
    p = FMA(p, r, (vf)0.5f);
    p = FMA(p, r, (vf)1.0f);
    p = FMA(p, r, (vf)1.0f);
#if defined(__x86_64__) && KIRIE_LANES == 16
    // p times 2 to the n in one instruction.
    return (vf)__builtin_ia32_scalefps512_mask(p, n, p, (short)-1, 4);
#else
    vi power = (__builtin_convertvector(n, vi) + 127) << 23;
    return p * (vf)power;
#endif
}

// x / (1 + e^(-1.702 x)): Hendrycks and Gimpel's quick approximation of GELU, section 2. The exponent ends at 87, where the
// answer is 0 for what fp32 tells apart.
INLINE vf vquick_gelu(vf x) {
    return x / (1.0f + vexp(__builtin_elementwise_min(x * -1.702f, (vf)87.0f)));
}

// x * Phi(x) = max(x, 0) - |x| / 2 * erfc(|x| / sqrt 2), erfc by Abramowitz and Stegun 7.1.26 (error below 1.5e-7).
INLINE vf vgelu(vf x) {
    vf size = __builtin_elementwise_abs(x);
    vf z = size * 0.70710678118654752f;
    vf t = 1.0f / FMA(z, (vf)0.3275911f, (vf)1.0f);
    vf p = FMA(t, (vf)1.061405429f, (vf)-1.453152027f);
    p = FMA(p, t, (vf)1.421413741f);
    p = FMA(p, t, (vf)-0.284496736f);
    p = FMA(p, t, (vf)0.254829592f);
    vf erfc = p * t * vexp(-z * z);
    return FMA(size * -0.5f, erfc, MAX(x, (vf)0.0f));
}
