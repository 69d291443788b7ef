/* What re-execution needs of many positions at once. Its reference is sampling/noise.py. */
#ifndef TIDEGATE_SCORE_H
#define TIDEGATE_SCORE_H

#include <stdint.h>

#include "select.h"

#define TG_SEED_BYTES 16 /* of one row's seed */

/* Row by row, every token whose score + noise comes within `reach` units (at most 2**60) of the
 * best, ascending by id, and how far below it lies. Row t's lie in start_R[t] to start_R[t + 1].
 * claimed_gap_T: the same distance of a named token whose score is given, so that it may be one that
 * scores_TV masks; negative where it would have won, INT64_MAX where its score is -inf.
 * Returns how many there are, of which at most `capacity` were written; -1 - t when row t has no
 * finite score or a NaN. `noise` is memory for one position, overwritten. */
int64_t tg_contenders(tg_noise *noise, int rows, int vocabulary, const uint8_t *seed_TS,
                      const uint32_t *position_T, const float *scores_TV, int greedy,
                      int64_t reach, const int32_t *claimed_T, const float *claimed_score_T,
                      int64_t capacity, int64_t *start_R, int32_t *id_N, int64_t *gap_N,
                      int64_t *claimed_gap_T);

/* score + noise of listed tokens, in units; row t's lie in start_R[t] to start_R[t + 1]. top_T: the
 * best score of each row. */
void tg_sums(int rows, const uint8_t *seed_TS, const uint32_t *position_T, const float *top_T,
             const int64_t *start_R, const int32_t *id_N, const float *score_N, int64_t *sum_N);

/* The sum of each row's masses as sampling/masses.py defines them, bit for bit. No NaN among the
 * scores; best_T: each row's largest, finite. */
void tg_masses(int rows, int vocabulary, const float *scores_TV, const float *best_T,
               int64_t *total_T);

#endif
