/* One 512-bit register, 16 lanes; compaction to a register, then a store (compress-to-memory is slower). */
#ifndef SANDTABLE_ISA_AVX512_H
#define SANDTABLE_ISA_AVX512_H

#include "common.h"
#include <immintrin.h>

#define SPECIALIZED 1 /* loops are compiled once a method */
#define WORDWISE 1    /* compaction is best word by word */
#define ISA_NAME "avx512"
#define ISA_KERNELS kernels_avx512

/* Elements asked for early, since the processor's own prefetching stops at every page: where a pass does nothing but
 * read, where it works on what it reads, and where it updates it; READ_FAR: into the second cache, long before.
 * FEW_BELOW: see struct kernels. All measured. */
enum { PLAIN_AHEAD = 512, READ_AHEAD = 512, READ_FAR = 4096, UPDATE_AHEAD = 704, FEW_BELOW = 0 };

static const uint8_t lane_numbers[64] __attribute__((aligned(64))) = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

enum { VEC = 16 };
typedef __m512 vec;
typedef __m512i ivec;
typedef struct {
  __m512d a, b;
} dvec;

static inline vec v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vec v_zero(void) { return _mm512_setzero_ps(); }
static inline vec v_set(float f) { return _mm512_set1_ps(f); }
static inline void v_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline ivec v_key(vec v) { return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(KEY_MASK)); }
static inline __mmask16 above_of(vec v, int32_t key) {
  return _mm512_cmpgt_epi32_mask(v_key(v), _mm512_set1_epi32(key));
}
/* In a general register from here on: GCC 12 spills the widened mask with 16 bits and reads it back with 32. */
static inline uint32_t bits_of_mask(__mmask16 lanes) {
  uint32_t mask = lanes;
  __asm__("" : "+r"(mask));
  return mask;
}
static inline uint32_t v_greater(vec v, int32_t key) { return bits_of_mask(above_of(v, key)); }
/* keys in (low, high] or above `above`; low <= high */
static inline __mmask16 inside_or_above(vec v, int32_t low, int32_t high, int32_t above) {
  return _kor_mask16(_kandn_mask16(above_of(v, high), above_of(v, low)), above_of(v, above));
}
static inline uint32_t v_inside_or_above(vec v, int32_t low, int32_t high, int32_t above) {
  return bits_of_mask(inside_or_above(v, low, high, above));
}
/* keys in (low, high], in (low2, high2], which do not overlap, or above `above` */
static inline uint32_t v_inside_two_or_above(vec v, int32_t low, int32_t high, int32_t low2, int32_t high2,
                                             int32_t above) {
  const __mmask16 second = _kandn_mask16(above_of(v, high2), above_of(v, low2));
  return bits_of_mask(_kor_mask16(inside_or_above(v, low, high, above), second));
}
/* Packs four blocks: the positions of the set bits, 16 at a time, choose among 64 lanes. One store for up to 16
 * entries, where packing block by block takes four that straddle cache lines. Writes whole registers; returns the
 * entries. */
static inline int64_t v_pack_word(const vec block[4], uint64_t bits, int32_t base, int32_t *indices, float *values) {
  __m512i place = _mm512_maskz_compress_epi8(_cvtu64_mask64(bits), _mm512_load_si512(lane_numbers));
  int64_t count = __builtin_popcountll(bits);
  for (int64_t done = 0;;) {
    __m512i lane = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(place));
    vec first = _mm512_permutex2var_ps(block[0], lane, block[1]),
        last = _mm512_permutex2var_ps(block[2], lane, block[3]);
    __mmask16 upper = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(32));
    _mm512_storeu_si512(indices + done, _mm512_add_epi32(lane, _mm512_set1_epi32(base)));
    _mm512_storeu_ps(values + done, _mm512_mask_mov_ps(first, upper, last));
    done += LANES;
    if (__builtin_expect(done >= count, 1))
      return count;
    place = _mm512_alignr_epi32(_mm512_setzero_si512(), place, 4); /* the next 16 bytes */
  }
}
static inline ivec i_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline void i_compress(ivec v, uint32_t mask, int32_t *out) {
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32((__mmask16)mask, v));
}
static inline void v_compress_values(vec v, uint32_t mask, float *out) {
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps((__mmask16)mask, v));
}
/* the lanes' own indices instead of base + lane */
static inline void v_compress_pairs(vec v, ivec index, uint32_t mask, int32_t *indices, float *values) {
  i_compress(index, mask, indices);
  _mm512_storeu_ps(values, _mm512_maskz_compress_ps((__mmask16)mask, v));
}
/* 0 where the key is above `key` */
static inline vec v_zero_above(vec v, int32_t key) {
  return _mm512_maskz_mov_ps(_mm512_cmple_epi32_mask(v_key(v), _mm512_set1_epi32(key)), v);
}

/* counts lanes with keys above `key` */
static inline ivec i_count_above(ivec count, vec v, int32_t key) {
  return _mm512_mask_add_epi32(count, above_of(v, key), count, _mm512_set1_epi32(1));
}
static inline vec v_abs(vec v) { return _mm512_castsi512_ps(v_key(v)); }
/* |v| - t where the key is above `key`, else 0 */
static inline vec v_excess(vec v, int32_t key, float t) {
  return _mm512_maskz_sub_ps(above_of(v, key), v_abs(v), _mm512_set1_ps(t));
}
/* the larger of a number and v; NaN where v is */
static inline vec v_larger(float number, vec v) { return _mm512_max_ps(_mm512_set1_ps(number), v); }
static inline vec v_plus(vec v, float constant) { return _mm512_add_ps(v, _mm512_set1_ps(constant)); }
static inline ivec v_exponent(vec v) { return _mm512_srli_epi32(_mm512_castps_si512(v), 23); }
static inline vec v_mantissa(vec v) {
  ivec low = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x007fffff));
  return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_set1_epi32(0x3f800000)));
}

/* Sum of a block: lane l plus lane l + 8, then + 4, + 2, + 1. */
static inline float v_sum_halves(const vec block[LANES / VEC]) {
  __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(block[0]), _mm512_extractf32x8_ps(block[0], 1));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline ivec i_zero(void) { return _mm512_setzero_si512(); }
static inline ivec i_add(ivec a, ivec b) { return _mm512_add_epi32(a, b); }
static inline ivec i_max(ivec a, ivec b) { return _mm512_max_epi32(a, b); }
static inline void i_store(int32_t *p, ivec v) { _mm512_storeu_si512(p, v); }

static inline dvec d_zero(void) { return (dvec){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
static inline dvec d_load(const double *p) { return (dvec){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
static inline void d_store(double *p, dvec d) {
  _mm512_storeu_pd(p, d.a);
  _mm512_storeu_pd(p + 8, d.b);
}
static inline dvec d_widen(vec v) {
  return (dvec){_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
}
static inline dvec d_add(dvec x, dvec y) { return (dvec){_mm512_add_pd(x.a, y.a), _mm512_add_pd(x.b, y.b)}; }
static inline dvec d_abs(dvec x) { return (dvec){_mm512_abs_pd(x.a), _mm512_abs_pd(x.b)}; }
static inline dvec d_mul(dvec x, dvec y) { return (dvec){_mm512_mul_pd(x.a, y.a), _mm512_mul_pd(x.b, y.b)}; }
/* sum + a * a for a that came from floats: the square is exact in double, so fusing changes no bit */
static inline dvec d_add_exact_square(dvec sum, dvec a) {
  return (dvec){_mm512_fmadd_pd(a.a, a.a, sum.a), _mm512_fmadd_pd(a.b, a.b, sum.b)};
}
/* a - t where a > t or a is NaN, else 0 */
static inline dvec d_excess(dvec x, double t) {
  const __m512d c = _mm512_set1_pd(t);
  return (dvec){_mm512_maskz_sub_pd(_mm512_cmp_pd_mask(x.a, c, _CMP_NLE_UQ), x.a, c),
                _mm512_maskz_sub_pd(_mm512_cmp_pd_mask(x.b, c, _CMP_NLE_UQ), x.b, c)};
}

#endif
