/* A residual in bfloat16: half the memory, and two thirds of the traffic of a pass with error feedback.
 *
 * A pass widens a piece of it into the cache, works there as on any other vector, and rounds what is left. It rounds up
 * or down at random, in proportion to how near either is: to nearest, a residual would stop growing at 256 times a
 * steady gradient. What bfloat16 holds stays as it is. A draw depends on the seed and the place alone, so an element is
 * rounded to the same bits by whichever pass, thread or instruction set, early or late.
 */
#ifndef SANDTABLE_BF16_H
#define SANDTABLE_BF16_H

#include "common.h"

enum { BF16_PIECE = 2048 /* elements: the piece, its gradient and what is packed of it share the first cache */ };

struct bf16 {
  uint16_t *values; /* the upper halves of floats */
  uint32_t seed;
};

static inline float bf16_at(const struct bf16 *residual, int64_t at) {
  const uint32_t bits = (uint32_t)residual->values[at] << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The residual = x, rounded: off by less than 2^-7 of it, by nothing on average. Finite numbers stay finite, infinity
 * and NaN are kept. */
void bf16_round(const struct bf16 *residual, const float *x, int64_t n, int threads);

/* One element of it = value, rounded. */
void bf16_put(const struct bf16 *residual, int64_t at, float value);

/* A sweep of common.h over n elements from place `at` on, at most BF16_PIECE. */
void bf16_sweep(const struct kernels *kernels, const float *gradient, const struct bf16 *residual, int64_t at,
                int64_t n, struct sweep *sweep);

/* Among n entries, those that a prediction zeroed (above zero_key) and that are not selected (above key) are put back;
 * those that are selected and were not zeroed are zeroed. */
void bf16_mend(const struct bf16 *residual, const int32_t *indices, const float *values, int64_t n, int32_t key,
               int32_t zero_key);

#endif
