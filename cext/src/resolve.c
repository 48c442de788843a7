/* What lies above a bracket's high was summed up in the pass, and what lies inside is at hand: together they are what a
 * pass over the vector would find above any threshold inside. */
#include "resolve.h"

#include <math.h>

static const double LARGEST_SQUARED = 4e18, SMALLEST_SQUARED = 1e-17;

/* The bracket that a threshold lies in, or -1. */
static int bracket_of(const struct collector *c, double threshold) {
  const int32_t key = threshold_key(threshold);
  for (int m = 0; m < c->stages; m++)
    if (c->stage[m].low_key <= key && key <= c->stage[m].high_key && isfinite(c->stage[m].high))
      return m;
  return -1;
}

/* Whether a tail's squares are told, 16 of which are added up in float first. */
static bool squares_add_up(const struct collected *seen, const struct collector *c) {
  bool enough = seen->moments.max_abs < LARGEST_SQUARED;
  for (int m = 0; m < c->stages; m++)
    enough &= c->stage[m].high > SMALLEST_SQUARED;
  return enough;
}

static struct tail_sums sums_above(const struct collected *seen, const struct collector *c, int64_t n, int bracket,
                                   double threshold, int threads) {
  const struct stage *stage = &c->stage[bracket];
  const struct tail_sums inside = sum_inside(c, n, bracket, threshold, threads);
  struct tail_sums sums = seen->tails[bracket];
  move_tail(&sums, stage->high - threshold);
  join_tails(&sums, &inside);
  return sums;
}

bool resolve_stages(const struct collected *seen, const struct collector *c, int64_t n, int sums,
                    const struct stage_fit *stages, int count, const struct others *others, int threads,
                    struct resolved *result) {
  struct means means = means_of_moments(&seen->moments, n, sums);
  double threshold = 0;
  result->stages = 0;
  if (!(seen->moments.sum_abs > 0) || !isfinite(seen->moments.sum_abs) || c->found > c->capacity ||
      (sums & SUM_SQUARES && !squares_add_up(seen, c)))
    return false;
  for (int m = 0; m < count; m++) {
    if (m) {
      const int bracket = bracket_of(c, threshold);
      if (bracket < 0)
        return false;
      const struct tail_sums above = sums_above(seen, c, n, bracket, threshold, threads);
      if (above.count == 0)
        break;
      means = means_of_tail(&above, sums);
    }
    threshold = next_threshold(threshold, threshold_of(&stages[m], others, &means));
    if (!isfinite(threshold))
      return false;
    result->threshold[result->stages++] = threshold;
  }
  return true;
}
