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
