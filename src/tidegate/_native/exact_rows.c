#include "exact_rows.h"

CLONES int32_t tg_loudness(const float *x_D, int size) {
    int32_t most = 0;
    for (int d = 0; d < size; d++) {
        int32_t bits = magnitude(x_D[d]);
        most = bits > most ? bits : most;
    }
    return most;
}

CLONES static void scale_rows(const int32_t *acc_O, float scale, const float *scale_O, int outputs,
                              float *y_O) {
    for (int o = 0; o < outputs; o++)
        y_O[o] = (float)acc_O[o] * scale * scale_O[o];
}

CLONES static void add_bias(const float *bias_O, int outputs, float *y_O) {
    for (int o = 0; o < outputs; o++)
        y_O[o] = y_O[o] + bias_O[o];
}

void tg_dequantise(const int32_t *acc_O, float scale, const tg_channels *channels, float *y_O) {
    scale_rows(acc_O, scale, channels->scale_O, channels->outputs, y_O);
    if (channels->bias_O)
        add_bias(channels->bias_O, channels->outputs, y_O);
}

CLONES static void round_q8(const float *x_D, int size, float reciprocal, int8_t *q_D) {
    for (int d = 0; d < size; d++)
        q_D[d] = (int8_t)steps(x_D[d] * reciprocal, 127.0f);
}

int tg_q8(const float *x_D, int size, int8_t *q_D, float *scale) {
    float reciprocal;
    if (unit_of(tg_loudness(x_D, size), 127.0f, &reciprocal, scale))
        return 1;
    round_q8(x_D, size, reciprocal, q_D);
    return 0;
}
