#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "scan.h"

#include <string.h>

#define TG_SLOTS_LOG2 12
/* Shorter repeats occur by chance in quantised weights; text repeats whole words. */
#define TG_LEAST_MATCH 6
/* A literal run's and a match's length, roughly as zstd's level 1 codes them on text. */
#define TG_MATCH_BITS 8

static uint64_t tg_load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static uint64_t tg_load48(const uint8_t *at)
{
    return tg_load64(at) << (64 - 8 * TG_LEAST_MATCH);
}

static int tg_match_length(const uint8_t *a, const uint8_t *b, int longest)
{
    int length = TG_LEAST_MATCH;
    while (length + 8 <= longest) {
        uint64_t differs = tg_load64(a + length) ^ tg_load64(b + length);
        if (differs)
            return length + (__builtin_ctzll(differs) >> 3);
        length += 8;
    }
    while (length < longest && a[length] == b[length])
        length++;
    return length;
}

static float tg_bits(const uint32_t *count_256, int total, const float *nlog_C)
{
    /* Four sums, so that no addition waits for the one before. */
    float sum[4] = {0};
    for (int value = 0; value < 256; value += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += nlog_C[count_256[value + k]];
    return nlog_C[total] - ((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* What UTF-8 text does not have: control characters but for those that shape lines, and bytes that
 * no encoding of a character begins or holds. */
static int tg_is_binary(int value)
{
    return value < 9 || (value > 13 && value < 32 && value != 27) || value == 127 ||
           value == 0xC0 || value == 0xC1 || value > 0xF4;
}

static float tg_entropy_bits(const uint8_t *at, int window, const float *nlog_C, int *binary)
{
    /* Four counts, so that equal bytes in a row do not wait for one another. */
    uint32_t count[4][256] = {{0}};
    int i = 0;
    for (; i + 4 <= window; i += 4)
        for (int k = 0; k < 4; k++)
            count[k][at[i + k]]++;
    for (; i < window; i++)
        count[0][at[i]]++;
    *binary = 0;
    for (int value = 0; value < 256; value++) {
        count[0][value] += count[1][value] + count[2][value] + count[3][value];
        *binary += tg_is_binary(value) ? (int)count[0][value] : 0;
    }
    return tg_bits(count[0], window, nlog_C);
}

static float tg_parse_bits(const uint8_t *at, int window, const float *nlog_C)
{
    uint32_t count[2][256] = {{0}};
    uint16_t seen[1 << TG_SLOTS_LOG2] = {0}; /* where each hash was last seen; 0 is a place, too */
    int literals = 0, matches = 0, i = 0;
    if (window)
        count[0][at[i++]]++;
    while (i + 8 <= window) {
        uint64_t word = tg_load48(at + i);
        uint64_t slot = (word * 0x9E3779B97F4A7C15u) >> (64 - TG_SLOTS_LOG2);
        int before = seen[slot];
        seen[slot] = (uint16_t)i;
        if (tg_load48(at + before) == word) {
            matches += TG_MATCH_BITS + 31 - __builtin_clz((uint32_t)(i - before));
            i += tg_match_length(at + before, at + i, window - i);
        } else {
            count[i & 1][at[i]]++;
            i++;
        }
    }
    for (; i < window; i++)
        count[0][at[i]]++;
    for (int value = 0; value < 256; value++) {
        count[0][value] += count[1][value];
        literals += (int)count[0][value];
    }
    return tg_bits(count[0], literals, nlog_C) + (float)matches;
}

void tg_scan_windows(const uint8_t *bytes, int64_t count, int window, const float *nlog_C,
                     float *entropy_W, float *cost_W, float *binary_W)
{
    for (int64_t w = 0; w < count; w++) {
        const uint8_t *at = bytes + w * window;
        int binary;
        entropy_W[w] = tg_entropy_bits(at, window, nlog_C, &binary) / (float)window;
        cost_W[w] = tg_parse_bits(at, window, nlog_C) / (float)window;
        binary_W[w] = (float)binary / (float)window;
    }
}

int64_t tg_scan_standing_out(int64_t count, const float *entropy_W, const float *cost_W,
                             const float *binary_W, float line, float gain, float binary,
                             float binary_most, float dull_gain, float dull_cost)
{
    const float hair = 1e-3f;
    int64_t standing = 0;
    for (int64_t w = 0; w < count; w++) {
        float gained = (entropy_W[w] - cost_W[w]) / 8;
        float counted = binary_W[w] < binary_most ? binary_W[w] : binary_most;
        float score = cost_W[w] - gain * gained + binary * counted;
        standing += score > line - hair || (gained < dull_gain + hair && cost_W[w] > dull_cost - hair);
    }
    return standing;
}

int64_t tg_scan_binary(const uint8_t *bytes, int64_t size)
{
    int64_t total = 0;
    /* Counts of a byte, summed before they overflow: sixteen and more are compared at a time. */
    for (int64_t at = 0; at < size; at += 255) {
        int64_t stop = at + 255 < size ? at + 255 : size;
        uint8_t some = 0;
        for (int64_t i = at; i < stop; i++) {
            uint8_t b = bytes[i];
            uint8_t control = (uint8_t)((uint8_t)(b - 14) < 18) & (uint8_t)(b != 27);
            some = (uint8_t)(some + ((uint8_t)(b < 9) | control | (uint8_t)(b == 127) |
                                     (uint8_t)((b & 0xFE) == 0xC0) | (uint8_t)(b > 0xF4)));
        }
        total += some;
    }
    return total;
}

int64_t tg_scan_pairs(const uint8_t *bytes, int64_t size, uint8_t first, uint8_t second)
{
    int64_t total = 0;
    for (int64_t at = 0; at + 1 < size; at += 255) {
        int64_t stop = at + 255 < size - 1 ? at + 255 : size - 1;
        uint8_t some = 0;
        for (int64_t i = at; i < stop; i++)
            some = (uint8_t)(some + ((uint8_t)(bytes[i] == first) & (uint8_t)(bytes[i + 1] == second)));
        total += some;
    }
    return total;
}

int64_t tg_scan_find(const uint8_t *bytes, int64_t from, int64_t size, const uint8_t *sought,
                     int64_t length)
{
    const uint8_t *found =
        from < size ? memmem(bytes + from, (size_t)(size - from), sought, (size_t)length) : 0;
    return found ? found - bytes : -1;
}
