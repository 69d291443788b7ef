#include "select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TG_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define TG_CLONES
#endif

#define LANES 16
#define SCORE_LIMIT 1048576.0 /* nats; keeps every sum far inside 64 bits */
#define BUCKETS 1024
#define BUCKET_SHIFT (TG_SCORE_BITS - 4) /* sixteenths of a nat */

tg_noise *tg_noise_new(int vocabulary) {
    int blocks = (vocabulary + TG_BLOCK - 1) / TG_BLOCK;
    tg_noise *noise = calloc(1, sizeof *noise);
    if (!noise)
        return NULL;
    noise->blocks = blocks;
    noise->time_N = malloc(sizeof(uint64_t) * (size_t)blocks);
    noise->gumbel_N = malloc(sizeof(int64_t) * (size_t)blocks);
    noise->first_N = malloc((size_t)blocks);
    noise->bound_N = malloc(sizeof(int64_t) * (size_t)blocks);
    noise->order_N = malloc(sizeof(int32_t) * (size_t)blocks);
    noise->maxima_N = malloc(sizeof(float) * (size_t)blocks);
    if (!noise->time_N || !noise->gumbel_N || !noise->first_N || !noise->bound_N ||
        !noise->order_N || !noise->maxima_N) {
        tg_noise_free(noise);
        return NULL;
    }
    return noise;
}

void tg_noise_free(tg_noise *noise) {
    if (!noise)
        return;
    free(noise->time_N);
    free(noise->gumbel_N);
    free(noise->first_N);
    free(noise->bound_N);
    free(noise->order_N);
    free(noise->maxima_N);
    free(noise);
}

void tg_noise_draw(tg_noise *noise, const uint8_t seed[16], uint32_t position) {
    tg_stream_init(&noise->stream, seed, position);
    tg_block_times(&noise->stream, noise->blocks, noise->time_N, noise->first_N);
    for (int b = 0; b < noise->blocks; b++)
        noise->gumbel_N[b] = tg_gumbel_of_time(noise->time_N[b]);
}

/* Largest score of each block. A NaN anywhere makes `*bad` nonzero. */
TG_CLONES static void block_maxima(const float *scores_V, int vocabulary, float *maxima_N,
                                   int *bad) {
    int nan_seen = 0;
    for (int b = 0, start = 0; start < vocabulary; b++, start += TG_BLOCK) {
        int size = vocabulary - start < TG_BLOCK ? vocabulary - start : TG_BLOCK;
        const float *z = scores_V + start;
        float lane[LANES], top;
        int wrong[LANES] = {0}, i = 0;
        for (int j = 0; j < LANES; j++)
            lane[j] = -INFINITY;
        for (; i + LANES <= size; i += LANES)
            for (int j = 0; j < LANES; j++) {
                lane[j] = z[i + j] > lane[j] ? z[i + j] : lane[j];
                wrong[j] |= z[i + j] != z[i + j];
            }
        for (; i < size; i++) {
            lane[0] = z[i] > lane[0] ? z[i] : lane[0];
            wrong[0] |= z[i] != z[i];
        }
        top = lane[0];
        for (int j = 0; j < LANES; j++) {
            top = lane[j] > top ? lane[j] : top;
            nan_seen |= wrong[j];
        }
        maxima_N[b] = top;
    }
    *bad = nan_seen;
}

/* A score in units, a multiple of 2**grain, cut at SCORE_LIMIT below the origin. */
static inline int64_t units(const tg_noise *noise, float score, int grain) {
    double above = (double)score - noise->origin;
    above = above < -SCORE_LIMIT ? -SCORE_LIMIT : above;
    return llrint(above * (double)(1ll << (TG_SCORE_BITS - grain))) * (1ll << grain);
}

/* Upper bound of score + noise per block; INT64_MIN where nothing survives. Returns the block with
 * the greatest bound, or -1. */
static int bounds(tg_noise *noise, const float *scores_V, int vocabulary, int greedy, int grain) {
    float top = -INFINITY;
    int bad = 0, best = -1;
    block_maxima(scores_V, vocabulary, noise->maxima_N, &bad);
    for (int b = 0; b < noise->blocks; b++)
        top = noise->maxima_N[b] > top ? noise->maxima_N[b] : top;
    if (bad || !isfinite(top))
        return -1;
    /* Scores beyond the limit count from the best one, or many would be cut to the same value. */
    noise->origin = fabsf(top) > SCORE_LIMIT ? top : 0;
    for (int b = 0; b < noise->blocks; b++) {
        noise->bound_N[b] = INT64_MIN;
        if (noise->maxima_N[b] == -INFINITY)
            continue;
        noise->bound_N[b] =
            units(noise, noise->maxima_N[b], grain) + (greedy ? 0 : noise->gumbel_N[b]);
        if (best < 0 || noise->bound_N[b] > noise->bound_N[best])
            best = b;
    }
    return best;
}

static inline int64_t noise_of(const tg_noise *noise, int token, int greedy) {
    int b = token / TG_BLOCK;
    if (greedy)
        return 0;
    return tg_gumbel_in_block(&noise->stream, (uint32_t)token, noise->time_N[b],
                              noise->first_N[b]);
}

int32_t tg_sample(tg_noise *noise, const float *scores_V, int vocabulary, int greedy) {
    int first = bounds(noise, scores_V, vocabulary, greedy, 0);
    int64_t best = INT64_MIN;
    int32_t winner = -1;
    if (first < 0)
        return -1;
    for (int round = -1; round < noise->blocks; round++) {
        int b = round < 0 ? first : round;
        if (round == first || noise->bound_N[b] == INT64_MIN || noise->bound_N[b] < best)
            continue;
        int64_t most = greedy ? 0 : noise->gumbel_N[b];
        int end = (b + 1) * TG_BLOCK < vocabulary ? (b + 1) * TG_BLOCK : vocabulary;
        for (int token = b * TG_BLOCK; token < end; token++) {
            int64_t score = units(noise, scores_V[token], 0);
            if (scores_V[token] == -INFINITY || score + most < best)
                continue;
            score += noise_of(noise, token, greedy);
            if (score > best || (score == best && token < winner)) {
                best = score;
                winner = token;
            }
        }
    }
    return winner;
}

typedef struct {
    int64_t sum;
    int64_t score;
    int32_t token;
} entry;

static inline int better(const entry *a, const entry *b) {
    return a->sum != b->sum ? a->sum > b->sum : a->token < b->token;
}

static int by_rank(const void *a, const void *b) {
    return better(b, a) - better(a, b);
}

/* The worst kept entry stays at the root. */
static void sift_down(entry *heap, int size, int i) {
    for (;;) {
        int worst = i;
        for (int child = 2 * i + 1; child <= 2 * i + 2 && child < size; child++)
            if (better(&heap[worst], &heap[child]))
                worst = child;
        if (worst == i)
            return;
        entry swap = heap[i];
        heap[i] = heap[worst];
        heap[worst] = swap;
        i = worst;
    }
}

static int keep(entry *heap, int size, int wanted, const entry *candidate) {
    if (size < wanted) {
        heap[size++] = *candidate;
        if (size == wanted)
            for (int i = wanted / 2; i >= 0; i--)
                sift_down(heap, size, i);
        return size;
    }
    if (better(candidate, &heap[0])) {
        heap[0] = *candidate;
        sift_down(heap, size, 0);
    }
    return size;
}

static inline int bucket_of(int64_t greatest, int64_t bound) {
    int64_t bucket = (greatest - bound) >> BUCKET_SHIFT;
    return bucket < BUCKETS - 1 ? (int)bucket : BUCKETS - 1;
}

/* Blocks in descending order of bound, to a sixteenth of a nat: a counting sort. */
static int order_blocks(tg_noise *noise, int64_t greatest) {
    int32_t start[BUCKETS + 1] = {0};
    int live = 0;
    for (int b = 0; b < noise->blocks; b++)
        if (noise->bound_N[b] != INT64_MIN)
            start[bucket_of(greatest, noise->bound_N[b]) + 1]++;
    for (int i = 0; i < BUCKETS; i++)
        start[i + 1] += start[i];
    for (int b = 0; b < noise->blocks; b++)
        if (noise->bound_N[b] != INT64_MIN) {
            noise->order_N[start[bucket_of(greatest, noise->bound_N[b])]++] = b;
            live++;
        }
    return live;
}

static inline int32_t distance(int64_t from, int64_t to) {
    return from - to > INT32_MAX ? INT32_MAX : (int32_t)(from - to);
}

int tg_candidates(tg_noise *noise, const float *scores_V, int vocabulary, int greedy, int grain,
                  int wanted, int32_t *ids_K, int32_t *gap_K, int32_t *fall_K) {
    int top = bounds(noise, scores_V, vocabulary, greedy, grain), size = 0, live;
    entry *heap;
    if (top < 0 || wanted <= 0 || !(heap = malloc(sizeof(entry) * (size_t)wanted)))
        return -1;
    int64_t greatest = noise->bound_N[top];
    live = order_blocks(noise, greatest);
    for (int i = 0; i < live; i++) {
        int b = noise->order_N[i];
        int full = size == wanted;
        if (full && noise->bound_N[b] < heap[0].sum) {
            /* Within a bucket the order is loose; past it nothing can enter any more. */
            if (bucket_of(greatest, noise->bound_N[b]) > bucket_of(greatest, heap[0].sum))
                break;
            continue;
        }
        int64_t most = greedy ? 0 : noise->gumbel_N[b];
        int end = (b + 1) * TG_BLOCK < vocabulary ? (b + 1) * TG_BLOCK : vocabulary;
        for (int token = b * TG_BLOCK; token < end; token++) {
            entry candidate = {0, units(noise, scores_V[token], grain), token};
            if (scores_V[token] == -INFINITY ||
                (size == wanted && candidate.score + most < heap[0].sum))
                continue;
            candidate.sum = candidate.score + noise_of(noise, token, greedy);
            size = keep(heap, size, wanted, &candidate);
        }
    }
    qsort(heap, (size_t)size, sizeof(entry), by_rank);
    int64_t highest = INT64_MIN;
    for (int i = 0; i < size; i++)
        highest = heap[i].score > highest ? heap[i].score : highest;
    for (int i = 0; i < size; i++) {
        ids_K[i] = heap[i].token;
        gap_K[i] = distance(heap[0].sum, heap[i].sum);
        fall_K[i] = distance(highest, heap[i].score);
    }
    free(heap);
    return size;
}
