/* Logarithms in integers; the tables come from tables.py through the build. */
#ifndef TIDEGATE_INTLOG_H
#define TIDEGATE_INTLOG_H

#include <stdint.h>

#define LN2_Q32 0xB17217F8ull

/* log2(x) in units of 2**-32, for x >= 1. */
static inline int64_t ilog2(uint64_t x) {
    int n = 63 - __builtin_clzll(x);
    uint64_t m = x << (63 - n);
    uint32_t index = (uint32_t)(m >> (63 - TG_LOG_BITS)) & ((1u << TG_LOG_BITS) - 1);
    uint64_t rest = (m >> (31 - TG_LOG_BITS)) & 0xFFFFFFFFull;
    uint64_t low = TG_LOG2[index], high = TG_LOG2[index + 1];
    return ((int64_t)n << 32) + (int64_t)(low + (((high - low) * rest) >> 32));
}

#endif
