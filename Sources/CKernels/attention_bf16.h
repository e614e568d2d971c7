// What the bf16 attention kernels share: the softmax's exponential and the answers; included by each of them
// after vectors_bf16.h, inside its target attribute.

// 2^x to one part in 13,000 by a minimax polynomial of degree 3 on [0, 1); below -125 the answer is that of -125, as
// numbers under 2^-126 are slow.
INLINE vf exp2_short(vf x) {
    x = larger(x, (vf)-125.0f);
    const vf r = (vf)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x less its whole part
    vf p = FMA(r, (vf)0.07802458853f, (vf)0.22606723011f);
    p = FMA(p, r, (vf)0.69583338499f);
    p = FMA(p, r, (vf)0.99992519617f);
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);
}

// The weights 2^(line * scale - top) of `lanes` keys, narrowed, which may be the same memory; answers their sum.
INLINE vf weigh(size_t lanes, const float *line, float scale, float top, uint16_t *weights) {
    vf sum = 0, more = 0;
    size_t n = 0;
    for (; n + 32 <= lanes; n += 32) {
        const vf a = exp2_short(FMA(load(line + n), (vf)scale, (vf)-top));
        const vf b = exp2_short(FMA(load(line + n + 16), (vf)scale, (vf)-top));
        sum += a;
        more += b;
        _mm512_storeu_si512(weights + n, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
    }
    if (n < lanes) {
        const vf a = exp2_short(FMA(load(line + n), (vf)scale, (vf)-top));
        sum += a;
        store_narrow(weights + n, a);
    }
    return sum + more;
}

// One query's answer: its weighted sum over the sum of its weights, narrowed. sums takes whole vectors.
INLINE void write_answer(size_t depth, const float *sums, const float *totals, uint16_t *out) {
    const float scale = 1.0f / sum_of(load(totals));
    size_t d = 0;
    for (; d + 16 <= depth; d += 16) store_narrow(out + d, load(sums + d) * scale);
    for (; d < depth; d++) out[d] = narrow_one(sums[d] * scale);
}
