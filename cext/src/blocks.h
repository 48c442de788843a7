/* Whole cache lines as the unit of selection (StellaTrain's thresholdv16): a block is 16 neighbouring elements. */
#ifndef SANDTABLE_BLOCKS_H
#define SANDTABLE_BLOCKS_H

#include "select.h"
#include "sparse.h"

static inline int64_t blocks_of(int64_t n) { return (n + LANES - 1) / LANES; }

/* x += gradient, unless that is NULL; then the blocks with a score above `key`: their numbers and their scores. A score
 * is the sum of |x| over a block, always added in halves (lane l to lane l + 8, then + 4, + 2, + 1). A NaN makes its
 * block's score NaN, which lies above everything. Returns the true count; what finds no room is not written. */
int64_t select_blocks(const float *gradient, float *x, int64_t n, int32_t key, const struct payload *payload,
                      int threads);

/* For select.c: blocks [at, end), or fewer if the room runs short; returns the position reached. */
int64_t pack_blocks(const struct kernels *kernels, const struct selection *selection, int64_t at, int64_t end,
                    struct packing *packing);

/* The listed blocks of residual: all their elements, in order; with `zero` they become 0 there. Returns the entries: 16
 * a block, fewer for the last of the vector. Needs room for that many and indices below blocks_of(n). */
int64_t take_blocks(float *residual, int64_t n, const struct entries *blocks, bool zero, int32_t *indices,
                    float *values, int threads);

#endif
