/* Rounding to 16 bits by hand for AVX2, sixteen finite numbers at a time: the bits of fp16_of and bf16_of in half.c. */
#ifndef SANDTABLE_HALF_AVX2_H
#define SANDTABLE_HALF_AVX2_H

#include "half.h"

#include <immintrin.h>

#define BY_HAND __attribute__((target("avx2,f16c")))
#define BY_HAND_INLINE BY_HAND static inline __attribute__((always_inline))

enum { EACH = 16, HALF_AHEAD = 704 /* elements asked for early: measured */ };

struct halves {
  __m128i bits;
  __m256 number; /* that they stand for */
};

/* Of eight numbers of this size and sign. */
BY_HAND_INLINE struct halves fp16_eight(__m256 size, __m256 sign) {
  const __m256 cut = _mm256_min_ps(size, _mm256_set1_ps(65504.0f));
  const __m128i bits = _mm256_cvtps_ph(_mm256_or_ps(cut, sign), _MM_FROUND_TO_NEAREST_INT);
  return (struct halves){bits, _mm256_cvtph_ps(bits)};
}

BY_HAND_INLINE struct halves bf16_eight(__m256 size, __m256 sign) {
  const __m256i magnitude = _mm256_castps_si256(size);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(_mm256_add_epi32(magnitude, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i cut = _mm256_min_epi32(up, _mm256_set1_epi32(0x7f7f0000));
  const __m256i rounded = _mm256_or_si256(_mm256_and_si256(cut, _mm256_set1_epi32((int32_t)UINT32_C(0xffff0000))),
                                          _mm256_castps_si256(sign));
  const __m256i upper = _mm256_srli_epi32(rounded, 16);
  return (struct halves){_mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)),
                         _mm256_castsi256_ps(rounded)};
}

/* From number 0 on until some of sixteen are not finite, or fewer are left; returns how many. */
BY_HAND_INLINE int64_t round_sixteens(const float *gradient, float *x, int64_t n, uint16_t *out, const enum half kind) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(KEY_MASK));
  const __m256i finite = _mm256_set1_epi32(KEY_INFINITY - 1);
  int64_t i = 0;
  for (; i + EACH <= n; i += EACH) {
    __m256 sum[2], size[2];
    __builtin_prefetch(x + i + HALF_AHEAD);
    if (gradient)
      __builtin_prefetch(gradient + i + HALF_AHEAD);
    for (int h = 0; h < 2; h++) {
      sum[h] = _mm256_loadu_ps(x + i + 8 * h);
      if (gradient)
        sum[h] = _mm256_add_ps(sum[h], _mm256_loadu_ps(gradient + i + 8 * h));
      size[h] = _mm256_and_ps(magnitude, sum[h]);
    }
    const __m256i largest = _mm256_max_epi32(_mm256_castps_si256(size[0]), _mm256_castps_si256(size[1]));
    const __m256i beyond = _mm256_cmpgt_epi32(largest, finite);
    if (__builtin_expect(!_mm256_testz_si256(beyond, beyond), 0))
      break;
    for (int h = 0; h < 2; h++) {
      const __m256 sign = _mm256_andnot_ps(magnitude, sum[h]);
      const struct halves rounded = kind == HALF_FP16 ? fp16_eight(size[h], sign) : bf16_eight(size[h], sign);
      _mm_storeu_si128((__m128i *)(out + i + 8 * h), rounded.bits);
      if (gradient)
        _mm256_storeu_ps(x + i + 8 * h, _mm256_sub_ps(sum[h], rounded.number));
    }
  }
  return i;
}

BY_HAND static int64_t round_by_hand(const float *gradient, float *x, int64_t n, uint16_t *out, enum half kind) {
  if (kind == HALF_FP16)
    return gradient ? round_sixteens(gradient, x, n, out, HALF_FP16) : round_sixteens(NULL, x, n, out, HALF_FP16);
  return gradient ? round_sixteens(gradient, x, n, out, HALF_BF16) : round_sixteens(NULL, x, n, out, HALF_BF16);
}

#endif
