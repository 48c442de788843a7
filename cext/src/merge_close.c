/* Merging lists close together: a window of the index range is added up densely in the L1 cache, list after list, with
 * a byte set at every index that occurs; then the marked lanes are packed to the left, eight at a time. */
#include "merge_close.h"
#include "isa_each.h"

#if defined(__x86_64__)
#include "compress_table.h"
#include <immintrin.h>
#endif

enum { SOON = 768 }; /* entries of a list that are asked for early */

void clear_close(struct close_window *window) {
  memset(window->marks, 0, sizeof window->marks);
  for (int i = 0; i < CLOSE_WIDTH; i++)
    window->sum[i] = -0.0f;
}

void add_close(struct close_window *window, int32_t base, const int32_t *indices, const float *values, int64_t count) {
  for (int64_t start = 0; start < count; start += LANES) {
    __builtin_prefetch(indices + start + SOON); /* the next window's: a list's turn is too short for the processor */
    __builtin_prefetch(values + start + SOON);  /* to see where it goes on */
    for (int64_t i = start, end = min64(count, start + LANES); i < end; i++) {
      uint32_t place = (uint32_t)(indices[i] - base);
      window->sum[place] += values[i];
      window->marks[place] = UINT8_MAX;
    }
  }
}

#define COUNT(isa, target)                                                                                             \
  target static int64_t count_##isa(const struct close_window *window) {                                               \
    int64_t bits = 0;                                                                                                  \
    for (int i = 0; i < CLOSE_WIDTH; i += 8) {                                                                         \
      uint64_t eight;                                                                                                  \
      memcpy(&eight, window->marks + i, sizeof eight);                                                                 \
      bits += __builtin_popcountll(eight);                                                                             \
    }                                                                                                                  \
    return bits / 8;                                                                                                   \
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
    done += window->marks[lane] & 1;
  }
}

static void pack_serial(const struct close_window *window, int32_t base, const struct packed *out) {
  pack_lanes(window, base, 0, 0, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2,popcnt"))) static void pack_avx2(const struct close_window *window, int32_t base,
                                                             const struct packed *out) {
  int32_t *indices = out->indices;
  float *values = out->values;
  int64_t done = 0;
  int lane = 0;
  for (const int64_t safe = out->count - 8; done <= safe; lane += 8) {
    int mask = _mm_movemask_epi8(_mm_loadl_epi64((const __m128i *)(const void *)(window->marks + lane)));
    __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)compress_table[mask]));
    __m256 sums = _mm256_permutevar8x32_ps(_mm256_loadu_ps(window->sum + lane), order);
    _mm256_storeu_ps(values + done, sums);
    _mm256_storeu_si256((__m256i *)(void *)(indices + done), _mm256_add_epi32(order, _mm256_set1_epi32(base + lane)));
    done += __builtin_popcount((unsigned)mask);
  }
  pack_lanes(window, base, lane, done, out);
}
#define pack_avx512 pack_avx2
#endif

void drain_close(struct close_window *window, int32_t base, int64_t count, int32_t *indices, float *values) {
  struct packed out = {.indices = indices, .values = values, .count = count};
  ACTIVE_ISA(pack)(window, base, &out);
  clear_close(window);
}
