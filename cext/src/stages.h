/* Thresholds of stages that follow one another (SIDCo), each from what the one before let through: of a vector that
 * caches hold, by one thread. */
#ifndef SANDTABLE_STAGES_H
#define SANDTABLE_STAGES_H

#include "fits.h"
#include "select.h"

enum { MOST_STAGES = 64 };

struct staged {
  int64_t count;    /* above the last threshold; -1: the workspace was written to while others were asked */
  double threshold; /* NaN or infinite: nothing is selected */
  double sum_abs;   /* of the whole vector; NaN if it holds one */
};

int64_t stages_workspace_bytes(int64_t n);

/* x += gradient, unless that is NULL; then the fits, one or more, each of the excesses over the threshold before, which
 * is rounded to float; a stage that nothing is left for is none. sums: which means of the whole vector are told,
 * SUM_ABS among them. Entries above the last threshold are written, ascending, as far as there is room; with a gradient
 * x becomes 0 where they are. */
struct staged select_stages(const float *gradient, float *x, int64_t n, const struct stage_fit *stages, int count,
                            int sums, const struct others *others, const struct payload *payload, void *workspace);

#endif
