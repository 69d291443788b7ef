/* Counter-based Gumbel noise in integers. spec/noise.md is the definition. */
#ifndef TIDEGATE_NOISE_H
#define TIDEGATE_NOISE_H

#include <stdint.h>

#define TG_BLOCK 64      /* token ids that share one first arrival */
#define TG_SCORE_BITS 20 /* scores and noise are in units of 2**-20 nat */

typedef struct {
    uint32_t key[2];
    uint32_t nonce[2];
    uint32_t position;
} tg_stream;

void tg_stream_init(tg_stream *stream, const uint8_t seed[16], uint32_t position);

/* The noise of one token, whatever else is drawn. */
int64_t tg_gumbel(const tg_stream *stream, uint32_t token);

/* First arrival in every block of TG_BLOCK ids: its time, and which id of the block it is. */
void tg_block_times(const tg_stream *stream, int blocks, uint64_t *time_N, uint8_t *first_N);

/* The same as tg_gumbel, given the block's first arrival. */
int64_t tg_gumbel_in_block(const tg_stream *stream, uint32_t token, uint64_t time, uint8_t first);

int64_t tg_gumbel_of_time(uint64_t time);

#endif
