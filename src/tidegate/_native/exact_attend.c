/* Attention of one row over its sequence, a group of query heads that share a key head at a time. */
#include "exact_rows.h"

#include <stddef.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define WORTH_ATTENDING 30000 /* products below which a second thread costs more than it brings */
#define RUN 16                /* 16 * 32767 * 4095 < 2**31: products that int32 can add up */

/* acc_GT for the first `count` places of a page, rounded up to 8. */
typedef void scorer(int group, int size, int count, const int16_t *q_GD, const int16_t *key_TD,
                    int32_t *acc_GT);
/* Adds what the first `count` places of a page weigh, rounded up to RUN, to sum_GD. */
typedef void weigher(int group, int size, int count, const int16_t *b_GT, ptrdiff_t stride,
                     const int16_t *value_TD, int64_t *sum_GD);

CLONES static void score_portable(int group, int size, int count, const int16_t *q_GD,
                                  const int16_t *key_TD, int32_t *acc_GT) {
    for (int g = 0; g < group; g++)
        for (int t = 0; t < count; t++) {
            const int16_t *q_D = q_GD + (ptrdiff_t)g * size, *key_D = key_TD + (ptrdiff_t)t * size;
            int32_t sum = 0;
            for (int d = 0; d < size; d++)
                sum += (int32_t)q_D[d] * key_D[d];
            acc_GT[g * TG_PAGE + t] = sum;
        }
}

CLONES static void weigh_portable(int group, int size, int count, const int16_t *b_GT,
                                  ptrdiff_t stride, const int16_t *value_TD, int64_t *sum_GD) {
    for (int g = 0; g < group; g++)
        for (int t = 0; t < count; t++)
            for (int d = 0; d < size; d++)
                sum_GD[g * size + d] +=
                    (int32_t)b_GT[g * stride + t] * value_TD[(ptrdiff_t)t * size + d];
}

#ifdef __x86_64__
/* Eight places and one query head at a time. */
AVX2 ALWAYS void scores_of(int group, ptrdiff_t size, int count, const int16_t *q_GD,
                           const int16_t *key_TD, int32_t *acc_GT) {
    for (ptrdiff_t t = 0; t < count; t += 8)
        for (ptrdiff_t g = 0; g < group; g++) {
            const int16_t *q_D = q_GD + g * size, *key = key_TD + t * size;
            __m256i sum[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                sum[i] = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (ptrdiff_t d = 0; d < size; d += 16) {
                __m256i q = _mm256_loadu_si256((const __m256i *)(q_D + d));
#pragma GCC unroll 8
                for (int i = 0; i < 8; i++) {
                    __m256i k = _mm256_loadu_si256((const __m256i *)(key + i * size + d));
                    sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(q, k));
                }
            }
            _mm256_storeu_si256((__m256i *)(acc_GT + g * TG_PAGE + t), sums_of(sum));
        }
}

/* The usual head sizes as constants, so that addresses need no arithmetic. */
AVX2 static void score_avx2(int group, int size, int count, const int16_t *q_GD,
                            const int16_t *key_TD, int32_t *acc_GT) {
    if (size == 64)
        scores_of(group, 64, count, q_GD, key_TD, acc_GT);
    else if (size == 128)
        scores_of(group, 128, count, q_GD, key_TD, acc_GT);
    else
        scores_of(group, size, count, q_GD, key_TD, acc_GT);
}

AVX2 ALWAYS void widen(int64_t *sum, __m128i low, __m128i high) {
    __m256i *to = (__m256i *)sum;
    _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), _mm256_cvtepi32_epi64(low)));
    to++;
    _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), _mm256_cvtepi32_epi64(high)));
}

/* One RUN of places times 16 numbers of a head, for `group` heads: neighbouring places are
 * interleaved, so that one instruction multiplies and adds two of them. */
AVX2 ALWAYS void weigh_run(int group, int size, const int16_t *b_GT, ptrdiff_t stride,
                           const int16_t *value_TD, int64_t *sum_GD) {
    __m256i low[4], high[4];
#pragma GCC unroll 4
    for (int g = 0; g < group; g++)
        low[g] = high[g] = _mm256_setzero_si256();
#pragma GCC unroll 1
    for (int t = 0; t < RUN; t += 2) {
        const int16_t *value = value_TD + (ptrdiff_t)t * size;
        __m256i one = _mm256_loadu_si256((const __m256i *)value);
        __m256i two = _mm256_loadu_si256((const __m256i *)(value + size));
        __m256i first = _mm256_unpacklo_epi16(one, two), second = _mm256_unpackhi_epi16(one, two);
#pragma GCC unroll 4
        for (int g = 0; g < group; g++) {
            int32_t pair;
            memcpy(&pair, b_GT + g * stride + t, sizeof pair);
            __m256i b = _mm256_set1_epi32(pair);
            low[g] = _mm256_add_epi32(low[g], _mm256_madd_epi16(first, b));
            high[g] = _mm256_add_epi32(high[g], _mm256_madd_epi16(second, b));
        }
    }
    /* Unpacking left numbers 0-3, 8-11 in `low` and 4-7, 12-15 in `high`. */
#pragma GCC unroll 4
    for (int g = 0; g < group; g++) {
        widen(sum_GD + g * size, _mm256_castsi256_si128(low[g]), _mm256_castsi256_si128(high[g]));
        widen(sum_GD + g * size + 8, _mm256_extracti128_si256(low[g], 1),
              _mm256_extracti128_si256(high[g], 1));
    }
}

AVX2 static void weigh_avx2(int group, int size, int count, const int16_t *b_GT, ptrdiff_t stride,
                            const int16_t *value_TD, int64_t *sum_GD) {
    for (int t = 0; t < count; t += RUN)
        for (int d = 0; d < size; d += 16) {
            const int16_t *value = value_TD + (ptrdiff_t)t * size + d, *b = b_GT + t;
            int64_t *sum = sum_GD + d;
            int g = 0;
            for (; g + 4 <= group; g += 4)
                weigh_run(4, size, b + g * stride, stride, value, sum + g * size);
            if (group - g == 3)
                weigh_run(3, size, b + g * stride, stride, value, sum + g * size);
            if (group - g == 2)
                weigh_run(2, size, b + g * stride, stride, value, sum + g * size);
            if (group - g == 1)
                weigh_run(1, size, b + g * stride, stride, value, sum + g * size);
        }
}
#endif

/* Turns sums into base-2 logits; returns the largest, as an integer that is ordered like them. */
CLONES static int32_t logits_of(int32_t most, const int32_t *acc_T, float scale,
                                const float *key_scale_T, int count, float *z_T) {
    for (int t = 0; t < count; t++) {
        float z = (float)acc_T[t] * scale * key_scale_T[t];
        int32_t bits = bits_of(z), order = bits ^ ((bits >> 31) & 0x7fffffff);
        z_T[t] = z;
        most = order > most ? order : most;
    }
    return most;
}

/* Replaces z by e * value scale; returns the sum of the probabilities in 2**-24. */
CLONES static int64_t weights_of(float *z_T, float largest, const float *value_scale_T, int count,
                                 int32_t *most) {
    int64_t sum = 0;
    int32_t loudest = *most;
    for (int t = 0; t < count; t++) {
        float e = exp2_below(z_T[t] - largest);
        float a = e * value_scale_T[t];
        int32_t bits = bits_of(a);
        sum += (int32_t)rintf(e * 16777216.0f);
        z_T[t] = a;
        loudest = bits > loudest ? bits : loudest;
    }
    *most = loudest;
    return sum;
}

CLONES static void round_weights(const float *a_T, int count, float reciprocal, int16_t *b_T) {
    for (int t = 0; t < count; t++)
        b_T[t] = (int16_t)(int32_t)rintf(a_T[t] * reciprocal);
}

CLONES static void out_of(const int64_t *sum_D, int size, float back, float *out_D) {
    for (int d = 0; d < size; d++)
        out_D[d] = (float)sum_D[d] * back;
}

/* One query head on its way: its largest logit in integer order, and the two units of its sums. */
typedef struct {
    int32_t most;
    float reciprocal, back;
} head;

/* What one thread needs for a group of heads: logits and weights of all places, and their sums. */
typedef struct {
    ptrdiff_t stride; /* places, in whole pages */
    float *z_GP;
    int16_t *b_GP;
    int32_t *acc_GT;
    int64_t *sum_GD;
    head *head_G;
} scratch;

static ptrdiff_t rounded(ptrdiff_t bytes) {
    return (bytes + 63) & ~(ptrdiff_t)63;
}

static ptrdiff_t lay_out(char *work, int longest, const tg_pages *pages, scratch *to) {
    ptrdiff_t group = pages->heads / pages->kv_heads, at = 0;
    to->stride = (ptrdiff_t)(longest + TG_PAGE - 1) / TG_PAGE * TG_PAGE;
    to->z_GP = (float *)(work + at);
    at += rounded(group * to->stride * (ptrdiff_t)sizeof(float));
    to->b_GP = (int16_t *)(work + at);
    at += rounded(group * to->stride * (ptrdiff_t)sizeof(int16_t));
    to->acc_GT = (int32_t *)(work + at);
    at += rounded(group * TG_PAGE * (ptrdiff_t)sizeof(int32_t));
    to->sum_GD = (int64_t *)(work + at);
    at += rounded(group * pages->size * (ptrdiff_t)sizeof(int64_t));
    to->head_G = (head *)(work + at);
    return at + rounded(group * (ptrdiff_t)sizeof(head));
}

int64_t tg_exact_work(int threads, int longest, const tg_pages *pages) {
    char none;
    scratch ignored;
    return (int64_t)threads * lay_out(&none, longest, pages, &ignored);
}

/* One row reading one key head. */
typedef struct {
    scorer *score;
    weigher *weigh;
    const tg_pages *pages;
    const int32_t *table_P;
    int length, kv_head;
} reading;

ALWAYS ptrdiff_t page_at(const reading *r, int place) {
    ptrdiff_t page = r->table_P[place / TG_PAGE];
    return (page * r->pages->kv_heads + r->kv_head) * TG_PAGE;
}

ALWAYS int places_from(const reading *r, int place) {
    return r->length - place < TG_PAGE ? r->length - place : TG_PAGE;
}

ALWAYS int up_to(int count, int multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

/* From the logits of one head to its weights, as integers. */
static void soften(const reading *r, float *z_P, int16_t *b_P, head *h) {
    float largest = float_of(h->most ^ ((h->most >> 31) & 0x7fffffff));
    int32_t loudest = 0;
    int64_t sum = 0;
    for (int t = 0; t < r->length; t += TG_PAGE)
        sum += weights_of(z_P + t, largest, r->pages->value_scale + page_at(r, t),
                          places_from(r, t), &loudest);
    int quiet = loudest < QUIET_BITS;
    float top = float_of(loudest);
    h->reciprocal = quiet ? 0.0f : 32767.0f / top;
    h->back = quiet ? 0.0f : (top / 32767.0f) * (16777216.0f / (float)sum);
    round_weights(z_P, r->length, h->reciprocal, b_P);
    for (int t = r->length; t < up_to(r->length, RUN); t++)
        b_P[t] = 0;
}

static void attend(const reading *r, const int16_t *q_GD, const float *scale_G, float unit,
                   const scratch *s, float *out_GD) {
    const tg_pages *pages = r->pages;
    int group = pages->heads / pages->kv_heads, size = pages->size;
    for (int g = 0; g < group; g++)
        s->head_G[g].most = INT32_MIN;
    for (int t = 0; t < r->length; t += TG_PAGE) {
        ptrdiff_t at = page_at(r, t);
        int count = places_from(r, t);
        r->score(group, size, count, q_GD, pages->key + at * size, s->acc_GT);
        for (int g = 0; g < group; g++)
            s->head_G[g].most =
                logits_of(s->head_G[g].most, s->acc_GT + g * TG_PAGE, scale_G[g] * unit,
                          pages->key_scale + at, count, s->z_GP + g * s->stride + t);
    }
    for (int g = 0; g < group; g++)
        soften(r, s->z_GP + g * s->stride, s->b_GP + g * s->stride, s->head_G + g);
    memset(s->sum_GD, 0, sizeof(int64_t) * (size_t)group * (size_t)size);
    for (int t = 0; t < r->length; t += TG_PAGE)
        r->weigh(group, size, places_from(r, t), s->b_GP + t, s->stride,
                 pages->value + page_at(r, t) * size, s->sum_GD);
    for (int g = 0; g < group; g++)
        out_of(s->sum_GD + (ptrdiff_t)g * size, size, s->head_G[g].back, out_GD + g * size);
}

static int longest_of(const tg_rows *rows) {
    int longest = 0;
    for (int row = 0; row < rows->n; row++)
        longest = rows->position_N[row] + 1 > longest ? rows->position_N[row] + 1 : longest;
    return longest;
}

int tg_exact_attend(int kernel, int threads, const int16_t *q_NHD, const float *scale_NH,
                    float unit, const tg_rows *rows, const tg_pages *pages, void *work,
                    float *scratch_NO, int8_t *q_NO, float *scale_N) {
    int longest = longest_of(rows), heads = pages->heads, group = heads / pages->kv_heads;
    int outputs = heads * pages->size, refused = 0;
    reading plan = {score_portable, weigh_portable, pages, NULL, 0, 0};
    scratch ignored;
    ptrdiff_t each = lay_out(work, longest, pages, &ignored);
#ifdef __x86_64__
    if (kernel >= TG_AVX2 && pages->size % 16 == 0) {
        plan.score = score_avx2;
        plan.weigh = weigh_avx2;
    }
#endif
    if ((int64_t)rows->n * outputs * longest < WORTH_ATTENDING)
        threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : refused)
    {
        float_state kept = float_begin();
        reading r = plan;
        scratch s;
#ifdef _OPENMP
        lay_out((char *)work + each * omp_get_thread_num(), longest, pages, &s);
#else
        lay_out(work, longest, pages, &s);
#endif
#pragma omp for schedule(dynamic, 4)
        for (int item = 0; item < rows->n * pages->kv_heads; item++) {
            int row = item / pages->kv_heads, first = item % pages->kv_heads * group;
            ptrdiff_t at = (ptrdiff_t)row * heads + first;
            r.kv_head = item % pages->kv_heads;
            r.length = rows->position_N[row] + 1;
            r.table_P = rows->table_SP + (ptrdiff_t)rows->sequence_N[row] * rows->pages;
            attend(&r, q_NHD + at * pages->size, scale_NH + at, unit, &s,
                   scratch_NO + at * pages->size);
        }
#pragma omp for
        for (int row = 0; row < rows->n; row++)
            refused |= tg_q8(scratch_NO + (ptrdiff_t)row * outputs, outputs,
                             q_NO + (ptrdiff_t)row * outputs, scale_N + row);
        float_end(kept);
    }
    return refused;
}
