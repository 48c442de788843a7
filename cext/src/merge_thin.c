/* Merging thin lists: a window of the index range is added up densely in the cache, list after list, with a bit set at
 * every index that occurs; then the set bits are walked in order. The window jumps to the smallest index that is left,
 * so a thin list costs no more than its entries. */
#include "merge.h"

enum { WIDTH = 32768, WIDTH_WORDS = WIDTH / WORD, SUMMARY_WORDS = WIDTH_WORDS / WORD };

struct window {
  float sum[WIDTH];                /* -0.0 where nothing was added: -0.0 + v is v, for v = 0.0 and -0.0 too */
  uint64_t occurs[WIDTH_WORDS];    /* one bit an index */
  uint64_t summary[SUMMARY_WORDS]; /* one bit a word of `occurs` */
};

static int64_t fill_window(struct window *window, const struct entries *all, int64_t at, int64_t end, int64_t base) {
  for (; at < end; at++) {
    int64_t place = all->indices[at] - base;
    if (place >= WIDTH)
      break;
    window->sum[place] += all->values[at];
    window->occurs[place / WORD] |= UINT64_C(1) << (place % WORD);
    window->summary[place / (WORD * WORD)] |= UINT64_C(1) << (place / WORD % WORD);
  }
  return at;
}

/* Writes the window's entries and leaves it empty. */
static int64_t drain_window(struct window *window, int64_t base, int32_t *indices, float *values) {
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

static int64_t smallest_head(const struct lists *lists, const int64_t *at) {
  int64_t smallest = INT64_MAX;
  for (int64_t p = 0; p < lists->count; p++)
    if (at[p] < lists->offsets[p + 1])
      smallest = min64(smallest, lists->all.indices[at[p]]);
  return smallest;
}

static void clear_window(struct window *window) {
  memset(window, 0, sizeof *window);
  for (int i = 0; i < WIDTH; i++)
    window->sum[i] = -0.0f;
}

int64_t merge_thin(const struct lists *lists, const struct merged *out) {
  struct window window;
  int64_t at[MAX_LISTS], written = 0, base;
  clear_window(&window);
  memcpy(at, lists->offsets, (size_t)lists->count * sizeof *at);
  while ((base = smallest_head(lists, at)) != INT64_MAX) {
    for (int64_t p = 0; p < lists->count; p++)
      at[p] = fill_window(&window, &lists->all, at[p], lists->offsets[p + 1], base);
    written += drain_window(&window, base, out->indices + written, out->values + written);
  }
  return written;
}
