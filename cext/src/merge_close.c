/* Merging lists close together: a window of the index range is added up densely in the cache, list after list; then
 * the lanes that occur are packed to the left, a register at a time. */
#include "merge_close.h"
#include "isa_each.h"

#if defined(__x86_64__)
#include "compress_table.h"
#include <immintrin.h>
#endif

enum {
  SOON = 1024, /* entries of a list that are asked for early */
  PIECE = 512, /* entries whose values stay in the L1 cache while they are looked at twice */
};

static const uint32_t NEGATIVE_ZERO = UINT32_C(0x80000000);
static const int32_t TINY = 0x0d800000; /* the key of 2^-100 */

static void clear_from(struct close_window *window, int lane) {
  for (; lane < window->width; lane++)
    window->sum[lane] = -0.0f;
  memset(window->tiny, 0, (size_t)(window->width / 8));
}

void clear_close(struct close_window *window, int64_t width) {
  window->width = (int)min64(CLOSE_WIDTH, (width + LANES - 1) / LANES * LANES);
  clear_from(window, 0);
}

/* Compilers turn it into a loop of whole registers. */
#define ANY_TINY(isa, target)                                                                                          \
  target static bool any_tiny_##isa(const float *values, int64_t count) {                                              \
    int32_t any = 0;                                                                                                   \
    for (int64_t i = 0; i < count; i++)                                                                                \
      any |= key_of(values[i]) < TINY;                                                                                 \
    return any;                                                                                                        \
  }

FOR_EACH_ISA(ANY_TINY)

static void note_tiny(struct close_window *window, int32_t base, const int32_t *indices, const float *values,
                      int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    const uint32_t place = (uint32_t)(indices[i] - base);
    window->tiny[place / 8] |= (uint8_t)((key_of(values[i]) < TINY) << place % 8);
  }
}

static inline __attribute__((always_inline)) void add_some(float *sum, int32_t base, const int32_t *indices,
                                                           const float *values, const int64_t count) {
  for (int64_t i = 0; i < count; i++)
    sum[(uint32_t)(indices[i] - base)] += values[i];
}

static void add_piece(struct close_window *window, int32_t base, const int32_t *indices, const float *values,
                      int64_t count) {
  if (ACTIVE_ISA(any_tiny)(values, count))
    note_tiny(window, base, indices, values, count);
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    __builtin_prefetch(indices + i + SOON); /* a list's turn is too short for the processor to see where it goes on */
    __builtin_prefetch(values + i + SOON);
    add_some(window->sum, base, indices + i, values + i, LANES);
  }
  add_some(window->sum, base, indices + i, values + i, count - i);
}

void add_close(struct close_window *window, int32_t base, const int32_t *indices, const float *values, int64_t count) {
  for (int64_t i = 0; i < count; i += PIECE)
    add_piece(window, base, indices + i, values + i, min64(PIECE, count - i));
}

static inline bool occurs(const struct close_window *window, int lane) {
  return (bits_of(window->sum[lane]) != NEGATIVE_ZERO) | (window->tiny[lane / 8] >> lane % 8 & 1);
}

/* Bits of the lanes from `lane` on that occur, so many at a time. */
enum { LANES_serial = 8, LANES_avx2 = 8, LANES_avx512 = 16 };
static inline uint32_t occurring_serial(const struct close_window *window, int lane) {
  uint32_t mask = 0;
  for (int i = 0; i < 8; i++)
    mask |= (uint32_t)occurs(window, lane + i) << i;
  return mask;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static inline uint32_t occurring_avx2(const struct close_window *window, int lane) {
  const __m256i sums = _mm256_loadu_si256((const __m256i *)(const void *)(window->sum + lane));
  const __m256i empty = _mm256_cmpeq_epi32(sums, _mm256_set1_epi32(INT32_MIN));
  return (~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(empty)) & 0xff) | window->tiny[lane / 8];
}
__attribute__((target("avx512f"))) static inline uint32_t occurring_avx512(const struct close_window *window,
                                                                           int lane) {
  uint16_t tiny, mask = _mm512_cmpneq_epi32_mask(_mm512_loadu_si512(window->sum + lane), _mm512_set1_epi32(INT32_MIN));
  memcpy(&tiny, window->tiny + lane / 8, sizeof tiny);
  return mask | tiny;
}
#endif

#define COUNT(isa, target)                                                                                             \
  target static int64_t count_##isa(const struct close_window *window) {                                               \
    int64_t count = 0;                                                                                                 \
    for (int lane = 0; lane < window->width; lane += LANES_##isa)                                                      \
      count += __builtin_popcount(occurring_##isa(window, lane));                                                      \
    return count;                                                                                                      \
  }

FOR_EACH_ISA(COUNT)

int64_t count_close(const struct close_window *window) { return ACTIVE_ISA(count)(window); }

/* Where packed lanes go: never beyond `count`, behind which another thread may be writing. */
struct packed {
  int32_t *indices;
  float *values;
  int64_t count;
};

/* The lanes from `lane` on; `done` entries are there already. */
static void pack_lanes(const struct close_window *window, int32_t base, int lane, int64_t done,
                       const struct packed *out) {
  int32_t *restrict indices = out->indices;
  float *restrict values = out->values;
  for (const int64_t count = out->count; done < count; lane++) {
    indices[done] = base + lane;
    values[done] = window->sum[lane];
    done += occurs(window, lane);
  }
}

/* Packs all lanes that occur, and leaves the window empty. */
static void pack_serial(struct close_window *window, int32_t base, const struct packed *out) {
  pack_lanes(window, base, 0, 0, out);
  clear_from(window, 0);
}

#if defined(__x86_64__)
__attribute__((target("avx2,popcnt"))) static void pack_avx2(struct close_window *window, int32_t base,
                                                             const struct packed *out) {
  int32_t *indices = out->indices;
  float *values = out->values;
  int64_t done = 0;
  int lane = 0;
  for (const int64_t safe = out->count - 8; done <= safe; lane += 8) {
    const uint32_t mask = occurring_avx2(window, lane);
    __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)compress_table[mask]));
    __m256 sums = _mm256_permutevar8x32_ps(_mm256_loadu_ps(window->sum + lane), order);
    _mm256_storeu_ps(window->sum + lane, _mm256_set1_ps(-0.0f));
    _mm256_storeu_ps(values + done, sums);
    _mm256_storeu_si256((__m256i *)(void *)(indices + done), _mm256_add_epi32(order, _mm256_set1_epi32(base + lane)));
    done += __builtin_popcount(mask);
  }
  pack_lanes(window, base, lane, done, out);
  clear_from(window, lane);
}

__attribute__((target("avx512f,popcnt"))) static void pack_avx512(struct close_window *window, int32_t base,
                                                                  const struct packed *out) {
  const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t done = 0;
  int lane = 0;
  for (const int64_t safe = out->count - LANES_avx512; done <= safe; lane += LANES_avx512) {
    const __mmask16 mask = (__mmask16)occurring_avx512(window, lane);
    const __m512i index = _mm512_add_epi32(number, _mm512_set1_epi32(base + lane));
    _mm512_storeu_ps(out->values + done, _mm512_maskz_compress_ps(mask, _mm512_loadu_ps(window->sum + lane)));
    _mm512_storeu_si512(out->indices + done, _mm512_maskz_compress_epi32(mask, index));
    _mm512_storeu_ps(window->sum + lane, _mm512_set1_ps(-0.0f));
    done += __builtin_popcount(mask);
  }
  pack_lanes(window, base, lane, done, out);
  clear_from(window, lane);
}
#endif

void drain_close(struct close_window *window, int32_t base, int64_t count, int32_t *indices, float *values) {
  struct packed out = {.indices = indices, .values = values, .count = count};
  ACTIVE_ISA(pack)(window, base, &out);
}
