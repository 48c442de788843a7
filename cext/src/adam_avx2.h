/* Adam's update by hand for AVX2, where compilers spend more on taking the interleaved moments apart than on Adam. The
 * operations of update_lanes in adam.c in their order, so the same bits. */
#ifndef SANDTABLE_ADAM_AVX2_H
#define SANDTABLE_ADAM_AVX2_H

#include "optim.h"
#include "walk.h"

#include <immintrin.h>

#define BY_HAND __attribute__((target("avx2")))

struct adam_constants {
  __m256 fresh, keep, fresh_square, epsilon, penalty, shrink;
};

/* Eight places. Moments are loaded in 128-bit halves, so that no lane has to cross to the other half. */
BY_HAND static inline __attribute__((always_inline)) void adam_eight(const struct adam_constants *c, __m256 gradient,
                                                                     __m256 rate, __m256 root, const float *listed,
                                                                     float *parameters, float *moments,
                                                                     const bool masked, const bool penalized) {
  const __m256 parameter = _mm256_loadu_ps(parameters);
  const __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(moments)), _mm_loadu_ps(moments + 8), 1);
  const __m256 b =
      _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(moments + 4)), _mm_loadu_ps(moments + 12), 1);
  const __m256 old_mean = _mm256_shuffle_ps(a, b, 0x88), old_square = _mm256_shuffle_ps(a, b, 0xdd);
  if (penalized)
    gradient = _mm256_add_ps(gradient, _mm256_mul_ps(c->penalty, parameter));
  __m256 mean = _mm256_add_ps(old_mean, _mm256_mul_ps(c->fresh, _mm256_sub_ps(gradient, old_mean)));
  __m256 square = _mm256_add_ps(_mm256_mul_ps(c->keep, old_square),
                                _mm256_mul_ps(c->fresh_square, _mm256_mul_ps(gradient, gradient)));
  const __m256 size = _mm256_add_ps(_mm256_mul_ps(_mm256_sqrt_ps(square), root), c->epsilon);
  __m256 moved = _mm256_sub_ps(_mm256_mul_ps(c->shrink, parameter), _mm256_mul_ps(rate, _mm256_div_ps(mean, size)));
  if (masked) {
    const __m256 mask = _mm256_loadu_ps(listed);
    moved = _mm256_blendv_ps(parameter, moved, mask);
    mean = _mm256_blendv_ps(old_mean, mean, mask);
    square = _mm256_blendv_ps(old_square, square, mask);
  }
  _mm256_storeu_ps(parameters, moved);
  const __m256 low = _mm256_unpacklo_ps(mean, square), high = _mm256_unpackhi_ps(mean, square);
  _mm_storeu_ps(moments, _mm256_castps256_ps128(low));
  _mm_storeu_ps(moments + 4, _mm256_castps256_ps128(high));
  _mm_storeu_ps(moments + 8, _mm256_extractf128_ps(low, 1));
  _mm_storeu_ps(moments + 12, _mm256_extractf128_ps(high, 1));
}

BY_HAND static inline __attribute__((always_inline)) int64_t adam_loop(const struct adam *adam,
                                                                       const struct block *block, const float *rate,
                                                                       const float *root, float *parameters,
                                                                       float *moments, const bool masked,
                                                                       const bool penalized) {
  const struct adam_constants c = {
      .fresh = _mm256_set1_ps((float)(1.0 - adam->beta1)),
      .keep = _mm256_set1_ps((float)adam->beta2),
      .fresh_square = _mm256_set1_ps((float)(1.0 - adam->beta2)),
      .epsilon = _mm256_set1_ps((float)adam->epsilon),
      .penalty = _mm256_set1_ps(adam->decoupled ? 0.0f : (float)adam->weight_decay),
      .shrink = _mm256_set1_ps(adam->decoupled ? (float)(1.0 - adam->lr * adam->weight_decay) : 1.0f),
  };
  const float *listed = (const float *)block->listed;
  int64_t i = 0;
  for (; i + 8 <= block->lanes; i += 8)
    adam_eight(&c, _mm256_loadu_ps(block->gradients + i), _mm256_loadu_ps(rate + i), _mm256_loadu_ps(root + i),
               masked ? listed + i : NULL, parameters + i, moments + 2 * i, masked, penalized);
  return i;
}

/* Returns the lanes that are done: all but fewer than eight. */
BY_HAND static int64_t adam_by_hand(const struct adam *adam, const struct block *block, const float *rate,
                                    const float *root, float *parameters, float *moments) {
  const bool penalized = !adam->decoupled && (float)adam->weight_decay != 0;
  if (block->layout == STRETCH)
    return penalized ? adam_loop(adam, block, rate, root, parameters, moments, true, true)
                     : adam_loop(adam, block, rate, root, parameters, moments, true, false);
  return penalized ? adam_loop(adam, block, rate, root, parameters, moments, false, true)
                   : adam_loop(adam, block, rate, root, parameters, moments, false, false);
}

#endif
