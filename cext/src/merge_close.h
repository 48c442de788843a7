/* A window of lists that lie close together: added up densely, then packed. */
#ifndef SANDTABLE_MERGE_CLOSE_H
#define SANDTABLE_MERGE_CLOSE_H

#include "common.h"

enum { CLOSE_WIDTH = 32768 }; /* indices: 128 KiB of the second cache; wider than the first, so that lists run on */

/* An index occurs where its sum is not -0.0, and where something tiny was added: only what is below 2^-100 adds up to
 * -0.0, by itself or where the processor flushes denormals to zero. */
struct close_window {
  int width;                     /* lanes in use, a multiple of 16 */
  float sum[CLOSE_WIDTH];        /* -0.0 where nothing was added: -0.0 + v is v, for v = 0.0 and -0.0 too */
  uint8_t tiny[CLOSE_WIDTH / 8]; /* a bit at each index that something tiny was added to */
};

/* Makes it empty, for windows of at most `width` indices. */
void clear_close(struct close_window *window, int64_t width);

/* Adds entries whose indices lie in base .. base + width - 1. */
void add_close(struct close_window *window, int32_t base, const int32_t *indices, const float *values, int64_t count);

int64_t count_close(const struct close_window *window);

/* Writes the window's `count` entries, not one place more, and leaves it empty. */
void drain_close(struct close_window *window, int32_t base, int64_t count, int32_t *indices, float *values);

#endif
