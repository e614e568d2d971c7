// A query's products with the relative positions along an axis; included after vectors.h, inside a target attribute.

// y[i] = sum over d of query[d] * table[d][i] for KIRIE_LANES * vectors numbers: a query's biases along one axis. Several
// sums where there are few vectors, for the products' latency.
INLINE void bias_lines(const int vectors, size_t depth, const float *query, const float *table, size_t stride, float *y) {
    enum { most = 4 };
    const int parts = most / vectors;
    vf sum[most] = {0};
    size_t d = 0;
    for (; d + parts <= depth; d += parts)
        EACH(i, parts) EACH(v, vectors)
            sum[i * vectors + v] = FMA(
                (vf)query[d + i], load(table + (d + i) * stride + v * KIRIE_LANES), sum[i * vectors + v]);
    for (; d < depth; d++)
        EACH(v, vectors) sum[v] = FMA((vf)query[d], load(table + d * stride + v * KIRIE_LANES), sum[v]);
    EACH(v, vectors) {
        vf total = sum[v];
        EACH(i, parts) if (i > 0) total += sum[i * vectors + v];
        store(y + v * KIRIE_LANES, total);
    }
}

INLINE void axis_bias(size_t lanes, size_t depth, const float *query, const float *table, size_t stride, float *y) {
    size_t n = 0;
    for (; n + 4 * KIRIE_LANES <= lanes; n += 4 * KIRIE_LANES)
        bias_lines(4, depth, query, table + n, stride, y + n);
    for (; n < lanes; n += KIRIE_LANES) bias_lines(1, depth, query, table + n, stride, y + n);
}
