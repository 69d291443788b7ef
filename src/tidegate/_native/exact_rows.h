/* What the exact engine's kernels share: one row at a time, one rounding a line. */
#ifndef TIDEGATE_EXACT_ROWS_H
#define TIDEGATE_EXACT_ROWS_H

#include "exact.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))
#ifdef __x86_64__
#include <immintrin.h>
#endif
#if defined(__x86_64__) && defined(__gnu_linux__)
/* Compiled twice; the loader picks what the processor has. */
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

#define LOG2E 1.4426950408889634f
#define QUIET_BITS ((127 - 100) << 23)  /* 2**-100 */
#define LOUDEST_BITS ((127 + 40) << 23) /* 2**40 */

/* Rounding to nearest and denormals, whatever the calling thread was left with. */
#ifdef __x86_64__
typedef unsigned float_state;
ALWAYS float_state float_begin(void) {
    float_state kept = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return kept;
}
ALWAYS void float_end(float_state kept) {
    _mm_setcsr(kept);
}
#else
typedef fenv_t float_state;
ALWAYS float_state float_begin(void) {
    float_state kept;
    fegetenv(&kept);
    fesetenv(FE_DFL_ENV);
    return kept;
}
ALWAYS void float_end(float_state kept) {
    fesetenv(&kept);
}
#endif

ALWAYS int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

ALWAYS float float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |x| as an integer: ordered as the floats are, and anything that is not a number is on top. */
ALWAYS int32_t magnitude(float x) {
    return bits_of(x) & 0x7fffffff;
}

ALWAYS float power_of_two(int exponent) {
    return float_of((exponent + 127) << 23);
}

/* The nearest integer within +-most; x is finite. */
ALWAYS int32_t steps(float x, float most) {
    float r = rintf(x);
    r = r > most ? most : r;
    r = r < -most ? -most : r;
    return (int32_t)r;
}

/* 2**t for t <= 0. The constants are `ops.EXP2`. */
ALWAYS float exp2_below(float t) {
    t = t < -100.0f ? -100.0f : t;
    float n = rintf(t), f = t - n;
    float p = 0x1.470b4ap-13f;
    p = p * f + 0x1.5f7276p-10f;
    p = p * f + 0x1.3b270ep-7f;
    p = p * f + 0x1.c6ae72p-5f;
    p = p * f + 0x1.ebfbe2p-3f;
    p = p * f + 0x1.62e432p-1f;
    p = p * f + 1.0f;
    return float_of(bits_of(p) + (int32_t)n * (1 << 23));
}

/* From the loudest magnitude of a row: what to multiply by, and the scale that undoes it. A quiet
 * row gets zeros. Returns 1 where the row is refused. */
ALWAYS int unit_of(int32_t most, float limit, float *reciprocal, float *scale) {
    float largest = float_of(most);
    int quiet = most < QUIET_BITS;
    *reciprocal = quiet ? 0.0f : limit / largest;
    *scale = quiet ? 0.0f : largest / limit;
    return most > LOUDEST_BITS;
}

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))
/* The sums of eight vectors, in order. */
AVX2 ALWAYS __m256i sums_of(const __m256i x[8]) {
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(x[4], x[5]), _mm256_hadd_epi32(x[6], x[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}
#endif

int32_t tg_loudness(const float *x_D, int size);
void tg_dequantise(const int32_t *acc_O, float scale, const tg_channels *channels, float *y_O);
/* Returns 1 where the row is refused. */
int tg_q8(const float *x_D, int size, int8_t *q_D, float *scale);

#endif
