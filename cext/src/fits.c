/* In closed form, by moments (SIDCo, MLSys 2021). */
#include "fits.h"

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
