/* The thresholds of stages (SIDCo) from what one pass has collected. */
#ifndef SANDTABLE_RESOLVE_H
#define SANDTABLE_RESOLVE_H

#include "collect.h"
#include "fits.h"
#include "stages.h"

/* Of each stage; fewer than were asked for where one has no survivors. */
struct resolved {
  double threshold[MOST_STAGES];
  int stages;
};

/* The thresholds of the stages, as select_stages finds them; sums: which ones the pass was asked for. False where
 * what was collected does not tell: a threshold lies in no bracket, some of what lies in brackets had no room, the
 * threshold is not finite, or the vector is all zero. */
bool resolve_stages(const struct collected *seen, const struct collector *collector, int64_t n, int sums,
                    const struct stage_fit *stages, int count, const struct others *others, int threads,
                    struct resolved *result);

#endif
