/* Which tokens can win, without drawing noise for the others. */
#ifndef TIDEGATE_SELECT_H
#define TIDEGATE_SELECT_H

#include <stdint.h>

#include "noise.h"

/* First arrivals of every block at one position; drawn once, used for strong and weak scores. */
typedef struct {
    tg_stream stream;
    int blocks;
    uint64_t *time_N;
    int64_t *gumbel_N; /* of the first arrival: an upper bound on all noise in the block */
    uint8_t *first_N;
    /* scratch of the selections */
    double origin; /* nats; what scores are counted from */
    float *maxima_N;
    int64_t *bound_N;
    int32_t *order_N;
} tg_noise;

tg_noise *tg_noise_new(int vocabulary);
void tg_noise_free(tg_noise *noise);
void tg_noise_draw(tg_noise *noise, const uint8_t seed[16], uint32_t position);

/* argmax(score + noise), or of the score alone when `greedy`; lowest id wins a tie. -1 when no
 * score is finite or one is NaN. */
int32_t tg_sample(tg_noise *noise, const float *scores_V, int vocabulary, int greedy);

/* The `wanted` best of score + noise in descending order (ties: lowest id first), scores rounded to
 * multiples of 2**grain units. gap: distance in units to the best sum; fall: distance of the bare
 * score to the best bare score among those returned. Returns how many there are; -1 as above. */
int tg_candidates(tg_noise *noise, const float *scores_V, int vocabulary, int greedy, int grain,
                  int wanted, int32_t *ids_K, int32_t *gap_K, int32_t *fall_K);

#endif
