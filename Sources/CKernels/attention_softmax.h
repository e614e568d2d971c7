// The step of a running softmax that every attention kernel makes after each block of keys (Milakov and Gimelshein, "Online
// normalizer calculation for softmax", 2018); included after vectors.h, inside a target attribute.

// Adds the sum of a block's weights to one query's total, which is kept in lanes and begins at 0. Where the block's largest
// score grows the maximum, what was summed so far, the total and the `width` sums of values, is scaled by `factor` first.
INLINE void add_block(const int grows, vf factor, vf sum, size_t width, float *sums, float *total) {
    if (grows) {
        for (size_t n = 0; n < width; n += KIRIE_LANES) store(sums + n, load(sums + n) * factor);
        store(total, FMA(load(total), factor, sum));
    } else {
        store(total, load(total) + sum);
    }
}
