/* What lies above a bracket's high was summed up in the pass, and what lies inside is at hand: together they are what a
 * pass over the vector would find above any threshold inside. */
#include "resolve.h"
#include "stages.h"

#include <math.h>

/* The bracket that a threshold lies in, or -1. */
static int bracket_of(const struct collector *c, double threshold) {
  const int32_t key = threshold_key(threshold);
  for (int m = 0; m < c->stages; m++)
    if (c->stage[m].low_key <= key && key <= c->stage[m].high_key && isfinite(c->stage[m].high))
      return m;
  return -1;
}

static struct tail_sums sums_above(const struct collected *seen, const struct collector *c, int bracket,
                                   double threshold, int threads) {
  const struct stage *stage = &c->stage[bracket];
  const struct tail_sums *above = &seen->tails[bracket];
  const double by = stage->high - threshold, count = (double)above->count;
  struct tail_sums sums = compute_tail(c->between, c->found, threshold, stage->high_key, threads);
  sums.count += above->count;
  sums.sum += above->sum + count * by;
  sums.sum_squares += above->sum_squares + 2 * by * above->sum + count * by * by;
  return sums;
}

bool resolve_stages(const struct collected *seen, const struct collector *c, int64_t n, int sums,
                    const struct stage_fit *stages, int count, const struct others *others, int threads,
                    double *threshold) {
  struct means means = means_of_moments(&seen->moments, n, sums);
  *threshold = 0;
  if (!(seen->moments.sum_abs > 0) || !isfinite(seen->moments.sum_abs) || c->found > c->capacity)
    return false;
  for (int m = 0; m < count; m++) {
    if (m) {
      const int bracket = bracket_of(c, *threshold);
      if (bracket < 0)
        return false;
      const struct tail_sums above = sums_above(seen, c, bracket, *threshold, threads);
      if (above.count == 0)
        break;
      means = means_of_tail(&above, (double)above.count);
      if (!(sums & SUM_SQUARES))
        means.of[MEAN_SQUARE] = (double)NAN;
    }
    *threshold = next_threshold(*threshold, threshold_of(&stages[m], others, &means));
    if (!isfinite(*threshold))
      return false;
  }
  return true;
}
