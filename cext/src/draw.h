/* Coordinates drawn without looking at the values (random-k): a uniform subset, block by block. */
#ifndef SANDTABLE_DRAW_H
#define SANDTABLE_DRAW_H

#include "select.h"

enum { DRAW_BLOCK = 65536 }; /* elements a block: one random number of 64 bits holds four places */

static inline int64_t draw_blocks(int64_t n) { return (n + DRAW_BLOCK - 1) / DRAW_BLOCK; }

/* x += gradient, unless that is NULL; then block b gives entries ends[b - 1] to ends[b] - 1, at places that are a
 * uniform subset of its own, ascending, which depends on `seed` and b alone. With a gradient x becomes 0 there. x NULL:
 * zeros. */
void select_drawn(const float *gradient, float *x, int64_t n, const int64_t *ends, uint64_t seed,
                  const struct payload *out, int threads);

#endif
