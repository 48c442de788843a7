/* The one pass where stages follow one another, over a piece of a vector: instantiated once an instruction set.
 *
 * First every element is added, summed, and held against the brackets of the lowest stages: work that hides behind
 * memory. Few go on to the others, as a rule, and which ones is kept as a bit each; they are packed from a piece that
 * is still in the cache, without a branch that depends on them, and divided 64 at a time. Where many go on, they are
 * packed at once.
 */
#include "common.h"

/* One stage's sums in registers. */
struct stage_sums {
  dvec sum, sum_squares;
  ivec count;
};

INLINE struct stage_sums open_stage(const struct tail_lanes *tail) {
  return (struct stage_sums){d_load(tail->sum), d_load(tail->sum_squares), i_zero()};
}

INLINE void close_stage(const struct stage_sums *sums, struct tail_lanes *tail) {
  int32_t counts[LANES];
  d_store(tail->sum, sums->sum);
  d_store(tail->sum_squares, sums->sum_squares);
  i_store(counts, sums->count);
  for (int l = 0; l < LANES; l++)
    tail->count += counts[l];
}

INLINE void add_excess(struct stage_sums *sums, vec excess) {
  const dvec wide = d_widen(excess);
  sums->sum = d_add(sums->sum, wide);
  sums->sum_squares = d_add_exact_square(sums->sum_squares, wide);
}

/* What of a word lies above the bracket. */
INLINE void sum_stage(struct stage_sums *sums, const vec block[4], const struct stage *stage, bool squares) {
  vec excess[4];
  for (int b = 0; b < 4; b++) {
    excess[b] = v_excess(block[b], stage->high_key, stage->excess_of);
    sums->count = i_count_above(sums->count, block[b], stage->high_key);
    if (squares)
      add_excess(sums, excess[b]);
  }
  if (!squares)
    sums->sum = d_add(sums->sum, d_widen(v_tree(excess)));
}

static bool lies_inside(float x, const struct stage *stage) {
  return key_of(x) > stage->low_key && key_of(x) <= stage->high_key;
}

/* One element, for the last few of a vector. */
static void sum_stage_one(float x, int lane, const struct stage *stage, struct tail_lanes *tail) {
  if (key_of(x) <= stage->high_key)
    return;
  const double excess = (double)((x < 0 ? -x : x) - stage->excess_of);
  tail->sum[lane] += excess;
  tail->sum_squares[lane] += excess * excess;
  tail->count++;
}

/* What of a word lies inside any bracket. */
INLINE void pack_inside(const vec block[4], struct division *d) {
  for (int b = 0; b < 4; b++) {
    uint32_t inside = 0;
    for (int m = 0; m < d->stages; m++)
      inside |= v_inside_or_above(block[b], d->stage[m].low_key, d->stage[m].high_key, INT32_MAX);
    v_compress_values(block[b], inside, d->between + d->found);
    d->found += __builtin_popcount(inside);
  }
}

/* Entries of a word that are candidates; where `zero`, they leave x, which begins at index base. */
INLINE void pack_candidates(const vec block[4], const int32_t *indices, uint64_t valid, float *x, bool zero,
                            struct packing *pack) {
  uint32_t mask[4], any = 0;
  for (int b = 0; b < 4; b++)
    any |= mask[b] = v_greater(block[b], pack->key) & (uint32_t)(valid >> b * LANES) & 0xffff;
  if (!any)
    return;
  int64_t i = pack->packed;
  for (int b = 0; b < 4; b++) {
    v_compress_pairs(block[b], i_load(indices + b * LANES), mask[b], pack->indices + pack->packed,
                     pack->values + pack->packed);
    pack->packed += __builtin_popcount(mask[b]);
  }
  for (; zero && i < pack->packed; i++) {
    const float value = pack->values[i];
    x[pack->indices[i] - pack->base] = key_of(value) > pack->zero_key ? 0.0f : value;
  }
}

/* Survivors i to i + 63, of which only the first `left` are meant; behind them are zeros, which are in no bracket. */
INLINE void divide_word(struct sweep *s, int64_t i, int64_t left, float *x, bool squares, bool zero) {
  struct division *d = s->division;
  vec block[4];
  for (int b = 0; b < 4; b++)
    block[b] = v_load(d->values + i + b * LANES);
  pack_inside(block, d);
  for (int m = 0; m < d->stages; m++) {
    if (m == d->low || m == d->second)
      continue;
    struct stage_sums sums = open_stage(&d->tails[m]);
    sum_stage(&sums, block, &d->stage[m], squares);
    close_stage(&sums, &d->tails[m]);
  }
  pack_candidates(block, d->indices + i, left < WORD ? ~(UINT64_MAX << left) : UINT64_MAX, x, zero, s->pack);
}

/* Divides the survivors among the brackets and the candidates. */
INLINE void divide(struct sweep *s, float *x, bool squares, bool zero) {
  struct division *d = s->division;
  for (int b = 0; b < WORD; b += LANES) {
    v_store(d->values + d->survivors + b, v_zero());
    i_store(d->indices + d->survivors + b, i_zero());
  }
  for (int64_t i = 0; i < d->survivors; i += WORD)
    divide_word(s, i, d->survivors - i, x, squares, zero);
}

/* The elements whose bits are set, behind each other. Every step takes one, or passes an empty word: their number is
 * known before, and nothing is left to guess for the processor. bits[words] can be read. */
static int64_t pack_bits(const uint64_t *bits, int64_t words, const float *x, struct packing *pack) {
  int64_t steps = 0, packed = pack->packed, w = 0;
  for (int64_t i = 0; i < words; i++)
    steps += max64(1, __builtin_popcountll(bits[i]));
  uint64_t left = bits[0];
  for (; steps; steps--) {
    const int64_t i = w * WORD + (__builtin_ctzll(left | UINT64_C(1) << (WORD - 1)));
    pack->indices[packed] = (int32_t)(pack->base + i);
    pack->values[packed] = x[i];
    packed += left != 0;
    left &= left - (left != 0);
    w += left == 0;
    left = left ? left : bits[w];
  }
  return packed;
}

/* squares: of the stages' excesses; two: two stages are every element's */
INLINE void sweep_stages_loop(const float *gradient, float *x, int64_t n, struct sweep *s, int what, bool two,
                              bool dense) {
  struct division *const d = s->division;
  const struct stage low = d->stage[d->low], second = d->stage[two ? d->second : d->low];
  struct tail_lanes *const tail = &d->tails[d->low], *const second_tail = &d->tails[two ? d->second : d->low];
  const int32_t key = d->survivors_key, zero_key = s->pack->zero_key;
  const bool squares = what & SUM_SQUARES;
  uint64_t bits[SWEPT / WORD + 1];
  struct packing survivors = {.base = s->pack->base, .indices = d->indices, .values = d->values};
  struct sums sums = open_sums(s->moments);
  struct stage_sums above = open_stage(tail), above_second = open_stage(second_tail);
  int64_t i = 0;
  for (; i + WORD <= n; i += WORD) {
    uint64_t going_on = 0;
    vec block[WORD / LANES], magnitudes = v_zero(), excesses = v_zero(), second_excesses = v_zero();
    uint32_t mask[WORD / LANES];
    for (int b = 0; b < WORD / LANES; b++) {
      const int64_t at = i + b * LANES;
      block[b] = add_ahead(gradient, x, at);
      v_store(x + at, dense ? v_zero_above(block[b], zero_key) : block[b]);
      mask[b] = two ? v_inside_two_or_above(block[b], low.low_key, low.high_key, second.low_key, second.high_key, key)
                    : v_inside_or_above(block[b], low.low_key, low.high_key, key);
      going_on |= (uint64_t)mask[b] << b * LANES;
      if (what == SUM_ABS) {
        sums.largest = i_max(sums.largest, v_key(block[b]));
        magnitudes = v_add(magnitudes, v_abs(block[b]));
      } else
        sum_block(&sums, block[b], what);
      const vec excess = v_excess(block[b], low.high_key, low.excess_of);
      above.count = i_now(i_count_above(above.count, block[b], low.high_key));
      if (squares)
        add_excess(&above, excess);
      else
        excesses = v_add(excesses, excess);
      if (two) {
        second_excesses = v_add(second_excesses, v_excess(block[b], second.high_key, second.excess_of));
        above_second.count = i_now(i_count_above(above_second.count, block[b], second.high_key));
      }
    }
    if (what == SUM_ABS)
      sums.sum_abs = d_add(sums.sum_abs, d_widen(magnitudes));
    if (!squares)
      above.sum = d_add(above.sum, d_widen(excesses));
    if (two)
      above_second.sum = d_add(above_second.sum, d_widen(second_excesses));
    if (dense)
      survivors.packed += v_pack_word(block, mask, (int32_t)(survivors.base + i), survivors.indices + survivors.packed,
                                      survivors.values + survivors.packed);
    else
      bits[i / WORD] = going_on;
  }
  close_sums(&sums, s->moments, i / LANES, what);
  close_stage(&above, tail);
  if (two)
    close_stage(&above_second, second_tail);
  bits[i / WORD] = 0;
  if (!dense && i)
    survivors.packed = pack_bits(bits, i / WORD, x, &survivors);
  for (; i < n; i++) {
    x[i] += gradient[i];
    moment_one(x[i], (int)(i % LANES), s->moments);
    sum_stage_one(x[i], (int)(i % LANES), &low, tail);
    if (two)
      sum_stage_one(x[i], (int)(i % LANES), &second, second_tail);
    survivors.key = lies_inside(x[i], &low) || (two && lies_inside(x[i], &second)) ? -1 : key;
    survivors.zero_key = zero_key;
    pack_one(x, i, &survivors, dense);
  }
  fold_mantissas(s->moments);
  d->survivors = survivors.packed;
  divide(s, x, squares, !dense);
}

#if SPECIALIZED
/* Each variant a function of its own: in one large function the compiler loses sight of what is in registers. */
#define VARIANT(name, what, two, dense)                                                                                \
  static __attribute__((noinline)) void name(const float *gradient, float *x, int64_t n, struct sweep *s) {            \
    sweep_stages_loop(gradient, x, n, s, what, two, dense);                                                            \
  }
#define VARIANTS(name, what) VARIANT(name, what, false, false) VARIANT(name##_dense, what, false, true)

VARIANTS(stages_abs, SUM_ABS)
VARIANT(two_stages_abs, SUM_ABS, true, false)
VARIANT(two_stages_abs_dense, SUM_ABS, true, true)
VARIANTS(stages_x_squares, SUM_X | SUM_SQUARES)
VARIANTS(stages_abs_squares, SUM_ABS | SUM_SQUARES)
VARIANTS(stages_abs_squares_logs, SUM_ABS | SUM_SQUARES | SUM_LOGS)
VARIANTS(stages_all, SUM_ALL)

#define CHOOSE(name) return s->division->dense ? name##_dense(gradient, x, n, s) : name(gradient, x, n, s)

static void sweep_stages(const float *gradient, float *x, int64_t n, struct sweep *s) {
  const bool two = s->division->second >= 0;
  switch (s->sums) {
  case 0: /* no method */
  case SUM_ABS:
    if (two)
      CHOOSE(two_stages_abs);
    CHOOSE(stages_abs);
  case SUM_X | SUM_SQUARES:
    CHOOSE(stages_x_squares);
  case SUM_ABS | SUM_SQUARES:
    CHOOSE(stages_abs_squares);
  case SUM_ABS | SUM_SQUARES | SUM_LOGS:
    CHOOSE(stages_abs_squares_logs);
  default:
    CHOOSE(stages_all);
  }
}
#else
static void sweep_stages(const float *gradient, float *x, int64_t n, struct sweep *s) {
  sweep_stages_loop(gradient, x, n, s, variant_of(s->sums), s->division->second >= 0, s->division->dense);
}
#endif
