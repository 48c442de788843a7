/* Thresholds from means: the tail fits that C knows, and others that are asked of somebody else. */
#ifndef SANDTABLE_FITS_H
#define SANDTABLE_FITS_H

#include "moments.h"

enum fit { FIT_OTHER, FIT_EXPONENTIAL, FIT_PARETO, FITS };

/* How many elements, and the means of their |x|, x², ln(|x| + 2.2e-16) and x; over a threshold those of their excesses
 * and of the squares of these, the other two NaN. */
enum { MEAN, MEAN_SQUARE, MEAN_LOG, MEAN_X, MEANS };
struct means {
  double count, of[MEANS];
};

/* fit: of the threshold that a share `ratio` exceeds; FIT_OTHER asks number `number` of somebody else. */
struct stage_fit {
  enum fit fit;
  double ratio;
  int number;
};

/* The threshold, for FIT_OTHER; NaN where it cannot be told. */
typedef double other_fit(void *context, int number, const struct means *means);

/* Who answers for FIT_OTHER. */
struct others {
  other_fit *fit;
  void *context;
};

/* Of n elements, and of excesses; what `sums` does not name is NaN. */
struct means means_of_moments(const struct moments *moments, int64_t n, int sums);
struct means means_of_tail(const struct tail_sums *tail, int sums);

/* threshold + step, rounded to float; infinite beyond its range. */
double next_threshold(double threshold, double step);

/* The formulas of toolkit/compression/fits.py. */
double threshold_of(const struct stage_fit *stage, const struct others *others, const struct means *means);

#endif
