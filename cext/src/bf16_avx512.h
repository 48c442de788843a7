/* Rounding to bfloat16 at random by hand for AVX-512: the bits of `rounded` in bf16.c. */
#ifndef SANDTABLE_BF16_AVX512_H
#define SANDTABLE_BF16_AVX512_H

#include "bf16.h"
#include "isa_each.h"

#include <immintrin.h>

enum { AT_ONCE = 32 }; /* elements: 16 hashes serve them */

TARGET_AVX512 static inline __m512i mixed_512(__m512i h) {
  h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 15));
  h = _mm512_mullo_epi32(h, _mm512_set1_epi32((int32_t)UINT32_C(0x85ebca6b)));
  h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 13));
  h = _mm512_mullo_epi32(h, _mm512_set1_epi32((int32_t)UINT32_C(0xc2b2ae35)));
  return _mm512_xor_si512(h, _mm512_srli_epi32(h, 16));
}

/* From number 0 on until some are too near the largest number for a plain sum, or not finite, or fewer are left;
 * returns how many. at: a multiple of 16; soon: asked for, half of it. */
TARGET_AVX512 static int64_t round_512(const struct bf16 *residual, int64_t at, int64_t n, const float *x,
                                       const float *soon) {
  const uint32_t factor = UINT32_C(0x9e3779b1);
  const __m512i lane = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          _mm512_set1_epi32((int32_t)factor));
  const __m512i magnitude = _mm512_set1_epi32(KEY_MASK), plain = _mm512_set1_epi32(0x7f7effff);
  const __m512i lower = _mm512_set1_epi32(0xffff);
  const __m512i upper_halves = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                                                27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  uint32_t first = (uint32_t)at / 16 * 8 * factor + residual->seed;
  int64_t i = 0;
  for (; i + AT_ONCE <= n; i += AT_ONCE, first += 16 * factor) {
    __builtin_prefetch(residual->values + at + i + BF16_PIECE, 1);
    __builtin_prefetch(soon + i / 2);
    const __m512i a = _mm512_loadu_si512(x + i), b = _mm512_loadu_si512(x + i + 16);
    const __m512i largest = _mm512_max_epi32(_mm512_and_si512(a, magnitude), _mm512_and_si512(b, magnitude));
    if (__builtin_expect(_mm512_cmpgt_epi32_mask(largest, plain) != 0, 0))
      break;
    const __m512i h = mixed_512(_mm512_add_epi32(lane, _mm512_set1_epi32((int32_t)first)));
    const __m512i high = _mm512_srli_epi32(h, 16), low = _mm512_and_si512(h, lower);
    const __m512i up_a = _mm512_add_epi32(a, _mm512_shuffle_i64x2(high, low, 0x44));
    const __m512i up_b = _mm512_add_epi32(b, _mm512_shuffle_i64x2(high, low, 0xee));
    _mm512_storeu_si512(residual->values + at + i, _mm512_permutex2var_epi16(up_a, upper_halves, up_b));
  }
  return i;
}

TARGET_AVX512 static int64_t widen_512(const uint16_t *from, int64_t n, float *x) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + i)));
    _mm512_storeu_si512(x + i, _mm512_slli_epi32(bits, 16));
  }
  return i;
}

#endif
