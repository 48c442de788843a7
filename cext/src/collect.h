/* One pass for the thresholds that need statistics of the whole vector (SIDCo, GaussianK, RedSync, DGC): it adds the
 * gradient, sums the moments, sums the tails of the stages, and packs the candidates that a prediction names. */
#ifndef SANDTABLE_COLLECT_H
#define SANDTABLE_COLLECT_H

#include "moments.h"
#include "select.h"

enum { MAX_STAGES = 16, SUB_TILE = SWEPT, MOST_SEGMENTS = 4 };

/* Some of what a tile holds inside brackets: the entries of each bracket behind those of the one before. */
struct segment {
  int64_t place; /* in collector.between */
  int64_t count[MAX_STAGES];
};

/* Sums of one tile, in lanes; tile after tile they are added up, so threads do not change a bit. */
struct tile_sums {
  struct moment_lanes moments;
  struct tail_lanes tails[MAX_STAGES];
  int64_t segments; /* beyond MOST_SEGMENTS: too many to be told */
  struct segment segment[MOST_SEGMENTS];
};

struct collector {
  int stages;
  struct stage stage[MAX_STAGES];
  int sums;       /* which ones: SUM_ABS … */
  float *between; /* magnitudes inside any stage's bracket, in any order; room for capacity */
  int64_t capacity;
  _Atomic int64_t found;   /* beyond capacity: too many, and not all were kept */
  struct tile_sums *tiles; /* one a tile */
  int low, second;         /* the lowest stage; the one above it, or -1 */
  int32_t survivors_key;   /* the other stages and the candidates look at what is above it */
};

struct collected {
  int64_t candidates;
  struct moments moments;
  struct tail_sums tails[MAX_STAGES]; /* above each stage's high */
};

int64_t collect_workspace_bytes(int64_t n);

/* The bracket (low, high] of one threshold, 0 <= low <= high. */
struct stage stage_between(double low, double high);

/* Whether no two brackets have room for the same element. */
bool disjoint(const struct collector *collector);

/* Sums of |x| - threshold over what lies inside a bracket, above the threshold, once all is collected and has found
 * room. */
struct tail_sums sum_inside(const struct collector *collector, int64_t n, int bracket, double threshold, int threads);

/* selection: the candidates' key, zero_key, gradient and residual. */
struct collected collect(struct selection *selection, struct collector *collector, const struct payload *payload,
                         int threads);

/* For select.c: the part from `at` to `end` of one tile, or less if the room runs short; returns the position reached.
 */
int64_t collect_piece(const struct kernels *kernels, const struct selection *selection, int64_t at, int64_t end,
                      struct packing *packing);

/* settle.c: selects |x| > key among the first `count` entries, in place; mends the residual of n elements, float or
 * bfloat16 with the other NULL, where zero_key said otherwise. Returns the number selected; -1 where an index is
 * outside of it, and nothing is written. checked: none is. */
int64_t settle(const struct payload *entries, int64_t count, float *residual, const struct bf16 *bf16, int64_t n,
               int32_t key, int32_t zero_key, bool checked, int threads);

/* The same for the k largest, 0 <= k <= count, of keys that tie those that come first. */
int64_t settle_topk(const struct payload *entries, int64_t count, float *residual, const struct bf16 *bf16, int64_t n,
                    int64_t k, int32_t zero_key, int threads);

#endif
