/* The exact engine's kernels. spec/exact.md defines every operation; integers are exact and every
 * float operation is one rounding, so results depend on neither threads nor instruction set. */
#ifndef TIDEGATE_EXACT_H
#define TIDEGATE_EXACT_H

#include <stdint.h>

#define TG_PAGE 64 /* positions a page of keys and values */

/* Instruction sets a kernel is written for; the number of the best one this processor has. */
#define TG_PORTABLE 0
#define TG_AVX2 1
#define TG_VNNI 2
int tg_exact_best(void);

/* Keys and values of one layer: (page, head, place, size) and (page, head, place). */
typedef struct {
    int heads, kv_heads, size;
    int16_t *key, *value;
    float *key_scale, *value_scale;
} tg_pages;

/* Which sequence each of n rows belongs to, where it stands, and each sequence's pages. */
typedef struct {
    int n, pages;
    const int32_t *sequence_N, *position_N, *table_SP;
} tg_rows;

/* What turns sums into floats; bias_O may be NULL. */
typedef struct {
    int outputs;
    const float *scale_O, *bias_O;
} tg_channels;

void tg_exact_multiply(int kernel, int threads, int n, int inputs, int outputs,
                       const int8_t *q_NK, const int8_t *w_OK, int32_t *acc_NO);

/* The others return 0, or 1 where a row is refused because it is not finite or too loud. */
int tg_exact_normalise(int threads, int n, int width, double eps, const float *h_ND,
                       const float *gain_D, int8_t *q_ND, float *scale_N);
int tg_exact_append(int threads, const int32_t *acc_NO, const float *scale_N,
                    const tg_channels *qkv, const float *cos_TR, const float *sin_TR,
                    const tg_rows *rows, const tg_pages *pages, float *scratch_NO, int16_t *q_NHD,
                    float *scale_NH);
/* work: at least tg_exact_work(...) bytes for the longest row, aligned as malloc's. */
int64_t tg_exact_work(int threads, int longest, const tg_pages *pages);
int tg_exact_attend(int kernel, int threads, const int16_t *q_NHD, const float *scale_NH,
                    float unit, const tg_rows *rows, const tg_pages *pages, void *work,
                    float *scratch_NO, int8_t *q_NO, float *scale_N);
void tg_exact_add(int threads, int n, const int32_t *acc_ND, const float *scale_N,
                  const tg_channels *channels, float *h_ND);
int tg_exact_gate(int threads, int n, const int32_t *acc_NO, const float *scale_N,
                  const tg_channels *gate_up, float *scratch_NF, int8_t *q_NF, float *out_scale_N);
int tg_exact_logits(int threads, int n, const int32_t *acc_NV, const float *scale_N,
                    const tg_channels *head, float *logits_NV);

#endif
