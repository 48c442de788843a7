/* Merging very many thin lists: a window of the index range is added up densely in the cache, list after list, with a
 * bit set at every index that occurs; then the set bits are walked in order. The window jumps to the smallest index
 * that is left, so a thin list costs no more than its entries. */
#include "merge_thin.h"

static int64_t fill_window(struct thin_window *window, const struct entries *all, int64_t at, int64_t end,
                           int64_t base) {
  for (; at < end; at++) {
    int64_t place = all->indices[at] - base;
    if (place >= THIN_WIDTH)
      break;
    window->sum[place] += all->values[at];
    window->occurs[place / WORD] |= UINT64_C(1) << (place % WORD);
    window->summary[place / (WORD * WORD)] |= UINT64_C(1) << (place / WORD % WORD);
  }
  return at;
}

/* Writes the window's entries and leaves it empty. */
static int64_t drain_window(struct thin_window *window, int64_t base, int32_t *indices, float *values) {
  int64_t written = 0;
  for (int s = 0; s < SUMMARY_WORDS; s++) {
    for (uint64_t words = window->summary[s]; words; words &= words - 1) {
      int word = s * WORD + __builtin_ctzll(words);
      for (uint64_t bits = window->occurs[word]; bits; bits &= bits - 1, written++) {
        int place = word * WORD + __builtin_ctzll(bits);
        indices[written] = (int32_t)(base + place);
        values[written] = window->sum[place];
        window->sum[place] = -0.0f;
      }
      window->occurs[word] = 0;
    }
    window->summary[s] = 0;
  }
  return written;
}

static int64_t smallest_head(const struct lists *lists, const int64_t *from, const int64_t *to) {
  int64_t smallest = INT64_MAX;
  for (int64_t p = 0; p < lists->count; p++)
    if (from[p] < to[p])
      smallest = min64(smallest, lists->all.indices[from[p]]);
  return smallest;
}

void clear_thin(struct thin_window *window) {
  memset(window, 0, sizeof *window);
  for (int i = 0; i < THIN_WIDTH; i++)
    window->sum[i] = -0.0f;
}

int64_t merge_thin(struct thin_window *window, const struct lists *lists, int64_t *from, const int64_t *to,
                   int32_t *indices, float *values) {
  int64_t written = 0, base;
  while ((base = smallest_head(lists, from, to)) != INT64_MAX) {
    for (int64_t p = 0; p < lists->count; p++)
      from[p] = fill_window(window, &lists->all, from[p], to[p], base);
    written += drain_window(window, base, indices + written, values + written);
  }
  return written;
}
