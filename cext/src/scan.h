/* StellaTrain's scan for a carried threshold (SIGCOMM 2024): so many of the scores above it, in turn. */
#ifndef SANDTABLE_SCAN_H
#define SANDTABLE_SCAN_H

#include "common.h"

/* n scores, and where they lie, ascending. */
struct scored {
  const float *scores;
  const int32_t *places;
  int64_t n;
};

struct scan {
  int64_t k, most; /* of the scores above the threshold k are taken in turn if there are k to `most` of them, */
  int32_t key;     /* the threshold's; otherwise, or if some score is not finite, the k largest of all */
  int32_t start;   /* the place where the turn begins; it goes on from the first */
};

struct scanned {
  int64_t above;         /* scores above the threshold */
  float lowest, largest; /* of the k largest, where these are taken, else NaN; of all */
};

int64_t scan_workspace_bytes(int64_t n, const struct scan *scan);

/* 1 <= k <= n. Writes the places that are taken to out[0..k), ascending; largest scores that tie by the lowest place.
 */
struct scanned scan_select(const struct scored *scored, const struct scan *scan, int32_t *out, void *workspace,
                           int threads);

#endif
