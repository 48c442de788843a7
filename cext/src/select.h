/* Selection by a threshold, and its ordered output; the exact top-k is made of such passes. */
#ifndef SANDTABLE_SELECT_H
#define SANDTABLE_SELECT_H

#include "bf16.h"
#include "common.h"

enum { AS_SELECTED = INT32_MIN };

struct payload {
  int32_t *indices;
  float *values;
  int64_t capacity;
};

/* Keys that lie in a band, collected from what a pass packs, in any order. `keys` has room for capacity + 16. */
struct band {
  int32_t limit; /* the band ends with this key; it begins above the pass's own key */
  int32_t *keys;
  int64_t capacity;
  _Atomic int64_t count; /* beyond capacity: too many, and not all were kept */
};

/* One pass. The source is the vector x, or, where `from` is given, the n entries that fill its payloads one after the
 * other, with residual x to mend (or NULL); they may be packed in place. Selected are keys above `key` before position
 * `cut`, above `key_after` from there on: a plain threshold has cut = n, the exact top-k cuts ties at the position of
 * the last one that it takes. */
struct selection {
  const float *gradient; /* NULL: no error feedback; else x += gradient first */
  float *x;
  const struct bf16 *bf16; /* not NULL: the residual, in place of x, which is NULL then */
  int64_t n;
  int64_t elements;           /* not 0: n blocks of so many elements are scored and selected; see blocks.h */
  const struct payload *from; /* two payloads: what overflowed the first is in the second */
  bool zero;                  /* x becomes 0 above zero_key, or, where that is AS_SELECTED, where it is selected */
  int32_t key, key_after, zero_key;
  int64_t cut;
  struct band *band;           /* NULL: none is wanted */
  struct collector *collector; /* NULL: no sums are wanted; see collect.h */
};

/* Entries are written in ascending index order, first into *payload, then into *overflow (NULL: none); what finds no
 * room is put back in x if it was zeroed. Returns the true count. */
int64_t run_selection(const struct selection *selection, const struct payload *payload, const struct payload *overflow,
                      int threads);

/* A value that was zeroed, of the vector or the residual in bfloat16. */
void put_back(const struct selection *selection, int64_t index, float value);

/* A selection of |x| > threshold. */
struct selection plain_selection(const float *gradient, float *x, int64_t n, int32_t key);

/* The key for which key(|x|) > result means |x| > threshold, the comparison made in double. NaN is the caller's error.
 */
int32_t threshold_key(double threshold);

#endif
