/* SHA-256 (FIPS 180-4) of many rows of one size, where the processor has instructions for it. */
#ifndef TIDEGATE_SHA256_H
#define TIDEGATE_SHA256_H

#include <stdint.h>

/* Whether this processor has them; without, tg_sha256_rows must not be called. */
int tg_sha256_able(void);

/* The hash of each of `rows` rows of `size` bytes goes to 32 bytes of `out`, `out_stride` apart. */
void tg_sha256_rows(const uint8_t *data, int64_t size, int64_t rows, uint8_t *out,
                    int64_t out_stride);

#endif
