/* SGD's update by the list, for AVX-512: the operations of plain_lanes and momentum_lanes in sgd.c in their order, so
 * the same bits. */
#ifndef SANDTABLE_SGD_AVX512_H
#define SANDTABLE_SGD_AVX512_H

#include "by_list.h"

struct sgd_constants {
  __m512 lr, penalty, factor, fresh;
};

TARGET_AVX512 static inline __m512 penalized_gradient(const struct sgd_constants *c, __m512 gradient, __m512 parameter,
                                                      bool penalized) {
  return penalized ? _mm512_add_ps(gradient, _mm512_mul_ps(c->penalty, parameter)) : gradient;
}

/* keep, touched: of the lanes, as in sgd.c; momentum is NULL where there is none. */
TARGET_AVX512 static inline __attribute__((always_inline)) void
sgd_listed(const struct sgd *sgd, const struct walk *walk, const struct block *block, const float *keep,
           const uint32_t *touched, float *parameters, float *momentum, const bool nesterov) {
  const struct sgd_constants c = {.lr = _mm512_set1_ps((float)sgd->lr),
                                  .penalty = _mm512_set1_ps((float)sgd->weight_decay),
                                  .factor = _mm512_set1_ps((float)sgd->momentum),
                                  .fresh = _mm512_set1_ps((float)(1.0 - sgd->dampening))};
  const bool penalized = (float)sgd->weight_decay != 0;
  struct listing list = {block->indices, block->gradients, block->count};
  for (int64_t i = 0; i < block->lanes; i += SIXTEEN) {
    ask_ahead(walk, &list, block->first + i);
    const struct sixteen now = next_sixteen(&list, block->first + i);
    const __m512 parameter = _mm512_loadu_ps(parameters + i);
    const __m512 gradient = penalized_gradient(&c, now.gradient, parameter, penalized);
    __m512 step = gradient;
    if (momentum) {
      const __m512i was_touched = _mm512_loadu_si512(touched + i);
      const __m512 old = _mm512_loadu_ps(momentum + i);
      const __m512 kept =
          _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(keep + i), old), _mm512_mul_ps(c.fresh, gradient));
      const __m512 buffer = _mm512_mask_mov_ps(gradient, _mm512_test_epi32_mask(was_touched, was_touched), kept);
      _mm512_storeu_ps(momentum + i, _mm512_mask_mov_ps(old, now.listed, buffer));
      step = nesterov ? _mm512_add_ps(gradient, _mm512_mul_ps(c.factor, buffer)) : buffer;
    }
    _mm512_storeu_ps(parameters + i, _mm512_mask_sub_ps(parameter, now.listed, parameter, _mm512_mul_ps(c.lr, step)));
  }
}

TARGET_AVX512 static void sgd_by_list(const struct sgd *sgd, const struct walk *walk, const struct block *block,
                                      const float *keep, const uint32_t *touched, float *parameters, float *momentum) {
  if (!momentum)
    sgd_listed(sgd, walk, block, keep, touched, parameters, NULL, false);
  else if (sgd->nesterov)
    sgd_listed(sgd, walk, block, keep, touched, parameters, momentum, true);
  else
    sgd_listed(sgd, walk, block, keep, touched, parameters, momentum, false);
}

#endif
