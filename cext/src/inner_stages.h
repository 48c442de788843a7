/* Stages that follow one another, over what a sweep lets go on: instantiated once an instruction set.
 *
 * The lowest stages keep so much that every element is held against them in the sweep itself. What goes on is packed
 * while it is in the cache, and divided here 64 at a time among the other stages, what lies inside brackets, and the
 * candidates.
 */
#include "common.h"

/* One stage's sums of one part's lanes over a few words: excesses are added up in float, and so are their squares. */
struct stage_sums {
  vec sum, sum_squares;
};

INLINE struct stage_sums no_excess(void) { return (struct stage_sums){v_zero(), v_zero()}; }

INLINE void add_excess(struct stage_sums *sums, vec excess, bool squares) {
  sums->sum = v_add(sums->sum, excess);
  if (squares)
    sums->sum_squares = v_add(sums->sum_squares, v_mul(excess, excess));
}

INLINE void close_stage(const struct stage_sums *sums, struct tail_lanes *tail, int part, bool squares) {
  d_add_to(tail->sum + part * VEC, d_widen(sums->sum));
  if (squares)
    d_add_to(tail->sum_squares + part * VEC, d_widen(sums->sum_squares));
}

INLINE void count_stage(struct tail_lanes *tail, ivec count) {
  int32_t counts[VEC];
  i_store(counts, count);
  for (int l = 0; l < VEC; l++)
    tail->count += counts[l];
}

/* Of every element: without squares its magnitude or the threshold, whichever is larger, which costs an operation less;
 * `over_threshold` then takes the thresholds off. */
INLINE void add_above(struct stage_sums *sums, vec v, const struct stage *stage, bool squares) {
  if (squares)
    add_excess(sums, v_excess(v, stage->high_key, stage->excess_of), true);
  else
    sums->sum = v_add(sums->sum, v_larger(stage->excess_of, v_abs(v)));
}

INLINE void over_threshold(struct tail_lanes *tail, const struct stage *stage, int64_t elements_a_lane) {
  for (int l = 0; l < LANES; l++)
    tail->sum[l] -= (double)elements_a_lane * (double)stage->excess_of;
}

/* What of a word lies above the bracket. */
INLINE void sum_stage(const vec block[WORD / VEC], const struct stage *stage, struct tail_lanes *tail, bool squares) {
  for (int part = 0; part < PARTS; part++) {
    struct stage_sums sums = no_excess();
    for (int b = part; b < WORD / VEC; b += PARTS) {
      tail->count += __builtin_popcount(v_greater(block[b], stage->high_key));
      add_excess(&sums, v_excess(block[b], stage->high_key, stage->excess_of), squares);
    }
    close_stage(&sums, tail, part, squares);
  }
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
INLINE void pack_inside(const vec block[WORD / VEC], struct division *d) {
  for (int b = 0; b < WORD / VEC; b++) {
    uint32_t inside = 0;
    for (int m = 0; m < d->stages; m++)
      inside |= v_inside_or_above(block[b], d->stage[m].low_key, d->stage[m].high_key, INT32_MAX);
    v_compress_values(block[b], inside, d->between + d->found);
    d->found += __builtin_popcount(inside);
  }
}

/* Entries of a word that are candidates. */
INLINE void pack_candidates(const vec block[WORD / VEC], const int32_t *indices, uint64_t valid, struct packing *pack) {
  uint64_t bits = 0;
  for (int b = 0; b < WORD / VEC; b++)
    bits |= (uint64_t)v_greater(block[b], pack->key) << b * VEC;
  bits &= valid;
  if (!bits)
    return;
  for (int b = 0; b < WORD / VEC; b++) {
    const uint32_t mask = bits >> b * VEC & ((1u << VEC) - 1);
    v_compress_pairs(block[b], i_load(indices + b * VEC), mask, pack->indices + pack->packed,
                     pack->values + pack->packed);
    pack->packed += __builtin_popcount(mask);
  }
}

/* Divides the survivors among the brackets and the candidates. Behind the last one are zeros, which are in no bracket.
 */
INLINE void divide(struct sweep *s, bool squares) {
  struct division *d = s->division;
  for (int b = 0; b < WORD; b += VEC) {
    v_store(d->values + d->survivors + b, v_zero());
    i_store(d->indices + d->survivors + b, i_zero());
  }
  for (int64_t i = 0; i < d->survivors; i += WORD) {
    const int64_t left = d->survivors - i;
    vec block[WORD / VEC];
    for (int b = 0; b < WORD / VEC; b++)
      block[b] = v_load(d->values + i + b * VEC);
    pack_inside(block, d);
    for (int m = 0; m < d->stages; m++)
      if (m != d->low && m != d->second)
        sum_stage(block, &d->stage[m], &d->tails[m], squares);
    pack_candidates(block, d->indices + i, left < WORD ? ~(UINT64_MAX << left) : UINT64_MAX, s->pack);
  }
}
