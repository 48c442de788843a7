/* 16 lanes in two 256-bit registers; compaction by a permutation from a 256-entry table. */
#ifndef SANDTABLE_ISA_AVX2_H
#define SANDTABLE_ISA_AVX2_H

#include "common.h"
#include "compress_table.h"
#include <immintrin.h>

#define SPECIALIZED 1 /* loops are compiled once a method */
#define ISA_NAME "avx2"
#define ISA_KERNELS kernels_avx2

typedef struct {
  __m256 a, b;
} vec;
typedef struct {
  __m256i a, b;
} ivec;
typedef struct {
  __m256d a, b, c, d;
} dvec;

static inline vec v_load(const float *p) { return (vec){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline vec v_zero(void) { return (vec){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline void v_store(float *p, vec v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
static inline vec v_add(vec x, vec y) { return (vec){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline ivec v_key(vec v) {
  const __m256i mask = _mm256_set1_epi32(KEY_MASK);
  return (ivec){_mm256_and_si256(_mm256_castps_si256(v.a), mask), _mm256_and_si256(_mm256_castps_si256(v.b), mask)};
}
static inline uint32_t v_greater(vec v, int32_t key) {
  const __m256i limit = _mm256_set1_epi32(key);
  ivec k = v_key(v);
  uint32_t low = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(k.a, limit)));
  uint32_t high = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(k.b, limit)));
  return low | high << 8;
}
static inline __m256i inside_half(__m256i key, int32_t low, int32_t high) {
  return _mm256_xor_si256(_mm256_cmpgt_epi32(key, _mm256_set1_epi32(low)),
                          _mm256_cmpgt_epi32(key, _mm256_set1_epi32(high)));
}
static inline __m256i above_half(__m256i key, int32_t above) {
  return _mm256_cmpgt_epi32(key, _mm256_set1_epi32(above));
}
static inline uint32_t mask_of(__m256i a, __m256i b) {
  return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(a)) | (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(b))
                                                                    << 8;
}
/* keys in (low, high] or above `above`; low <= high */
static inline uint32_t v_inside_or_above(vec v, int32_t low, int32_t high, int32_t above) {
  ivec k = v_key(v);
  return mask_of(_mm256_or_si256(inside_half(k.a, low, high), above_half(k.a, above)),
                 _mm256_or_si256(inside_half(k.b, low, high), above_half(k.b, above)));
}
/* keys in (low, high], in (low2, high2], which do not overlap, or above `above` */
static inline uint32_t v_inside_two_or_above(vec v, int32_t low, int32_t high, int32_t low2, int32_t high2,
                                             int32_t above) {
  ivec k = v_key(v);
  __m256i a = _mm256_xor_si256(inside_half(k.a, low, high), inside_half(k.a, low2, high2));
  __m256i b = _mm256_xor_si256(inside_half(k.b, low, high), inside_half(k.b, low2, high2));
  return mask_of(_mm256_or_si256(a, above_half(k.a, above)), _mm256_or_si256(b, above_half(k.b, above)));
}
static inline void compress_half(__m256 v, uint32_t mask, int32_t base, int32_t *indices, float *values) {
  __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)compress_table[mask]));
  _mm256_storeu_si256((__m256i *)indices, _mm256_add_epi32(order, _mm256_set1_epi32(base)));
  _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(v, order));
}
/* writes whole registers: up to 16 entries may be overwritten, of which popcount(mask) are valid */
static inline void v_compress(vec v, uint32_t mask, int32_t base, int32_t *indices, float *values) {
  int low = __builtin_popcount(mask & 0xff);
  compress_half(v.a, mask & 0xff, base, indices, values);
  compress_half(v.b, mask >> 8, base + 8, indices + low, values + low);
}
/* Packs four blocks; returns the entries. */
static inline int64_t v_pack_word(const vec block[4], const uint32_t mask[4], int32_t base, int32_t *indices,
                                  float *values) {
  int64_t packed = 0;
  for (int b = 0; b < WORD / LANES; b++) {
    v_compress(block[b], mask[b], base + b * LANES, indices + packed, values + packed);
    packed += __builtin_popcount(mask[b]);
  }
  return packed;
}
static inline ivec i_load(const int32_t *p) {
  return (ivec){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))};
}
static inline __m256i order_of(uint32_t mask) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)compress_table[mask]));
}
static inline void i_compress(ivec v, uint32_t mask, int32_t *out) {
  int low = __builtin_popcount(mask & 0xff);
  _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(v.a, order_of(mask & 0xff)));
  _mm256_storeu_si256((__m256i *)(out + low), _mm256_permutevar8x32_epi32(v.b, order_of(mask >> 8)));
}
static inline void v_compress_values(vec v, uint32_t mask, float *out) {
  int low = __builtin_popcount(mask & 0xff);
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(v.a, order_of(mask & 0xff)));
  _mm256_storeu_ps(out + low, _mm256_permutevar8x32_ps(v.b, order_of(mask >> 8)));
}
/* the lanes' own indices instead of base + lane */
static inline void v_compress_pairs(vec v, ivec index, uint32_t mask, int32_t *indices, float *values) {
  int low = __builtin_popcount(mask & 0xff);
  i_compress(index, mask, indices);
  _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(v.a, order_of(mask & 0xff)));
  _mm256_storeu_ps(values + low, _mm256_permutevar8x32_ps(v.b, order_of(mask >> 8)));
}
/* 0 where the key is above `key` */
static inline vec v_zero_above(vec v, int32_t key) {
  const __m256i limit = _mm256_set1_epi32(key);
  ivec k = v_key(v);
  return (vec){_mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(k.a, limit)), v.a),
               _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(k.b, limit)), v.b)};
}

static inline __m256i count_half(__m256i count, __m256i key) {
  return _mm256_sub_epi32(count, _mm256_cmpgt_epi32(key, _mm256_setzero_si256()));
}
/* counts lanes that are not 0 */
static inline ivec i_count_nonzero(ivec count, vec v) {
  ivec k = v_key(v);
  return (ivec){count_half(count.a, k.a), count_half(count.b, k.b)};
}
/* counts lanes with keys above `key` */
static inline ivec i_count_above(ivec count, vec v, int32_t key) {
  const __m256i limit = _mm256_set1_epi32(key);
  ivec k = v_key(v);
  return (ivec){_mm256_sub_epi32(count.a, _mm256_cmpgt_epi32(k.a, limit)),
                _mm256_sub_epi32(count.b, _mm256_cmpgt_epi32(k.b, limit))};
}
static inline vec v_abs(vec v) {
  ivec k = v_key(v);
  return (vec){_mm256_castsi256_ps(k.a), _mm256_castsi256_ps(k.b)};
}
/* |v| - t where the key is above `key`, else 0 */
static inline vec v_excess(vec v, int32_t key, float t) {
  const __m256i limit = _mm256_set1_epi32(key);
  const __m256 c = _mm256_set1_ps(t);
  ivec k = v_key(v);
  vec a = v_abs(v);
  return (vec){_mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(k.a, limit)), _mm256_sub_ps(a.a, c)),
               _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(k.b, limit)), _mm256_sub_ps(a.b, c))};
}
static inline vec v_plus(vec v, float constant) {
  const __m256 c = _mm256_set1_ps(constant);
  return (vec){_mm256_add_ps(v.a, c), _mm256_add_ps(v.b, c)};
}
static inline ivec v_exponent(vec v) {
  return (ivec){_mm256_srli_epi32(_mm256_castps_si256(v.a), 23), _mm256_srli_epi32(_mm256_castps_si256(v.b), 23)};
}
static inline __m256 mantissa_half(__m256 v) {
  __m256i low = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x007fffff));
  return _mm256_castsi256_ps(_mm256_or_si256(low, _mm256_set1_epi32(0x3f800000)));
}
static inline vec v_mantissa(vec v) { return (vec){mantissa_half(v.a), mantissa_half(v.b)}; }

/* lane l plus lane l + 8, then + 4, + 2, + 1 */
static inline float v_sum_halves(vec v) {
  __m256 eight = _mm256_add_ps(v.a, v.b);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline ivec i_zero(void) { return (ivec){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline ivec i_add(ivec x, ivec y) { return (ivec){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
static inline ivec i_max(ivec x, ivec y) { return (ivec){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
/* A barrier to the compiler: it would put off additions of counts, and run out of registers. */
static inline ivec i_now(ivec v) {
  __asm__("" : "+x"(v.a), "+x"(v.b));
  return v;
}
static inline void i_store(int32_t *p, ivec v) {
  _mm256_storeu_si256((__m256i *)p, v.a);
  _mm256_storeu_si256((__m256i *)(p + 8), v.b);
}

static inline dvec d_load(const double *p) {
  return (dvec){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4), _mm256_loadu_pd(p + 8), _mm256_loadu_pd(p + 12)};
}
static inline void d_store(double *p, dvec d) {
  _mm256_storeu_pd(p, d.a);
  _mm256_storeu_pd(p + 4, d.b);
  _mm256_storeu_pd(p + 8, d.c);
  _mm256_storeu_pd(p + 12, d.d);
}
static inline dvec d_widen(vec v) {
  return (dvec){_mm256_cvtps_pd(_mm256_castps256_ps128(v.a)), _mm256_cvtps_pd(_mm256_extractf128_ps(v.a, 1)),
                _mm256_cvtps_pd(_mm256_castps256_ps128(v.b)), _mm256_cvtps_pd(_mm256_extractf128_ps(v.b, 1))};
}
static inline dvec d_add(dvec x, dvec y) {
  return (dvec){_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b), _mm256_add_pd(x.c, y.c), _mm256_add_pd(x.d, y.d)};
}
static inline dvec d_mul(dvec x, dvec y) {
  return (dvec){_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b), _mm256_mul_pd(x.c, y.c), _mm256_mul_pd(x.d, y.d)};
}
/* sum + a * a for a that came from floats: the square is exact in double, so fusing changes no bit */
static inline dvec d_add_exact_square(dvec sum, dvec a) {
  return (dvec){_mm256_fmadd_pd(a.a, a.a, sum.a), _mm256_fmadd_pd(a.b, a.b, sum.b), _mm256_fmadd_pd(a.c, a.c, sum.c),
                _mm256_fmadd_pd(a.d, a.d, sum.d)};
}
static inline __m256d excess_quarter(__m256d a, __m256d t) {
  return _mm256_and_pd(_mm256_cmp_pd(a, t, _CMP_NLE_UQ), _mm256_sub_pd(a, t));
}
/* a - t where a > t or a is NaN, else 0 */
static inline dvec d_excess(dvec x, double t) {
  const __m256d c = _mm256_set1_pd(t);
  return (dvec){excess_quarter(x.a, c), excess_quarter(x.b, c), excess_quarter(x.c, c), excess_quarter(x.d, c)};
}

#endif
