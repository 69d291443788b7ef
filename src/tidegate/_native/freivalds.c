#include "freivalds.h"

#define TG_ROWS 4 /* rows that share one read of a column */

typedef void freivalds_dots(const int32_t *y, int64_t inputs, const uint64_t *r, uint64_t *product,
                            int columns);

static uint64_t freivalds_dot(const int32_t *y, int64_t from, int64_t inputs, const uint64_t *r) {
    uint64_t sum = 0;
    for (int64_t i = from; i < inputs; i++)
        sum += (uint64_t)(int64_t)y[i] * r[i];
    return sum;
}

static void freivalds_dots_plain(const int32_t *y, int64_t inputs, const uint64_t *r,
                                 uint64_t *product, int columns) {
    for (int row = 0; row < TG_ROWS; row++)
        product[row * columns] = freivalds_dot(y + row * inputs, 0, inputs, r);
}

static int freivalds_within(const int32_t *y, int64_t inputs, int32_t limit) {
    int32_t least = 0, most = 0;
    for (int64_t i = 0; i < inputs; i++) {
        least = y[i] < least ? y[i] : least;
        most = y[i] > most ? y[i] : most;
    }
    return least >= -limit && most <= limit;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* A 64-bit factor as a signed lower half and what is left for the upper one, since the processor
 * multiplies signed 32-bit numbers only: r = low + 2^32 * high. */
__attribute__((target("avx2"))) static void freivalds_dots_avx2(const int32_t *y, int64_t inputs,
                                                                const uint64_t *r,
                                                                uint64_t *product, int columns) {
    const __m256i sign = _mm256_set1_epi64x(0x80000000);
    __m256i low[TG_ROWS], high[TG_ROWS];
    for (int row = 0; row < TG_ROWS; row++)
        low[row] = high[row] = _mm256_setzero_si256();
    int64_t i = 0;
    for (; i + 4 <= inputs; i += 4) {
        __m256i r_low = _mm256_loadu_si256((const __m256i *)(r + i));
        __m256i carry = _mm256_slli_epi64(_mm256_and_si256(r_low, sign), 1);
        __m256i r_high = _mm256_srli_epi64(_mm256_add_epi64(r_low, carry), 32);
        for (int row = 0; row < TG_ROWS; row++) {
            __m128i four = _mm_loadu_si128((const __m128i *)(y + row * inputs + i));
            __m256i wide = _mm256_cvtepi32_epi64(four);
            low[row] = _mm256_add_epi64(low[row], _mm256_mul_epi32(wide, r_low));
            high[row] = _mm256_add_epi64(high[row], _mm256_mul_epi32(wide, r_high));
        }
    }
    for (int row = 0; row < TG_ROWS; row++) {
        uint64_t part[4];
        __m256i sum = _mm256_add_epi64(low[row], _mm256_slli_epi64(high[row], 32));
        _mm256_storeu_si256((__m256i *)part, sum);
        product[row * columns] =
            part[0] + part[1] + part[2] + part[3] + freivalds_dot(y + row * inputs, i, inputs, r);
    }
}

__attribute__((target("avx2"))) static int freivalds_within_avx2(const int32_t *y, int64_t inputs,
                                                                 int32_t limit) {
    __m256i least = _mm256_setzero_si256(), most = least;
    int64_t i = 0;
    for (; i + 8 <= inputs; i += 8) {
        __m256i eight = _mm256_loadu_si256((const __m256i *)(y + i));
        least = _mm256_min_epi32(least, eight);
        most = _mm256_max_epi32(most, eight);
    }
    int32_t ends[16];
    _mm256_storeu_si256((__m256i *)ends, least);
    _mm256_storeu_si256((__m256i *)(ends + 8), most);
    return freivalds_within(ends, 16, limit) && freivalds_within(y + i, inputs - i, limit);
}
#endif

int64_t tg_freivalds(const int32_t *y_NI, int64_t rows, int64_t inputs, const uint64_t *r_CI,
                     int columns, int32_t limit, uint64_t *product_NC) {
    freivalds_dots *dots = freivalds_dots_plain;
    int (*within)(const int32_t *, int64_t, int32_t) = freivalds_within;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        dots = freivalds_dots_avx2;
        within = freivalds_within_avx2;
    }
#endif
    int64_t beyond = rows;
    int64_t blocks = rows / TG_ROWS;
#pragma omp parallel for reduction(min : beyond) if (rows * inputs > 65536)
    for (int64_t block = 0; block <= blocks; block++) {
        int64_t from = block * TG_ROWS;
        int64_t to = block < blocks ? from + TG_ROWS : rows;
        for (int64_t n = from; n < to; n++)
            if (n < beyond && !within(y_NI + n * inputs, inputs, limit))
                beyond = n;
        for (int c = 0; c < columns; c++) {
            const uint64_t *r = r_CI + c * inputs;
            if (block < blocks) {
                dots(y_NI + from * inputs, inputs, r, product_NC + from * columns + c,
                     columns);
                continue;
            }
            for (int64_t n = from; n < to; n++)
                product_NC[n * columns + c] = freivalds_dot(y_NI + n * inputs, 0, inputs, r);
        }
    }
    return beyond < rows ? beyond : -1;
}
