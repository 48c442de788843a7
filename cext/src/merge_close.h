/* A window of lists that lie close together: added up densely, then packed. */
#ifndef SANDTABLE_MERGE_CLOSE_H
#define SANDTABLE_MERGE_CLOSE_H

#include "common.h"

enum { CLOSE_WIDTH = 32768 }; /* indices: 16 KiB, so that the L1 cache holds the window and the lists' next lines */

/* An index occurs where its sum is not -0.0, which only -0.0 adds up to, and where one of those was added. */
struct close_window {
  float sum[CLOSE_WIDTH];                  /* -0.0 where nothing was added: -0.0 + v is v, for v = 0.0 and -0.0 too */
  uint8_t negative_zeros[CLOSE_WIDTH / 8]; /* a bit at each index that a -0.0 was added to */
};

void clear_close(struct close_window *window);

/* Adds entries whose indices lie in base .. base + CLOSE_WIDTH - 1. */
void add_close(struct close_window *window, int32_t base, const int32_t *indices, const float *values, int64_t count);

int64_t count_close(const struct close_window *window);

/* Writes the window's `count` entries, not one place more, and leaves it empty. */
void drain_close(struct close_window *window, int32_t base, int64_t count, int32_t *indices, float *values);

#endif
