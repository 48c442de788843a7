/* Merging P ascending lists in O(total entries): a window of the index range is added up densely in the cache, list
 * after list, with a bit set at every index that occurs; then the set bits are walked in order. The window jumps to the
 * smallest index that is left, so a thin list costs no more than its entries. Several threads take fixed windows in
 * turn, where most of them hold many entries. */
#include "parallel.h"
#include "sparse.h"

enum { WIDTH = 32768, WIDTH_WORDS = WIDTH / WORD, SUMMARY_WORDS = WIDTH_WORDS / WORD };

struct window {
  float sum[WIDTH];                /* -0.0 where nothing was added: -0.0 + v is v, for v = 0.0 and -0.0 too */
  uint64_t occurs[WIDTH_WORDS];    /* one bit an index */
  uint64_t summary[SUMMARY_WORDS]; /* one bit a word of `occurs` */
};

int64_t find_disorder(const struct lists *lists) {
  const int32_t *indices = lists->all.indices;
  for (int64_t p = 0; p < lists->count; p++) {
    int64_t start = lists->offsets[p], end = lists->offsets[p + 1];
    int32_t disorder = start < end && indices[start] < 0;
    for (int64_t i = start + 1; i < end; i++)
      disorder |= indices[i] < indices[i - 1];
    if (!disorder)
      continue;
    if (indices[start] < 0)
      return start;
    for (int64_t i = start + 1; i < end; i++)
      if (indices[i] < indices[i - 1])
        return i;
  }
  return -1;
}

/* One more than the largest index. */
static int64_t index_range(const struct lists *lists) {
  int64_t range = 0;
  for (int64_t p = 0; p < lists->count; p++)
    if (lists->offsets[p] < lists->offsets[p + 1])
      range = max64(range, (int64_t)lists->all.indices[lists->offsets[p + 1] - 1] + 1);
  return range;
}

int64_t merged_bound(const struct lists *lists) { return min64(index_range(lists), lists->all.count); }

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

static int64_t merge_alone(const struct lists *lists, int32_t *indices, float *values) {
  struct window window;
  int64_t at[MAX_LISTS], written = 0, base;
  clear_window(&window);
  memcpy(at, lists->offsets, (size_t)lists->count * sizeof *at);
  while ((base = smallest_head(lists, at)) != INT64_MAX) {
    for (int64_t p = 0; p < lists->count; p++)
      at[p] = fill_window(&window, &lists->all, at[p], lists->offsets[p + 1], base);
    written += drain_window(&window, base, indices + written, values + written);
  }
  return written;
}

struct merge_job {
  const struct lists *lists;
  int32_t *indices;
  float *values;
  struct tasks windows;
  struct appender appender;
};

/* The first entry from `at` on whose index is `base` or more. */
static int64_t seek(const int32_t *indices, int64_t at, int64_t end, int64_t base) {
  while (at < end) {
    int64_t middle = at + (end - at) / 2;
    if (indices[middle] < base)
      at = middle + 1;
    else
      end = middle;
  }
  return at;
}

static int64_t entries_in(const struct window *window) {
  int64_t count = 0;
  for (int w = 0; w < WIDTH_WORDS; w++)
    count += __builtin_popcountll(window->occurs[w]);
  return count;
}

static void merge_worker(void *context) {
  struct merge_job *job = context;
  const struct lists *lists = job->lists;
  struct window window;
  int64_t at[MAX_LISTS];
  clear_window(&window);
  memcpy(at, lists->offsets, (size_t)lists->count * sizeof *at);
  for (int64_t task; (task = take_task(&job->windows)) >= 0;) {
    int64_t base = task * WIDTH;
    for (int64_t p = 0; p < lists->count; p++) {
      int64_t end = lists->offsets[p + 1];
      at[p] = fill_window(&window, &lists->all, seek(lists->all.indices, at[p], end, base), end, base);
    }
    int64_t count = entries_in(&window);
    wait_turn(&job->appender, task);
    int64_t offset = job->appender.offset;
    job->appender.offset += count;
    pass_turn(&job->appender, task);
    drain_window(&window, base, job->indices + offset, job->values + offset);
  }
}

int64_t merge_sorted(const struct lists *lists, int32_t *indices, float *values, int threads) {
  int64_t windows = (index_range(lists) + WIDTH - 1) / WIDTH, total = lists->all.count;
  int useful = useful_threads(total, WIDTH, threads);
  if (useful == 1 || windows > total / WORD)
    return merge_alone(lists, indices, values);
  struct merge_job job = {.lists = lists, .indices = indices, .values = values, .windows = {.count = windows}};
  run_workers(merge_worker, &job, useful);
  return job.appender.offset;
}
