/* The one pass of the statistical thresholds over a piece of a vector: instantiated once an instruction set.
 *
 * Adding, summing, packing and storing share an iteration, so that the processor works while memory delivers; passes
 * over a piece in the cache, one after the other, would leave the memory waiting for more than half of the time.
 */
#include "common.h"

/* Sums in registers. */
struct sums {
  dvec sum, sum_abs, sum_squares, mantissa, tail, tail_squares;
  ivec exponent, largest, nonzero;
};

static struct sums open_sums(const struct sweep *s) {
  const struct moment_lanes *m = s->moments;
  return (struct sums){d_load(m->sum),
                       d_load(m->sum_abs),
                       d_load(m->sum_squares),
                       d_load(m->mantissa),
                       d_load(s->tail.sum),
                       d_load(s->tail.sum_squares),
                       i_zero(),
                       i_zero(),
                       i_zero()};
}

static void close_sums(const struct sums *sums, struct sweep *s, bool logs) {
  struct moment_lanes *m = s->moments;
  d_store(m->sum, sums->sum);
  d_store(m->sum_abs, sums->sum_abs);
  d_store(m->sum_squares, sums->sum_squares);
  d_store(s->tail.sum, sums->tail);
  d_store(s->tail.sum_squares, sums->tail_squares);
  add_integers(m, sums->exponent, sums->largest, sums->nonzero);
  if (logs) {
    d_store(m->mantissa, sums->mantissa);
    fold_mantissas(m);
  }
}

INLINE void sum_block(struct sums *sums, vec v, dvec wide, bool logs) {
  sums->sum = d_add(sums->sum, d_widen(v));
  sums->sum_abs = d_add(sums->sum_abs, wide);
  sums->sum_squares = d_add_exact_square(sums->sum_squares, wide);
  sums->nonzero = i_count_nonzero(sums->nonzero, v);
  sums->largest = i_max(sums->largest, v_key(v));
  if (logs) {
    vec shifted = v_plus(v_abs(v), LOG_EPSILON);
    sums->exponent = i_add(sums->exponent, v_exponent(shifted));
    sums->mantissa = d_mul(sums->mantissa, d_widen(v_mantissa(shifted)));
  }
}

/* The bracket of the lowest threshold: sums above it, and what lies inside. Returns the mask of what lies above. */
INLINE void look_at_bracket(struct sums *sums, vec v, dvec wide, struct sweep *s, int64_t *above, int64_t *found) {
  uint32_t beyond = v_greater(v, s->high_key), inside = v_greater(v, s->low_key) & ~beyond;
  dvec excess = d_excess(wide, s->high);
  sums->tail = d_add(sums->tail, excess);
  sums->tail_squares = d_add(sums->tail_squares, d_mul(excess, excess));
  *above += __builtin_popcount(beyond);
  v_compress_values(v, inside, s->between + *found);
  *found += __builtin_popcount(inside);
}

static void sweep_one(float *x, int64_t i, struct sweep *s, bool bracket) {
  moment_one(x[i], (int)(i % LANES), s->moments);
  int32_t key = key_of(x[i]);
  double a = x[i] < 0 ? -(double)x[i] : (double)x[i], excess = a <= s->high ? 0.0 : a - s->high;
  if (bracket) {
    s->tail.sum[i % LANES] += excess;
    s->tail.sum_squares[i % LANES] += excess * excess;
    s->tail.count += key > s->high_key;
    if (key > s->low_key && key <= s->high_key)
      s->between[s->found++] = x[i];
  }
  pack_one(x, i, s->pack, true);
}

INLINE void sweep_loop(const float *gradient, float *x, int64_t n, struct sweep *s, bool logs, bool bracket,
                       bool dense) {
  int64_t i = 0, packed = s->pack->packed, above = 0, found = s->found;
  const int64_t base = s->pack->base;
  const int32_t key = s->pack->key, zero_key = s->pack->zero_key;
  int32_t *const indices = s->pack->indices;
  float *const values = s->pack->values;
  struct sums sums = open_sums(s);
  for (; i + WORD <= n; i += WORD) {
    vec block[WORD / LANES];
    uint32_t mask[WORD / LANES];
    for (int b = 0; b < WORD / LANES; b++) {
      const int64_t at = i + b * LANES;
      __builtin_prefetch(x + at + AHEAD, 1);
      __builtin_prefetch(gradient + at + AHEAD);
      block[b] = v_add(v_load(x + at), v_load(gradient + at));
      v_store(x + at, v_zero_above(block[b], zero_key));
      mask[b] = v_greater(block[b], key);
      dvec wide = d_widen(v_abs(block[b]));
      sum_block(&sums, block[b], wide, logs);
      if (bracket)
        look_at_bracket(&sums, block[b], wide, s, &above, &found);
    }
    if (dense || mask[0] | mask[1] | mask[2] | mask[3])
      packed += v_pack_word(block, mask, (int32_t)(base + i), indices + packed, values + packed);
  }
  close_sums(&sums, s, logs);
  s->pack->packed = packed;
  s->found = found;
  s->tail.count += above;
  for (; i < n; i++) {
    x[i] += gradient[i];
    sweep_one(x, i, s, bracket);
  }
  fold_mantissas(s->moments);
}

/* At most 8192 elements, for which there must be room; several variants, so that what is not wanted costs nothing. */
static void sweep(const float *gradient, float *x, int64_t n, struct sweep *s) {
  bool dense = s->pack->dense;
  if (s->logs && s->between)
    dense ? sweep_loop(gradient, x, n, s, true, true, true) : sweep_loop(gradient, x, n, s, true, true, false);
  else if (s->logs)
    dense ? sweep_loop(gradient, x, n, s, true, false, true) : sweep_loop(gradient, x, n, s, true, false, false);
  else if (s->between)
    dense ? sweep_loop(gradient, x, n, s, false, true, true) : sweep_loop(gradient, x, n, s, false, true, false);
  else
    dense ? sweep_loop(gradient, x, n, s, false, false, true) : sweep_loop(gradient, x, n, s, false, false, false);
}
