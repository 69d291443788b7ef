#include "symbols.h"

#include <string.h>

#include "intlog.h"
#include "noise.h"

_Static_assert(TG_INPUTS == TG_TEMPERED + TG_COUNTERS, "every input is one or the other");

#define SEEN_LIMIT 250
#define LEARNING_RATE 10
#define NAT_SHIFT (TG_SCORE_BITS - 8) /* from score units to 2**-8 nat */
#define FAR (1 << 14)                 /* stands for a distance to nothing */
#define OUTSIDE (1ull << 16)          /* weight of all tokens that are no candidates, 2**-40 */

/* Exponents of the tempered softmax, in sixteenths: blunt, plain and sharp. */
static const int32_t SHARPNESS_S[TG_TEMPERED] = {10, 20, 36};
static const int32_t START_WEIGHT_I[TG_INPUTS] = {12000, 24000, 8000, 6000,
                                                  6000,  6000,  6000, 6000};

static inline int32_t limit(int64_t x, int32_t low, int32_t high) {
    return x < low ? low : x > high ? high : (int32_t)x;
}

static inline uint32_t squash(int32_t log_odds) {
    return TG_SQUASH[limit(log_odds, -TG_ODDS_LIMIT, TG_ODDS_LIMIT) + TG_ODDS_LIMIT];
}

/* exp(-x / 256) in 2**-40, for x >= 0. */
static inline uint64_t exp_down(int64_t x) {
    int64_t octaves = (x * 94548) >> 16; /* 2**16 / ln 2 */
    return octaves >= 40 << 8 ? 0 : TG_EXP2[octaves & 0xFF] >> (octaves >> 8);
}

/* ln(x / 2**40) in 2**-8 nat. */
static inline int32_t log_mass(uint64_t x) {
    return (int32_t)((((ilog2(x) - (40ll << 32)) >> 16) * (int64_t)(LN2_Q32 >> 8)) >> 32);
}

/* A distance on a scale of two steps a doubling; all below 2**first is 0. */
static inline int level(int32_t distance, int first, int top) {
    if (distance < 1 << first)
        return 0;
    int n = 31 - __builtin_clz((uint32_t)distance);
    int value = 1 + 2 * (n - first) + ((distance >> (n - 1)) & 1);
    return value < top ? value : top;
}

static inline int rank_class(int rank) {
    return rank < 6 ? rank
                    : 6 + (rank >= 8) + (rank >= 12) + (rank >= 20) + (rank >= 36) + (rank >= 64);
}

static inline int least(int a, int b) {
    return a < b ? a : b;
}

void tg_model_init(tg_model *model) {
    memset(model, 0, sizeof *model);
    for (int c = 0; c < TG_COUNTERS; c++)
        for (int x = 0; x < TG_CONTEXTS; x++)
            model->counter_CX[c][x].odds = 1 << 15;
    for (int f = 0; f < TG_FLAGS; f++)
        model->flag_F[f].odds = 1 << 12;
    for (int m = 0; m < TG_MIXERS; m++)
        for (int s = 0; s < TG_SETS; s++)
            memcpy(model->weight_MSI[m][s], START_WEIGHT_I, sizeof START_WEIGHT_I);
}

void tg_token_init(tg_token *token, int count, const int32_t *gap_K, const int32_t *fall_K,
                   int greedy) {
    uint64_t mass = 0;
    token->count = count;
    token->greedy = greedy;
    for (int k = 0; k < count; k++) {
        token->gap_K[k] = gap_K[k] >> NAT_SHIFT;
        token->fall_K[k] = fall_K[k] >> NAT_SHIFT;
        mass += exp_down(token->fall_K[k]);
    }
    token->spread = mass ? limit(log_mass(mass) / 64, 0, 15) : 0;
    for (int s = 0; s < TG_TEMPERED; s++) {
        uint64_t rest = OUTSIDE;
        for (int k = count - 1; k >= 0; k--) {
            int64_t gap = (int64_t)token->gap_K[k] * SHARPNESS_S[s] / 16;
            token->tempered_SK[s][k] =
                limit(-gap - log_mass(rest), -TG_ODDS_LIMIT, TG_ODDS_LIMIT);
            rest += exp_down(gap);
        }
    }
}

void tg_ask(const tg_model *model, const tg_token *token, int rank, tg_question *q) {
    const int32_t *gap_K = token->gap_K, *fall_K = token->fall_K;
    int next = rank + 1 < token->count, after = rank + 2 < token->count;
    int lead = level(next ? gap_K[rank + 1] - gap_K[rank] : FAR, 4, 15);
    int lead_after = level(after ? gap_K[rank + 2] - gap_K[rank] : FAR, 5, 11);
    int fall = level(fall_K[rank], 5, 13);
    int fall_next = level(next ? fall_K[rank + 1] : FAR, 5, 13);
    int behind = level(gap_K[rank], 6, 9);
    int class = rank_class(rank), eight = least(rank, 7), four = least(rank, 3);
    int greedy = token->greedy;

    q->context_C[0] = (uint16_t)((class * 16 + lead) * 2 + greedy);
    q->context_C[1] = (uint16_t)((eight * 14 + fall) * 16 + lead);
    q->context_C[2] = (uint16_t)(((greedy * 4 + four) * 16 + token->spread) * 16 + lead);
    q->context_C[3] = (uint16_t)(((four * 14 + fall) * 14 + fall_next) * 2 + greedy);
    q->context_C[4] = (uint16_t)(((greedy * 8 + eight) * 10 + behind) * 12 + lead_after);
    q->set_M[0] = (uint16_t)(class * 2 + greedy);
    q->set_M[1] = (uint16_t)(eight * 16 + lead);

    for (int s = 0; s < TG_TEMPERED; s++)
        q->input_I[s] = token->tempered_SK[s][rank];
    for (int c = 0; c < TG_COUNTERS; c++)
        q->input_I[TG_TEMPERED + c] =
            TG_STRETCH[model->counter_CX[c][q->context_C[c]].odds >> 4];

    int64_t together = 0;
    for (int m = 0; m < TG_MIXERS; m++) {
        const int32_t *weight_I = model->weight_MSI[m][q->set_M[m]];
        int64_t dot = 0;
        for (int i = 0; i < TG_INPUTS; i++)
            dot += (int64_t)weight_I[i] * q->input_I[i];
        q->guess_M[m] = limit(dot >> 16, -TG_ODDS_LIMIT, TG_ODDS_LIMIT);
        together += q->guess_M[m];
    }
    q->yes = squash((int32_t)(together / TG_MIXERS));
}

static void count(tg_counter *counter, int yes) {
    int32_t step = ((yes ? 65535 : 0) - counter->odds) * (int64_t)TG_RATE[counter->seen] / 65536;
    counter->odds = (uint16_t)limit(counter->odds + step, 16, 65520);
    if (counter->seen < SEEN_LIMIT)
        counter->seen++;
}

void tg_learn(tg_model *model, const tg_question *q, int yes) {
    for (int c = 0; c < TG_COUNTERS; c++)
        count(&model->counter_CX[c][q->context_C[c]], yes);
    for (int m = 0; m < TG_MIXERS; m++) {
        int32_t *weight_I = model->weight_MSI[m][q->set_M[m]];
        int64_t error = (yes ? 65535 : 0) - (int64_t)squash(q->guess_M[m]);
        for (int i = 0; i < TG_INPUTS; i++)
            weight_I[i] = limit(weight_I[i] + ((q->input_I[i] * error * LEARNING_RATE) >> 20),
                                -(1 << 20), 1 << 20);
    }
}
