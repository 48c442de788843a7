/* The one pass of the statistical thresholds over a piece of a vector: instantiated once an instruction set.
 *
 * Adding, summing, packing and storing share an iteration, so that the processor works while memory delivers; passes
 * over a piece in the cache, one after the other, would leave the memory waiting for a third of the time.
 */
#include "common.h"

INLINE void sweep_loop(const float *gradient, float *x, int64_t n, struct sweep *s, int what, bool dense) {
  int64_t i = 0, packed = s->pack->packed;
  const int64_t base = s->pack->base;
  const int32_t key = s->pack->key, zero_key = s->pack->zero_key;
  int32_t *const indices = s->pack->indices;
  float *const values = s->pack->values;
  struct sums sums = open_sums(s->moments);
  for (; i + WORD <= n; i += WORD) {
    vec block[WORD / LANES];
    uint32_t mask[WORD / LANES];
    for (int b = 0; b < WORD / LANES; b++) {
      const int64_t at = i + b * LANES;
      block[b] = add_ahead(gradient, x, at);
      v_store(x + at, v_zero_above(block[b], zero_key));
      mask[b] = v_greater(block[b], key);
    }
    sum_word(&sums, block, what);
    if (dense || mask[0] | mask[1] | mask[2] | mask[3])
      packed += v_pack_word(block, mask, (int32_t)(base + i), indices + packed, values + packed);
  }
  close_sums(&sums, s->moments, i / LANES, what);
  s->pack->packed = packed;
  for (; i < n; i++) {
    x[i] += gradient[i];
    moment_one(x[i], (int)(i % LANES), s->moments);
    pack_one(x, i, s->pack, true);
  }
  fold_mantissas(s->moments);
}

#if SPECIALIZED
INLINE void sweep_sums(const float *gradient, float *x, int64_t n, struct sweep *s, int what) {
  s->pack->dense ? sweep_loop(gradient, x, n, s, what, true) : sweep_loop(gradient, x, n, s, what, false);
}

/* A variant for each method, so that what is not wanted costs nothing. */
static void sweep_all(const float *gradient, float *x, int64_t n, struct sweep *s) {
  switch (s->sums) {
  case 0: /* DGC */
    return sweep_sums(gradient, x, n, s, 0);
  case SUM_ABS: /* RedSync */
    return sweep_sums(gradient, x, n, s, SUM_ABS);
  case SUM_X | SUM_SQUARES: /* GaussianK */
    return sweep_sums(gradient, x, n, s, SUM_X | SUM_SQUARES);
  case SUM_ABS | SUM_SQUARES: /* SIDCo-P of one stage */
    return sweep_sums(gradient, x, n, s, SUM_ABS | SUM_SQUARES);
  case SUM_ABS | SUM_SQUARES | SUM_LOGS: /* SIDCo-GP of one stage */
    return sweep_sums(gradient, x, n, s, SUM_ABS | SUM_SQUARES | SUM_LOGS);
  default:
    return sweep_sums(gradient, x, n, s, SUM_ALL);
  }
}
#else
static void sweep_all(const float *gradient, float *x, int64_t n, struct sweep *s) {
  sweep_loop(gradient, x, n, s, variant_of(s->sums), s->pack->dense);
}
#endif

/* At most SWEPT elements. */
static void sweep(const float *gradient, float *x, int64_t n, struct sweep *s) {
  s->division ? sweep_stages(gradient, x, n, s) : sweep_all(gradient, x, n, s);
}
