// The plain twins: the definitions, element by element, in double where a sum is long. For the tests.

#include "kernels.h"

#include <math.h>

#define PLAIN_HEAD 512  // numbers of a head that are summed together

static float gelu_of(float x) { return 0.5f * x * (1 + (float)erf(x * 0.70710678118654752)); }

static void layer_norm(
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

void kirie_plain_layer_norm_rows(const kirie_layer_norm_arguments *arguments) {
    LAYER_NORM_ARGUMENTS;
    for (size_t r = 0; r < rows; r++)
        layer_norm(columns, x + r * x_stride, 1, gain, shift, epsilon, y + r * y_stride, 1);
}

void kirie_plain_gelu(size_t count, float *x) {
    for (size_t i = 0; i < count; i++) x[i] = gelu_of(x[i]);
}

void kirie_plain_relu(size_t count, float *x) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

void kirie_plain_add(size_t count, const float *x, float *y) {
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

void kirie_plain_product(const kirie_product_arguments *arguments) {
    PRODUCT_ARGUMENTS;
    LOCAL(depth);
    LOCAL(a_column);
    LOCAL(row_bias);
    LOCAL(column_bias);
    for (size_t g = 0; g < groups; g++) {
        const float *a = arguments->a + g * a_step, *b = arguments->b + g * b_step;
        float *c = arguments->c + g * c_step;
        for (size_t m = 0; m < rows; m++)
            for (size_t n = 0; n < columns; n++) {
                double sum = (row_bias ? row_bias[m] : 0) + (column_bias ? column_bias[n] : 0);
                if (accumulate) sum += c[m * c_stride + n];
                for (size_t k = 0; k < depth; k++) sum += (double)a[m * a_row + k * a_column] * b[k * b_stride + n];
                c[m * c_stride + n] = (float)sum;
            }
    }
}

void kirie_plain_softmax_over_tokens(size_t tokens, size_t heads, float *s) {
    for (size_t h = 0; h < heads; h++)
        for (size_t n = 0; n < 64; n++) {
            float *p = s + h * 64 + n, peak = p[0];
            double total = 0;
            for (size_t t = 1; t < tokens; t++) peak = fmaxf(peak, p[t * heads * 64]);
            for (size_t t = 0; t < tokens; t++) total += exp(p[t * heads * 64] - peak);
            for (size_t t = 0; t < tokens; t++)
                p[t * heads * 64] = (float)(exp(p[t * heads * 64] - peak) / total);
        }
}

void kirie_plain_softmax_step(size_t rows, size_t valid, float *s, float *maximum, float *total, float *factor) {
    for (size_t i = 0; i < rows; i++) {
        float top = maximum[i];
        for (size_t n = 0; n < valid; n++) top = fmaxf(top, s[i * 64 + n]);
        double sum = 0;
        for (size_t n = 0; n < 64; n++) {
            s[i * 64 + n] = n < valid ? expf(s[i * 64 + n] - top) : 0;
            sum += s[i * 64 + n];
        }
        factor[i] = expf(maximum[i] - top);
        total[i] = (float)(total[i] * (double)factor[i] + sum);
        maximum[i] = top;
    }
}

void kirie_plain_scale_columns(size_t rows, size_t columns, const float *factor, float *x, size_t x_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < columns; n++) x[r * x_stride + n] *= factor[n];
}

void kirie_plain_gelu_dot(const kirie_gelu_dot_arguments *arguments) {
    GELU_DOT_ARGUMENTS;
    for (size_t m = 0; m < masks; m++)
        for (size_t n = 0; n < 64; n++) {
            double sum = logits[m * logits_stride + n];
            for (size_t r = 0; r < rows; r++)
                sum += (double)weight[m * weight_stride + r] * gelu_of(x[r * x_stride + n] + bias[r]);
            logits[m * logits_stride + n] = (float)sum;
        }
}

void kirie_plain_center_columns(size_t rows, float *x, const float *gain, float *squares) {
    for (size_t n = 0; n < 64; n++) {
        double mean = 0, sum = 0;
        for (size_t r = 0; r < rows; r++) {
            if (gain) x[r * 64 + n] *= gain[r];
            mean += x[r * 64 + n];
        }
        mean /= rows;
        for (size_t r = 0; r < rows; r++) {
            x[r * 64 + n] = (float)(x[r * 64 + n] - mean);
            sum += (double)x[r * 64 + n] * x[r * 64 + n];
        }
        squares[n] = (float)sum;
    }
}

void kirie_plain_norm_factors(
    size_t rows, const float *weights, const float *products, const float *squares, float *running, float scale,
    float epsilon, float *factor) {
    for (size_t n = 0; n < 64; n++) {
        double sum = (double)running[n] * running[n] * squares[n];
        for (size_t r = 0; r < rows; r++) sum += (double)weights[r * 64 + n] * products[r * 64 + n];
        factor[n] = (float)(1 / sqrt(fmax(sum, 0) * scale + epsilon));
        running[n] *= factor[n];
    }
}

void kirie_plain_upscale_norm(
    size_t rows, float *x, const float *part, const float *factor, const float *bias, const float *gain,
    const float *shift, float epsilon) {
    for (size_t n = 0; n < 64; n++) {
        for (size_t r = 0; r < rows; r++) x[r * 64 + n] += factor[n] * part[r * 64 + n] + bias[r];
        layer_norm(rows, x + n, 64, gain, shift, epsilon, x + n, 64);
        for (size_t r = 0; r < rows; r++) x[r * 64 + n] = gelu_of(x[r * 64 + n]);
    }
}

// Two passes over the keys, one to find the scores' maximum and total and one to sum the values, each score computed
// anew: slow, but plain, and in need of no memory.
static double score(
    const kirie_attention_shape *shape, const float *query, size_t place, float scale, const float *rel_h,
    size_t rel_h_stride, const float *rel_w, size_t rel_w_stride, const float *table, const float *packed_k,
    size_t row, size_t column) {
    const size_t lane = row * shape->key_columns_padded + column;
    const float *key = packed_k + lane / 16 * shape->head_size * 16 + lane % 16;
    double sum = 0;
    for (size_t d = 0; d < shape->head_size; d++) {
        sum += (double)query[d] * scale * key[d * 16];
        if (rel_h) {
            sum += (double)query[d]
                * rel_h[d * rel_h_stride + shape->key_rows - 1 - place / shape->key_columns + row];
            sum += (double)query[d]
                * rel_w[d * rel_w_stride + shape->key_columns - 1 - place % shape->key_columns + column];
        }
    }
    if (table) sum += table[place * shape->key_rows * shape->key_columns_padded + lane];
    return sum;
}

void kirie_plain_attention(const kirie_attention_arguments *arguments) {
    ATTENTION_ARGUMENTS;
    (void)scratch;
    for (size_t i = 0; i < queries; i++) {
        const float *query = q + (size_t)query_tokens[i] * q_stride;
        float *line = out + (size_t)query_tokens[i] * out_stride;
        const size_t place = (size_t)query_places[i];
#define SCORE(row, column) \
    score( \
        shape, query, place, scale, rel_h, rel_h_stride, rel_w, rel_w_stride, table, packed_k, row, column)
        double peak = -INFINITY;
        for (size_t row = 0; row < shape->key_rows; row++)
            for (size_t column = 0; column < shape->key_columns; column++) peak = fmax(peak, SCORE(row, column));
        // Some numbers of the head at a time, whatever its size, each time with the weights computed anew.
        for (size_t first = 0; first < shape->head_size; first += PLAIN_HEAD) {
            const size_t count = shape->head_size - first < PLAIN_HEAD ? shape->head_size - first : PLAIN_HEAD;
            double total = 0, sums[PLAIN_HEAD] = {0};
            for (size_t row = 0; row < shape->key_rows; row++)
                for (size_t column = 0; column < shape->key_columns; column++) {
                    const double weight = exp(SCORE(row, column) - peak);
                    const float *value = packed_v + (row * shape->key_columns_padded + column) * shape->head_padded;
                    total += weight;
                    for (size_t d = 0; d < count; d++) sums[d] += weight * value[first + d];
                }
            for (size_t d = 0; d < count; d++) line[first + d] = (float)(sums[d] / total);
        }
#undef SCORE
    }
}

void kirie_plain_depthwise3x3_row(const kirie_depthwise3x3_arguments *arguments) {
    DEPTHWISE_ARGUMENTS;
    const float *rows[3] = {above, at, below};
    for (size_t ox = 0; ox < (width + stride - 1) / stride; ox++)
        for (size_t c = 0; c < channels; c++) {
            double sum = bias[c];
            for (size_t dy = 0; dy < 3; dy++)
                for (size_t dx = 0; dx < 3; dx++) {
                    const ptrdiff_t ix = (ptrdiff_t)(ox * stride + dx) - 1;
                    if (!rows[dy] || ix < 0 || ix >= (ptrdiff_t)width) continue;
                    sum += (double)rows[dy][(size_t)ix * channels + c] * weight[(dy * 3 + dx) * channels + c];
                }
            y[ox * channels + c] = gelu ? gelu_of((float)sum) : (float)sum;
        }
}

void kirie_plain_combine_rows(size_t count, const float *const *rows, const float *weights, float *y) {
    for (size_t n = 0; n < count; n++)
        y[n] = (float)((double)rows[0][n] * weights[0] + (double)rows[1][n] * weights[1]
            + (double)rows[2][n] * weights[2] + (double)rows[3][n] * weights[3]);
}

void kirie_plain_threshold_rows(
    size_t count, const float *const *rows, const float *weights, uint64_t *words, size_t *inner, size_t *outer) {
    for (size_t n = 0; n < count; n++) {
        float x;
        const float *const place[4] = {rows[0] + n, rows[1] + n, rows[2] + n, rows[3] + n};
        kirie_plain_combine_rows(1, place, weights, &x);
        if (n % 64 == 0) words[n / 64] = 0;
        words[n / 64] |= (uint64_t)(x > 0) << n % 64;
        *inner += x > 1;
        *outer += x > -1;
    }
}
