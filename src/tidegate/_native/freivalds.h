/* Products of integer rows with secret columns, mod 2^64. spec/prove.md says what they are for. */
#ifndef TIDEGATE_FREIVALDS_H
#define TIDEGATE_FREIVALDS_H

#include <stdint.h>

/* product_NC[n * columns + c] = sum over i of y_NI[n * inputs + i] * r_CI[c * inputs + i], mod 2^64.
 * Returns the first row that holds a number beyond -limit to limit, or -1. */
int64_t tg_freivalds(const int32_t *y_NI, int64_t rows, int64_t inputs, const uint64_t *r_CI,
                     int columns, int32_t limit, uint64_t *product_NC);

#endif
