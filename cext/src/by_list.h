/* A block's entries, 16 places at a time, for AVX-512: which of them are listed is told by the list as they are worked
 * on, in a mask register, so that nothing is spread out in memory first. */
#ifndef SANDTABLE_BY_LIST_H
#define SANDTABLE_BY_LIST_H

#include "walk.h"

#include <immintrin.h>

enum { SIXTEEN = 16, LISTED_SOON = 704 /* places that are asked for early, and as many entries: measured */ };

/* The entries that are still to come. */
struct listing {
  const int32_t *indices;
  const float *gradients;
  int64_t left;
};

/* 16 neighbouring places: which are listed, and their gradients, 0 for the others. */
struct sixteen {
  __mmask16 listed;
  __m512 gradient;
};

/* Entries ascend, and all before `place` are taken. Reads 16 entries beyond the block's. */
TARGET_AVX512 static inline struct sixteen next_sixteen(struct listing *list, int64_t place) {
  const __m512i lane =
      _mm512_sub_epi32(_mm512_loadu_si512(list->indices), _mm512_set1_epi32((int32_t)place)); /* of each entry */
  const uint32_t here = (uint32_t)__builtin_popcount(_mm512_cmplt_epu32_mask(lane, _mm512_set1_epi32(SIXTEEN)));
  const uint32_t count = (uint32_t)min64(here, list->left); /* others belong to the next block */
  const __mmask16 entries = (__mmask16)_bzhi_u32(0xffff, count);
  const __mmask16 listed =
      (__mmask16)_mm512_reduce_or_epi32(_mm512_maskz_sllv_epi32(entries, _mm512_set1_epi32(1), lane));
  const __m512 gradient = _mm512_maskz_expand_ps(listed, _mm512_loadu_ps(list->gradients));
  list->indices += count;
  list->gradients += count;
  list->left -= count;
  return (struct sixteen){listed, gradient};
}

/* Asks for what is worked on LISTED_SOON places later. */
TARGET_AVX512 static inline void ask_ahead(const struct walk *walk, const struct listing *list, int64_t place) {
  __builtin_prefetch(list->indices + LISTED_SOON);
  __builtin_prefetch(list->gradients + LISTED_SOON);
  __builtin_prefetch(walk->parameters + place + LISTED_SOON, 1);
  for (int64_t l = 0; l < walk->each; l++)
    __builtin_prefetch(walk->state + (place + LISTED_SOON) * walk->each + l * SIXTEEN, 1);
}

#endif
