/* Symbols to bytes and back: a carrying range coder over the adaptive model.
 * spec/range-coder.md and spec/symbol-model.md are the definition. */
#ifndef TIDEGATE_CODER_H
#define TIDEGATE_CODER_H

#include <stddef.h>
#include <stdint.h>

#include "symbols.h"

/* The interval [low, low + range) of a number whose leading bytes have been written. */
typedef struct {
    uint64_t low;
    uint64_t range;
    uint8_t *bytes;
    size_t length;
    size_t capacity;
    int started; /* whether any symbol is in this segment */
    int failed;  /* out of memory: nothing written since can be trusted */
} tg_encoder;

#define TG_WINDOW_BYTES 6 /* bytes of the number that one division looks at */

/* code: the number minus low, unknown bytes taken as zero; `missing` of its 6 bytes are unknown.
 * Whatever they turn out to be, the number stays below low + range: a symbol is returned only when
 * all of them lead to it, and every number leads to some symbol. */
typedef struct {
    uint64_t code;
    uint64_t range;
    int missing;
    size_t position;
} tg_decoder;

typedef struct {
    tg_model model;
    tg_encoder encoder;
    tg_decoder decoder;
    int vocabulary;
    uint64_t cost; /* ideal length of the last symbol put, 2**-16 bit */
} tg_link;

tg_link *tg_link_new(int vocabulary);
void tg_link_free(tg_link *link);

/* Put symbols. A token is `vocabulary` or more for control codes. At most TG_CANDIDATES candidates,
 * best first, gaps and falls not negative; 1 <= total <= 2**20. */
void tg_put_token(tg_link *link, int candidates, const int32_t *ids_K, const int32_t *gap_K,
                  const int32_t *fall_K, int greedy, int32_t token);
void tg_put_flag(tg_link *link, int context, int yes);
void tg_put_number(tg_link *link, uint32_t value, uint32_t total);

/* Bytes that no later symbol can change; take them; end the segment with the fewest bytes. */
size_t tg_settled(const tg_link *link);
void tg_take(tg_link *link, size_t size, uint8_t *out);
void tg_finish(tg_link *link);

/* Get symbols from a segment's bytes so far; 1 when determined, 0 when more bytes are needed.
 * The model learns only when the same symbol is put. */
void tg_decoder_restart(tg_link *link);
int tg_get_token(tg_link *link, const uint8_t *bytes, size_t length, int candidates,
                 const int32_t *ids_K, const int32_t *gap_K, const int32_t *fall_K, int greedy,
                 int32_t *token);
int tg_get_flag(tg_link *link, const uint8_t *bytes, size_t length, int context, int *yes);
int tg_get_number(tg_link *link, const uint8_t *bytes, size_t length, uint32_t total,
                  uint32_t *value);

#endif
