/* Selection by a threshold, and its ordered output; topk.c ends in the same pass. */
#ifndef SANDTABLE_SELECT_H
#define SANDTABLE_SELECT_H

#include "common.h"

/* What to select: keys above `key` before position `cut`, keys above `key_after` from there on. A plain threshold has
 * cut = n; the exact top-k cuts ties at the position of the last one that it takes. */
struct selection {
  const float *gradient; /* NULL: no error feedback; else residual += gradient first */
  float *x;              /* the residual, or the vector that is only read */
  int64_t n;
  bool zero; /* write 0 in x where an entry is written */
  int32_t key, key_after;
  int64_t cut;
};

struct payload {
  int32_t *indices;
  float *values;
  int64_t capacity;
};

/* Entries are written in ascending index order, at most payload->capacity. Returns the true count. */
int64_t run_selection(const struct selection *selection, const struct payload *payload, int threads);

/* The key for which key(|x|) > result means |x| > threshold, the comparison made in double. NaN is the caller's error.
 */
int32_t threshold_key(double threshold);

#endif
