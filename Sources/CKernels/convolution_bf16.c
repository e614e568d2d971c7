// Convolutions on bf16 numbers that no product does well, for AVX512_BF16: one channel each, or three planes. Sums and
// weights are fp32; the numbers are widened on the way in and narrowed on the way out.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)

#include "vectors_bf16.h"

void kirie_avx512_bf16_gelu(size_t count, uint16_t *x) {
    size_t n = 0;
    for (; n + 32 <= count; n += 32) {
        const vf low = vgelu_short(widen_lanes(x + n)), high = vgelu_short(widen_lanes(x + n + 16));
        _mm512_storeu_si512(x + n, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
    }
    for (; n + 16 <= count; n += 16) store_narrow(x + n, vgelu_short(widen_lanes(x + n)));
    for (; n < count; n++) x[n] = narrow_one(vgelu_short((vf)widen_one(x[n]))[0]);
}

void kirie_avx512_bf16_quick_gelu(size_t count, uint16_t *x) {
    size_t n = 0;
    for (; n + 32 <= count; n += 32) {
        const vf low = vquick_gelu(widen_lanes(x + n)), high = vquick_gelu(widen_lanes(x + n + 16));
        _mm512_storeu_si512(x + n, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
    }
    for (; n + 16 <= count; n += 16) store_narrow(x + n, vquick_gelu(widen_lanes(x + n)));
    for (; n < count; n++) x[n] = narrow_one(vquick_gelu((vf)widen_one(x[n]))[0]);
}

#define AT_ONCE 4  // positions along the row that share weights and neighbours
#define MOST_CHANNELS 4096

static const uint16_t nothing[MOST_CHANNELS];

// The row of a picture that a depthwise convolution is about, between those above and below it, which may be NULL.
typedef struct {
    const uint16_t *const *rows;
    size_t width, channels;
} neighbours;

// AT_ONCE positions from ox on, all channels.
INLINE void depthwise_block(
    const int stride, neighbours x, size_t ox, const float *weight, const float *bias, int gelu, uint16_t *y) {
    const size_t channels = x.channels;
    enum { most = 2 * AT_ONCE + 1 };
    const int reach = stride * (AT_ONCE - 1) + 3;
    const uint16_t *columns[3][most];
    for (int dy = 0; dy < 3; dy++)
        for (int j = 0; j < reach; j++) {
            const ptrdiff_t ix = (ptrdiff_t)(ox * (size_t)stride) + j - 1;
            columns[dy][j] =
                x.rows[dy] && ix >= 0 && ix < (ptrdiff_t)x.width ? x.rows[dy] + (size_t)ix * channels : nothing;
        }
    for (size_t c = 0; c < channels; c += 16) {
        vf sum[AT_ONCE];
        EACH(i, AT_ONCE) sum[i] = load(bias + c);
        EACH(dy, 3) {
            vf factor[3], value[most];
            EACH(dx, 3) factor[dx] = load(weight + (dy * 3 + dx) * channels + c);
            EACH(j, reach) value[j] = widen_lanes(columns[dy][j] + c);
            EACH(i, AT_ONCE) EACH(dx, 3) sum[i] = FMA(value[i * stride + dx], factor[dx], sum[i]);
        }
        EACH(i, AT_ONCE) store_narrow(y + i * channels + c, gelu ? vgelu_short(sum[i]) : sum[i]);
    }
}

void kirie_avx512_bf16_depthwise3x3_row(const kirie_bf16_depthwise3x3_arguments *arguments) {
    DEPTHWISE_ARGUMENTS;
    const uint16_t *rows[3] = {above, at, below};
    const neighbours x = {rows, width, channels};
    const size_t out_width = (width + stride - 1) / stride;
    size_t ox = 0;
    if (channels % 16 == 0 && channels <= MOST_CHANNELS && out_width >= AT_ONCE && (stride == 1 || stride == 2))
        while (ox < out_width) {
            // The last block begins early rather than end late; what it writes twice is the same.
            const size_t first = ox + AT_ONCE <= out_width ? ox : out_width - AT_ONCE;
            uint16_t *out = y + first * channels;
            if (stride == 1)
                depthwise_block(1, x, first, weight, bias, gelu, out);
            else
                depthwise_block(2, x, first, weight, bias, gelu, out);
            ox = first + AT_ONCE;
        }
    else
        kirie_plain_kernels.bf16_depthwise3x3_row(arguments);
}

// What a row of the answer is made of: planes of height rows of width numbers, around row 2 * row of each.
typedef struct {
    size_t planes, height, width, row;
    const float *x;
} picture_planes;

// Positions from ox on, 32 channels; within the picture on both sides.
INLINE void planes_block(
    const int positions, picture_planes in, size_t ox, size_t channels, const float *weight, const float *bias,
    uint16_t *y) {
    vf sum[8][2];
    EACH(i, positions) EACH(v, 2) sum[i][v] = load(bias + v * 16);
    for (size_t plane = 0; plane < in.planes; plane++)
        for (size_t dy = 0; dy < 3; dy++) {
            if (2 * in.row + dy < 1 || 2 * in.row + dy > in.height) continue;
            const float *line = in.x + (plane * in.height + 2 * in.row + dy - 1) * in.width + 2 * ox - 1;
            EACH(dx, 3) {
                const float *factors = weight + (plane * 9 + dy * 3 + dx) * channels;
                vf factor[2];
                EACH(v, 2) factor[v] = load(factors + v * 16);
                EACH(i, positions) EACH(v, 2) sum[i][v] = FMA((vf)line[2 * i + dx], factor[v], sum[i][v]);
            }
        }
    EACH(i, positions) EACH(v, 2) store_narrow(y + i * channels + v * 16, vgelu_short(sum[i][v]));
}

// One position at an edge, any channel count in multiples of 16.
static void planes_edge(
    picture_planes in, size_t ox, size_t channels, const float *weight, const float *bias, uint16_t *y) {
    for (size_t c = 0; c < channels; c += 16) {
        vf sum = load(bias + c);
        for (size_t plane = 0; plane < in.planes; plane++)
            for (size_t dy = 0; dy < 3; dy++) {
                if (2 * in.row + dy < 1 || 2 * in.row + dy > in.height) continue;
                const float *line = in.x + (plane * in.height + 2 * in.row + dy - 1) * in.width;
                for (size_t dx = 0; dx < 3; dx++) {
                    if (2 * ox + dx < 1 || 2 * ox + dx > in.width) continue;
                    const float *factors = weight + (plane * 9 + dy * 3 + dx) * channels + c;
                    sum = FMA((vf)line[2 * ox + dx - 1], load(factors), sum);
                }
            }
        store_narrow(y + c, vgelu_short(sum));
    }
}

void kirie_avx512_bf16_planes3x3_row(const kirie_bf16_planes3x3_arguments *arguments) {
    PLANES_ARGUMENTS;
    if (channels % 32 != 0) {
        kirie_plain_kernels.bf16_planes3x3_row(arguments);
        return;
    }
    const size_t out_width = (width + 1) / 2, inside = width / 2;  // positions 1 ..< inside reach neither edge
    const picture_planes in = {planes, height, width, row, x};
    size_t ox = 1;
    planes_edge(in, 0, channels, weight, bias, y);
    for (; ox + 8 <= inside; ox += 8)
        for (size_t c = 0; c < channels; c += 32)
            planes_block(8, in, ox, channels, weight + c, bias + c, y + ox * channels + c);
    for (; ox < out_width; ox++)
        planes_edge(in, ox, channels, weight, bias, y + ox * channels);
}

#pragma clang attribute pop

#endif
