/* Adam's update by the list, for AVX-512: the operations of update_lanes in adam.c in their order, so the same bits. */
#ifndef SANDTABLE_ADAM_AVX512_H
#define SANDTABLE_ADAM_AVX512_H

#include "by_list.h"

TARGET_AVX512 static void adam_by_list(const struct adam *adam, const struct walk *walk, const struct block *block,
                                       const float *rate, const float *root, float *parameters, float *moments) {
  const __m512 fresh = _mm512_set1_ps((float)(1.0 - adam->beta1)), keep = _mm512_set1_ps((float)adam->beta2);
  const __m512 fresh_square = _mm512_set1_ps((float)(1.0 - adam->beta2));
  const __m512 epsilon = _mm512_set1_ps((float)adam->epsilon);
  const __m512 penalty = _mm512_set1_ps(adam->decoupled ? 0.0f : (float)adam->weight_decay);
  const __m512 shrink = _mm512_set1_ps(adam->decoupled ? (float)(1.0 - adam->lr * adam->weight_decay) : 1.0f);
  const bool penalized = !adam->decoupled && (float)adam->weight_decay != 0;
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  const __m512i lower = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i upper = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  struct listing list = {block->indices, block->gradients, block->count};
  for (int64_t i = 0; i < block->lanes; i += SIXTEEN) {
    ask_ahead(walk, &list, block->first + i);
    const struct sixteen now = next_sixteen(&list, block->first + i);
    const __m512 parameter = _mm512_loadu_ps(parameters + i);
    const __m512 first = _mm512_loadu_ps(moments + 2 * i), second = _mm512_loadu_ps(moments + 2 * i + SIXTEEN);
    const __m512 old_mean = _mm512_permutex2var_ps(first, even, second);
    const __m512 old_square = _mm512_permutex2var_ps(first, odd, second);
    __m512 gradient = now.gradient;
    if (penalized)
      gradient = _mm512_add_ps(gradient, _mm512_mul_ps(penalty, parameter));
    const __m512 mean = _mm512_add_ps(old_mean, _mm512_mul_ps(fresh, _mm512_sub_ps(gradient, old_mean)));
    const __m512 square =
        _mm512_add_ps(_mm512_mul_ps(keep, old_square), _mm512_mul_ps(fresh_square, _mm512_mul_ps(gradient, gradient)));
    const __m512 size = _mm512_add_ps(_mm512_mul_ps(_mm512_sqrt_ps(square), _mm512_loadu_ps(root + i)), epsilon);
    const __m512 step = _mm512_mul_ps(_mm512_loadu_ps(rate + i), _mm512_div_ps(mean, size));
    _mm512_storeu_ps(parameters + i, _mm512_mask_sub_ps(parameter, now.listed, _mm512_mul_ps(shrink, parameter), step));
    const __m512 new_mean = _mm512_mask_mov_ps(old_mean, now.listed, mean);
    const __m512 new_square = _mm512_mask_mov_ps(old_square, now.listed, square);
    _mm512_storeu_ps(moments + 2 * i, _mm512_permutex2var_ps(new_mean, lower, new_square));
    _mm512_storeu_ps(moments + 2 * i + SIXTEEN, _mm512_permutex2var_ps(new_mean, upper, new_square));
  }
}

#endif
