/* Sums of one chunk in 16 double lanes, the same numbers in the same order on every instruction set.
 *
 * sum of ln(|x| + 2.2e-16) is almost free: exponents are added up as integers, mantissas multiplied, and one logarithm
 * is taken at the end of the chunk. A square of a float is exact in double, so no ISA rounds it differently.
 *
 * Where the sum of |x| is wanted alone (SIDCo-E, RedSync), the four blocks of a word are added up pairwise in float
 * first and widened once, for a quarter of the conversions: at most 2^-23 of the sum off, about 1e-10 over 25 M
 * elements, nothing where all are equal. Beside squares it stays exact: a variance is the difference of the two.
 */
#include "common.h"

#define INLINE static inline __attribute__((always_inline))

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

/* Sums in registers, over at most FOLD_BLOCKS whole blocks. */
struct sums {
  dvec sum, sum_abs, sum_squares, mantissa;
  ivec exponent, largest, nonzero; /* exponents with their bias */
};

static struct sums open_sums(const struct moment_lanes *lanes) {
  return (struct sums){.sum = d_load(lanes->sum),
                       .sum_abs = d_load(lanes->sum_abs),
                       .sum_squares = d_load(lanes->sum_squares),
                       .mantissa = d_load(lanes->mantissa),
                       .exponent = i_zero(),
                       .largest = i_zero(),
                       .nonzero = i_zero()};
}

/* blocks: as many as were summed, for the exponents' bias */
INLINE void close_sums(const struct sums *sums, struct moment_lanes *lanes, int64_t blocks, int what) {
  int32_t exponents[LANES], keys[LANES], nonzeros[LANES];
  d_store(lanes->sum, sums->sum);
  d_store(lanes->sum_abs, sums->sum_abs);
  d_store(lanes->sum_squares, sums->sum_squares);
  d_store(lanes->mantissa, sums->mantissa);
  i_store(exponents, sums->exponent);
  i_store(keys, sums->largest);
  i_store(nonzeros, sums->nonzero);
  for (int l = 0; l < LANES; l++) {
    lanes->exponent += exponents[l];
    lanes->nonzero += nonzeros[l];
    lanes->max_key = keys[l] > lanes->max_key ? keys[l] : lanes->max_key;
  }
  if (what & SUM_LOGS) {
    lanes->exponent -= EXPONENT_BIAS * LANES * blocks;
    fold_mantissas(lanes);
  }
}

/* The 16 elements at `at` of gradient + x, and those to come asked for early. */
INLINE vec add_ahead(const float *gradient, const float *x, int64_t at) {
  __builtin_prefetch(x + at + AHEAD, 1);
  __builtin_prefetch(gradient + at + AHEAD);
  return v_add(v_load(x + at), v_load(gradient + at));
}

INLINE vec v_tree(const vec block[4]) { return v_add(v_add(block[0], block[1]), v_add(block[2], block[3])); }

INLINE void sum_block(struct sums *sums, vec v, int what) {
  vec magnitude = v_abs(v);
  sums->largest = i_max(sums->largest, v_key(v));
  if (what & SUM_X) {
    dvec wide = d_widen(v);
    sums->sum = d_add(sums->sum, wide);
    if ((what & SUM_SQUARES) && !(what & SUM_ABS))
      sums->sum_squares = d_add_exact_square(sums->sum_squares, wide);
  }
  if (what & SUM_ABS) {
    dvec wide = d_widen(magnitude);
    sums->sum_abs = d_add(sums->sum_abs, wide);
    if (what & SUM_SQUARES)
      sums->sum_squares = d_add_exact_square(sums->sum_squares, wide);
  }
  if (what & SUM_LOGS) {
    vec shifted = v_plus(magnitude, LOG_EPSILON);
    sums->exponent = i_add(sums->exponent, v_exponent(shifted));
    sums->mantissa = d_mul(sums->mantissa, d_widen(v_mantissa(shifted)));
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

/* `what` is one of the combinations that `sweep` knows. */
INLINE void sum_word(struct sums *sums, const vec block[4], int what) {
  if (what == SUM_ABS) {
    vec magnitude[4];
    for (int b = 0; b < 4; b++) {
      magnitude[b] = v_abs(block[b]);
      sums->largest = i_max(sums->largest, v_key(block[b]));
    }
    sums->sum_abs = d_add(sums->sum_abs, d_widen(v_tree(magnitude)));
  } else
    for (int b = 0; b < 4; b++)
      sum_block(sums, block[b], what);
}

/* Up to FOLD_BLOCKS whole blocks; with a residual, r += g first. */
INLINE void moment_blocks(const float *gradient, float *x, int64_t blocks, struct moment_lanes *lanes, bool feedback) {
  struct sums sums = open_sums(lanes);
  for (int64_t i = 0; i < blocks * LANES; i += LANES) {
    __builtin_prefetch(x + i + AHEAD, feedback);
    vec v = v_load(x + i);
    if (feedback) {
      __builtin_prefetch(gradient + i + AHEAD);
      v = v_add(v, v_load(gradient + i));
      v_store(x + i, v);
    }
    sums.nonzero = i_count_nonzero(sums.nonzero, v);
    sum_block(&sums, v, SUM_ALL);
  }
  close_sums(&sums, lanes, blocks, SUM_ALL);
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

INLINE void moment_chunk(const float *gradient, float *x, int64_t n, struct moment_lanes *lanes, bool feedback) {
  const int64_t blocks = n / LANES;
  for (int64_t b = 0; b < blocks; b += FOLD_BLOCKS)
    moment_blocks(feedback ? gradient + b * LANES : NULL, x + b * LANES, min64(FOLD_BLOCKS, blocks - b), lanes,
                  feedback);
  for (int64_t i = blocks * LANES; i < n; i++) {
    if (feedback)
      x[i] += gradient[i];
    moment_one(x[i], (int)(i % LANES), lanes);
  }
  fold_mantissas(lanes);
}

static void moments(const float *x, int64_t n, struct moment_lanes *lanes) {
  moment_chunk(x, (float *)(uintptr_t)x, n, lanes, false); /* false: x is only read */
}

static void moments_feedback(const float *gradient, float *residual, int64_t n, struct moment_lanes *lanes) {
  moment_chunk(gradient, residual, n, lanes, true);
}

INLINE void score_loop(const float *gradient, float *x, int64_t blocks, float *scores, bool feedback) {
  for (int64_t b = 0; b < blocks; b++) {
    __builtin_prefetch(x + b * LANES + AHEAD, feedback);
    vec v = v_load(x + b * LANES);
    if (feedback) {
      __builtin_prefetch(gradient + b * LANES + AHEAD);
      v = v_add(v, v_load(gradient + b * LANES));
      v_store(x + b * LANES, v);
    }
    scores[b] = v_sum_halves(v_abs(v));
  }
}

static void block_scores(const float *gradient, float *x, int64_t blocks, float *scores) {
  gradient ? score_loop(gradient, x, blocks, scores, true) : score_loop(NULL, x, blocks, scores, false);
}

static int32_t max_key(const float *x, int64_t n) {
  ivec largest[4] = {i_zero(), i_zero(), i_zero(), i_zero()};
  int64_t i = 0;
  for (; i + WORD <= n; i += WORD)
    for (int b = 0; b < 4; b++) {
      __builtin_prefetch(x + i + b * LANES + AHEAD);
      largest[b] = i_max(largest[b], v_key(v_load(x + i + b * LANES)));
    }
  largest[0] = i_max(i_max(largest[0], largest[1]), i_max(largest[2], largest[3]));
  int32_t keys[LANES], max = 0;
  i_store(keys, largest[0]);
  for (int l = 0; l < LANES; l++)
    max = keys[l] > max ? keys[l] : max;
  for (; i < n; i++)
    max = key_of(x[i]) > max ? key_of(x[i]) : max;
  return max;
}

static void tail(const float *x, int64_t n, double threshold, int32_t key, int32_t limit, struct tail_lanes *lanes) {
  dvec sum = d_load(lanes->sum), sum_squares = d_load(lanes->sum_squares);
  int64_t count = 0, i = 0;
  for (; i + LANES <= n; i += LANES) {
    __builtin_prefetch(x + i + AHEAD);
    vec v = v_zero_above(v_load(x + i), limit);
    uint32_t mask = v_greater(v, key);
    count += __builtin_popcount(mask);
    dvec excess = d_excess(d_widen(v_abs(v)), threshold);
    sum = d_add(sum, excess);
    sum_squares = d_add(sum_squares, d_mul(excess, excess));
  }
  d_store(lanes->sum, sum);
  d_store(lanes->sum_squares, sum_squares);
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
