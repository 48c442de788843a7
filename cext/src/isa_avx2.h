/* One 256-bit register, 8 lanes; compaction by a permutation from a 256-entry table. */
#ifndef SANDTABLE_ISA_AVX2_H
#define SANDTABLE_ISA_AVX2_H

#include "common.h"
#include "compress_table.h"
#include <immintrin.h>

#define SPECIALIZED 1 /* loops are compiled once a method */
#define WORDWISE 0    /* compaction is best register by register, as soon as one is compared */
#define ISA_NAME "avx2"
#define ISA_KERNELS kernels_avx2

/* Elements asked for early, since the processor's own prefetching stops at every page: where a pass does nothing but
 * read, where it works on what it reads, and where it updates it; READ_FAR: into the second cache, long before.
 * FEW_BELOW: see struct kernels. All measured. */
enum { PLAIN_AHEAD = WORD, READ_AHEAD = 1024, READ_FAR = 0, UPDATE_AHEAD = 1024, FEW_BELOW = 64 };

enum { VEC = 8 };
typedef __m256 vec;
typedef __m256i ivec;
typedef struct {
  __m256d a, b;
} dvec;

static inline vec v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vec v_zero(void) { return _mm256_setzero_ps(); }
static inline vec v_set(float f) { return _mm256_set1_ps(f); }
static inline void v_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline vec v_add(vec x, vec y) { return _mm256_add_ps(x, y); }
static inline vec v_mul(vec x, vec y) { return _mm256_mul_ps(x, y); }
static inline ivec v_key(vec v) { return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(KEY_MASK)); }
static inline vec v_abs(vec v) { return _mm256_castsi256_ps(v_key(v)); }
/* all ones where the key is above `key` */
static inline __m256i above_of(vec v, int32_t key) { return _mm256_cmpgt_epi32(v_key(v), _mm256_set1_epi32(key)); }
static inline uint32_t mask_of(__m256i v) { return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(v)); }
static inline uint32_t v_greater(vec v, int32_t key) { return mask_of(above_of(v, key)); }
static inline __m256i inside_of(vec v, int32_t low, int32_t high) {
  return _mm256_xor_si256(above_of(v, low), above_of(v, high));
}
/* keys in (low, high] or above `above`; low <= high */
static inline uint32_t v_inside_or_above(vec v, int32_t low, int32_t high, int32_t above) {
  return mask_of(_mm256_or_si256(inside_of(v, low, high), above_of(v, above)));
}
/* keys in (low, high], in (low2, high2], which do not overlap, or above `above` */
static inline uint32_t v_inside_two_or_above(vec v, int32_t low, int32_t high, int32_t low2, int32_t high2,
                                             int32_t above) {
  __m256i inside = _mm256_xor_si256(inside_of(v, low, high), inside_of(v, low2, high2));
  return mask_of(_mm256_or_si256(inside, above_of(v, above)));
}
static inline __m256i order_of(uint32_t mask) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)compress_table[mask]));
}
/* Packs a register, all of which is written; returns the entries. */
static inline int64_t v_pack(vec v, uint32_t mask, int32_t base, int32_t *indices, float *values) {
  const __m256i order = order_of(mask);
  _mm256_storeu_si256((__m256i *)indices, _mm256_add_epi32(order, _mm256_set1_epi32(base)));
  _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(v, order));
  return __builtin_popcount(mask);
}
/* The same of a word. */
static inline int64_t v_pack_word(const vec block[WORD / VEC], uint64_t bits, int32_t base, int32_t *indices,
                                  float *values) {
  int64_t packed = 0;
  for (int b = 0; b < WORD / VEC; b++)
    packed += v_pack(block[b], bits >> b * VEC & 0xff, base + b * VEC, indices + packed, values + packed);
  return packed;
}
static inline ivec i_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void i_compress(ivec v, uint32_t mask, int32_t *out) {
  _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(v, order_of(mask)));
}
static inline void v_compress_values(vec v, uint32_t mask, float *out) {
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(v, order_of(mask)));
}
/* the lanes' own indices instead of base + lane */
static inline void v_compress_pairs(vec v, ivec index, uint32_t mask, int32_t *indices, float *values) {
  i_compress(index, mask, indices);
  v_compress_values(v, mask, values);
}
/* 0 where the key is above `key` */
static inline vec v_zero_above(vec v, int32_t key) {
  return _mm256_andnot_ps(_mm256_castsi256_ps(above_of(v, key)), v);
}

/* counts lanes with keys above `key` */
static inline ivec i_count_above(ivec count, vec v, int32_t key) { return _mm256_sub_epi32(count, above_of(v, key)); }
/* |v| - t where the key is above `key`, else 0 */
static inline vec v_excess(vec v, int32_t key, float t) {
  return _mm256_and_ps(_mm256_castsi256_ps(above_of(v, key)), _mm256_sub_ps(v_abs(v), _mm256_set1_ps(t)));
}
/* the larger of a number and v; NaN where v is */
static inline vec v_larger(float number, vec v) { return _mm256_max_ps(_mm256_set1_ps(number), v); }
static inline vec v_plus(vec v, float constant) { return _mm256_add_ps(v, _mm256_set1_ps(constant)); }
static inline ivec v_exponent(vec v) { return _mm256_srli_epi32(_mm256_castps_si256(v), 23); }
static inline vec v_mantissa(vec v) {
  __m256i low = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x007fffff));
  return _mm256_castsi256_ps(_mm256_or_si256(low, _mm256_set1_epi32(0x3f800000)));
}

/* Sum of a block: lane l plus lane l + 8, then + 4, + 2, + 1. */
static inline float v_sum_halves(const vec block[LANES / VEC]) {
  __m256 eight = _mm256_add_ps(block[0], block[1]);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline ivec i_zero(void) { return _mm256_setzero_si256(); }
static inline ivec i_add(ivec x, ivec y) { return _mm256_add_epi32(x, y); }
static inline ivec i_max(ivec x, ivec y) { return _mm256_max_epi32(x, y); }
static inline void i_store(int32_t *p, ivec v) { _mm256_storeu_si256((__m256i *)p, v); }

static inline dvec d_zero(void) { return (dvec){_mm256_setzero_pd(), _mm256_setzero_pd()}; }
static inline dvec d_load(const double *p) { return (dvec){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
static inline void d_store(double *p, dvec d) {
  _mm256_storeu_pd(p, d.a);
  _mm256_storeu_pd(p + 4, d.b);
}
static inline dvec d_widen(vec v) {
  return (dvec){_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))};
}
static inline dvec d_add(dvec x, dvec y) { return (dvec){_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)}; }
static inline dvec d_abs(dvec x) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  return (dvec){_mm256_andnot_pd(sign, x.a), _mm256_andnot_pd(sign, x.b)};
}
static inline dvec d_mul(dvec x, dvec y) { return (dvec){_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b)}; }
/* sum + a * a for a that came from floats: the square is exact in double, so fusing changes no bit */
static inline dvec d_add_exact_square(dvec sum, dvec a) {
  return (dvec){_mm256_fmadd_pd(a.a, a.a, sum.a), _mm256_fmadd_pd(a.b, a.b, sum.b)};
}
static inline __m256d excess_half(__m256d a, __m256d t) {
  return _mm256_and_pd(_mm256_cmp_pd(a, t, _CMP_NLE_UQ), _mm256_sub_pd(a, t));
}
/* a - t where a > t or a is NaN, else 0 */
static inline dvec d_excess(dvec x, double t) {
  const __m256d c = _mm256_set1_pd(t);
  return (dvec){excess_half(x.a, c), excess_half(x.b, c)};
}

#endif
