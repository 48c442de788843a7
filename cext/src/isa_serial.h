/* 16 lanes in plain C: the baseline of every processor, and the definition that the other two must equal bit for bit.
 */
#ifndef SANDTABLE_ISA_SERIAL_H
#define SANDTABLE_ISA_SERIAL_H

#include "common.h"

#include <math.h>

#define SPECIALIZED 0 /* one loop for all methods: it compiles in seconds, and this level is not for speed */
#define WORDWISE 1
#define ISA_NAME "serial"
#define ISA_KERNELS kernels_serial

/* Elements asked for early, since the processor's own prefetching stops at every page: where a pass does nothing but
 * read, where it works on what it reads, and where it updates it; READ_FAR: into the second cache, long before.
 * FEW_BELOW: see struct kernels. All measured. */
enum { PLAIN_AHEAD = WORD, READ_AHEAD = 1024, READ_FAR = 0, UPDATE_AHEAD = 1024, FEW_BELOW = 64 };

enum { VEC = LANES };
typedef struct {
  float lane[LANES];
} vec;
typedef struct {
  int32_t lane[LANES];
} ivec;
typedef struct {
  double lane[LANES];
} dvec;

#define EACH_LANE for (int l = 0; l < LANES; l++)

static inline vec v_load(const float *p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline vec v_zero(void) { return (vec){{0}}; }
static inline vec v_set(float f) {
  vec v;
  EACH_LANE v.lane[l] = f;
  return v;
}
static inline void v_store(float *p, vec v) { memcpy(p, &v, sizeof v); }
static inline vec v_add(vec a, vec b) {
  EACH_LANE a.lane[l] += b.lane[l];
  return a;
}
static inline vec v_mul(vec a, vec b) {
  EACH_LANE a.lane[l] *= b.lane[l];
  return a;
}
static inline ivec v_key(vec v) {
  ivec k;
  memcpy(&k, &v, sizeof k);
  EACH_LANE k.lane[l] &= KEY_MASK;
  return k;
}
static inline uint32_t v_greater(vec v, int32_t key) {
  ivec k = v_key(v);
  uint32_t mask = 0;
  EACH_LANE mask |= (uint32_t)(k.lane[l] > key) << l;
  return mask;
}
/* keys in (low, high] or above `above`; low <= high */
static inline uint32_t v_inside_or_above(vec v, int32_t low, int32_t high, int32_t above) {
  return (v_greater(v, low) & ~v_greater(v, high)) | v_greater(v, above);
}
/* keys in (low, high], in (low2, high2], which do not overlap, or above `above` */
static inline uint32_t v_inside_two_or_above(vec v, int32_t low, int32_t high, int32_t low2, int32_t high2,
                                             int32_t above) {
  return v_inside_or_above(v, low, high, above) | v_inside_or_above(v, low2, high2, INT32_MAX);
}
/* Packs four blocks; returns the entries. */
static inline int64_t v_pack_word(const vec block[4], uint64_t bits, int32_t base, int32_t *indices, float *values) {
  int64_t packed = 0;
  for (; bits; bits &= bits - 1, packed++) {
    int l = __builtin_ctzll(bits);
    indices[packed] = base + l;
    values[packed] = block[l / LANES].lane[l % LANES];
  }
  return packed;
}
static inline ivec i_load(const int32_t *p) {
  ivec v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void v_compress_values(vec v, uint32_t mask, float *out) {
  for (; mask; mask &= mask - 1)
    *out++ = v.lane[__builtin_ctz(mask)];
}
/* the lanes' own indices instead of base + lane */
static inline void v_compress_pairs(vec v, ivec index, uint32_t mask, int32_t *indices, float *values) {
  for (; mask; mask &= mask - 1) {
    int l = __builtin_ctz(mask);
    *indices++ = index.lane[l];
    *values++ = v.lane[l];
  }
}
static inline void i_compress(ivec v, uint32_t mask, int32_t *out) {
  for (; mask; mask &= mask - 1)
    *out++ = v.lane[__builtin_ctz(mask)];
}
/* 0 where the key is above `key` */
static inline vec v_zero_above(vec v, int32_t key) {
  ivec k = v_key(v);
  EACH_LANE v.lane[l] = k.lane[l] > key ? 0.0f : v.lane[l];
  return v;
}

/* counts lanes with keys above `key` */
static inline ivec i_count_above(ivec count, vec v, int32_t key) {
  ivec k = v_key(v);
  EACH_LANE count.lane[l] += k.lane[l] > key;
  return count;
}
static inline vec v_abs(vec v) {
  ivec k = v_key(v);
  memcpy(&v, &k, sizeof v);
  return v;
}
/* |v| - t where the key is above `key`, else 0 */
static inline vec v_excess(vec v, int32_t key, float t) {
  ivec k = v_key(v);
  vec a = v_abs(v);
  EACH_LANE v.lane[l] = k.lane[l] > key ? a.lane[l] - t : 0.0f;
  return v;
}
/* the larger of a number and v; NaN where v is */
static inline vec v_larger(float number, vec v) {
  EACH_LANE v.lane[l] = number > v.lane[l] ? number : v.lane[l];
  return v;
}
static inline vec v_plus(vec v, float constant) {
  EACH_LANE v.lane[l] += constant;
  return v;
}
/* exponent, with its bias, and mantissa of positive normal numbers */
static inline ivec v_exponent(vec v) {
  ivec k = v_key(v);
  EACH_LANE k.lane[l] = k.lane[l] >> 23;
  return k;
}
static inline vec v_mantissa(vec v) {
  ivec k = v_key(v);
  EACH_LANE k.lane[l] = (k.lane[l] & 0x007fffff) | 0x3f800000;
  memcpy(&v, &k, sizeof v);
  return v;
}

/* Sum of a block: lane l plus lane l + 8, then + 4, + 2, + 1. */
static inline float v_sum_halves(const vec block[LANES / VEC]) {
  vec v = block[0];
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half; l++)
      v.lane[l] += v.lane[l + half];
  return v.lane[0];
}

static inline ivec i_zero(void) { return (ivec){{0}}; }
static inline ivec i_add(ivec a, ivec b) {
  EACH_LANE a.lane[l] += b.lane[l];
  return a;
}
static inline ivec i_max(ivec a, ivec b) {
  EACH_LANE a.lane[l] = a.lane[l] > b.lane[l] ? a.lane[l] : b.lane[l];
  return a;
}
static inline void i_store(int32_t *p, ivec v) { memcpy(p, &v, sizeof v); }

static inline dvec d_zero(void) { return (dvec){{0}}; }
static inline dvec d_load(const double *p) {
  dvec d;
  memcpy(&d, p, sizeof d);
  return d;
}
static inline void d_store(double *p, dvec d) { memcpy(p, &d, sizeof d); }
static inline dvec d_widen(vec v) {
  dvec d;
  EACH_LANE d.lane[l] = (double)v.lane[l];
  return d;
}
static inline dvec d_add(dvec a, dvec b) {
  EACH_LANE a.lane[l] += b.lane[l];
  return a;
}
static inline dvec d_abs(dvec d) {
  EACH_LANE d.lane[l] = fabs(d.lane[l]);
  return d;
}
static inline dvec d_mul(dvec a, dvec b) {
  EACH_LANE a.lane[l] *= b.lane[l];
  return a;
}
/* sum + a * a for a that came from floats: the square is exact in double */
static inline dvec d_add_exact_square(dvec sum, dvec a) {
  EACH_LANE sum.lane[l] += a.lane[l] * a.lane[l];
  return sum;
}
/* a - t where a > t or a is NaN, else 0 */
static inline dvec d_excess(dvec a, double t) {
  EACH_LANE a.lane[l] = a.lane[l] <= t ? 0.0 : a.lane[l] - t;
  return a;
}

#endif
