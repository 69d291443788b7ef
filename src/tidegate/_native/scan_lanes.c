#include "scan.h"

#include <string.h>

enum { TG_REST, TG_NUMBERS, TG_FIRST_KEY };
enum { TG_BETWEEN, TG_IN_STRING, TG_ESCAPED, TG_CODE };

/* The lane of a key; a new one while there are lanes left. */
static int tg_lane_of(tg_lanes *lanes, const uint8_t *key, int length)
{
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < length; i++)
        hash = (hash ^ key[i]) * 1099511628211u;
    for (int lane = TG_FIRST_KEY; lane < lanes->lanes; lane++)
        if (lanes->hash_L[lane] == hash)
            return lane;
    if (lanes->lanes == TG_LANES - 1)
        return TG_LANES - 1;
    lanes->hash_L[lanes->lanes] = hash;
    memcpy(lanes->name_LC + lanes->lanes * TG_LANE_NAME, key,
           (size_t)(length < TG_LANE_NAME ? length : TG_LANE_NAME));
    return lanes->lanes++;
}

static int tg_unescaped(int letter)
{
    switch (letter) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return letter;
    }
}

static int tg_hex_digit(int letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    letter |= 32;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* UTF-8 of one UTF-16 unit, at most three bytes; halves of pairs stay halves. */
static int tg_put_unit(uint8_t *out, int unit)
{
    if (unit < 0x80) {
        out[0] = (uint8_t)unit;
        return 1;
    }
    if (unit < 0x800) {
        out[0] = (uint8_t)(0xC0 | unit >> 6);
        out[1] = (uint8_t)(0x80 | (unit & 63));
        return 2;
    }
    out[0] = (uint8_t)(0xE0 | unit >> 12);
    out[1] = (uint8_t)(0x80 | (unit >> 6 & 63));
    out[2] = (uint8_t)(0x80 | (unit & 63));
    return 3;
}

/* What ends a stretch: 1 in strings, 2 in numbers, 4 in all else. */
static const uint8_t *tg_ends(void)
{
    static uint8_t ends[256];
    if (!ends['"']) {
        for (int letter = 0; letter < 256; letter++) {
            int number = letter && strchr("0123456789.+-eE,", letter);
            int begins = (letter >= '0' && letter <= '9') || letter == '-';
            ends[letter] = (uint8_t)((letter == '\\' ? 1 : 0) | (number ? 0 : 2) | (begins ? 4 : 0));
        }
        ends['"'] = 7;
    }
    return ends;
}

/* What was written, cut into segments: where each begins, and its lane. */
typedef struct {
    uint8_t *bytes;
    int32_t *segment_S; /* begin << 8 | lane */
    int written, segments;
} tg_written;

static void tg_begin(tg_written *to, int lane)
{
    to->segment_S[to->segments++] = to->written << 8 | lane;
}

/* Takes bytes up to one that ends the stretch; returns where that is. */
static int32_t tg_take(tg_written *to, const uint8_t *bytes, int32_t from, int32_t size, int ending)
{
    const uint8_t *ends = tg_ends();
    int32_t at = from;
    while (at < size && !(ends[bytes[at]] & ending))
        at++;
    /* Most stretches are short: sixteen bytes whatever their length cost less than a call. What is
     * copied too much is written over by what comes next. */
    if (at - from <= 16 && from + 16 <= size)
        memcpy(to->bytes + to->written, bytes + from, 16);
    else
        memcpy(to->bytes + to->written, bytes + from, (size_t)(at - from));
    to->written += at - from;
    return at;
}

static int tg_split(const tg_lanes *lanes, const tg_written *from, uint8_t *out_B, int32_t *start_L,
                    int32_t *values_L)
{
    int32_t at[TG_LANES + 1] = {0};
    memset(values_L, 0, TG_LANES * sizeof *values_L);
    for (int s = 0; s < from->segments; s++) {
        int lane = from->segment_S[s] & 255;
        at[lane + 1] += (from->segment_S[s + 1] >> 8) - (from->segment_S[s] >> 8);
        values_L[lane]++;
    }
    for (int lane = 0; lane < TG_LANES; lane++)
        at[lane + 1] += at[lane];
    memcpy(start_L, at, sizeof at);
    for (int s = 0; s < from->segments; s++) {
        int begin = from->segment_S[s] >> 8, length = (from->segment_S[s + 1] >> 8) - begin;
        int32_t *to = &at[from->segment_S[s] & 255];
        memcpy(out_B + *to, from->bytes + begin, (size_t)length);
        *to += length;
    }
    return lanes->lanes < TG_LANES - 1 ? lanes->lanes : TG_LANES;
}

/* Whether the string that ended before `at` is a key; where no more is known, it is a value. */
static int tg_is_key(const uint8_t *bytes, int32_t at, int32_t size)
{
    while (at < size && (bytes[at] == ' ' || bytes[at] == '\n' || bytes[at] == '\r' || bytes[at] == '\t'))
        at++;
    return at < size && bytes[at] == ':';
}

/* One byte of an escape, from behind its backslash on. Returns whether it was taken. */
static int tg_escape(tg_lanes *lanes, tg_written *to, int letter)
{
    int digit;
    if (lanes->state == TG_ESCAPED) {
        lanes->state = letter == 'u' ? TG_CODE : TG_IN_STRING;
        lanes->digits = lanes->code = 0;
        if (letter != 'u')
            to->bytes[to->written++] = (uint8_t)tg_unescaped(letter);
        return 1;
    }
    digit = tg_hex_digit(letter);
    if (digit >= 0) {
        lanes->code = lanes->code << 4 | digit;
        if (++lanes->digits < 4)
            return 1;
        to->written += tg_put_unit(to->bytes + to->written, lanes->code);
    }
    lanes->state = TG_IN_STRING; /* also behind what is no escape at all */
    return digit >= 0;
}

int tg_lanes_feed(tg_lanes *lanes, const uint8_t *bytes, int32_t size, uint8_t *scratch_B,
                  int32_t *segment_S, uint8_t *out_B, int32_t *start_L, int32_t *values_L)
{
    tg_written to = {scratch_B, segment_S, 0, 0};
    int string = 0; /* which segment the string in hand is */
    int32_t at = 0;
    if (lanes->lanes < TG_FIRST_KEY) {
        lanes->lanes = TG_FIRST_KEY;
        lanes->lane = TG_REST;
    }
    if (lanes->state != TG_BETWEEN)
        tg_begin(&to, lanes->lane);
    while (at < size) {
        if (lanes->state == TG_ESCAPED || lanes->state == TG_CODE) {
            at += tg_escape(lanes, &to, bytes[at]);
        } else if (lanes->state == TG_IN_STRING) {
            at = tg_take(&to, bytes, at, size, 1);
            if (at < size && bytes[at++] == '\\') {
                lanes->state = TG_ESCAPED;
            } else if (at < size || bytes[at - 1] == '"') {
                lanes->state = TG_BETWEEN;
                if (tg_is_key(bytes, at, size)) {
                    int begin = segment_S[string] >> 8;
                    lanes->lane = tg_lane_of(lanes, scratch_B + begin, to.written - begin);
                    segment_S[string] = begin << 8 | TG_REST;
                }
            }
        } else if (bytes[at] == '"') {
            lanes->state = TG_IN_STRING;
            string = to.segments;
            tg_begin(&to, lanes->lane);
            at++;
        } else if (tg_ends()[bytes[at]] & 4) {
            tg_begin(&to, TG_NUMBERS);
            at = tg_take(&to, bytes, at, size, 2);
        } else {
            tg_begin(&to, TG_REST);
            at = tg_take(&to, bytes, at, size, 4);
        }
    }
    segment_S[to.segments] = to.written << 8;
    lanes->segments = to.segments;
    return tg_split(lanes, &to, out_B, start_L, values_L);
}
