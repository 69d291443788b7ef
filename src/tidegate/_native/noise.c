#include "noise.h"

#include "intlog.h"

#define TOKEN_COUNTERS 0x80000000u /* counters from here on belong to tokens, below to blocks */
#define TIME_BITS 58               /* arrival times are in units of 2**-58 */

typedef unsigned __int128 u128;

void tg_stream_init(tg_stream *stream, const uint8_t seed[16], uint32_t position) {
    uint32_t words[4];
    for (int i = 0; i < 4; i++)
        words[i] = (uint32_t)seed[4 * i] | (uint32_t)seed[4 * i + 1] << 8 |
                   (uint32_t)seed[4 * i + 2] << 16 | (uint32_t)seed[4 * i + 3] << 24;
    stream->key[0] = words[0];
    stream->key[1] = words[1];
    stream->nonce[0] = words[2];
    stream->nonce[1] = words[3];
    stream->position = position;
}

/* Philox4x32-10 (Salmon et al., SC 2011): 128 bits a call, here two 64-bit draws. */
static inline void philox(const tg_stream *s, uint32_t counter, uint64_t draws[2]) {
    uint32_t c0 = counter, c1 = s->position, c2 = s->nonce[0], c3 = s->nonce[1];
    uint32_t k0 = s->key[0], k1 = s->key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    draws[0] = (uint64_t)c1 << 32 | c0;
    draws[1] = (uint64_t)c3 << 32 | c2;
}

/* -ln(1 - v / 2**64): the waiting time of a unit-rate Poisson process. Near 0 the logarithm would
 * lose its leading digits, so the power series takes over (relative error below 2e-8). */
static inline uint64_t exponential(uint64_t v) {
    if (v < 1ull << 58) {
        u128 v2 = ((u128)v * v) >> 64, v3 = (v2 * v) >> 64, v4 = (v3 * v) >> 64;
        return (uint64_t)((v + v2 / 2 + v3 / 3 + v4 / 4) >> (64 - TIME_BITS));
    }
    uint64_t survive = ~v ? ~v : 1;
    uint64_t log2s = (64ull << 32) - (uint64_t)ilog2(survive);
    return (uint64_t)(((u128)log2s * LN2_Q32) >> (64 - TIME_BITS));
}

int64_t tg_gumbel_of_time(uint64_t time) {
    int64_t log2s = ((int64_t)TIME_BITS << 32) - ilog2(time ? time : 1);
    return (int64_t)(((__int128)log2s * (int64_t)LN2_Q32) >> (64 - TG_SCORE_BITS));
}

void tg_block_times(const tg_stream *stream, int blocks, uint64_t *time_N, uint8_t *first_N) {
    for (int b = 0; b < blocks; b += 2) {
        uint64_t draws[2];
        philox(stream, (uint32_t)b >> 1, draws);
        for (int i = 0; i < 2 && b + i < blocks; i++) {
            first_N[b + i] = (uint8_t)(draws[i] & (TG_BLOCK - 1));
            /* The six bits that chose the token are not used again as part of the time. */
            time_N[b + i] = exponential(draws[i] | (TG_BLOCK - 1)) / TG_BLOCK;
        }
    }
}

int64_t tg_gumbel_in_block(const tg_stream *stream, uint32_t token, uint64_t time, uint8_t first) {
    if (token % TG_BLOCK == first)
        return tg_gumbel_of_time(time);
    uint64_t draws[2];
    philox(stream, TOKEN_COUNTERS | token >> 1, draws);
    return tg_gumbel_of_time(time + exponential(draws[token & 1]));
}

int64_t tg_gumbel(const tg_stream *stream, uint32_t token) {
    uint32_t block = token / TG_BLOCK;
    uint64_t draws[2], time;
    uint8_t first;
    philox(stream, block >> 1, draws);
    first = (uint8_t)(draws[block & 1] & (TG_BLOCK - 1));
    time = exponential(draws[block & 1] | (TG_BLOCK - 1)) / TG_BLOCK;
    return tg_gumbel_in_block(stream, token, time, first);
}
