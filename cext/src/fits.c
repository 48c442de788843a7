/* In closed form, by moments (SIDCo, MLSys 2021). */
#include "fits.h"

#include <float.h>
#include <math.h>

static const double ALL_EQUAL = 1e-14; /* variance over squared mean that rounding alone may leave */

static double exponential(const struct means *m, double ratio) { return m->of[MEAN] * -log(ratio); }

static double pareto(const struct means *m, double ratio) {
  const double mean = m->of[MEAN], squared = mean * mean;
  const double variance = m->count > 1 ? fmax(0.0, m->of[MEAN_SQUARE] - squared) * m->count / (m->count - 1) : 0.0;
  if (ratio >= 1)
    return 0;
  if (!isfinite(mean) || !isfinite(m->of[MEAN_SQUARE]))
    return (double)NAN;
  if (variance <= ALL_EQUAL * squared || squared == 0)
    return mean;
  const double spread = squared / variance, scale = 0.5 * mean * (spread + 1), kappa = 0.5 * (spread - 1);
  return fabs(kappa) < 1e-12 ? scale * -log(ratio) : scale * -expm1(kappa * log(ratio)) / kappa;
}

double threshold_of(const struct stage_fit *stage, const struct others *others, const struct means *means) {
  switch (stage->fit) {
  case FIT_EXPONENTIAL:
    return exponential(means, stage->ratio);
  case FIT_PARETO:
    return pareto(means, stage->ratio);
  default:
    return others->fit(others->context, stage->number, means);
  }
}

struct means means_of_tail(const struct tail_sums *tail, int sums) {
  const double count = (double)tail->count, squares = sums & SUM_SQUARES ? tail->sum_squares : (double)NAN;
  return (struct means){count, {tail->sum / count, squares / count, (double)NAN, (double)NAN}};
}

struct means means_of_moments(const struct moments *m, int64_t n, int sums) {
  const double all[MEANS] = {m->sum_abs, m->sum_squares, m->sum_log, m->sum};
  static const int bits[MEANS] = {SUM_ABS, SUM_SQUARES, SUM_LOGS, SUM_X};
  struct means means = {.count = (double)n};
  for (int i = 0; i < MEANS; i++)
    means.of[i] = sums & bits[i] ? all[i] / means.count : (double)NAN;
  return means;
}

double next_threshold(double threshold, double step) {
  const double sum = threshold + step, rounds_up = 0x1.ffffffp127; /* half a step beyond the largest float */
  if (sum < -FLT_MAX)
    return -INFINITY;
  if (sum > FLT_MAX)
    return sum < rounds_up ? FLT_MAX : INFINITY;
  return (double)(float)sum;
}
