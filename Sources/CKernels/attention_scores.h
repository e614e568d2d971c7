// What position adds to the scores that lie in memory; included by each file of AMX attention kernels after vectors.h, inside
// its target attribute.

// Adds the biases of rows and columns to one query's scores over `panels` panels from `first` on; answers the largest
// score in each lane.
INLINE vf add_positions(
    size_t first, size_t panels, size_t panels_per_row, const float *row_bias, const float *column_bias, float *line) {
    vf peak[4] = {-3e38f, -3e38f, -3e38f, -3e38f};
#define ADD(p, i, bias) \
    const vf score = load(line + (p) * 16) + (bias); \
    store(line + (p) * 16, score); \
    peak[i] = larger(peak[i], score)
    if (panels_per_row == 1) {
        const vf biases = load(column_bias);
        size_t p = 0;
        for (; p + 4 <= panels; p += 4)
            EACH(i, 4) {
                ADD(p + i, i, biases + row_bias[first + p + i]);
            }
        for (; p < panels; p++) {
            ADD(p, 0, biases + row_bias[first + p]);
        }
    } else {
        size_t row = first / panels_per_row, column = first % panels_per_row;
        for (size_t p = 0; p < panels; row++, column = 0) {
            const size_t rest = panels_per_row - column, end = p + (rest < panels - p ? rest : panels - p);
            const vf bias = row_bias[row];
            const float *biases = column_bias + column * 16;
            for (; p + 4 <= end; p += 4, biases += 64)
                EACH(i, 4) {
                    ADD(p + i, i, load(biases + i * 16) + bias);
                }
            for (; p < end; p++, biases += 16) {
                ADD(p, 0, load(biases) + bias);
            }
        }
    }
#undef ADD
    return larger(larger(peak[0], peak[1]), larger(peak[2], peak[3]));
}

// The same with a table's line, which is divided by the scale here.
INLINE vf add_table(size_t panels, const float *table, float inverse, float *line) {
    vf peak[2] = {-3e38f, -3e38f};
    size_t p = 0;
    for (; p + 2 <= panels; p += 2)
        EACH(i, 2) {
            const vf score = FMA(load(table + (p + i) * 16), (vf)inverse, load(line + (p + i) * 16));
            store(line + (p + i) * 16, score);
            peak[i] = larger(peak[i], score);
        }
    if (p < panels) {
        const vf score = FMA(load(table + p * 16), (vf)inverse, load(line + p * 16));
        store(line + p * 16, score);
        peak[0] = larger(peak[0], score);
    }
    return larger(peak[0], peak[1]);
}
