/* Sums of int8 products: one row of weights times up to eight rows of activations at a time, in
 * blocks of weights that stay in the first cache, so that a batch reads memory once. */
#include "exact_rows.h"

#include <stddef.h>

#define UNROLL _Pragma("GCC unroll 8")
#define COLUMNS 8    /* rows of activations that share a row of weights */
#define BLOCK 48     /* rows of weights that meet all activations before the next ones do */
#define AHEAD 1024   /* bytes of weights to fetch before they are needed; measured on Zen 3 */
#define WORTH 100000 /* products below which a second thread costs more than it brings */

/* One row of weights times some rows of activations: acc_CO[c * outputs]. A function of its own for
 * each number of rows, without a loop over weights: compilers keep its sums in registers. VNNI alone
 * needs total_C, the sum of each row of activations. */
typedef void row_of(const int8_t *q_CK, const int8_t *w_K, int inputs, const int32_t *total_C,
                    int32_t *acc_CO, int outputs);

ALWAYS int least(int a, int b) {
    return a < b ? a : b;
}

CLONES static int32_t sum_from(int from, const int8_t *q_K, const int8_t *w_K, int inputs) {
    int32_t sum = 0;
    for (int k = from; k < inputs; k++)
        sum += (int16_t)q_K[k] * (int16_t)w_K[k];
    return sum;
}

CLONES static int32_t total_of(const int8_t *q_K, int inputs) {
    int32_t sum = 0;
    for (int k = 0; k < inputs; k++)
        sum += q_K[k];
    return sum;
}

static void portable_1(const int8_t *q_CK, const int8_t *w_K, int inputs, const int32_t *total_C,
                       int32_t *acc_CO, int outputs) {
    (void)total_C;
    (void)outputs;
    *acc_CO = sum_from(0, q_CK, w_K, inputs);
}

#ifdef __x86_64__
/* |w| times q with w's sign: pairs reach 2 * 127 * 127 = 32,258, which int16 holds, so the
 * saturating instruction never saturates. -128 is outside the range of both. */
AVX2 ALWAYS void row_avx2(int columns, const int8_t *q_CK, const int8_t *w_K, int inputs,
                          const int32_t *total_C, int32_t *acc_CO, int outputs) {
    (void)total_C;
    const __m256i one = _mm256_set1_epi16(1);
    ptrdiff_t length = inputs, whole = length & ~31;
    int32_t flat[COLUMNS];
    __m256i sum[COLUMNS];
    UNROLL for (int c = 0; c < COLUMNS; c++) sum[c] = _mm256_setzero_si256();
    for (ptrdiff_t k = 0; k < whole; k += 32) {
        __m256i w = _mm256_loadu_si256((const __m256i *)(w_K + k)), size = _mm256_abs_epi8(w);
        if (columns < COLUMNS)
            _mm_prefetch((const char *)w_K + k + AHEAD, _MM_HINT_T0);
        UNROLL for (int c = 0; c < columns; c++) {
            __m256i q = _mm256_loadu_si256((const __m256i *)(q_CK + c * length + k));
            __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(q, w));
            sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(pairs, one));
        }
    }
    _mm256_storeu_si256((__m256i *)flat, sums_of(sum));
    UNROLL for (int c = 0; c < columns; c++) acc_CO[(ptrdiff_t)c * outputs] = flat[c];
    if (whole < length)
        for (int c = 0; c < columns; c++)
            acc_CO[(ptrdiff_t)c * outputs] += sum_from((int)whole, q_CK + c * length, w_K, inputs);
}

#define VNNI_FEATURES "avx512f,avx512bw,avx512vnni"
#define VNNI __attribute__((target(VNNI_FEATURES)))

/* The instruction multiplies unsigned by signed bytes: w + 128 goes in, and 128 * q is taken off
 * again. Both sums are kept modulo 2**32, in which their difference is exact. */
VNNI ALWAYS void row_vnni(int columns, const int8_t *q_CK, const int8_t *w_K, int inputs,
                          const int32_t *total_C, int32_t *acc_CO, int outputs) {
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    ptrdiff_t length = inputs;
    __m512i sum[COLUMNS];
    UNROLL for (int c = 0; c < columns; c++) sum[c] = _mm512_setzero_si512();
    for (ptrdiff_t k = 0; k < length; k += 64) {
        __mmask64 mask = length - k >= 64 ? ~0ull : ~0ull >> (64 - (length - k));
        __m512i w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, w_K + k), offset);
        UNROLL for (int c = 0; c < columns; c++) {
            __m512i q = _mm512_maskz_loadu_epi8(mask, q_CK + c * length + k);
            sum[c] = _mm512_dpbusd_epi32(sum[c], w, q);
        }
    }
    UNROLL for (int c = 0; c < columns; c++) acc_CO[(ptrdiff_t)c * outputs] =
        (int32_t)((uint32_t)_mm512_reduce_add_epi32(sum[c]) - 128u * (uint32_t)total_C[c]);
}

#define ROW(set, features, columns)                                                                \
    __attribute__((target(features), noinline)) static void set##_##columns(                       \
        const int8_t *q_CK, const int8_t *w_K, int inputs, const int32_t *total_C,                 \
        int32_t *acc_CO, int outputs) {                                                            \
        row_##set(columns, q_CK, w_K, inputs, total_C, acc_CO, outputs);                           \
    }
#define ROWS(set, features)                                                                        \
    ROW(set, features, 1)                                                                          \
    ROW(set, features, 2)                                                                          \
    ROW(set, features, 3)                                                                          \
    ROW(set, features, 4)                                                                          \
    ROW(set, features, 5)                                                                          \
    ROW(set, features, 6)                                                                          \
    ROW(set, features, 7)                                                                          \
    ROW(set, features, 8)
ROWS(avx2, "avx2")
ROWS(vnni, VNNI_FEATURES)
#define TABLE(set) {set##_1, set##_2, set##_3, set##_4, set##_5, set##_6, set##_7, set##_8}
#endif

/* By instruction set, and number of rows less one. */
static row_of *const ROWS_SC[][COLUMNS] = {
    [TG_PORTABLE] = {portable_1},
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

static void part(int kernel, int n, const int8_t *q_NK, const int8_t *w_OK, int inputs, int first,
                 int end, int32_t *acc_NO, int outputs) {
    int wide = ROWS_SC[kernel][COLUMNS - 1] ? COLUMNS : 1;
    for (int block = first; block < end; block += BLOCK)
        for (int row = 0; row < n; row += wide) {
            int columns = least(wide, n - row);
            const int8_t *q_CK = q_NK + (ptrdiff_t)row * inputs;
            int32_t total_C[COLUMNS] = {0}, *acc_CO = acc_NO + (ptrdiff_t)row * outputs;
            for (int c = 0; kernel == TG_VNNI && c < columns; c++)
                total_C[c] = total_of(q_CK + (ptrdiff_t)c * inputs, inputs);
            for (int o = block; o < least(block + BLOCK, end); o++)
                ROWS_SC[kernel][columns - 1](q_CK, w_OK + (ptrdiff_t)o * inputs, inputs, total_C,
                                             acc_CO + o, outputs);
        }
}

void tg_exact_multiply(int kernel, int threads, int n, int inputs, int outputs,
                       const int8_t *q_NK, const int8_t *w_OK, int32_t *acc_NO) {
    int blocks = (outputs + BLOCK - 1) / BLOCK, parts = least(threads, blocks);
    if (parts <= 1 || (int64_t)n * inputs * outputs < WORTH) {
        part(kernel, n, q_NK, w_OK, inputs, 0, outputs, acc_NO, outputs);
        return;
    }
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int p = 0; p < parts; p++) {
        int first = (int)((int64_t)blocks * p / parts) * BLOCK;
        int end = least((int)((int64_t)blocks * (p + 1) / parts) * BLOCK, outputs);
        part(kernel, n, q_NK, w_OK, inputs, first, end, acc_NO, outputs);
    }
}
