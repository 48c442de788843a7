/* Sums of one chunk in 16 double lanes, the same numbers in the same order on every instruction set.
 *
 * sum of ln(|x| + 2.2e-16) is almost free: exponents are added up as integers, mantissas multiplied, and one logarithm
 * is taken at the end of the chunk. Beside the sums of one method (SIDCo-GP) a few are multiplied in float first: at
 * most 2^-24 an element off, either way. A square of a float is exact in double, so no ISA rounds it differently.
 *
 * Where the sum of |x| is wanted alone (SIDCo-E, RedSync), up to 16 blocks are added up in float first and widened
 * once: as a rule 1e-10 of the sum off over 2 M elements. Beside squares it stays exact: a variance is the
 * difference of the two.
 */
#include "common.h"

#define INLINE static inline __attribute__((always_inline))
#if SPECIALIZED
#define UNROLL _Pragma("GCC unroll 8") /* what is in registers must have a name */
#else
#define UNROLL /* in memory anyway; sanitizers would compile and run it for minutes */
#endif

/* A lane's product of mantissas in [1, 2) stays below 2^512 for 512 blocks, then is folded back into [1, 2). */
enum { FOLD_BLOCKS = 512, EXPONENT_BIAS = 127 };

static const float LOG_EPSILON = 2.2e-16f;

static void fold_mantissas(struct moment_lanes *lanes) {
  for (int l = 0; l < LANES; l++) {
    uint64_t bits;
    memcpy(&bits, &lanes->mantissa[l], sizeof bits);
    lanes->exponent += (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffff) | 0x3ff0000000000000;
    memcpy(&lanes->mantissa[l], &bits, sizeof bits);
  }
}

/* Blocks of 16 lanes are summed register by register: the first VEC lanes of a few blocks, then the next, each added to
 * the lanes' sums at once. So all that is under way stays in registers, and no addition waits for the one before. */
enum { PARTS = LANES / VEC };

/* Sums of one part's lanes over at most 16 blocks. */
struct sums {
  dvec sum, sum_abs, sum_squares, mantissa; /* mantissa: product of at most 16 in [1, 2) */
  vec magnitudes, short_mantissa;           /* the same in float */
};

/* What does not depend on the order, over all parts; at most FOLD_BLOCKS blocks. */
struct counts {
  ivec exponent, largest, nonzero; /* exponents with their bias */
};

INLINE struct sums no_sums(void) {
  const vec one = v_set(1.0f);
  return (struct sums){d_zero(), d_zero(), d_zero(), d_widen(one), v_zero(), one};
}

INLINE void d_add_to(double *sum, dvec d) { d_store(sum, d_add(d_load(sum), d)); }

INLINE void close_sums(const struct sums *sums, struct moment_lanes *lanes, int part, int what) {
  const int at = part * VEC;
  if (what & SUM_X)
    d_add_to(lanes->sum + at, sums->sum);
  if (what & SUM_ABS)
    d_add_to(lanes->sum_abs + at, what == SUM_ABS ? d_widen(sums->magnitudes) : sums->sum_abs);
  if (what & SUM_SQUARES)
    d_add_to(lanes->sum_squares + at, sums->sum_squares);
  if (what & SUM_LOGS)
    d_store(lanes->mantissa + at,
            d_mul(d_load(lanes->mantissa + at), what == SUM_ALL ? sums->mantissa : d_widen(sums->short_mantissa)));
}

INLINE struct counts no_counts(void) { return (struct counts){i_zero(), i_zero(), i_zero()}; }

/* blocks: as many as were summed, for the exponents' bias */
INLINE void close_counts(const struct counts *counts, struct moment_lanes *lanes, int64_t blocks, int what) {
  int32_t exponents[VEC], keys[VEC], nonzeros[VEC];
  i_store(exponents, counts->exponent);
  i_store(keys, counts->largest);
  i_store(nonzeros, counts->nonzero);
  for (int l = 0; l < VEC; l++) {
    lanes->exponent += exponents[l];
    lanes->nonzero += nonzeros[l];
    lanes->max_key = keys[l] > lanes->max_key ? keys[l] : lanes->max_key;
  }
  if (what & SUM_LOGS) {
    lanes->exponent -= EXPONENT_BIAS * LANES * blocks;
    fold_mantissas(lanes);
  }
}

/* Asks for what a pass that only reads comes to. */
INLINE void ask(const float *x, int64_t ahead) {
  if (READ_FAR > 0)
    __builtin_prefetch(x + READ_FAR, 0, 2);
  __builtin_prefetch(x + ahead);
}

/* One register of gradient + x; the first of a block asks early for what comes later. */
INLINE vec add_ahead(const float *gradient, const float *x, int64_t at, bool first) {
  if (first) {
    __builtin_prefetch(x + at + UPDATE_AHEAD, 1);
    __builtin_prefetch(gradient + at + UPDATE_AHEAD);
  }
  return v_add(v_load(x + at), v_load(gradient + at));
}

INLINE void sum_vec(struct sums *sums, struct counts *counts, vec v, int what) {
  const vec magnitude = v_abs(v);
  counts->largest = i_max(counts->largest, v_key(v));
  if (what == SUM_ABS)
    sums->magnitudes = v_add(sums->magnitudes, magnitude);
  else if (what & (SUM_X | SUM_ABS)) {
    const dvec wide = d_widen(v), wide_abs = d_abs(wide);
    if (what & SUM_X)
      sums->sum = d_add(sums->sum, wide);
    if (what & SUM_ABS)
      sums->sum_abs = d_add(sums->sum_abs, wide_abs);
    if (what & SUM_SQUARES)
      sums->sum_squares = d_add_exact_square(sums->sum_squares, wide);
  }
  if (what & SUM_LOGS) {
    const vec shifted = v_plus(magnitude, LOG_EPSILON);
    counts->exponent = i_add(counts->exponent, v_exponent(shifted));
    if (what == SUM_ALL)
      sums->mantissa = d_mul(sums->mantissa, d_widen(v_mantissa(shifted)));
    else
      sums->short_mantissa = v_mul(sums->short_mantissa, v_mantissa(shifted));
  }
}

#if !SPECIALIZED
/* What a sweep makes that is asked for these sums: a combination of a method, or all of them. */
static int variant_of(int sums) {
  switch (sums) {
  case 0:
  case SUM_ABS:
  case SUM_X | SUM_SQUARES:
  case SUM_ABS | SUM_SQUARES:
  case SUM_ABS | SUM_SQUARES | SUM_LOGS:
    return sums;
  default:
    return SUM_ALL;
  }
}
#endif

/* One register of x at `at`, plus gradient where there is feedback, which is stored. */
INLINE vec read_ahead(const float *gradient, float *x, int64_t at, bool first, bool feedback) {
  if (!feedback) {
    if (first)
      ask(x + at, READ_AHEAD);
    return v_load(x + at);
  }
  const vec v = add_ahead(gradient, x, at, first);
  v_store(x + at, v);
  return v;
}

/* A few whole blocks from `at` on; with a residual, r += g first. */
INLINE void moment_group(const float *gradient, float *x, int64_t at, int blocks, struct moment_lanes *lanes,
                         struct counts *counts, bool feedback) {
  UNROLL for (int part = 0; part < PARTS; part++) {
    struct sums sums = no_sums();
    UNROLL for (int b = 0; b < blocks; b++) {
      const int64_t i = at + b * LANES + part * VEC;
      const vec v = read_ahead(gradient, x, i, part == 0, feedback);
      counts->nonzero = i_count_above(counts->nonzero, v, 0);
      sum_vec(&sums, counts, v, SUM_ALL);
    }
    close_sums(&sums, lanes, part, SUM_ALL);
  }
}

/* Up to FOLD_BLOCKS whole blocks. */
INLINE void moment_blocks(const float *gradient, float *x, int64_t blocks, struct moment_lanes *lanes, bool feedback) {
  struct counts counts = no_counts();
  int64_t i = 0;
  for (; i + WORD <= blocks * LANES; i += WORD)
    moment_group(gradient, x, i, WORD / LANES, lanes, &counts, feedback);
  for (; i < blocks * LANES; i += LANES)
    moment_group(gradient, x, i, 1, lanes, &counts, feedback);
  close_counts(&counts, lanes, blocks, SUM_ALL);
}

static void moment_one(float x, int lane, struct moment_lanes *lanes) {
  float a = x < 0 ? -x : x, mantissa;
  int32_t key = key_of(x), shifted_key = key_of(a + LOG_EPSILON), bits = (shifted_key & 0x007fffff) | 0x3f800000;
  memcpy(&mantissa, &bits, sizeof mantissa);
  lanes->nonzero += key > 0;
  lanes->max_key = key > lanes->max_key ? key : lanes->max_key;
  lanes->sum[lane] += (double)x;
  lanes->sum_abs[lane] += (double)a;
  lanes->sum_squares[lane] += (double)a * (double)a;
  lanes->exponent += (shifted_key >> 23) - 127;
  lanes->mantissa[lane] *= (double)mantissa;
}

/* All that is under way is the thread's own: neighbouring lanes may be another one's, and share a cache line. */
INLINE void moment_chunk(const float *gradient, float *x, int64_t n, struct moment_lanes *lanes, bool feedback) {
  const int64_t blocks = n / LANES;
  struct moment_lanes own = *lanes;
  for (int64_t b = 0; b < blocks; b += FOLD_BLOCKS)
    moment_blocks(feedback ? gradient + b * LANES : NULL, x + b * LANES, min64(FOLD_BLOCKS, blocks - b), &own,
                  feedback);
  for (int64_t i = blocks * LANES; i < n; i++) {
    if (feedback)
      x[i] += gradient[i];
    moment_one(x[i], (int)(i % LANES), &own);
  }
  fold_mantissas(&own);
  *lanes = own;
}

static void moments(const float *x, int64_t n, struct moment_lanes *lanes) {
  moment_chunk(x, (float *)(uintptr_t)x, n, lanes, false); /* false: x is only read */
}

static void moments_feedback(const float *gradient, float *residual, int64_t n, struct moment_lanes *lanes) {
  moment_chunk(gradient, residual, n, lanes, true);
}

INLINE void score_loop(const float *gradient, float *x, int64_t blocks, float *scores, bool feedback) {
  for (int64_t b = 0; b < blocks; b++) {
    vec magnitudes[PARTS];
    UNROLL for (int part = 0; part < PARTS; part++) {
      const int64_t i = b * LANES + part * VEC;
      magnitudes[part] = v_abs(read_ahead(gradient, x, i, part == 0, feedback));
    }
    scores[b] = v_sum_halves(magnitudes);
  }
}

static void block_scores(const float *gradient, float *x, int64_t blocks, float *scores) {
  gradient ? score_loop(gradient, x, blocks, scores, true) : score_loop(NULL, x, blocks, scores, false);
}

static int32_t max_key(const float *x, int64_t n) {
  ivec largest[WORD / VEC];
  int64_t i = 0;
  for (int b = 0; b < WORD / VEC; b++)
    largest[b] = i_zero();
  for (; i + WORD <= n; i += WORD) {
    for (int b = 0; b < WORD; b += LANES)
      ask(x + i + b, PLAIN_AHEAD);
    for (int b = 0; b < WORD / VEC; b++)
      largest[b] = i_max(largest[b], v_key(v_load(x + i + b * VEC)));
  }
  for (int b = 1; b < WORD / VEC; b++)
    largest[0] = i_max(largest[0], largest[b]);
  int32_t keys[VEC], max = 0;
  i_store(keys, largest[0]);
  for (int l = 0; l < VEC; l++)
    max = keys[l] > max ? keys[l] : max;
  for (; i < n; i++)
    max = key_of(x[i]) > max ? key_of(x[i]) : max;
  return max;
}

static void tail(const float *x, int64_t n, double threshold, int32_t key, int32_t limit, struct tail_lanes *lanes) {
  dvec sum[PARTS], sum_squares[PARTS];
  int64_t count = 0, i = 0;
  UNROLL for (int part = 0; part < PARTS; part++) {
    sum[part] = d_load(lanes->sum + part * VEC);
    sum_squares[part] = d_load(lanes->sum_squares + part * VEC);
  }
  for (; i + LANES <= n; i += LANES) {
    ask(x + i, READ_AHEAD);
    UNROLL for (int part = 0; part < PARTS; part++) {
      vec v = v_zero_above(v_load(x + i + part * VEC), limit);
      count += __builtin_popcount(v_greater(v, key));
      dvec excess = d_excess(d_widen(v_abs(v)), threshold);
      sum[part] = d_add(sum[part], excess);
      sum_squares[part] = d_add(sum_squares[part], d_mul(excess, excess));
    }
  }
  UNROLL for (int part = 0; part < PARTS; part++) {
    d_store(lanes->sum + part * VEC, sum[part]);
    d_store(lanes->sum_squares + part * VEC, sum_squares[part]);
  }
  for (int64_t l = 0; i < n; i++, l++) {
    float v = key_of(x[i]) > limit ? 0.0f : x[i];
    double a = v < 0 ? -(double)v : (double)v;
    double excess = a <= threshold ? 0.0 : a - threshold;
    count += key_of(v) > key;
    lanes->sum[l] += excess;
    lanes->sum_squares[l] += excess * excess;
  }
  lanes->count += count;
}
