/* How likely is each candidate? An adaptive model in integers. spec/symbol-model.md explains it. */
#ifndef TIDEGATE_SYMBOLS_H
#define TIDEGATE_SYMBOLS_H

#include <stdint.h>

#define TG_CANDIDATES 128 /* most candidates of one token */
#define TG_TEMPERED 3     /* inputs from tempered softmax */
#define TG_COUNTERS 5     /* inputs from adaptive counters */
#define TG_INPUTS 8       /* both together */
#define TG_CONTEXTS 2048 /* contexts of one counter */
#define TG_MIXERS 2
#define TG_SETS 128      /* weight sets of one mixer */
#define TG_FLAGS 96      /* contexts of plain yes/no symbols */

typedef struct {
    uint16_t odds;
    uint16_t seen;
} tg_counter;

typedef struct {
    tg_counter counter_CX[TG_COUNTERS][TG_CONTEXTS];
    int32_t weight_MSI[TG_MIXERS][TG_SETS][TG_INPUTS]; /* 2**-16 */
    tg_counter flag_F[TG_FLAGS];
} tg_model;

/* One token's candidates, prepared for questions rank by rank. Log-odds are in 2**-8 nat. */
typedef struct {
    int count;
    int greedy;
    int spread;
    int32_t gap_K[TG_CANDIDATES];
    int32_t fall_K[TG_CANDIDATES];
    int32_t tempered_SK[TG_TEMPERED][TG_CANDIDATES];
} tg_token;

/* "Is it the candidate of this rank, given that it is none before?" and what the answer was
 * predicted from, kept until the answer is known. */
typedef struct {
    int32_t input_I[TG_INPUTS];
    int32_t guess_M[TG_MIXERS];
    uint16_t context_C[TG_COUNTERS];
    uint16_t set_M[TG_MIXERS];
    uint32_t yes; /* probability in 2**-16 */
} tg_question;

void tg_model_init(tg_model *model);
void tg_token_init(tg_token *token, int count, const int32_t *gap_K, const int32_t *fall_K,
                   int greedy);
void tg_ask(const tg_model *model, const tg_token *token, int rank, tg_question *question);
void tg_learn(tg_model *model, const tg_question *question, int yes);

#endif
