/* What PyTorch does slowly on CPUs in bfloat16, for training: built by native.py with -march=native.
 *
 * Vectors are those of GCC and Clang. Maps have their channels last, and channels are a multiple of 16.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
typedef int32_t masks __attribute__((vector_size(64), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2)));

static inline floats load(const uint16_t *p) {
    return (floats)(__builtin_convertvector(*(const halves *)p, words) << 16);
}

/* To the nearest, ties to even. */
static inline void store(uint16_t *p, floats x) {
    words bits = (words)x;
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *(halves *)p = __builtin_convertvector(bits, halves);
}

static inline floats pick(masks m, floats a) { return (floats)((masks)a & m); }

static inline floats relu6(floats x) {
    const floats six = (floats){0} + 6.0f;
    x = pick(x > (floats){0}, x);
    masks above = x > six;
    return (floats)(((masks)x & ~above) | ((masks)six & above));
}

/* Depthwise convolution between two ReLU6. PyTorch falls back to plain loops for most gradients of such maps; there they took
 * three quarters of a training step. Here 16 channels of one picture at a time are unpacked into a padded float32 plane
 * that stays in the cache.
 *
 * x (B, H, W, C) before its ReLU6, y (B, H/s, W/s, C) after its own, weights (k·k, C).
 */

/* The plane of one picture and 16 channels with its padding: before on the left and above, the rest on the other sides. */
static inline void unpack(const uint16_t *x, floats *plane, int H, int W, int C, int before, int rows, int columns) {
    memset(plane, 0, sizeof(floats) * rows * columns);
    for (int r = 0; r < H; r++)
        for (int c = 0; c < W; c++)
            plane[(r + before) * columns + c + before] = relu6(load(x + ((long)r * W + c) * C));
}

static inline __attribute__((always_inline)) void forward(
    const uint16_t *x, const float *weights, const float *bias, uint16_t *y, floats *plane, int B, int H, int W, int C,
    const int k, const int s) {
    const int before = s == 2 ? (k - 2) / 2 : k / 2, rows = H + k - s, columns = W + k - s, h = H / s, w = W / s;
    for (int b = 0; b < B; b++)
        for (int c = 0; c < C; c += 16) {
            floats kernel[25];
            for (int i = 0; i < k * k; i++) kernel[i] = *(const floats *)(weights + i * C + c);
            const floats shift = *(const floats *)(bias + c);
            unpack(x + (long)b * H * W * C + c, plane, H, W, C, before, rows, columns);
            for (int r = 0; r < h; r++)
                for (int q = 0; q < w; q++) {
                    const floats *at = plane + r * s * columns + q * s;
                    floats sum = shift;
                    for (int i = 0; i < k; i++)
                        for (int j = 0; j < k; j++) sum += at[i * columns + j] * kernel[i * k + j];
                    store(y + (((long)b * h + r) * w + q) * C + c, relu6(sum));
                }
        }
}

static inline __attribute__((always_inline)) void backward(
    const uint16_t *x, const float *weights, const uint16_t *y, const uint16_t *dy, uint16_t *dx, float *dweights,
    float *dbias, floats *plane, int B, int H, int W, int C, const int k, const int s) {
    const int before = s == 2 ? (k - 2) / 2 : k / 2, rows = H + k - s, columns = W + k - s, h = H / s, w = W / s;
    floats *gradient = plane + rows * columns;
    for (int c = 0; c < C; c += 16) {
        floats kernel[25], dkernel[25], dshift = {0};
        for (int i = 0; i < k * k; i++) kernel[i] = *(const floats *)(weights + i * C + c), dkernel[i] = (floats){0};
        for (int b = 0; b < B; b++) {
            const uint16_t *input = x + (long)b * H * W * C + c;
            unpack(input, plane, H, W, C, before, rows, columns);
            memset(gradient, 0, sizeof(floats) * rows * columns);
            for (int r = 0; r < h; r++)
                for (int q = 0; q < w; q++) {
                    const long here = (((long)b * h + r) * w + q) * C + c;
                    const floats value = load(y + here);
                    const floats g = pick((value > (floats){0}) & (value < (floats){0} + 6.0f), load(dy + here));
                    const int at = r * s * columns + q * s;
                    dshift += g;
                    for (int i = 0; i < k; i++)
                        for (int j = 0; j < k; j++) {
                            dkernel[i * k + j] += plane[at + i * columns + j] * g;
                            gradient[at + i * columns + j] += kernel[i * k + j] * g;
                        }
                }
            for (int r = 0; r < H; r++)
                for (int q = 0; q < W; q++) {
                    const long here = ((long)r * W + q) * C;
                    const floats value = load(input + here);
                    const masks open = (value > (floats){0}) & (value < (floats){0} + 6.0f);
                    store(dx + (long)b * H * W * C + c + here, pick(open, gradient[(r + before) * columns + q + before]));
                }
        }
        for (int i = 0; i < k * k; i++) *(floats *)(dweights + i * C + c) = dkernel[i];
        *(floats *)(dbias + c) = dshift;
    }
}

#define EACH(call)                        \
    if (k == 3 && s == 1) call(3, 1);     \
    else if (k == 3 && s == 2) call(3, 2);\
    else if (k == 5 && s == 1) call(5, 1);\
    else call(5, 2);

/* room: 2 · (H + k - s) · (W + k - s) vectors of 64 bytes. */
void depthwise_forward(const uint16_t *x, const float *weights, const float *bias, uint16_t *y, void *room,
                       int B, int H, int W, int C, int k, int s) {
#define CALL(k, s) forward(x, weights, bias, y, room, B, H, W, C, k, s)
    EACH(CALL)
#undef CALL
}

void depthwise_backward(const uint16_t *x, const float *weights, const uint16_t *y, const uint16_t *dy, uint16_t *dx,
                        float *dweights, float *dbias, void *room, int B, int H, int W, int C, int k, int s) {
#define CALL(k, s) backward(x, weights, y, dy, dx, dweights, dbias, room, B, H, W, C, k, s)
    EACH(CALL)
#undef CALL
}

static inline float widen(uint16_t x) {
    const union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

static inline uint16_t narrow(float x) {
    const union { float value; uint32_t bits; } u = {x};
    return (uint16_t)((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
}

/* The mask loss of logits (N, K, M) for targets (N, M) in 0…16, as losses.py defines it, and its gradient.
 *
 * The first `trained` of the K masks get a loss (N, trained) and a gradient (N, trained, M), all of them an IoU (N, K).
 * room: 3 · M floats.
 */
void mask_loss(const uint16_t *logits, const uint8_t *targets, float *loss, uint16_t *gradient, float *iou, float *room,
               int N, int K, int M, int trained, float focal_weight, float dice_weight) {
    float *restrict p = room, *restrict d = room + M, *restrict t = room + 2 * M;
    for (int n = 0; n < N; n++) {
        float square = 0;
        for (int i = 0; i < M; i++) t[i] = targets[(long)n * M + i] * (1 / 16.0f), square += t[i] * t[i];
        for (int k = 0; k < K; k++) {
            const uint16_t *restrict row = logits + ((long)n * K + k) * M;
            int both = 0, either = 0;
            for (int i = 0; i < M; i++) {
                const int a = widen(row[i]) > 0, b = t[i] >= 0.5f;
                both += a & b, either += a | b;
            }
            iou[n * K + k] = (float)both / (either ? either : 1);
            if (k >= trained) continue;
            float focal = 0, overlap = 0, total = 0;
            for (int i = 0; i < M; i++) {
                const float x = widen(row[i]), z = expf(-fabsf(x)), q = 1 / (1 + z);
                const float entropy = (x > 0 ? x : 0) - x * t[i] + logf(1 + z);
                p[i] = x > 0 ? q : z * q;
                const float e = p[i] - t[i];
                focal += entropy * e * e;
                d[i] = e * (e * e + 2 * entropy * p[i] * (1 - p[i]));
                overlap += p[i] * t[i], total += p[i] * p[i];
            }
            const float above = 2 * overlap + 1, below = total + square + 1;
            loss[n * trained + k] = focal_weight * focal / M + dice_weight * (1 - above / below);
            const float f = focal_weight / M, g = dice_weight * 2 / below, h = g * above / below;
            uint16_t *restrict out = gradient + ((long)n * trained + k) * M;
            for (int i = 0; i < M; i++) out[i] = narrow(f * d[i] - (g * t[i] - h * p[i]) * p[i] * (1 - p[i]));
        }
    }
}

/* GELU of x (B, P, M, C) + skip (B, M, C), exact but for 2e-7 (Abramowitz and Stegun 7.1.26). L: M · C. */
static inline float normal(float x, float *density) {
    const float a = fabsf(x) * 0.70710678f, u = 1 / (1 + 0.3275911f * a), e = expf(-a * a);
    const float tail = 0.5f * e * u
        * (0.254829592f + u * (-0.284496736f + u * (1.421413741f + u * (-1.453152027f + u * 1.061405429f))));
    *density = 0.39894228f * e;
    return x > 0 ? 1 - tail : tail;
}

void gelu_forward(const uint16_t *restrict x, const uint16_t *restrict skip, uint16_t *restrict y, int B, int P, int L) {
    for (int b = 0; b < B; b++)
        for (int j = 0; j < P; j++)
            for (int i = 0; i < L; i++) {
                const long at = ((long)b * P + j) * L + i;
                const float v = widen(x[at]) + widen(skip[(long)b * L + i]);
                float density;
                y[at] = narrow(v * normal(v, &density));
            }
}

/* dskip (B, M, C) float32 is the sum over the prompts. */
void gelu_backward(const uint16_t *restrict x, const uint16_t *restrict skip, const uint16_t *restrict dy,
                   uint16_t *restrict dx, float *restrict dskip, int B, int P, int L) {
    memset(dskip, 0, sizeof(float) * B * L);
    for (int b = 0; b < B; b++)
        for (int j = 0; j < P; j++)
            for (int i = 0; i < L; i++) {
                const long at = ((long)b * P + j) * L + i;
                const float v = widen(x[at]) + widen(skip[(long)b * L + i]);
                float density;
                const float share = normal(v, &density);
                const float g = widen(dy[at]) * (share + v * density);
                dx[at] = narrow(g);
                dskip[(long)b * L + i] += g;
            }
}
