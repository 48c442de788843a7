/* The one pass of the statistical thresholds over a piece of a vector: instantiated once an instruction set.
 *
 * Adding, summing, packing and storing share an iteration, so that the processor works while memory delivers; passes
 * over a piece in the cache, one after the other, would leave the memory waiting for more than half of the time.
 */
#include "common.h"

/* Sums in registers. */
struct sums {
  dvec sum, sum_abs, sum_squares, mantissa;
  ivec exponent, largest;
  struct beyond beyond;
};

static struct sums open_sums(const struct sweep *s) {
  const struct moment_lanes *m = s->moments;
  return (struct sums){.sum = d_load(m->sum),
                       .sum_abs = d_load(m->sum_abs),
                       .sum_squares = d_load(m->sum_squares),
                       .mantissa = d_load(m->mantissa),
                       .beyond = {d_load(s->tail.sum), d_load(s->tail.sum_squares), i_zero()},
                       .exponent = i_zero(),
                       .largest = i_zero()};
}

INLINE void close_sums(const struct sums *sums, struct sweep *s, int what) {
  struct moment_lanes *m = s->moments;
  d_store(m->sum, sums->sum);
  d_store(m->sum_abs, sums->sum_abs);
  d_store(m->sum_squares, sums->sum_squares);
  d_store(s->tail.sum, sums->beyond.sum);
  d_store(s->tail.sum_squares, sums->beyond.squares);
  int32_t counts[LANES];
  i_store(counts, sums->beyond.count);
  for (int l = 0; l < LANES; l++)
    s->tail.count += counts[l];
  add_integers(m, sums->exponent, sums->largest, i_zero());
  if (what & SUM_LOGS) {
    d_store(m->mantissa, sums->mantissa);
    fold_mantissas(m);
  }
}

INLINE void sum_block(struct sums *sums, vec v, dvec wide, int what) {
  if (what & SUM_X)
    sums->sum = d_add(sums->sum, d_widen(v));
  if (what & SUM_ABS)
    sums->sum_abs = d_add(sums->sum_abs, wide);
  if (what & SUM_SQUARES)
    sums->sum_squares = d_add_exact_square(sums->sum_squares, wide);
  sums->largest = i_max(sums->largest, v_key(v));
  if (what & SUM_LOGS) {
    vec shifted = v_plus(v_abs(v), LOG_EPSILON);
    sums->exponent = i_add(sums->exponent, v_exponent(shifted));
    sums->mantissa = d_mul(sums->mantissa, d_widen(v_mantissa(shifted)));
  }
}

/* One element, for the last few of a vector. */
static void sweep_one(float *x, int64_t i, struct sweep *s) {
  moment_one(x[i], (int)(i % LANES), s->moments);
  int32_t key = key_of(x[i]);
  double a = x[i] < 0 ? -(double)x[i] : (double)x[i];
  if (s->between && key > s->high_key) {
    s->tail.sum[i % LANES] += a;
    s->tail.sum_squares[i % LANES] += a * a;
    s->tail.count++;
  } else if (s->between && key > s->low_key)
    s->between[s->found++] = x[i];
  pack_one(x, i, s->pack, true);
}

INLINE void sweep_loop(const float *gradient, float *x, int64_t n, struct sweep *s, int what, bool bracket,
                       bool dense) {
  int64_t i = 0, packed = s->pack->packed, found = s->found;
  const int64_t base = s->pack->base;
  const int32_t key = s->pack->key, zero_key = s->pack->zero_key, low = s->low_key, high = s->high_key;
  float *const between = s->between;
  int32_t *const indices = s->pack->indices;
  float *const values = s->pack->values;
  struct sums sums = open_sums(s);
  for (; i + WORD <= n; i += WORD) {
    vec block[WORD / LANES];
    uint32_t mask[WORD / LANES], inside[WORD / LANES];
    for (int b = 0; b < WORD / LANES; b++) {
      const int64_t at = i + b * LANES;
      __builtin_prefetch(x + at + AHEAD, 1);
      __builtin_prefetch(gradient + at + AHEAD);
      block[b] = v_add(v_load(x + at), v_load(gradient + at));
      v_store(x + at, v_zero_above(block[b], zero_key));
      mask[b] = v_greater(block[b], key);
      dvec wide = d_widen(v_abs(block[b]));
      sum_block(&sums, block[b], wide, what);
      if (bracket) /* excesses over `high` are left to the end: sums take fewer steps */
        inside[b] = v_bracket(block[b], wide, low, high, what & SUM_SQUARES, &sums.beyond);
    }
    if (bracket)
      found += v_pack_values(block, inside, between + found);
    if (dense || mask[0] | mask[1] | mask[2] | mask[3])
      packed += v_pack_word(block, mask, (int32_t)(base + i), indices + packed, values + packed);
  }
  close_sums(&sums, s, what);
  s->pack->packed = packed;
  s->found = found;
  for (; i < n; i++) {
    x[i] += gradient[i];
    sweep_one(x, i, s);
  }
  fold_mantissas(s->moments);
}

INLINE void sweep_sums(const float *gradient, float *x, int64_t n, struct sweep *s, int what) {
  if (s->between)
    s->pack->dense ? sweep_loop(gradient, x, n, s, what, true, true) : sweep_loop(gradient, x, n, s, what, true, false);
  else
    s->pack->dense ? sweep_loop(gradient, x, n, s, what, false, true)
                   : sweep_loop(gradient, x, n, s, what, false, false);
}

/* A variant for each method, so that what is not wanted costs nothing. At most 8192 elements. */
static void sweep(const float *gradient, float *x, int64_t n, struct sweep *s) {
  switch (s->sums) {
  case 0: /* DGC */
    return sweep_sums(gradient, x, n, s, 0);
  case SUM_ABS: /* RedSync, SIDCo-E */
    return sweep_sums(gradient, x, n, s, SUM_ABS);
  case SUM_X | SUM_SQUARES: /* GaussianK */
    return sweep_sums(gradient, x, n, s, SUM_X | SUM_SQUARES);
  case SUM_ABS | SUM_SQUARES: /* SIDCo-P */
    return sweep_sums(gradient, x, n, s, SUM_ABS | SUM_SQUARES);
  case SUM_ABS | SUM_SQUARES | SUM_LOGS: /* SIDCo-GP */
    return sweep_sums(gradient, x, n, s, SUM_ABS | SUM_SQUARES | SUM_LOGS);
  default:
    return sweep_sums(gradient, x, n, s, SUM_ALL);
  }
}
