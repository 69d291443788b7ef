#include "sha256.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define TG_LANES 2 /* rows that are hashed side by side; a round waits for the one before it */

static const uint32_t sha256_start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static const uint32_t sha256_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* Takes `blocks` blocks of 64 bytes of each lane into its state. */
__attribute__((target("sha,sse4.1"))) static void
sha256_take(uint32_t state[TG_LANES][8], const uint8_t *const data[TG_LANES],
                 int64_t blocks) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef[TG_LANES], cdgh[TG_LANES];
    for (int l = 0; l < TG_LANES; l++) {
        const uint32_t *s = state[l];
        abef[l] = _mm_set_epi32((int)s[0], (int)s[1], (int)s[4], (int)s[5]);
        cdgh[l] = _mm_set_epi32((int)s[2], (int)s[3], (int)s[6], (int)s[7]);
    }
    for (int64_t block = 0; block < blocks; block++) {
        __m128i w[TG_LANES][4], one[TG_LANES], two[TG_LANES];
        for (int l = 0; l < TG_LANES; l++) {
            const __m128i *at = (const __m128i *)(data[l] + 64 * block);
            for (int i = 0; i < 4; i++)
                w[l][i] = _mm_shuffle_epi8(_mm_loadu_si128(at + i), order);
            one[l] = abef[l];
            two[l] = cdgh[l];
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i k = _mm_load_si128((const __m128i *)(sha256_k + 4 * i));
            for (int l = 0; l < TG_LANES; l++) {
                __m128i *m = w[l];
                __m128i sum = _mm_add_epi32(m[i % 4], k);
                two[l] = _mm_sha256rnds2_epu32(two[l], one[l], sum);
                one[l] = _mm_sha256rnds2_epu32(one[l], two[l], _mm_shuffle_epi32(sum, 0x0e));
                if (i < 12) {
                    __m128i next = _mm_sha256msg1_epu32(m[i % 4], m[(i + 1) % 4]);
                    __m128i middle = _mm_alignr_epi8(m[(i + 3) % 4], m[(i + 2) % 4], 4);
                    next = _mm_add_epi32(next, middle);
                    m[i % 4] = _mm_sha256msg2_epu32(next, m[(i + 3) % 4]);
                }
            }
        }
        for (int l = 0; l < TG_LANES; l++) {
            abef[l] = _mm_add_epi32(abef[l], one[l]);
            cdgh[l] = _mm_add_epi32(cdgh[l], two[l]);
        }
    }
    for (int l = 0; l < TG_LANES; l++) {
        uint32_t fe_ba[4], hg_dc[4];
        _mm_storeu_si128((__m128i *)fe_ba, abef[l]);
        _mm_storeu_si128((__m128i *)hg_dc, cdgh[l]);
        for (int i = 0; i < 2; i++) {
            state[l][i] = fe_ba[3 - i];
            state[l][i + 2] = hg_dc[3 - i];
            state[l][i + 4] = fe_ba[1 - i];
            state[l][i + 6] = hg_dc[1 - i];
        }
    }
}
/* The last bytes of a row with the padding behind them: one block or two. */
static int sha256_tail(const uint8_t *row, int64_t size, uint8_t tail[128]) {
    int64_t rest = size % 64;
    int blocks = rest < 56 ? 1 : 2;
    uint64_t bits = 8 * (uint64_t)size;
    memset(tail, 0, 128);
    memcpy(tail, row + size - rest, (size_t)rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        tail[64 * blocks - 1 - i] = (uint8_t)(bits >> 8 * i);
    return blocks;
}

int tg_sha256_able(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) &&
           __builtin_cpu_supports("sse4.1");
}

void tg_sha256_rows(const uint8_t *data, int64_t size, int64_t rows, uint8_t *out,
                    int64_t out_stride) {
/* One pair of rows is one thread's work: callers with threads of their own hand in pairs. */
#pragma omp parallel for if (rows > TG_LANES && rows * size > 65536)
    for (int64_t row = 0; row < rows; row += TG_LANES) {
        uint32_t state[TG_LANES][8];
        uint8_t tail[TG_LANES][128];
        const uint8_t *body[TG_LANES], *end[TG_LANES];
        int blocks = 0;
        for (int l = 0; l < TG_LANES; l++) {
            /* Where rows are odd, the last is hashed in both lanes. */
            body[l] = data + (row + l < rows ? row + l : row) * size;
            blocks = sha256_tail(body[l], size, tail[l]);
            end[l] = tail[l];
            memcpy(state[l], sha256_start, sizeof sha256_start);
        }
        sha256_take(state, body, size / 64);
        sha256_take(state, end, blocks);
        for (int l = 0; l < TG_LANES && row + l < rows; l++)
            for (int i = 0; i < 32; i++)
                out[(row + l) * out_stride + i] = (uint8_t)(state[l][i / 4] >> (24 - 8 * (i % 4)));
    }
}
#else
int tg_sha256_able(void) { return 0; }

void tg_sha256_rows(const uint8_t *data, int64_t size, int64_t rows, uint8_t *out,
                    int64_t out_stride) {
    (void)data, (void)size, (void)rows, (void)out, (void)out_stride;
}
#endif
