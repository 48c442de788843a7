/* What a sample says about the thresholds of stages that follow one another (SIDCo), and how far off it may be. */
#ifndef SANDTABLE_PREDICT_H
#define SANDTABLE_PREDICT_H

#include "common.h"
#include "fits.h"

enum { MOST_GROUPS = 256, MOST_BRACKETS = 17 };

struct predicted {
  double threshold, error; /* the last stage's, and its standard error */
  int brackets;
  double low[MOST_BRACKETS], high[MOST_BRACKETS]; /* (low, high] around each stage's threshold, disjoint, ascending */
  int64_t above;                                  /* elements of the sample above the last low */
  int64_t inside;                                 /* elements inside the brackets before */
};

/* A sample is cut in groups, 2 to MOST_GROUPS, that lie behind each other, each a sample of the whole; a rest is in
 * none. Half a bracket is `width` standard errors. False where the sample cannot say: a stage has fewer than `fewest`
 * elements, or cannot be told from the one before, or a sum is not finite. */
bool predict_thresholds(const float *sample, int64_t n, int64_t groups, const struct stage_fit *stages, int count,
                        double width, int64_t fewest, const struct others *others, struct predicted *result);

#endif
