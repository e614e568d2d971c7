// Depthwise convolution of 3 x 3 and 5 x 5 with ReLU6, for fp32 and for bf16 numbers; included after the vectors, with
//
//     DEPTHWISE_NUMBER        how numbers are written
//     DEPTHWISE_LOAD(p)       a vector of them as fp32
//     DEPTHWISE_STORE(p, v)   and back
//     DEPTHWISE_NAME(name)    the names of what is defined here

enum { DEPTHWISE_CHANNELS = 4096 };  // whole vectors of more go through the plain twin

// What lies outside the picture.
static const DEPTHWISE_NUMBER DEPTHWISE_NAME(nothing)[DEPTHWISE_CHANNELS];

typedef struct {
    size_t width, channels, before;
    const DEPTHWISE_NUMBER *const *rows;
    const float *weight, *bias;
} DEPTHWISE_NAME(picture);

// Answers at `positions` positions from ox on, all whole vectors of channels. A pixel is read once and adds to every answer
// that covers it, whose sums stay in registers; which positions go together changes no sum.
INLINE void DEPTHWISE_NAME(block)(
    const int size, const int stride, const int positions, DEPTHWISE_NAME(picture) x, size_t ox, DEPTHWISE_NUMBER *y) {
    const size_t channels = x.channels;
    const int reach = stride * (positions - 1) + size;
    const DEPTHWISE_NUMBER *columns[5][2 * 7 + 5];
    for (int dy = 0; dy < size; dy++)
        for (int j = 0; j < reach; j++) {
            const ptrdiff_t ix = (ptrdiff_t)(ox * (size_t)stride) + j - (ptrdiff_t)x.before;
            const int isInside = x.rows[dy] && ix >= 0 && ix < (ptrdiff_t)x.width;
            columns[dy][j] = isInside ? x.rows[dy] + (size_t)ix * channels : DEPTHWISE_NAME(nothing);
        }
    for (size_t c = 0; c + KIRIE_LANES <= channels; c += KIRIE_LANES) {
        vf sum[8];
        EACH(i, positions) sum[i] = load(x.bias + c);
        for (int dy = 0; dy < size; dy++) {
            if (!x.rows[dy]) continue;
            vf factor[5];
            EACH(dx, size) factor[dx] = load(x.weight + (size_t)(dy * size + dx) * channels + c);
            EACH(j, reach) {
                const vf pixel = DEPTHWISE_LOAD(columns[dy][j] + c);
                EACH(i, positions)
                    if (j >= i * stride && j < i * stride + size) sum[i] = FMA(pixel, factor[j - i * stride], sum[i]);
            }
        }
        EACH(i, positions) {
            const vf positive = larger(sum[i], (vf)0.0f);
            DEPTHWISE_STORE(y + (size_t)i * channels + c, positive < 6.0f ? positive : (vf)6.0f);
        }
    }
}

INLINE void DEPTHWISE_NAME(row)(
    const int size, const int stride, DEPTHWISE_NAME(picture) x, DEPTHWISE_NUMBER *y) {
    const size_t out_width = (x.width + (size_t)stride - 1) / (size_t)stride;
    size_t ox = 0;
    for (; ox + 8 <= out_width; ox += 8) DEPTHWISE_NAME(block)(size, stride, 8, x, ox, y + ox * x.channels);
    for (; ox + 4 <= out_width; ox += 4) DEPTHWISE_NAME(block)(size, stride, 4, x, ox, y + ox * x.channels);
    for (; ox < out_width; ox++) DEPTHWISE_NAME(block)(size, stride, 1, x, ox, y + ox * x.channels);
}

// Returns 0, having done nothing, where this is not made for such a row. Channels beyond whole vectors are left.
static int DEPTHWISE_NAME(vectors)(size_t size, size_t stride, DEPTHWISE_NAME(picture) x, DEPTHWISE_NUMBER *y) {
    if (x.channels > DEPTHWISE_CHANNELS) return 0;
    if (size == 3 && stride == 1)
        DEPTHWISE_NAME(row)(3, 1, x, y);
    else if (size == 3 && stride == 2)
        DEPTHWISE_NAME(row)(3, 2, x, y);
    else if (size == 5 && stride == 1)
        DEPTHWISE_NAME(row)(5, 1, x, y);
    else if (size == 5 && stride == 2)
        DEPTHWISE_NAME(row)(5, 2, x, y);
    else
        return 0;
    return 1;
}
