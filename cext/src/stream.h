/* Output that is much larger than the caches, past them: whole cache lines are written without being read first, which
 * halves its traffic. */
#ifndef SANDTABLE_STREAM_H
#define SANDTABLE_STREAM_H

#include "isa_each.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
  LINE = 64,          /* bytes */
  STREAMED = 1 << 19, /* entries of 8 bytes, from which output is */
};

/* One line, aligned in `to`; all of it at once where registers are so wide. */
#if defined(__x86_64__)
TARGET_AVX512 static inline void stream_line_avx512(void *to, const void *from) {
  _mm512_stream_si512(to, _mm512_loadu_si512(from));
}
__attribute__((target("avx2"))) static inline void stream_line_avx2(void *to, const void *from) {
  for (int i = 0; i < LINE / 32; i++)
    _mm256_stream_si256((__m256i *)to + i, _mm256_loadu_si256((const __m256i *)from + i));
}
static inline void stream_line_serial(void *to, const void *from) {
  for (int i = 0; i < LINE / 16; i++)
    _mm_stream_si128((__m128i *)to + i, _mm_loadu_si128((const __m128i *)from + i));
}
#else
static inline void stream_line_serial(void *to, const void *from) { memcpy(to, from, LINE); }
#endif

/* Copies like memcpy; other threads see it once this one has called stream_done, which waits for the memory: once a
 * thread's work. */
void stream_copy(void *to, const void *from, int64_t bytes);

void stream_done(void);

/* stream_copy of a payload's entries. */
static inline void stream_entries(int32_t *to_indices, float *to_values, const int32_t *indices, const float *values,
                                  int64_t count) {
  stream_copy(to_indices, indices, count * (int64_t)sizeof *indices);
  stream_copy(to_values, values, count * (int64_t)sizeof *values);
}

#endif
