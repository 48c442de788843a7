/* A window of lists that lie close together: added up densely, then packed. */
#ifndef SANDTABLE_MERGE_CLOSE_H
#define SANDTABLE_MERGE_CLOSE_H

#include "common.h"

enum { CLOSE_WIDTH = 4096 }; /* indices: 20 KiB, so that the L1 cache holds the window and the lists' next lines */

struct close_window {
  float sum[CLOSE_WIDTH];     /* -0.0 where nothing was added: -0.0 + v is v, for v = 0.0 and -0.0 too */
  uint8_t marks[CLOSE_WIDTH]; /* all ones at each index that occurs, else 0 */
};

void clear_close(struct close_window *window);

/* Adds entries whose indices lie in base .. base + CLOSE_WIDTH - 1. */
void add_close(struct close_window *window, int32_t base, const int32_t *indices, const float *values, int64_t count);

int64_t count_close(const struct close_window *window);

/* Writes the window's `count` entries, not one place more, and leaves it empty. */
void drain_close(struct close_window *window, int32_t base, int64_t count, int32_t *indices, float *values);

#endif
