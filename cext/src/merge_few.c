/* Merging two by two costs a few steps an entry and level, whatever lies between the indices. No step depends on a
 * guess: what is taken is chosen by a comparison's result, and four parts of a merge, cut where each begins
 * (co-ranking), go on side by side. */
#include "merge_few.h"

enum { CHAINS = 4, WORTH_CUTTING = 64 };

static const uint64_t BEHIND_ALL = UINT64_MAX;

static void number_entries(const int32_t *indices, int64_t first, int64_t count, uint64_t *entries) {
  for (int64_t i = 0; i < count; i++)
    entries[i] = (uint64_t)(uint32_t)indices[first + i] << 32 | (uint64_t)(first + i);
}

/* How many of the `rank` smallest are a's. */
static int64_t co_rank(const uint64_t *a, int64_t a_count, const uint64_t *b, int64_t b_count, int64_t rank) {
  int64_t low = max64(0, rank - b_count), high = min64(rank, a_count);
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (a[middle] < b[rank - middle - 1])
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* One step of a merge that has taken `step` entries, of_a of them from a. */
static inline __attribute__((always_inline)) void take_smaller(const uint64_t *a, const uint64_t *b, int64_t step,
                                                               int64_t *of_a, uint64_t *out) {
  const uint64_t x = a[*of_a], y = b[step - *of_a];
  out[step] = x < y ? x : y;
  *of_a += x < y;
}

/* Behind a and b stands BEHIND_ALL; so it does behind `out` afterwards. */
static void merge_two(const uint64_t *a, int64_t a_count, const uint64_t *b, int64_t b_count, uint64_t *out) {
  const int64_t count = a_count + b_count, each = count < WORTH_CUTTING ? 0 : count / CHAINS;
  const uint64_t *as[CHAINS], *bs[CHAINS];
  int64_t of_a[CHAINS] = {0}, step = 0;
  for (int c = 0; c < CHAINS; c++) {
    const int64_t i = co_rank(a, a_count, b, b_count, c * each);
    as[c] = a + i;
    bs[c] = b + (c * each - i);
  }
  for (; step < each; step++)
    _Pragma("GCC unroll 8") for (int c = 0; c < CHAINS; c++) take_smaller(as[c], bs[c], step, &of_a[c], out + c * each);
  for (; step < count - (CHAINS - 1) * each; step++)
    take_smaller(as[CHAINS - 1], bs[CHAINS - 1], step, &of_a[CHAINS - 1], out + (CHAINS - 1) * each);
  out[count] = BEHIND_ALL;
}

/* Adds up what has one index; returns how many are written. */
static int64_t add_up(const uint64_t *entries, int64_t count, const float *values, int32_t *indices, float *sums) {
  int64_t written = 0;
  int32_t last = -1;
  for (int64_t i = 0; i < count; i++) {
    const int32_t index = (int32_t)(entries[i] >> 32);
    const float value = values[(uint32_t)entries[i]];
    if (index == last) {
      sums[written - 1] += value;
    } else {
      indices[written] = last = index;
      sums[written++] = value;
    }
  }
  return written;
}

/* An index below which no list has more than its share of entries left; where one index alone is more, the next. */
static int64_t find_bound(const struct lists *lists, const int64_t *from, const int64_t *to) {
  int64_t bound = INT64_MAX, left = 0;
  for (int64_t p = 0; p < lists->count; p++)
    left += from[p] < to[p];
  const int64_t share = FEW_ENTRIES / max64(1, left);
  for (int64_t p = 0; p < lists->count; p++)
    if (from[p] + share < to[p])
      bound = min64(bound, lists->all.indices[from[p] + share]);
  return bound;
}

/* Fills window->entries[0] with what is below `bound`, list behind list; returns how many there are. */
static int64_t load_entries(struct few_window *window, const struct lists *lists, int64_t *from, const int64_t *to,
                            int64_t bound, int64_t *counts) {
  uint64_t *out = window->entries[0];
  int64_t all = 0;
  for (int64_t p = 0; p < lists->count; p++) {
    const int64_t end = seek_index(lists->all.indices, from[p], to[p], bound);
    counts[p] = end - from[p];
    all += counts[p];
    number_entries(lists->all.indices, from[p], counts[p], out);
    out[counts[p]] = BEHIND_ALL;
    out += counts[p] + 1;
    from[p] = end;
  }
  return all;
}

/* Merges list with list until there is one; returns where it lies. */
static const uint64_t *merge_all(struct few_window *window, int64_t lists, int64_t *counts) {
  int now = 0;
  for (; lists > 1; now = !now) {
    const uint64_t *in = window->entries[now];
    uint64_t *out = window->entries[!now];
    const int64_t left = (lists + 1) / 2;
    for (int64_t p = 0; p < left; p++) {
      const int64_t a = counts[2 * p], b = 2 * p + 1 < lists ? counts[2 * p + 1] : 0;
      if (2 * p + 1 < lists)
        merge_two(in, a, in + a + 1, b, out);
      else
        memcpy(out, in, (size_t)(a + 1) * sizeof *out);
      in += a + b + 2;
      out += a + b + 1;
      counts[p] = a + b;
    }
    lists = left;
  }
  return window->entries[now];
}

/* All entries of the smallest index that is left, which one list may repeat without end. */
static void add_smallest(const struct lists *lists, int64_t *from, const int64_t *to, int64_t index, int32_t *out,
                         float *sum) {
  *out = (int32_t)index;
  *sum = -0.0f;
  for (int64_t p = 0; p < lists->count; p++)
    for (; from[p] < to[p] && lists->all.indices[from[p]] == index; from[p]++)
      *sum += lists->all.values[from[p]];
}

int64_t merge_few(struct few_window *window, const struct lists *lists, int64_t *from, const int64_t *to,
                  int32_t *indices, float *values) {
  int64_t written = 0, counts[FEW_LISTS];
  for (;;) {
    const int64_t bound = find_bound(lists, from, to);
    const int64_t loaded = load_entries(window, lists, from, to, bound, counts);
    const uint64_t *entries = merge_all(window, lists->count, counts);
    written += add_up(entries, loaded, lists->all.values, indices + written, values + written);
    if (bound == INT64_MAX)
      return written;
    if (loaded == 0) {
      add_smallest(lists, from, to, bound, indices + written, values + written);
      written++;
    }
  }
}
