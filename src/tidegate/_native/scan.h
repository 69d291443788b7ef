/* What the scanner asks of every byte. Its references are in scan/windows.py and scan/lanes.py. */
#ifndef TIDEGATE_SCAN_H
#define TIDEGATE_SCAN_H

#include <stdint.h>

/* For each of `count` windows of `window` bytes (at most 65536), one after the other from `bytes`:
 * entropy_W: order-0 entropy of its bytes, in bits a byte;
 * cost_W: bits a byte of a greedy LZ parse that stays within the window: literals at the entropy of
 * the literals, matches at the logarithm of their offset and a constant;
 * binary_W: share of its bytes that UTF-8 text does not have.
 * nlog_C: C * log2(C) for C up to `window`. */
void tg_scan_windows(const uint8_t *bytes, int64_t count, int window, const float *nlog_C,
                     float *entropy_W, float *cost_W, float *binary_W);

/* How many windows may lie above `line` once scored, or gain so little and cost so much that they
 * are asked what they stand for; a hair's breadth on the safe side of both. */
int64_t tg_scan_standing_out(int64_t count, const float *entropy_W, const float *cost_W,
                             const float *binary_W, float line, float gain, float binary,
                             float binary_most, float dull_gain, float dull_cost);

/* How many bytes no UTF-8 text has. */
int64_t tg_scan_binary(const uint8_t *bytes, int64_t size);

/* How often the two bytes follow one another. */
int64_t tg_scan_pairs(const uint8_t *bytes, int64_t size, uint8_t first, uint8_t second);

/* Where `sought` first lies, from `from` on; -1 where it does not. */
int64_t tg_scan_find(const uint8_t *bytes, int64_t from, int64_t size, const uint8_t *sought,
                     int64_t length);

#define TG_LANES 64 /* the first is all that is no value, the second numbers, the last all others */
#define TG_LANE_NAME 24
#define TG_LANE_ROOM 32

/* Where a JSON text was cut, and which keys it had so far. All zeros at its beginning. */
typedef struct {
    int32_t state, digits, code;
    int32_t lane; /* of the key that came last */
    int32_t lanes;
    int32_t segments; /* of the last call */
    uint64_t hash_L[TG_LANES];
    uint8_t name_LC[TG_LANES * TG_LANE_NAME];
} tg_lanes;

/* Takes JSON apart, be it well formed or not: string values, unescaped, by the key before them;
 * numbers; everything else. Every byte but quotes and escapes ends up in one lane. `size`: at most
 * 2**22. scratch_B, out_B: room for size + TG_LANE_ROOM: an escape may end in this call that began in
 * the last, and short stretches are copied with bytes behind them; segment_S: as many; segments are where they begin << 8 | lane. Lane l lies in out_B from start_L[l] to start_L[l + 1], and
 * has values_L[l] values. Returns the number of lanes. */
int tg_lanes_feed(tg_lanes *lanes, const uint8_t *bytes, int32_t size, uint8_t *scratch_B,
                  int32_t *segment_S, uint8_t *out_B, int32_t *start_L, int32_t *values_L);

#endif
