/* Order statistics of magnitudes by counting, never by sorting: no data makes them slow. */
#ifndef SANDTABLE_HISTOGRAM_H
#define SANDTABLE_HISTOGRAM_H

#include "common.h"

enum { BINS = 2048 };

struct bins {
  _Atomic uint32_t count[BINS];
};

/* The k-th largest key of a vector. */
struct border {
  int32_t key;
  int64_t due;  /* how many elements of that key belong to the k largest */
  int64_t ties; /* how many there are */
};

/* x += gradient, unless that is NULL. Whether the k-th largest key is `key`, and if so the border: one pass. */
bool border_is(const float *gradient, float *x, int64_t n, int64_t k, int32_t key, struct border *border, int threads);

/* Three passes over x. 1 <= k <= n. gradient not NULL: x += gradient in the first pass. */
struct border find_border(const float *gradient, float *x, int64_t n, int64_t k, struct bins *bins, int threads);

/* The same for an array of keys, none negative, 1 <= k <= n; `scratch` has room for n keys and a register. */
struct border find_border_of_keys(const int32_t *keys, int64_t n, int64_t k, int32_t *scratch);

/* The position just behind the last of the *due first elements with this key; *due counts down to what is left. Pieces
 * that hold fewer ties than are due are only counted. */
int64_t position_after(const float *x, int64_t n, int32_t key, int64_t *due);

#endif
