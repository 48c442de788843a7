/* The one pass of the statistical thresholds over a piece of a vector: instantiated once an instruction set.
 *
 * Adding, summing, packing, storing and the work for the stages share an iteration, so that the processor works while
 * memory delivers; passes over a piece in the cache, one after the other, would leave the memory waiting for a third of
 * the time. The stages see only what survives, 64 entries at a time, some entries after these were packed: what is read
 * too soon after it was written stalls.
 */
#include "common.h"

enum { LAG = 2 * WORD };

/* The 64 survivors in `block` against one bracket; returns how many lie inside. */
INLINE int64_t hold_against(const vec block[4], const struct stage *stage, bool squares, struct tail_lanes *tail,
                            float *between) {
  vec excess[4];
  int64_t found = 0;
  for (int b = 0; b < 4; b++) {
    const uint32_t above = v_greater(block[b], stage->high_key);
    const uint32_t inside = v_greater(block[b], stage->low_key) & ~above;
    excess[b] = v_excess(block[b], stage->high_key, stage->excess_of);
    tail->count += __builtin_popcount(above);
    v_compress_values(block[b], inside, between + found);
    found += __builtin_popcount(inside);
  }
  dvec sum = d_load(tail->sum), sum_squares = d_load(tail->sum_squares);
  if (!squares)
    sum = d_add(sum, d_widen(v_tree(excess)));
  for (int b = 0; squares && b < 4; b++) {
    dvec wide = d_widen(excess[b]);
    sum = d_add(sum, wide);
    sum_squares = d_add_exact_square(sum_squares, wide);
  }
  d_store(tail->sum, sum);
  d_store(tail->sum_squares, sum_squares);
  return found;
}

/* Divides survivors i to i + 63, of which only the first `left` are meant, among brackets and candidates. */
INLINE void divide_word(struct division *d, int64_t i, int64_t left, bool squares) {
  const uint64_t valid = left < WORD ? ~(UINT64_MAX << left) : UINT64_MAX; /* behind: zeros, in no bracket */
  struct packing *pack = d->candidates;
  vec block[4];
  uint32_t mask[4];
  for (int b = 0; b < 4; b++) {
    block[b] = v_load(d->values + i + b * LANES);
    mask[b] = v_greater(block[b], pack->key) & (uint32_t)(valid >> b * LANES) & 0xffff;
  }
  for (int m = 0; m < d->stages; m++)
    d->found += hold_against(block, &d->stage[m], squares, &d->tails[m], d->between + d->found);
  if (mask[0] | mask[1] | mask[2] | mask[3])
    for (int b = 0; b < 4; b++) {
      v_compress_pairs(block[b], i_load(d->indices + i + b * LANES), mask[b], pack->indices + pack->packed,
                       pack->values + pack->packed);
      pack->packed += __builtin_popcount(mask[b]);
    }
}

static __attribute__((noinline)) void divide(struct division *d, int64_t i, int64_t left) {
  d->squares ? divide_word(d, i, left, true) : divide_word(d, i, left, false);
}

/* All that is left, which is not whole words. */
static void divide_rest(struct division *d, int64_t done, int64_t survivors) {
  memset(d->values + survivors, 0, WORD * sizeof *d->values);
  memset(d->indices + survivors, 0, WORD * sizeof *d->indices);
  for (; done < survivors; done += WORD)
    divide(d, done, survivors - done);
}

INLINE void sweep_loop(const float *gradient, float *x, int64_t n, struct sweep *s, int what, bool staged, bool dense) {
  struct division *const division = s->division;
  int64_t i = 0, packed = s->pack->packed, divided = 0;
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
      __builtin_prefetch(x + at + AHEAD, 1);
      __builtin_prefetch(gradient + at + AHEAD);
      block[b] = v_add(v_load(x + at), v_load(gradient + at));
      v_store(x + at, v_zero_above(block[b], zero_key));
      mask[b] = v_greater(block[b], key);
    }
    sum_word(&sums, block, what);
    if (dense || mask[0] | mask[1] | mask[2] | mask[3])
      packed += v_pack_word(block, mask, (int32_t)(base + i), indices + packed, values + packed);
    if (staged && packed - divided >= LAG) {
      divide(division, divided, WORD);
      divided += WORD;
    }
  }
  close_sums(&sums, s->moments, i / LANES, what);
  s->pack->packed = packed;
  for (; i < n; i++) {
    x[i] += gradient[i];
    moment_one(x[i], (int)(i % LANES), s->moments);
    pack_one(x, i, s->pack, true);
  }
  fold_mantissas(s->moments);
  if (staged)
    divide_rest(division, divided, s->pack->packed);
}

INLINE void sweep_sums(const float *gradient, float *x, int64_t n, struct sweep *s, int what) {
  if (s->division)
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
