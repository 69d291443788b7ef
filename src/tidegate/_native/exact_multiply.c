/* Sums of int8 products. Weights are read once for every four rows of a pass, in blocks that stay
 * in the first cache, so that a batch costs little more memory traffic than one row. */
#include "exact_rows.h"

#include <stddef.h>

#define UNROLL _Pragma("GCC unroll 8")
#define BLOCK 48     /* rows of weights that are multiplied with all rows before the next ones */
#define AHEAD 1024   /* bytes to fetch before they are needed; measured on Zen 3 */
#define WORTH 100000 /* products below which a second thread costs more than it brings */

/* One tile: `rows` rows of weights times `columns` rows of activations. */
typedef void tile(const int8_t *q_CK, const int8_t *w_RK, int inputs, int32_t *acc_CO, int outputs);

static void portable_1x1(const int8_t *q_K, const int8_t *w_K, int inputs, int32_t *acc,
                         int outputs) {
    int32_t sum = 0;
    (void)outputs;
    for (int k = 0; k < inputs; k++)
        sum += (int16_t)q_K[k] * (int16_t)w_K[k];
    *acc = sum;
}

#ifdef __x86_64__

/* What is left of rows whose length is no multiple of a vector. */
static void add_remainder(int rows, int columns, const int8_t *q_CK, const int8_t *w_RK, int from,
                          int inputs, int32_t *acc_CO, int outputs) {
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < rows; r++)
            for (int k = from; k < inputs; k++)
                acc_CO[(ptrdiff_t)c * outputs + r] +=
                    q_CK[(ptrdiff_t)c * inputs + k] * w_RK[(ptrdiff_t)r * inputs + k];
}

/* |w| times q with w's sign: pairs reach 2 * 127 * 127 = 32,258, which int16 holds, so the
 * saturating instruction never saturates. -128 is outside the range of both. */
AVX2 ALWAYS void tile_avx2(int rows, int columns, const int8_t *q_CK, const int8_t *w_RK,
                           int inputs, int32_t *acc_CO, int outputs) {
    __m256i sum[8];
    const __m256i one = _mm256_set1_epi16(1);
    ptrdiff_t length = inputs, whole = length & ~31;
    UNROLL for (int i = 0; i < 8; i++) sum[i] = _mm256_setzero_si256();
    for (ptrdiff_t k = 0; k < whole; k += 32) {
        __m256i w[2], size[2];
        UNROLL for (int r = 0; r < rows; r++) {
            const int8_t *place = w_RK + r * length + k;
            if (columns == 1)
                _mm_prefetch((const char *)place + AHEAD, _MM_HINT_T0);
            w[r] = _mm256_loadu_si256((const __m256i *)place);
            size[r] = _mm256_abs_epi8(w[r]);
        }
        UNROLL for (int c = 0; c < columns; c++) {
            __m256i q = _mm256_loadu_si256((const __m256i *)(q_CK + c * length + k));
            UNROLL for (int r = 0; r < rows; r++) {
                __m256i pairs = _mm256_maddubs_epi16(size[r], _mm256_sign_epi8(q, w[r]));
                sum[r * columns + c] =
                    _mm256_add_epi32(sum[r * columns + c], _mm256_madd_epi16(pairs, one));
            }
        }
    }
    int32_t flat[8];
    _mm256_storeu_si256((__m256i *)flat, sums_of(sum));
    UNROLL for (int c = 0; c < columns; c++) UNROLL for (int r = 0; r < rows; r++)
        acc_CO[(ptrdiff_t)c * outputs + r] = flat[r * columns + c];
    if (whole < length)
        add_remainder(rows, columns, q_CK, w_RK, (int)whole, inputs, acc_CO, outputs);
}

/* The instruction multiplies unsigned by signed bytes: q + 128 goes in, and 128 * w is taken off
 * again. Both sums are kept modulo 2**32, in which their difference is exact. */
__attribute__((target("avx512f,avx512bw,avx512vnni"))) ALWAYS void
tile_vnni(int rows, int columns, const int8_t *q_CK, const int8_t *w_RK, int inputs,
          int32_t *acc_CO, int outputs) {
    __m512i sum[8], excess[2];
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    UNROLL for (int i = 0; i < rows * columns; i++) sum[i] = _mm512_setzero_si512();
    UNROLL for (int r = 0; r < rows; r++) excess[r] = _mm512_setzero_si512();
    for (ptrdiff_t k = 0; k < inputs; k += 64) {
        __mmask64 mask = inputs - k >= 64 ? ~0ull : ~0ull >> (64 - (inputs - k));
        __m512i w[2];
        UNROLL for (int r = 0; r < rows; r++) {
            w[r] = _mm512_maskz_loadu_epi8(mask, w_RK + (ptrdiff_t)r * inputs + k);
            excess[r] = _mm512_dpbusd_epi32(excess[r], offset, w[r]);
        }
        UNROLL for (int c = 0; c < columns; c++) {
            __m512i q = _mm512_maskz_loadu_epi8(mask, q_CK + (ptrdiff_t)c * inputs + k);
            q = _mm512_xor_si512(q, offset);
            UNROLL for (int r = 0; r < rows; r++) sum[r * columns + c] =
                _mm512_dpbusd_epi32(sum[r * columns + c], q, w[r]);
        }
    }
    UNROLL for (int c = 0; c < columns; c++) UNROLL for (int r = 0; r < rows; r++)
        acc_CO[(ptrdiff_t)c * outputs + r] =
            _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[r * columns + c], excess[r]));
}

#define TILE(set, features, rows, columns)                                                         \
    __attribute__((target(features))) static void set##_##rows##x##columns(                        \
        const int8_t *q_CK, const int8_t *w_RK, int inputs, int32_t *acc_CO, int outputs) {        \
        tile_##set(rows, columns, q_CK, w_RK, inputs, acc_CO, outputs);                            \
    }
#define TILES(set, features)                                                                       \
    TILE(set, features, 1, 1)                                                                      \
    TILE(set, features, 1, 2)                                                                      \
    TILE(set, features, 1, 3)                                                                      \
    TILE(set, features, 1, 4)                                                                      \
    TILE(set, features, 2, 2)                                                                      \
    TILE(set, features, 2, 3)                                                                      \
    TILE(set, features, 2, 4)
TILES(avx2, "avx2")
TILES(vnni, "avx512f,avx512bw,avx512vnni")
#define TABLE(set)                                                                                 \
    {{set##_1x1, set##_1x2, set##_1x3, set##_1x4}, {NULL, set##_2x2, set##_2x3, set##_2x4}}
#endif

/* By instruction set, rows less one, columns less one; what is missing is done in smaller tiles. */
static tile *const TILE_SRC[][2][4] = {
    [TG_PORTABLE] = {{portable_1x1}},
#ifdef __x86_64__
    [TG_AVX2] = TABLE(avx2),
    [TG_VNNI] = TABLE(vnni),
#endif
};

int tg_exact_best(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        return TG_VNNI;
    if (__builtin_cpu_supports("avx2"))
        return TG_AVX2;
#endif
    return TG_PORTABLE;
}

ALWAYS int least(int a, int b) {
    return a < b ? a : b;
}

/* Outputs from `first` to `end` for `columns` rows of activations. */
static void strip(tile *const tiles[2][4], int columns, const int8_t *q_CK, const int8_t *w_OK,
                  int inputs, int first, int end, int32_t *acc_CO, int outputs) {
    int o = first;
    if (tiles[1][columns - 1])
        for (; o + 2 <= end; o += 2)
            tiles[1][columns - 1](q_CK, w_OK + (ptrdiff_t)o * inputs, inputs, acc_CO + o, outputs);
    for (; o < end; o++)
        tiles[0][columns - 1](q_CK, w_OK + (ptrdiff_t)o * inputs, inputs, acc_CO + o, outputs);
}

static void part(tile *const tiles[2][4], int n, const int8_t *q_NK, const int8_t *w_OK, int inputs,
                 int first, int end, int32_t *acc_NO, int outputs) {
    int wide = tiles[0][3] ? 4 : 1;
    for (int block = first; block < end; block += BLOCK)
        for (int row = 0; row < n; row += wide)
            strip(tiles, least(wide, n - row), q_NK + (ptrdiff_t)row * inputs, w_OK, inputs, block,
                  least(block + BLOCK, end), acc_NO + (ptrdiff_t)row * outputs, outputs);
}

void tg_exact_multiply(int kernel, int threads, int n, int inputs, int outputs,
                       const int8_t *q_NK, const int8_t *w_OK, int32_t *acc_NO) {
    tile *const(*tiles)[4] = TILE_SRC[kernel];
    int blocks = (outputs + BLOCK - 1) / BLOCK, parts = least(threads, blocks);
    if (parts <= 1 || (int64_t)n * inputs * outputs < WORTH) {
        part(tiles, n, q_NK, w_OK, inputs, 0, outputs, acc_NO, outputs);
        return;
    }
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int p = 0; p < parts; p++) {
        int first = (int)((int64_t)blocks * p / parts) * BLOCK;
        int end = least((int)((int64_t)blocks * (p + 1) / parts) * BLOCK, outputs);
        part(tiles, n, q_NK, w_OK, inputs, first, end, acc_NO, outputs);
    }
}
