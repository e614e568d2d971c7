// Pairs of bf16 numbers in vectors of AVX512_BF16; included once by each file of bf16 kernels, inside its target
// attribute and after <immintrin.h> and <string.h>.

#define KIRIE_LANES 16
#include "vectors.h"

// A matrix of bf16 numbers; where it is one of pairs of them, its stride counts pairs.
typedef struct {
    const uint16_t *at;
    size_t stride;
} bf16_matrix;

INLINE __m512bh load_pairs(const void *p) { return (__m512bh)_mm512_loadu_si512(p); }
INLINE __m512bh splat_pair(const uint16_t *p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}
INLINE vf dot(vf sum, __m512bh a, __m512bh b) { return (vf)_mm512_dpbf16_ps((__m512)sum, a, b); }
INLINE void store_narrow(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
INLINE float widen_one(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}
INLINE uint16_t narrow_one(float x) {
    uint16_t lanes[16];
    store_narrow(lanes, (vf)x);
    return lanes[0];
}
INLINE vf widen_lanes(const uint16_t *p) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}
// Two rows of 16 numbers as 16 pairs.
INLINE void store_pairs(uint16_t *p, vf first, vf second) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
    _mm512_storeu_si512(p, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

// x * Phi(x), Phi as 1/2 + x * P(x^2) on [-3.8, 3.8] by a minimax fit of degree 6 in x^2: the error is below 1.1e-4 there
// and below 5e-5 of x beyond, less than bf16 tells apart where the answer counts.
INLINE vf vgelu_short(vf x) {
    const vf c = __builtin_elementwise_min(MAX(x, (vf)-3.8f), (vf)3.8f), s = c * c;
    vf p = FMA(s, (vf)3.025455778e-08f, (vf)-1.957001967e-06f);
    p = FMA(p, s, (vf)5.462305683e-05f);
    p = FMA(p, s, (vf)-8.744350592e-04f);
    p = FMA(p, s, (vf)9.045771029e-03f);
    p = FMA(p, s, (vf)-6.513273627e-02f);
    p = FMA(p, s, (vf)3.982566769e-01f);
    return x * FMA(c, p, (vf)0.5f);
}
