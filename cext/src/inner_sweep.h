/* The one pass with error feedback, over a piece of a vector: instantiated once an instruction set.
 *
 * Every element is added, summed, and held against the threshold or the brackets of the lowest stages, and what goes on
 * is packed: no branch depends on the data, so all of it hides behind memory. Where little goes on, a word's loop only
 * notes the places, a few at a time whether they are there or not; the values are fetched from a piece that is still in
 * the cache.
 */
#include "common.h"

/* The places of a word's set bits, so many at a time; more may be written than there are, but not beyond a word. */
INLINE int64_t note_places(uint64_t bits, int32_t base, int32_t *indices, const enum amount at_a_time) {
  const int64_t count = __builtin_popcountll(bits);
  for (int64_t done = 0;;) {
    UNROLL for (int l = 0; l < (int)at_a_time; l++) {
      indices[done + l] = base + __builtin_ctzll(bits | UINT64_C(1) << (WORD - 1));
      bits &= bits - 1;
    }
    done += at_a_time;
    if (__builtin_expect(done >= count, 1))
      return count;
  }
}

/* What goes on of a word: whole, or its places only. */
INLINE int64_t pack_word(const vec block[WORD / VEC], uint64_t bits, int32_t base, bool whole,
                         const enum amount at_a_time, int32_t *indices, float *values) {
  return whole ? v_pack_word(block, bits, base, indices, values) : note_places(bits, base, indices, at_a_time);
}

/* The values of places from number `from` on; x becomes 0 above zero_key: by a mask, since compilers make a branch of a
 * condition, and half of these are guessed wrong. */
static void fetch_noted(struct packing *pack, int64_t from, float *x) {
  const int32_t *const indices = pack->indices;
  float *const values = pack->values;
  const int32_t zero_key = pack->zero_key;
  const int64_t base = pack->base, packed = pack->packed;
  for (int64_t i = from; i < packed; i++) {
    float *const place = x + (indices[i] - base);
    int32_t bits;
    memcpy(&bits, place, sizeof bits);
    memcpy(values + i, &bits, sizeof bits);
    bits &= ((bits & KEY_MASK) > zero_key) - 1;
    memcpy(place, &bits, sizeof bits);
  }
}

/* Words whose sums are kept in registers, register by register, before they are added to the lanes' sums; where there
 * is little to sum, one is best: measured. */
enum { GROUP = 4 };

/* pack: of what goes on; what: sums; stages: how many of them are every element's, 0 to 2. Where MUCH goes on and these
 * are all the stages, what goes on are the candidates alone, and what is inside a bracket is found here. */
INLINE void sweep_loop(const float *gradient, float *x, int64_t n, struct sweep *s, struct packing *pack, int what,
                       int stages, enum amount amount) {
  struct division *const d = s->division;
  struct moment_lanes lanes = *s->moments; /* on the stack: the others' lie beside it, and share cache lines */
  const struct stage none = {0, 0, 0.0, 0.0f};
  const struct stage low = stages > 0 ? d->stage[d->low] : none, second = stages > 1 ? d->stage[d->second] : none;
  const struct tail_lanes no_tail = {.count = 0};
  struct tail_lanes tail = stages > 0 ? d->tails[d->low] : no_tail;
  struct tail_lanes second_tail = stages > 1 ? d->tails[d->second] : no_tail;
  const int32_t key = pack->key, zero_key = pack->zero_key;
  int32_t *const indices = pack->indices;
  float *const values = pack->values;
  int64_t packed = pack->packed;
  const bool squares = what & SUM_SQUARES;
  struct counts counts = no_counts();
  ivec above = i_zero(), above_second = i_zero();
  const bool apart = stages > 0 && amount == MUCH, wordwise = amount == MUCH || (WORDWISE && amount == SOME);
  int64_t inside_noted = 0;
  const bool grouped = stages > 0 || what & SUM_LOGS, packed_at_once = PARTS == 1 && !grouped;
  const int64_t words = n / WORD, most = grouped ? GROUP : 1;
  for (int64_t start = 0; start < words; start += most) {
    const int64_t group = min64(most, words - start);
    uint64_t going_on[GROUP] = {0}, inside[GROUP] = {0};
    vec block[GROUP][WORD / VEC];
    for (int part = 0; part < PARTS; part++) {
      struct sums sums = no_sums();
      struct stage_sums first_above = no_excess(), second_above = no_excess();
      for (int64_t w = 0; w < group; w++) {
        uint64_t bits = 0, inside_bits = 0;
        UNROLL for (int b = 0; b < WORD / LANES; b++) {
          const int64_t at = (start + w) * WORD + b * LANES + part * VEC;
          const vec v = add_ahead(gradient, x, at, part == 0);
          v_store(x + at, wordwise ? v_zero_above(v, zero_key) : v);
          block[w][b * PARTS + part] = v;
          if (apart)
            inside_bits |= (uint64_t)(stages == 1 ? v_inside_or_above(v, low.low_key, low.high_key, INT32_MAX)
                                                  : v_inside_two_or_above(v, low.low_key, low.high_key, second.low_key,
                                                                          second.high_key, INT32_MAX))
                           << b * LANES;
          const uint32_t mask =
              stages == 0 || apart ? v_greater(v, key)
              : stages == 1 ? v_inside_or_above(v, low.low_key, low.high_key, key)
                            : v_inside_two_or_above(v, low.low_key, low.high_key, second.low_key, second.high_key, key);
          bits |= (uint64_t)mask << b * LANES;
          sum_vec(&sums, &counts, v, what);
          if (stages > 0) {
            above = i_count_above(above, v, low.high_key);
            add_above(&first_above, v, &low, squares);
          }
          if (stages > 1) {
            above_second = i_count_above(above_second, v, second.high_key);
            add_above(&second_above, v, &second, squares);
          }
        }
        going_on[w] |= bits << part * VEC;
        inside[w] |= inside_bits << part * VEC;
        if (packed_at_once) /* its registers need not be kept in memory till then */
          packed += pack_word(block[w], bits, (int32_t)(pack->base + (start + w) * WORD), wordwise, amount,
                              indices + packed, values + packed);
      }
      close_sums(&sums, &lanes, part, what);
      if (stages > 0)
        close_stage(&first_above, &tail, part, squares);
      if (stages > 1)
        close_stage(&second_above, &second_tail, part, squares);
    }
    for (int64_t w = 0; !packed_at_once && w < group; w++) {
      packed += pack_word(block[w], going_on[w], (int32_t)(pack->base + (start + w) * WORD), wordwise, amount,
                          indices + packed, values + packed);
      if (apart)
        inside_noted += note_places(inside[w], (int32_t)((start + w) * WORD), d->indices + inside_noted, FEW);
    }
  }
  for (int64_t i = 0; i < inside_noted; i++)
    d->between[d->found++] = x[d->indices[i]];
  const int64_t before = pack->packed;
  pack->packed = packed;
  if (!wordwise)
    fetch_noted(pack, before, x);
  close_counts(&counts, &lanes, words * (WORD / LANES), what);
  *s->moments = lanes;
  if (stages > 0) {
    count_stage(&tail, above);
    if (!squares)
      over_threshold(&tail, &low, words * (WORD / LANES));
    d->tails[d->low] = tail;
  }
  if (stages > 1) {
    count_stage(&second_tail, above_second);
    if (!squares)
      over_threshold(&second_tail, &second, words * (WORD / LANES));
    d->tails[d->second] = second_tail;
  }
}

#if SPECIALIZED
/* A variant for each method, so that what is not wanted costs nothing; and each a function of its own: in one large
 * function the compiler loses sight of what is in registers. */
#define VARIANT(name, what, stages, amount)                                                                            \
  static __attribute__((noinline)) void name(const float *gradient, float *x, int64_t n, struct sweep *s,              \
                                             struct packing *pack) {                                                   \
    sweep_loop(gradient, x, n, s, pack, what, stages, amount);                                                         \
  }
#define VARIANTS(name, what, stages)                                                                                   \
  VARIANT(name##_few, what, stages, FEW)                                                                               \
  VARIANT(name##_some, what, stages, SOME) VARIANT(name##_much, what, stages, MUCH)

VARIANTS(sum_nothing, 0, 0)                     /* thresholds, DGC */
VARIANTS(sum_x_squares, SUM_X | SUM_SQUARES, 0) /* GaussianK */
VARIANTS(sum_x_squares_1, SUM_X | SUM_SQUARES, 1)
VARIANTS(sum_abs, SUM_ABS, 0)   /* RedSync */
VARIANTS(sum_abs_1, SUM_ABS, 1) /* SIDCo-E */
VARIANTS(sum_abs_2, SUM_ABS, 2)
VARIANTS(sum_squares, SUM_ABS | SUM_SQUARES, 0) /* SIDCo-P */
VARIANTS(sum_squares_1, SUM_ABS | SUM_SQUARES, 1)
VARIANTS(sum_logs, SUM_ABS | SUM_SQUARES | SUM_LOGS, 0) /* SIDCo-GP */
VARIANTS(sum_logs_1, SUM_ABS | SUM_SQUARES | SUM_LOGS, 1)
VARIANTS(sum_all, SUM_ALL, 0)
VARIANTS(sum_all_1, SUM_ALL, 1)

#define CHOOSE(name)                                                                                                   \
  return pack->amount == FEW    ? name##_few(gradient, x, n, s, pack)                                                  \
         : pack->amount == SOME ? name##_some(gradient, x, n, s, pack)                                                 \
                                : name##_much(gradient, x, n, s, pack)
/* A second stage is every element's beside the sum of |x| alone. */
static void sweep_variant(const float *gradient, float *x, int64_t n, struct sweep *s, struct packing *pack,
                          int stages) {
  switch (s->sums) {
  case 0:
    if (stages == 0)
      CHOOSE(sum_nothing);
    CHOOSE(sum_all_1);
  case SUM_X | SUM_SQUARES:
    if (stages == 0)
      CHOOSE(sum_x_squares);
    CHOOSE(sum_x_squares_1);
  case SUM_ABS:
    if (stages == 0)
      CHOOSE(sum_abs);
    if (stages == 1)
      CHOOSE(sum_abs_1);
    CHOOSE(sum_abs_2);
  case SUM_ABS | SUM_SQUARES:
    if (stages == 0)
      CHOOSE(sum_squares);
    CHOOSE(sum_squares_1);
  case SUM_ABS | SUM_SQUARES | SUM_LOGS:
    if (stages == 0)
      CHOOSE(sum_logs);
    CHOOSE(sum_logs_1);
  default:
    if (stages == 0)
      CHOOSE(sum_all);
    CHOOSE(sum_all_1);
  }
}
#else
static void sweep_variant(const float *gradient, float *x, int64_t n, struct sweep *s, struct packing *pack,
                          int stages) {
  sweep_loop(gradient, x, n, s, pack, variant_of(s->sums), stages, pack->amount);
}
#endif

/* The last few elements of a vector, one by one. */
static void sweep_rest(const float *gradient, float *x, int64_t i, int64_t n, struct sweep *s,
                       struct packing *survivors) {
  const struct division *d = s->division;
  for (; i < n; i++) {
    x[i] += gradient[i];
    moment_one(x[i], (int)(i % LANES), s->moments);
    for (int m = 0; d && m < d->stages; m++) {
      if (m != d->low && m != d->second)
        continue;
      sum_stage_one(x[i], (int)(i % LANES), &d->stage[m], &d->tails[m]);
      survivors->key = lies_inside(x[i], &d->stage[m]) ? -1 : survivors->key;
    }
    pack_one(x, i, survivors, true);
    survivors->key = d ? d->survivors_key : survivors->key;
  }
}

/* Whether some of what lies inside the brackets that are every element's is zeroed by the loop. */
static bool zeroed_inside(const struct division *d, int32_t zero_key) {
  return d->stage[d->low].high_key > zero_key || (d->second >= 0 && d->stage[d->second].high_key > zero_key);
}

/* At most SWEPT elements. */
static void sweep(const float *gradient, float *x, int64_t n, struct sweep *s) {
  struct division *d = s->division;
  struct packing survivors = *s->pack;
  const int stages = d ? 1 + (d->second >= 0) : 0;
  int64_t sent = 0;
  if (d) {
    survivors.key = d->survivors_key;
    survivors.indices = d->indices;
    survivors.values = d->values;
    survivors.packed = 0;
    const bool apart = d->stages == stages && !zeroed_inside(d, survivors.zero_key);
    survivors.amount = d->amount == MUCH && !apart ? SOME : d->amount;
  }
  if (d && survivors.amount == MUCH) {
    struct packing candidates = *s->pack;
    candidates.amount = MUCH;
    sweep_variant(gradient, x, n, s, &candidates, stages);
    sent = candidates.packed - s->pack->packed;
    s->pack->packed = candidates.packed;
  } else
    sweep_variant(gradient, x, n, s, &survivors, stages);
  sweep_rest(gradient, x, n / WORD * WORD, n, s, &survivors);
  fold_mantissas(s->moments);
  if (!d) {
    s->pack->packed = survivors.packed;
    return;
  }
  d->survivors = survivors.packed;
  s->sums &SUM_SQUARES ? divide(s, true) : divide(s, false);
  d->survivors += sent;
}

/* Thresholds alone. */
static int64_t pack_feedback(const float *gradient, float *residual, int64_t n, struct packing *p) {
  struct moment_lanes unwanted = {.exponent = 0};
  struct sweep s = {.pack = p, .moments = &unwanted};
  const int64_t base = p->base;
  int64_t i = 0;
  for (; i < n && p->packed + SWEPT + WORD <= p->room; i += SWEPT) {
    const int64_t before = p->packed;
    p->base = base + i;
    sweep(gradient + i, residual + i, min64(SWEPT, n - i), &s);
    p->amount = amount_of(&ISA_KERNELS, p->packed - before, SWEPT);
  }
  p->base = base;
  return min64(i, n);
}
