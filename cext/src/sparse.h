/* Work on the listed places of a vector: adding, clearing, putting, gathering. */
#ifndef SANDTABLE_SPARSE_H
#define SANDTABLE_SPARSE_H

#include "common.h"

/* A sparse vector: `count` entries. */
struct entries {
  const int32_t *indices;
  const float *values; /* may be NULL where only places matter */
  int64_t count;
};

/* Position of the first index outside [0, n), or -1. *strictly_ascending tells whether the list may be cut among
 * threads: no index occurs twice. */
int64_t find_bad_index(const struct entries *list, int64_t n, bool *strictly_ascending);

/* All of these trust the indices: find_bad_index has passed. A list that is not strictly ascending is worked on by
 * one thread, in its order, so duplicates are right as well. */
void scatter_add(float *out, const struct entries *list, float scale, bool ascending, int threads);
void zero_at(float *x, const struct entries *list, bool ascending, int threads);
void put(float *x, const struct entries *list, bool ascending, int threads);
void gather(const float *x, const struct entries *list, float *values);

#endif
