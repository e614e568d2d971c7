// What several plain twins need.

#include <math.h>
#include <stddef.h>

static inline float gelu_of(float x) { return 0.5f * x * (1 + (float)erf(x * 0.70710678118654752)); }

static inline void layer_norm(
    size_t count, const float *x, size_t step, const float *gain, const float *shift, float epsilon, float *y,
    size_t y_step) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < count; i++) mean += x[i * step];
    mean /= count;
    for (size_t i = 0; i < count; i++) variance += (x[i * step] - mean) * (x[i * step] - mean);
    const double scale = 1 / sqrt(variance / count + epsilon);
    for (size_t i = 0; i < count; i++)
        y[i * y_step] = (float)((x[i * step] - mean) * scale) * gain[i] + shift[i];
}
