#include "score.h"

#include <math.h>

int64_t tg_contenders(tg_noise *noise, int rows, int vocabulary, const uint8_t *seed_TS,
                      const uint32_t *position_T, const float *scores_TV, int greedy,
                      int64_t reach, const int32_t *claimed_T, const float *claimed_score_T,
                      int64_t capacity, int64_t *start_R, int32_t *id_N, int64_t *gap_N,
                      int64_t *claimed_gap_T) {
    int64_t found = 0;
    start_R[0] = 0;
    for (int t = 0; t < rows; t++) {
        const float *scores_V = scores_TV + (int64_t)t * vocabulary;
        if (!greedy)
            tg_noise_draw(noise, seed_TS + (int64_t)t * TG_SEED_BYTES, position_T[t]);
        int32_t winner = tg_sample(noise, scores_V, vocabulary, greedy);
        if (winner < 0 || claimed_score_T[t] != claimed_score_T[t])
            return -1 - t;
        int64_t best = units(noise, scores_V[winner], 0) + noise_of(noise, winner, greedy);
        for (int b = 0; b < noise->blocks; b++) {
            if (noise->bound_N[b] == INT64_MIN || noise->bound_N[b] < best - reach)
                continue;
            int64_t most = greedy ? 0 : noise->gumbel_N[b];
            int end = (b + 1) * TG_BLOCK < vocabulary ? (b + 1) * TG_BLOCK : vocabulary;
            for (int token = b * TG_BLOCK; token < end; token++) {
                int64_t sum = units(noise, scores_V[token], 0);
                if (scores_V[token] == -INFINITY || sum + most < best - reach)
                    continue;
                sum += noise_of(noise, token, greedy);
                if (sum < best - reach)
                    continue;
                if (found < capacity) {
                    id_N[found] = token;
                    gap_N[found] = best - sum;
                }
                found++;
            }
        }
        start_R[t + 1] = found;
        claimed_gap_T[t] = INT64_MAX;
        if (claimed_score_T[t] != -INFINITY)
            claimed_gap_T[t] = best - units(noise, claimed_score_T[t], 0) -
                               noise_of(noise, claimed_T[t], greedy);
    }
    return found;
}

void tg_sums(int rows, const uint8_t *seed_TS, const uint32_t *position_T, const float *top_T,
             const int64_t *start_R, const int32_t *id_N, const float *score_N, int64_t *sum_N) {
    for (int t = 0; t < rows; t++) {
        tg_noise row = {.origin = fabsf(top_T[t]) > SCORE_LIMIT ? top_T[t] : 0};
        tg_stream_init(&row.stream, seed_TS + (int64_t)t * TG_SEED_BYTES, position_T[t]);
        for (int64_t n = start_R[t]; n < start_R[t + 1]; n++)
            sum_N[n] = units(&row, score_N[n], 0) + tg_gumbel(&row.stream, (uint32_t)id_N[n]);
    }
}

#define REACH 30.0f
#define LOG2_E 1.44269504f
#define LN2_HIGH (355.0f / 512.0f)
#define LN2_LOW ((float)(0.69314718055994530942 - 355.0 / 512.0))
#define MASS_BITS 42
#define TERM(factorial) ((float)(1.0 / (factorial)))

#define STRIP 256 /* scores at a time; the compiler vectorises two short loops, not one long one */

/* Floating-point flags are never read, and unless that is said the loop stays scalar. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("no-trapping-math")))
#endif
TG_CLONES static int64_t masses(const float *scores_V, int count, float best) {
    int32_t power_S[STRIP], halvings_S[STRIP];
    int64_t total = 0;
    for (int i = 0; i < count; i++) {
        float gap = scores_V[i] - best;
        gap = gap < -REACH ? -REACH : gap;
        float halvings = rintf(gap * LOG2_E);
        float rest = gap - halvings * LN2_HIGH;
        rest -= halvings * LN2_LOW;
        float power = TERM(5040) * rest + TERM(720);
        power = power * rest + TERM(120);
        power = power * rest + TERM(24);
        power = power * rest + TERM(6);
        power = power * rest + TERM(2);
        power = power * rest + 1.0f;
        power = power * rest + 1.0f;
        power_S[i] = (int32_t)(power * 16777216.0f);
        halvings_S[i] = (int32_t)-halvings;
    }
    for (int i = 0; i < count; i++)
        total += ((int64_t)power_S[i] << (MASS_BITS - 24)) >> (int64_t)halvings_S[i];
    return total;
}

void tg_masses(int rows, int vocabulary, const float *scores_TV, const float *best_T,
               int64_t *total_T) {
    for (int t = 0; t < rows; t++) {
        const float *scores_V = scores_TV + (int64_t)t * vocabulary;
        total_T[t] = 0;
        for (int start = 0; start < vocabulary; start += STRIP) {
            int count = vocabulary - start < STRIP ? vocabulary - start : STRIP;
            total_T[t] += masses(scores_V + start, count, best_T[t]);
        }
    }
}
