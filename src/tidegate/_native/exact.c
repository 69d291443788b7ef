/* Everything of a pass that is neither a product nor attention, row by row.
 *
 * The loops are plain C that a compiler turns into vector code for each instruction set; built with
 * -ffp-contract=off and without any -ffast-math, every line keeps its single roundings. */
#include "exact.h"
#include "exact_rows.h"

#include <math.h>

#define WORTH_ROWS 20000 /* elements below which a second thread costs more than it brings */

static int useful(int threads, int64_t elements) {
    return elements < WORTH_ROWS ? 1 : threads;
}

/* q = rint(h * 2**(22 - exponent)); the sum of squares is exact up to a width of 65,536. */
CLONES static int64_t sum_of_squares(const float *h_D, int width, float power) {
    int64_t sum = 0;
    for (int d = 0; d < width; d++) {
        int32_t q = (int32_t)rintf(h_D[d] * power);
        sum += (int64_t)q * q;
    }
    return sum;
}

CLONES static int32_t scaled_loudness(const float *h_D, const float *gain_D, int width,
                                      float inverse) {
    int32_t most = 0;
    for (int d = 0; d < width; d++) {
        int32_t bits = magnitude(h_D[d] * inverse * gain_D[d]);
        most = bits > most ? bits : most;
    }
    return most;
}

CLONES static void scaled_q8(const float *h_D, const float *gain_D, int width, float inverse,
                             float reciprocal, int8_t *q_D) {
    for (int d = 0; d < width; d++)
        q_D[d] = (int8_t)steps(h_D[d] * inverse * gain_D[d] * reciprocal, 127.0f);
}

static int normalise(const float *h_D, const float *gain_D, int width, double eps, int8_t *q_D,
                     float *scale) {
    int32_t most = tg_loudness(h_D, width);
    int64_t sum = 0;
    int exponent = 0;
    if (most > LOUDEST_BITS)
        return 1;
    if (most >= QUIET_BITS) {
        exponent = (most >> 23) - 127;
        sum = sum_of_squares(h_D, width, power_of_two(22 - exponent));
    }
    double mean = (double)sum / (double)width;
    double square = ldexp(mean, 2 * (exponent - 22)) + eps;
    float inverse = (float)(1.0 / sqrt(square)), reciprocal;
    if (unit_of(scaled_loudness(h_D, gain_D, width, inverse), 127.0f, &reciprocal, scale))
        return 1;
    scaled_q8(h_D, gain_D, width, inverse, reciprocal, q_D);
    return 0;
}

int tg_exact_normalise(int threads, int n, int width, double eps, const float *h_ND,
                       const float *gain_D, int8_t *q_ND, float *scale_N) {
    int refused = 0;
    threads = useful(threads, (int64_t)n * width);
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : refused)
    {
        float_state kept = float_begin();
#pragma omp for
        for (int row = 0; row < n; row++) {
            int64_t at = (int64_t)row * width;
            refused |= normalise(h_ND + at, gain_D, width, eps, q_ND + at, scale_N + row);
        }
        float_end(kept);
    }
    return refused;
}

CLONES static void rotate(float *x_D, const float *cos_R, const float *sin_R, int half) {
    float *one_R = x_D, *two_R = x_D + half;
    for (int r = 0; r < half; r++) {
        float one = one_R[r], two = two_R[r];
        one_R[r] = one * cos_R[r] - two * sin_R[r];
        two_R[r] = two * cos_R[r] + one * sin_R[r];
    }
}

CLONES static void q13(const float *x_D, int size, float reciprocal, int16_t *q_D) {
    for (int d = 0; d < size; d++)
        q_D[d] = (int16_t)steps(x_D[d] * reciprocal, 4095.0f);
}

static int append(const int32_t *acc_O, float scale, const tg_channels *qkv, const float *cos_R,
                  const float *sin_R, int64_t place, const tg_pages *pages, float *y_O,
                  int16_t *q_HD, float *scale_H) {
    int size = pages->size, refused = 0;
    tg_dequantise(acc_O, scale, qkv, y_O);
    for (int head = 0; head < pages->heads + 2 * pages->kv_heads; head++) {
        float *x_D = y_O + (int64_t)head * size, reciprocal, *to_scale = scale_H + head;
        int16_t *to_q = q_HD + (int64_t)head * size;
        int key = head - pages->heads, value = key - pages->kv_heads;
        if (value < 0)
            rotate(x_D, cos_R, sin_R, size / 2);
        if (key >= 0) {
            int16_t *q = value < 0 ? pages->key : pages->value;
            float *scales = value < 0 ? pages->key_scale : pages->value_scale;
            int64_t at = place + (int64_t)(value < 0 ? key : value) * TG_PAGE;
            to_q = q + at * size;
            to_scale = scales + at;
        }
        refused |= unit_of(tg_loudness(x_D, size), 4095.0f, &reciprocal, to_scale);
        if (!refused)
            q13(x_D, size, reciprocal, to_q);
    }
    return refused;
}

int tg_exact_append(int threads, const int32_t *acc_NO, const float *scale_N,
                    const tg_channels *qkv, const float *cos_TR, const float *sin_TR,
                    const tg_rows *rows, const tg_pages *pages, float *scratch_NO, int16_t *q_NHD,
                    float *scale_NH) {
    int refused = 0, half = pages->size / 2, heads = pages->heads;
    threads = useful(threads, (int64_t)rows->n * qkv->outputs);
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : refused)
    {
        float_state kept = float_begin();
#pragma omp for
        for (int row = 0; row < rows->n; row++) {
            int position = rows->position_N[row];
            int page = rows->table_SP[(int64_t)rows->sequence_N[row] * rows->pages +
                                      position / TG_PAGE];
            int64_t place = (int64_t)page * pages->kv_heads * TG_PAGE + position % TG_PAGE;
            int64_t at = (int64_t)row * qkv->outputs;
            refused |= append(acc_NO + at, scale_N[row], qkv, cos_TR + (int64_t)position * half,
                              sin_TR + (int64_t)position * half, place, pages, scratch_NO + at,
                              q_NHD + (int64_t)row * heads * pages->size,
                              scale_NH + (int64_t)row * heads);
        }
        float_end(kept);
    }
    return refused;
}

CLONES static void add(const int32_t *acc_D, float scale, const float *scale_D, int width,
                       float *h_D) {
    for (int d = 0; d < width; d++)
        h_D[d] = h_D[d] + (float)acc_D[d] * scale * scale_D[d];
}

void tg_exact_add(int threads, int n, const int32_t *acc_ND, const float *scale_N,
                  const tg_channels *channels, float *h_ND) {
    int width = channels->outputs;
    threads = useful(threads, (int64_t)n * width);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float_state kept = float_begin();
#pragma omp for
        for (int row = 0; row < n; row++) {
            int64_t at = (int64_t)row * width;
            add(acc_ND + at, scale_N[row], channels->scale_O, width, h_ND + at);
        }
        float_end(kept);
    }
}

CLONES static void gate(const int32_t *gate_F, const int32_t *up_F, float scale,
                        const float *gate_scale_F, const float *up_scale_F, int size, float *m_F) {
    for (int f = 0; f < size; f++) {
        float g = (float)gate_F[f] * scale * gate_scale_F[f];
        float up = (float)up_F[f] * scale * up_scale_F[f];
        float e = exp2_below(-(fabsf(g) * LOG2E));
        float sigmoid = (g >= 0 ? 1.0f : e) / (1.0f + e);
        m_F[f] = g * sigmoid * up;
    }
}

int tg_exact_gate(int threads, int n, const int32_t *acc_NO, const float *scale_N,
                  const tg_channels *gate_up, float *scratch_NF, int8_t *q_NF,
                  float *out_scale_N) {
    int size = gate_up->outputs / 2, refused = 0;
    threads = useful(threads, (int64_t)n * size * 4);
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : refused)
    {
        float_state kept = float_begin();
#pragma omp for
        for (int row = 0; row < n; row++) {
            const int32_t *acc_O = acc_NO + (int64_t)row * 2 * size;
            float *m_F = scratch_NF + (int64_t)row * size;
            gate(acc_O, acc_O + size, scale_N[row], gate_up->scale_O, gate_up->scale_O + size,
                 size, m_F);
            refused |= tg_q8(m_F, size, q_NF + (int64_t)row * size, out_scale_N + row);
        }
        float_end(kept);
    }
    return refused;
}

int tg_exact_logits(int threads, int n, const int32_t *acc_NV, const float *scale_N,
                    const tg_channels *head, float *logits_NV) {
    int refused = 0, size = head->outputs;
    threads = useful(threads, (int64_t)n * size);
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : refused)
    {
        float_state kept = float_begin();
#pragma omp for
        for (int row = 0; row < n; row++) {
            float *logits_V = logits_NV + (int64_t)row * size;
            tg_dequantise(acc_NV + (int64_t)row * size, scale_N[row], head, logits_V);
            refused |= tg_loudness(logits_V, size) > LOUDEST_BITS;
        }
        float_end(kept);
    }
    return refused;
}
