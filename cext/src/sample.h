/* Predicting the k-th largest magnitude from a sample of cache lines. */
#ifndef SANDTABLE_SAMPLE_H
#define SANDTABLE_SAMPLE_H

#include "common.h"

enum { SAMPLE_LINES = 8192 }; /* at most */

struct sample_room {
  float values[SAMPLE_LINES * LANES];
  int32_t indices[SAMPLE_LINES * LANES + WORD]; /* of the largest, in the sample */
  float largest[SAMPLE_LINES * LANES + WORD];
  int32_t keys[SAMPLE_LINES * LANES];
  int32_t scratch[SAMPLE_LINES * LANES];
};

/* Copies up to `lines` jittered cache lines of x (of gradient + x, where gradient is not NULL), the same ones in every
 * call. Returns the number of elements. */
int64_t take_sample(const float *gradient, const float *x, int64_t n, int64_t lines, float *sample);

struct prediction {
  int32_t key;  /* about k elements lie above */
  int32_t low;  /* almost surely at least k lie above */
  int32_t high; /* almost surely fewer than k lie above; INT32_MAX: not known */
};

/* The bracket is four standard deviations wide on either side; the deviation is that of the counts a line, so clusters
 * widen it. 1 <= k <= n. */
struct prediction predict_border(const float *gradient, const float *x, int64_t n, int64_t k, struct sample_room *room);

#endif
