/* Exact top-k of |x|: ties by the lowest index, entries in ascending index order. */
#ifndef SANDTABLE_TOPK_H
#define SANDTABLE_TOPK_H

#include "select.h"

/* Whether one pass finds the top-k, as a rule: topk_bf16 needs it. */
bool topk_predictable(int64_t n, int64_t k);

/* Bytes of workspace that topk needs, alignment of the start included. */
int64_t topk_workspace_bytes(int64_t n, int64_t k);

/* 0 <= k <= n <= 2^31 - 1; workspace of topk_workspace_bytes(n, k). gradient NULL: x is only read; else
 * x += gradient first and x becomes 0 where an entry is written. Returns k. */
int64_t topk(const float *gradient, float *x, int64_t n, int64_t k, const struct payload *payload, void *workspace,
             int threads);

/* With error feedback in a residual of bfloat16, in the one pass that a prediction allows. Returns k; -1 where there is
 * no prediction or it misses: then the gradient has been added and nothing is selected. */
int64_t topk_bf16(const float *gradient, const struct bf16 *residual, int64_t n, int64_t k,
                  const struct payload *payload, void *workspace, int threads);

#endif
