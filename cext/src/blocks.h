/* Whole cache lines as the unit of selection (StellaTrain's thresholdv16): a block is 16 neighbouring elements. */
#ifndef SANDTABLE_BLOCKS_H
#define SANDTABLE_BLOCKS_H

#include "sparse.h"

static inline int64_t blocks_of(int64_t n) { return (n + LANES - 1) / LANES; }

/* residual += gradient; scores[b] = sum of |residual| over block b, always added in halves (lane l to lane l + 8, then
 * + 4, + 2, + 1). A NaN makes its block's score NaN, which selection takes first. */
void block_scores(const float *gradient, float *residual, int64_t n, float *scores, int threads);

/* Moves the listed blocks out of residual: all their elements, in order; zero is left. Returns the entries: 16 a block,
 * fewer for the last of the vector. Needs room for that many and indices below blocks_of(n). */
int64_t take_blocks(float *residual, int64_t n, const struct entries *blocks, int32_t *indices, float *values,
                    int threads);

#endif
