/* Moments of |x| for the statistical thresholds (SIDCo, GaussianK, RedSync). */
#ifndef SANDTABLE_MOMENTS_H
#define SANDTABLE_MOMENTS_H

#include "common.h"

struct moments {
  int64_t nonzero;
  double sum, sum_abs, sum_squares, sum_log, max_abs;
};

struct tail_sums {
  int64_t count;
  double sum, sum_squares;
};

/* Sums under way. */
struct moments_total {
  struct moments sums;
  int32_t max_key;
};

void clear_moments(struct moment_lanes *lanes);
/* Adds the lanes of one chunk or tile; called in the order of the vector. */
void add_moments(struct moments_total *total, const struct moment_lanes *lanes);
/* What a NaN or an infinity means for the sums. */
struct moments finish_moments(const struct moments_total *total);
void add_tail(struct tail_sums *total, const struct tail_lanes *lanes);
void join_tails(struct tail_sums *total, const struct tail_sums *part);
/* The same excesses over a threshold that is lower by `by`. */
void move_tail(struct tail_sums *tail, double by);

/* gradient NULL: x is only read; else x += gradient first. A NaN makes every sum and the maximum NaN. The result is
 * the same, bit for bit, for any number of threads and any instruction set. Only the sums that are asked for
 * (SUM_ABS …) are true, and the count of non-zeros if these are all. */
struct moments compute_moments(const float *gradient, float *x, int64_t n, int sums, int threads);

/* Sums of |x| - threshold over |x| > threshold with keys up to `limit`; a NaN, where it is within the limit, counts and
 * makes the sums NaN. threshold is not NaN. */
struct tail_sums compute_tail(const float *x, int64_t n, double threshold, int32_t limit, int threads);

/* The same of each of `groups` equal parts that lie behind each other, by one thread; what is left of x is in none. */
void group_moments(const float *x, int64_t n, int64_t groups, struct moments *sums);
void group_tails(const float *x, int64_t n, int64_t groups, double threshold, struct tail_sums *sums);

#endif
