/* Everything of a pass that is neither a product nor attention, row by row.
 *
 * The loops are plain C that a compiler turns into vector code for each instruction set; built with
 * -ffp-contract=off and without any -ffast-math, every line keeps its single roundings. */
#include "exact.h"
#include "exact_rows.h"

#include <math.h>

#define WORTH_ROWS 20000 /* elements below which a second thread costs more than it brings */

/* Does one row; returns 1 where it is refused. */
typedef int row_job(const void *arguments, int row);

static int each_row(row_job *job, const void *arguments, int n, int elements, int threads) {
    int refused = 0;
    if (threads == 1 || (int64_t)n * elements < WORTH_ROWS) {
        float_state kept = float_begin();
        for (int row = 0; row < n; row++)
            refused |= job(arguments, row);
        float_end(kept);
        return refused;
    }
#pragma omp parallel num_threads(threads) reduction(| : refused)
    {
        float_state kept = float_begin();
#pragma omp for
        for (int row = 0; row < n; row++)
            refused |= job(arguments, row);
        float_end(kept);
    }
    return refused;
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

typedef struct {
    int width;
    double eps;
    const float *h_ND, *gain_D;
    int8_t *q_ND;
    float *scale_N;
} normalising;

static int normalise(const void *arguments, int row) {
    const normalising *a = arguments;
    int width = a->width, exponent = 0;
    const float *h_D = a->h_ND + (int64_t)row * width;
    int32_t most = tg_loudness(h_D, width);
    int64_t sum = 0;
    float reciprocal;
    if (most > LOUDEST_BITS)
        return 1;
    if (most >= QUIET_BITS) {
        exponent = (most >> 23) - 127;
        sum = sum_of_squares(h_D, width, power_of_two(22 - exponent));
    }
    double mean = (double)sum / (double)width;
    float inverse = (float)(1.0 / sqrt(ldexp(mean, 2 * (exponent - 22)) + a->eps));
    most = scaled_loudness(h_D, a->gain_D, width, inverse);
    if (unit_of(most, 127.0f, &reciprocal, a->scale_N + row))
        return 1;
    scaled_q8(h_D, a->gain_D, width, inverse, reciprocal, a->q_ND + (int64_t)row * width);
    return 0;
}

int tg_exact_normalise(int threads, int n, int width, double eps, const float *h_ND,
                       const float *gain_D, int8_t *q_ND, float *scale_N) {
    normalising a = {width, eps, h_ND, gain_D, q_ND, scale_N};
    return each_row(normalise, &a, n, width, threads);
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

typedef struct {
    const int32_t *acc_NO;
    const float *scale_N, *cos_TR, *sin_TR;
    const tg_channels *qkv;
    const tg_rows *rows;
    const tg_pages *pages;
    float *scratch_NO;
    int16_t *q_NHD;
    float *scale_NH;
} appending;

/* Where q13 of a head of q, k or v goes. */
typedef struct {
    int16_t *q_D;
    float *scale;
} goal;

static goal goal_of(const appending *a, int row, int head) {
    const tg_pages *p = a->pages;
    int position = a->rows->position_N[row], key = head - p->heads, value = key - p->kv_heads;
    const int32_t *table_P = a->rows->table_SP + (int64_t)a->rows->sequence_N[row] * a->rows->pages;
    if (key < 0) {
        int64_t at = (int64_t)row * p->heads + head;
        return (goal){a->q_NHD + at * p->size, a->scale_NH + at};
    }
    int64_t kv_head = (int64_t)table_P[position / TG_PAGE] * p->kv_heads + (value < 0 ? key : value);
    int64_t at = kv_head * TG_PAGE + position % TG_PAGE;
    return value < 0 ? (goal){p->key + at * p->size, p->key_scale + at}
                     : (goal){p->value + at * p->size, p->value_scale + at};
}

static int append(const void *arguments, int row) {
    const appending *a = arguments;
    int size = a->pages->size, outputs = a->qkv->outputs, refused = 0;
    int64_t turn = (int64_t)a->rows->position_N[row] * (size / 2);
    float *y_O = a->scratch_NO + (int64_t)row * outputs, reciprocal;
    tg_dequantise(a->acc_NO + (int64_t)row * outputs, a->scale_N[row], a->qkv, y_O);
    for (int head = 0; head < outputs / size; head++) {
        float *x_D = y_O + (int64_t)head * size;
        goal to = goal_of(a, row, head);
        if (head < a->pages->heads + a->pages->kv_heads)
            rotate(x_D, a->cos_TR + turn, a->sin_TR + turn, size / 2);
        if (unit_of(tg_loudness(x_D, size), 4095.0f, &reciprocal, to.scale))
            refused = 1;
        else
            q13(x_D, size, reciprocal, to.q_D);
    }
    return refused;
}

int tg_exact_append(int threads, const int32_t *acc_NO, const float *scale_N,
                    const tg_channels *qkv, const float *cos_TR, const float *sin_TR,
                    const tg_rows *rows, const tg_pages *pages, float *scratch_NO, int16_t *q_NHD,
                    float *scale_NH) {
    appending a = {acc_NO, scale_N, cos_TR,     sin_TR, qkv,
                   rows,   pages,   scratch_NO, q_NHD,  scale_NH};
    return each_row(append, &a, rows->n, qkv->outputs, threads);
}

typedef struct {
    const int32_t *acc_NO;
    const float *scale_N;
    const tg_channels *channels;
    float *to; /* the residual stream, scratch, or logits */
    int8_t *q_NF;
    float *out_scale_N;
} scaling;

CLONES static void add_scaled(const int32_t *acc_D, float scale, const float *scale_D, int width,
                              float *h_D) {
    for (int d = 0; d < width; d++)
        h_D[d] = h_D[d] + (float)acc_D[d] * scale * scale_D[d];
}

static int add(const void *arguments, int row) {
    const scaling *a = arguments;
    int width = a->channels->outputs;
    int64_t at = (int64_t)row * width;
    add_scaled(a->acc_NO + at, a->scale_N[row], a->channels->scale_O, width, a->to + at);
    return 0;
}

void tg_exact_add(int threads, int n, const int32_t *acc_ND, const float *scale_N,
                  const tg_channels *channels, float *h_ND) {
    scaling a = {acc_ND, scale_N, channels, h_ND, NULL, NULL};
    each_row(add, &a, n, channels->outputs, threads);
}

CLONES static void open_gate(const int32_t *gate_F, const int32_t *up_F, float scale,
                             const float *gate_scale_F, const float *up_scale_F, int size,
                             float *m_F) {
    for (int f = 0; f < size; f++) {
        float g = (float)gate_F[f] * scale * gate_scale_F[f];
        float up = (float)up_F[f] * scale * up_scale_F[f];
        float e = exp2_below(-(fabsf(g) * LOG2E));
        float sigmoid = (g >= 0 ? 1.0f : e) / (1.0f + e);
        m_F[f] = g * sigmoid * up;
    }
}

static int gate(const void *arguments, int row) {
    const scaling *a = arguments;
    int size = a->channels->outputs / 2;
    int64_t at = (int64_t)row * size;
    const int32_t *gate_F = a->acc_NO + 2 * at;
    const float *scale_F = a->channels->scale_O;
    open_gate(gate_F, gate_F + size, a->scale_N[row], scale_F, scale_F + size, size, a->to + at);
    return tg_q8(a->to + at, size, a->q_NF + at, a->out_scale_N + row);
}

int tg_exact_gate(int threads, int n, const int32_t *acc_NO, const float *scale_N,
                  const tg_channels *gate_up, float *scratch_NF, int8_t *q_NF,
                  float *out_scale_N) {
    scaling a = {acc_NO, scale_N, gate_up, scratch_NF, q_NF, out_scale_N};
    return each_row(gate, &a, n, 2 * gate_up->outputs, threads);
}

static int logits(const void *arguments, int row) {
    const scaling *a = arguments;
    int size = a->channels->outputs;
    float *logits_V = a->to + (int64_t)row * size;
    tg_dequantise(a->acc_NO + (int64_t)row * size, a->scale_N[row], a->channels, logits_V);
    return tg_loudness(logits_V, size) > LOUDEST_BITS;
}

int tg_exact_logits(int threads, int n, const int32_t *acc_NV, const float *scale_N,
                    const tg_channels *head, float *logits_NV) {
    scaling a = {acc_NV, scale_N, head, logits_NV, NULL, NULL};
    return each_row(logits, &a, n, head->outputs, threads);
}
