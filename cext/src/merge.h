/* Merging P ascending lists in O(total entries), values of one index added in list (rank) order. */
#ifndef SANDTABLE_MERGE_H
#define SANDTABLE_MERGE_H

#include "sparse.h"

enum { MAX_LISTS = 4096 }; /* ranks whose payloads are taken at once */

/* `lists` ascending lists, one behind the other: list p is entries offsets[p] .. offsets[p+1]-1. */
struct lists {
  struct entries all;
  const int64_t *offsets;
  int64_t count;
};

/* Where the union goes; `room` entries fit. */
struct merged {
  int32_t *indices;
  float *values;
  int64_t room;
};

struct merge_outcome {
  int64_t count;    /* entries of the union; -1: refused, nothing was written */
  int64_t disorder; /* the first entry that is negative or smaller than the one before it in its list, or -1 */
  int64_t needed;   /* room that would always do: the total, or every index from the smallest to the largest */
};

/* The first entry from `at` on whose index is `base` or more: found by doubling steps, then by halving. */
static inline int64_t seek_index(const int32_t *indices, int64_t at, int64_t end, int64_t base) {
  int64_t step = 1;
  while (at + step <= end && indices[at + step - 1] < base) {
    at += step;
    step *= 2;
  }
  end = min64(end, at + step - 1);
  while (at < end) {
    int64_t middle = at + (end - at) / 2;
    if (indices[middle] < base)
      at = middle + 1;
    else
      end = middle;
  }
  return at;
}

/* Union of the lists, ascending; values of one index are added in list order, beginning with the first. */
struct merge_outcome merge_sorted(const struct lists *lists, const struct merged *out, int threads);

#endif
