/* Work on the listed places of a vector: adding, clearing, gathering, merging. */
#ifndef SANDTABLE_SPARSE_H
#define SANDTABLE_SPARSE_H

#include "common.h"

enum { MAX_LISTS = 4096 }; /* ranks whose payloads merge_sorted takes at once */

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
void zero_at(float *x, const struct entries *list);
void gather(const float *x, const struct entries *list, float *values);

/* `lists` ascending lists, one behind the other: list p is entries offsets[p] .. offsets[p+1]-1. */
struct lists {
  struct entries all;
  const int64_t *offsets;
  int64_t count;
};

/* Position of the first entry that is negative or smaller than the one before it in its list, or -1. */
int64_t find_disorder(const struct lists *lists);

/* Entries that merge_sorted needs room for at most: the total, or every index up to the largest. */
int64_t merged_bound(const struct lists *lists);

/* Union of the lists, ascending; values of one index are added in list (rank) order, beginning with the first.
 * Returns the number of entries. Needs find_disorder to have passed. */
int64_t merge_sorted(const struct lists *lists, int32_t *indices, float *values, int threads);

#endif
