/* Sums of one chunk in 16 double lanes, the same numbers in the same order on every instruction set.
 *
 * sum of ln(|x| + 2.2e-16) is almost free: exponents are added up as integers, mantissas multiplied, and one logarithm
 * is taken at the end of the chunk. A square of a float is exact in double, so no ISA rounds it differently.
 */
#include "common.h"

/* A lane's product of mantissas in [1, 2) stays below 2^512 for 512 blocks, then is folded back into [1, 2). */
enum { FOLD_BLOCKS = 512 };

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

static void add_integers(struct moment_lanes *lanes, ivec exponent, ivec largest, ivec nonzero) {
  int32_t exponents[LANES], keys[LANES], nonzeros[LANES];
  i_store(exponents, exponent);
  i_store(keys, largest);
  i_store(nonzeros, nonzero);
  for (int l = 0; l < LANES; l++) {
    lanes->exponent += exponents[l];
    lanes->nonzero += nonzeros[l];
    lanes->max_key = keys[l] > lanes->max_key ? keys[l] : lanes->max_key;
  }
}

/* Up to FOLD_BLOCKS whole blocks; with a residual, r += g first. */
static inline __attribute__((always_inline)) void moment_blocks(const float *gradient, float *x, int64_t blocks,
                                                                struct moment_lanes *lanes, bool feedback) {
  dvec sum = d_load(lanes->sum), sum_abs = d_load(lanes->sum_abs), sum_squares = d_load(lanes->sum_squares);
  dvec mantissa = d_load(lanes->mantissa);
  ivec exponent = i_zero(), largest = i_zero(), nonzero = i_zero();
  for (int64_t i = 0; i < blocks * LANES; i += LANES) {
    __builtin_prefetch(x + i + AHEAD, feedback);
    vec v = v_load(x + i);
    if (feedback) {
      __builtin_prefetch(gradient + i + AHEAD);
      v = v_add(v, v_load(gradient + i));
      v_store(x + i, v);
    }
    vec a = v_abs(v), shifted = v_plus(a, LOG_EPSILON);
    dvec wide = d_widen(a);
    nonzero = i_count_nonzero(nonzero, v);
    largest = i_max(largest, v_key(v));
    sum = d_add(sum, d_widen(v));
    sum_abs = d_add(sum_abs, wide);
    sum_squares = d_add_exact_square(sum_squares, wide);
    exponent = i_add(exponent, v_exponent(shifted));
    mantissa = d_mul(mantissa, d_widen(v_mantissa(shifted)));
  }
  d_store(lanes->sum, sum);
  d_store(lanes->sum_abs, sum_abs);
  d_store(lanes->sum_squares, sum_squares);
  d_store(lanes->mantissa, mantissa);
  add_integers(lanes, exponent, largest, nonzero);
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

static inline __attribute__((always_inline)) void moment_chunk(const float *gradient, float *x, int64_t n,
                                                               struct moment_lanes *lanes, bool feedback) {
  int64_t blocks = n / LANES;
  for (int64_t b = 0; b < blocks; b += FOLD_BLOCKS) {
    moment_blocks(gradient + b * LANES, x + b * LANES, min64(FOLD_BLOCKS, blocks - b), lanes, feedback);
    fold_mantissas(lanes);
  }
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

static inline __attribute__((always_inline)) void score_loop(const float *gradient, float *x, int64_t blocks,
                                                             float *scores, bool feedback) {
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
