/* Predicting the k-th largest magnitude from a sample of grains: two neighbouring cache lines cost hardly more than
 * one. */
#ifndef SANDTABLE_SAMPLE_H
#define SANDTABLE_SAMPLE_H

#include "bf16.h"
#include "common.h"

enum { GRAIN = 2 * LANES, SAMPLE_GRAINS = 4096 /* at most */, SAMPLED = SAMPLE_GRAINS * GRAIN };

struct sample_room {
  float values[SAMPLED];
  int32_t indices[SAMPLED + WORD]; /* of the largest, in the sample */
  float largest[SAMPLED + WORD];
  int32_t keys[SAMPLED];
  int32_t scratch[SAMPLED + LANES];
};

/* What is sampled: x, or a residual in bfloat16 where x is NULL; with the gradient added, where that is not NULL. */
struct sampled {
  const float *gradient, *x;
  const struct bf16 *bf16;
};

/* Copies up to `grains` jittered grains of n elements, the same ones in every call, dealt out to groups in turn: each
 * group's lie together, and those that cannot be shared evenly behind all. Returns the number of elements. */
int64_t take_sample(const struct sampled *of, int64_t n, int64_t grains, int64_t groups, float *sample);

/* Every stride-th element: what DGC estimates its threshold from. */
struct strided {
  struct sampled of;
  int64_t start, stride, count;
  float *out;
};
void take_strided(const struct strided *strided, int threads);

struct prediction {
  int32_t key;  /* about k elements lie above */
  int32_t low;  /* almost surely at least k lie above */
  int32_t high; /* almost surely fewer than k lie above; INT32_MAX: not known */
  bool tied;    /* so many of the sample equal `key` that the k-th largest of the vector is most likely that key */
};

/* The bracket is four standard deviations wide on either side; the deviation is that of the counts a grain, so clusters
 * widen it. 1 <= k <= n. */
struct prediction predict_border(const struct sampled *of, int64_t n, int64_t k, struct sample_room *room);

#endif
