/* A window that jumps over a range of few entries among many places. */
#ifndef SANDTABLE_MERGE_THIN_H
#define SANDTABLE_MERGE_THIN_H

#include "merge.h"

enum { THIN_WIDTH = 32768, THIN_WORDS = THIN_WIDTH / WORD, SUMMARY_WORDS = THIN_WORDS / WORD };

struct thin_window {
  float sum[THIN_WIDTH];           /* -0.0 where nothing was added: -0.0 + v is v, for v = 0.0 and -0.0 too */
  uint64_t occurs[THIN_WORDS];     /* one bit an index */
  uint64_t summary[SUMMARY_WORDS]; /* one bit a word of `occurs` */
};

void clear_thin(struct thin_window *window);

/* Merges the entries [from[p], to[p]) of each list p; returns how many are written. `from` is used up; the window is
 * left empty. */
int64_t merge_thin(struct thin_window *window, const struct lists *lists, int64_t *from, const int64_t *to,
                   int32_t *indices, float *values);

#endif
