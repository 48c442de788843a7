/* Merging thin lists two by two, in pieces that stay in the cache. */
#ifndef SANDTABLE_MERGE_FEW_H
#define SANDTABLE_MERGE_FEW_H

#include "merge.h"

enum { FEW_LISTS = 64, FEW_ENTRIES = 2048 };

/* Entries as index << 32 | number, so that those of one index stay in list order; one more slot a list. */
struct few_window {
  uint64_t entries[2][FEW_ENTRIES + 2 * FEW_LISTS];
};

/* Merges the entries [from[p], to[p]) of each list p, of at most FEW_LISTS; returns how many are written. `from` is
 * used up. */
int64_t merge_few(struct few_window *window, const struct lists *lists, int64_t *from, const int64_t *to,
                  int32_t *indices, float *values);

#endif
