#include "coder.h"

#include <stdlib.h>
#include <string.h>

#include "intlog.h"

#define FULL (1ull << 48)   /* range of an empty segment */
#define SMALL (1ull << 40)  /* below it a byte is written */
#define CONTROLS 4          /* codes after the vocabulary; the first is ABORT */
#define DIRECT_FLAG(token) ((token)->greedy * 16 + (token)->spread)

tg_link *tg_link_new(int vocabulary) {
    tg_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    tg_model_init(&link->model);
    link->vocabulary = vocabulary;
    link->encoder.range = FULL;
    tg_decoder_restart(link);
    return link;
}

void tg_link_free(tg_link *link) {
    if (link)
        free(link->encoder.bytes);
    free(link);
}

static void write_byte(tg_encoder *e, uint8_t byte) {
    if (e->length == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 256;
        uint8_t *bytes = realloc(e->bytes, capacity);
        if (!bytes) {
            e->failed = 1;
            return;
        }
        e->bytes = bytes;
        e->capacity = capacity;
    }
    e->bytes[e->length++] = byte;
}

static void carry(tg_encoder *e) {
    e->low -= FULL;
    for (size_t i = e->length; i-- > 0 && ++e->bytes[i] == 0;) {
    }
}

static void encode(tg_encoder *e, uint32_t start, uint32_t width, uint32_t total) {
    uint64_t unit = e->range / total;
    e->started = 1;
    e->low += unit * start;
    /* The last symbol takes what the division left over: no code value is without a meaning. */
    e->range = start + width == total ? e->range - unit * start : unit * width;
    if (e->low >= FULL)
        carry(e);
    while (e->range < SMALL) {
        write_byte(e, (uint8_t)(e->low >> 40));
        e->low = (e->low & (SMALL - 1)) << 8;
        e->range <<= 8;
    }
}

size_t tg_settled(const tg_link *link) {
    const tg_encoder *e = &link->encoder;
    size_t length = e->length;
    if (e->low + e->range <= FULL)
        return length;
    while (length > 0 && e->bytes[length - 1] == 0xFF)
        length--;
    return length ? length - 1 : 0;
}

void tg_take(tg_link *link, size_t size, uint8_t *out) {
    tg_encoder *e = &link->encoder;
    if (!size)
        return;
    memcpy(out, e->bytes, size);
    memmove(e->bytes, e->bytes + size, e->length - size);
    e->length -= size;
}

void tg_finish(tg_link *link) {
    tg_encoder *e = &link->encoder;
    int count = 0;
    uint64_t value = 0;
    for (; count <= TG_WINDOW_BYTES; count++) {
        uint64_t unit = FULL >> (8 * count);
        value = (e->low + unit - 1) / unit * unit;
        if (value + unit <= e->low + e->range)
            break;
    }
    e->low = value;
    if (e->low >= FULL)
        carry(e);
    for (int i = 0; i < count; i++)
        write_byte(e, (uint8_t)(e->low >> (40 - 8 * i)));
    e->low = 0;
    e->range = FULL;
    e->started = 0;
}

void tg_decoder_restart(tg_link *link) {
    link->decoder = (tg_decoder){0, FULL, TG_WINDOW_BYTES, 0};
}

static void fill(tg_decoder *d, const uint8_t *bytes, size_t length) {
    while (d->missing > 0 && d->position < length) {
        d->missing--;
        d->code += (uint64_t)bytes[d->position++] << (8 * d->missing);
    }
}

/* The most that the unknown bytes can add. */
static inline uint64_t unknown(const tg_decoder *d) {
    return (1ull << (8 * d->missing)) - 1;
}

/* The slot of `total` the number lies in, or -1 while unknown bytes could move it. */
static int64_t slot(const tg_decoder *d, uint32_t total) {
    uint64_t unit = d->range / total;
    uint64_t first = d->code / unit, last = (d->code + unknown(d)) / unit;
    first = first < total ? first : total - 1;
    last = last < total ? last : total - 1;
    return first == last ? (int64_t)first : -1;
}

/* Whether the number is certain to lie below `split` slots (1), at or above it (0), or not (-1). */
static int below(const tg_decoder *d, uint32_t split, uint32_t total) {
    uint64_t bound = d->range / total * split;
    if (d->code + unknown(d) < bound)
        return 1;
    return d->code >= bound ? 0 : -1;
}

static void narrow(tg_decoder *d, const uint8_t *bytes, size_t length, uint32_t start,
                   uint32_t width, uint32_t total) {
    uint64_t unit = d->range / total;
    d->code -= unit * start;
    d->range = start + width == total ? d->range - unit * start : unit * width;
    while (d->range < SMALL) {
        d->code <<= 8;
        d->range <<= 8;
        d->missing++;
        fill(d, bytes, length);
    }
}

#define ANSWER_BITS 16
#define ONE (1u << ANSWER_BITS)

static void encode_answer(tg_encoder *e, uint32_t yes16, int yes) {
    encode(e, yes ? 0 : yes16, yes ? yes16 : ONE - yes16, ONE);
}

static int decode_answer(tg_decoder *d, const uint8_t *bytes, size_t length, uint32_t yes16) {
    int yes = below(d, yes16, ONE);
    if (yes >= 0)
        narrow(d, bytes, length, yes ? 0 : yes16, yes ? yes16 : ONE - yes16, ONE);
    return yes;
}

/* -log2(part / total) in 2**-16 bit. */
static uint64_t cost_of(uint64_t part, uint64_t total) {
    return (uint64_t)(ilog2(total) - ilog2(part)) >> 16;
}

static uint64_t answer_cost(uint32_t yes16, int yes) {
    return cost_of(yes ? yes16 : ONE - yes16, ONE);
}

void tg_put_flag(tg_link *link, int context, int yes) {
    tg_counter *flag = &link->model.flag_F[context];
    link->cost = answer_cost(flag->odds, yes);
    encode_answer(&link->encoder, flag->odds, yes);
    count(flag, yes);
}

void tg_put_number(tg_link *link, uint32_t value, uint32_t total) {
    link->cost = cost_of(1, total);
    encode(&link->encoder, value, 1, total);
}

/* Asks rank by rank until the token; the last candidate needs no question. */
static int ask_until(const tg_link *link, const tg_token *t, int rank, tg_question *asked,
                     uint64_t *cost) {
    int questions = rank < t->count - 1 ? rank + 1 : rank;
    *cost = 0;
    for (int r = 0; r < questions; r++) {
        tg_ask(&link->model, t, r, &asked[r]);
        *cost += answer_cost(asked[r].yes, r == rank);
    }
    return questions;
}

void tg_put_token(tg_link *link, int candidates, const int32_t *ids_K, const int32_t *gap_K,
                  const int32_t *fall_K, int greedy, int32_t token) {
    tg_token t;
    tg_question asked[TG_CANDIDATES];
    uint32_t alphabet = (uint32_t)link->vocabulary + CONTROLS;
    uint64_t cost = 0;
    int rank = 0, questions = 0;
    tg_token_init(&t, candidates, gap_K, fall_K, greedy);
    while (rank < candidates && ids_K[rank] != token)
        rank++;
    if (rank < candidates)
        questions = ask_until(link, &t, rank, asked, &cost);
    /* Dearer by rank than as a bare number: sent as a number, which bounds what a token costs. */
    int direct = rank == candidates || cost > cost_of(1, alphabet);
    tg_put_flag(link, DIRECT_FLAG(&t), direct);
    uint64_t flag_cost = link->cost;
    if (direct) {
        tg_put_number(link, (uint32_t)token, alphabet);
        link->cost += flag_cost;
        return;
    }
    for (int r = 0; r < questions; r++) {
        encode_answer(&link->encoder, asked[r].yes, r == rank);
        tg_learn(&link->model, &asked[r], r == rank);
    }
    link->cost = flag_cost + cost;
}

int tg_get_flag(tg_link *link, const uint8_t *bytes, size_t length, int context, int *yes) {
    fill(&link->decoder, bytes, length);
    int answer = decode_answer(&link->decoder, bytes, length, link->model.flag_F[context].odds);
    if (answer < 0)
        return 0;
    *yes = answer;
    return 1;
}

static int64_t decode_number(tg_decoder *d, const uint8_t *bytes, size_t length, uint32_t total) {
    int64_t value = slot(d, total);
    if (value >= 0)
        narrow(d, bytes, length, (uint32_t)value, 1, total);
    return value;
}

int tg_get_number(tg_link *link, const uint8_t *bytes, size_t length, uint32_t total,
                  uint32_t *value) {
    fill(&link->decoder, bytes, length);
    int64_t found = decode_number(&link->decoder, bytes, length, total);
    if (found < 0)
        return 0;
    *value = (uint32_t)found;
    return 1;
}

int tg_get_token(tg_link *link, const uint8_t *bytes, size_t length, int candidates,
                 const int32_t *ids_K, const int32_t *gap_K, const int32_t *fall_K, int greedy,
                 int32_t *token) {
    tg_token t;
    tg_question question;
    fill(&link->decoder, bytes, length);
    tg_decoder d = link->decoder; /* kept only when the whole token is determined */
    tg_token_init(&t, candidates, gap_K, fall_K, greedy);
    int direct = decode_answer(&d, bytes, length, link->model.flag_F[DIRECT_FLAG(&t)].odds);
    if (direct < 0)
        return 0;
    if (direct || !candidates) {
        int64_t found = decode_number(&d, bytes, length, (uint32_t)link->vocabulary + CONTROLS);
        if (found < 0)
            return 0;
        *token = (int32_t)found;
    } else {
        int rank = 0;
        for (; rank < candidates - 1; rank++) {
            tg_ask(&link->model, &t, rank, &question);
            int yes = decode_answer(&d, bytes, length, question.yes);
            if (yes < 0)
                return 0;
            if (yes)
                break;
        }
        *token = ids_K[rank];
    }
    link->decoder = d;
    return 1;
}
