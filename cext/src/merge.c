/* Merging by ranks: the index range is cut into windows. In each, a bit is set at every index that occurs in any list;
 * the number of bits before an index is its entry's place in the output, where the values are added list after list. No
 * entry is compared with another, nothing is sorted. Threads take windows in turn; a window's count is known before
 * anything of it is written, so each writes straight to its place. */
#include "merge.h"
#include "isa_each.h"
#include "parallel.h"

#include <sched.h>

enum {
  WIDEST = 262144,       /* indices a window: its bits fill the L1 cache */
  WIDEST_MARKED = 65536, /* the same where indices are marked by bytes */
  WIDEST_WORDS = WIDEST / WORD,
  WANTED = 4096,  /* entries a window, if it can be so wide */
  CHECK = 65536,  /* entries a task of the check */
  THIN = 300,     /* indices an entry beyond which merge_thin takes over: measured */
  MARKED = 16,    /* indices an entry up to which bytes are faster than bits: they have no chain of stores */
  USEFUL = 16384, /* entries that are worth a thread's start */
};

struct window {
  int64_t base, width;          /* the indices base .. base+width-1 */
  uint64_t bits[WIDEST_WORDS];  /* one an index */
  int32_t before[WIDEST_WORDS]; /* bits in the words before */
  uint8_t marks[WIDEST_MARKED]; /* one an index, for lists close together */
};

struct job {
  const struct lists *lists;
  const struct merged *out;
  int64_t low, high, width; /* of the indices; of a window */
  bool marked;
  struct tasks checks, windows;
  _Atomic int64_t checked, disorder;
  struct appender appender;
};

/* ---- the check ---- */

static int64_t find_disorder(const struct lists *lists) {
  const int32_t *indices = lists->all.indices;
  for (int64_t p = 0; p < lists->count; p++)
    for (int64_t i = lists->offsets[p]; i < lists->offsets[p + 1]; i++)
      if (indices[i] < (i == lists->offsets[p] ? 0 : indices[i - 1]))
        return i;
  return -1;
}

/* Whether entries [start, end) descend somewhere, the beginning of a list excepted; one task of the check. */
static bool descends(const struct lists *lists, int64_t start, int64_t end) {
  const int32_t *indices = lists->all.indices;
  int64_t p = 0;
  while (lists->offsets[p + 1] <= start)
    p++;
  for (int64_t i = start; i < end; p++) {
    int64_t stop = min64(end, lists->offsets[p + 1]);
    int32_t wrong = i == lists->offsets[p] && i < stop && indices[i] < 0;
    for (i = max64(i, lists->offsets[p] + 1); i < stop; i++)
      wrong |= indices[i] < indices[i - 1];
    i = stop;
    if (wrong)
      return true;
  }
  return false;
}

/* For each worker; true if the lists are good. */
static bool check_lists(struct job *job) {
  int64_t total = job->lists->all.count;
  for (int64_t task; (task = take_task(&job->checks)) >= 0; atomic_fetch_add(&job->checked, 1))
    if (descends(job->lists, task * CHECK, min64(total, (task + 1) * CHECK)))
      job->disorder = 1;
  for (int spins = 0; job->checked < job->checks.count; spins++) /* the others may not be running */
    if (spins > 200)
      sched_yield();
  return job->disorder == 0;
}

/* ---- one window ---- */

/* The first entry from `at` on whose index is `base` or more: found by doubling steps, then by halving. */
static int64_t seek(const int32_t *indices, int64_t at, int64_t end, int64_t base) {
  int64_t step = 1;
  while (at + step <= end && indices[at + step - 1] < base) {
    at += step;
    step *= 2;
  }
  end = min64(end, at + step - 1);
  while (at < end) {
    int64_t middle = at + (end - at) / 2;
    if (indices[middle] < base)
      at = middle + 1;
    else
      end = middle;
  }
  return at;
}

/* Sets the bit of each of the entries. */
static void set_bits(struct window *window, const int32_t *indices, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t place = (uint32_t)(indices[i] - (int32_t)window->base);
    window->bits[place / WORD] |= UINT64_C(1) << (place % WORD);
  }
}

static void set_marks(struct window *window, const int32_t *indices, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    window->marks[(uint32_t)(indices[i] - (int32_t)window->base)] = 1;
}

/* Eight marks become eight bits by one multiplication. */
static void gather_marks(struct window *window) {
  for (int64_t w = 0; w < window->width / WORD; w++) {
    uint64_t word = 0;
    for (int byte = 0; byte < 8; byte++) {
      uint64_t eight;
      memcpy(&eight, window->marks + w * WORD + byte * 8, sizeof eight);
      word |= (eight * UINT64_C(0x0102040810204080)) >> 56 << (byte * 8);
    }
    window->bits[w] = word;
  }
  memset(window->marks, 0, (size_t)window->width);
}

#define RANKS(isa, target)                                                                                             \
  /* Counts the bits before each word; returns how many there are. */                                                  \
  target static int64_t count_bits_##isa(struct window *window) {                                                      \
    int32_t total = 0;                                                                                                 \
    for (int64_t w = 0; w < window->width / WORD; w += 4) {                                                            \
      const uint64_t *bits = window->bits + w;                                                                         \
      int32_t a = __builtin_popcountll(bits[0]), b = a + __builtin_popcountll(bits[1]);                                \
      int32_t c = b + __builtin_popcountll(bits[2]), d = c + __builtin_popcountll(bits[3]);                            \
      window->before[w] = total;                                                                                       \
      window->before[w + 1] = total + a;                                                                               \
      window->before[w + 2] = total + b;                                                                               \
      window->before[w + 3] = total + c;                                                                               \
      total += d;                                                                                                      \
    }                                                                                                                  \
    return total;                                                                                                      \
  }                                                                                                                    \
  /* Adds the entries where they belong. */                                                                            \
  target static void add_entries_##isa(const struct window *window, const int32_t *indices, const float *values,       \
                                       int64_t count, int32_t *out_indices, float *out_values) {                       \
    for (int64_t i = 0; i < count; i++) {                                                                              \
      uint32_t place = (uint32_t)(indices[i] - (int32_t)window->base);                                                 \
      uint64_t lower = window->bits[place / WORD] & ~(UINT64_MAX << (place % WORD));                                   \
      int64_t rank = window->before[place / WORD] + __builtin_popcountll(lower);                                       \
      out_indices[rank] = indices[i];                                                                                  \
      out_values[rank] += values[i];                                                                                   \
    }                                                                                                                  \
  }

FOR_EACH_ISA(RANKS)

static void merge_window(struct job *job, struct window *window, int64_t task, int64_t *from, int64_t *to) {
  const struct lists *lists = job->lists;
  const int32_t *indices = lists->all.indices;
  window->base = job->low + task * job->width;
  window->width = job->width;
  if (!job->marked)
    memset(window->bits, 0, (size_t)(window->width / WORD) * sizeof *window->bits);
  for (int64_t p = 0; p < lists->count; p++) {
    from[p] = seek(indices, to[p], lists->offsets[p + 1], window->base);
    to[p] = seek(indices, from[p], lists->offsets[p + 1], window->base + window->width);
    if (job->marked)
      set_marks(window, indices + from[p], to[p] - from[p]);
    else
      set_bits(window, indices + from[p], to[p] - from[p]);
  }
  if (job->marked)
    gather_marks(window);
  int64_t count = ACTIVE_ISA(count_bits)(window);
  wait_turn(&job->appender, task);
  int64_t offset = job->appender.offset;
  job->appender.offset += count;
  pass_turn(&job->appender, task);
  for (int64_t i = offset; i < offset + count; i++)
    job->out->values[i] = -0.0f; /* -0.0 + v is v, for v = 0.0 and -0.0 too */
  for (int64_t p = 0; p < lists->count; p++)
    ACTIVE_ISA(add_entries)
  (window, indices + from[p], lists->all.values + from[p], to[p] - from[p], job->out->indices + offset,
   job->out->values + offset);
}

static void merge_worker(void *context) {
  struct job *job = context;
  int64_t from[MAX_LISTS], to[MAX_LISTS];
  struct window window;
  memset(window.marks, 0, sizeof window.marks);
  memcpy(to, job->lists->offsets, (size_t)job->lists->count * sizeof *to);
  if (!check_lists(job))
    return;
  for (int64_t task; (task = take_task(&job->windows)) >= 0;)
    merge_window(job, &window, task, from, to);
}

/* ---- all of it ---- */

static void find_range(struct job *job) {
  const struct lists *lists = job->lists;
  job->low = INT64_MAX;
  job->high = 0;
  for (int64_t p = 0; p < lists->count; p++)
    if (lists->offsets[p] < lists->offsets[p + 1]) {
      job->low = min64(job->low, lists->all.indices[lists->offsets[p]]);
      job->high = max64(job->high, (int64_t)lists->all.indices[lists->offsets[p + 1] - 1] + 1);
    }
  job->low = min64(job->low, job->high);
}

/* Windows of a power of two, so wide that each holds WANTED entries if those are spread evenly. */
static void cut_windows(struct job *job) {
  int64_t range = job->high - job->low, total = job->lists->all.count;
  job->marked = range < total * MARKED;
  job->width = 4 * WORD;
  while (job->width < (job->marked ? WIDEST_MARKED : WIDEST) && job->width * total < range * WANTED)
    job->width *= 2;
  job->windows.count = (range + job->width - 1) / job->width;
}

struct merge_outcome merge_sorted(const struct lists *lists, const struct merged *out, int threads) {
  struct job job = {.lists = lists, .out = out};
  int64_t total = lists->all.count;
  find_range(&job); /* nonsense if the lists do not ascend, which is found before it is used */
  int64_t range = job.high - job.low;
  struct merge_outcome outcome = {.count = -1, .disorder = -1, .needed = min64(total, range)};
  bool thin = range > total * THIN, sane = job.low >= 0 && range > 0 && outcome.needed <= out->room;
  if (thin || !sane) {
    outcome.disorder = find_disorder(lists);
    if (outcome.disorder < 0 && outcome.needed <= out->room)
      outcome.count = merge_thin(lists, out);
    return outcome;
  }
  cut_windows(&job);
  job.checks.count = (total + CHECK - 1) / CHECK;
  run_workers(merge_worker, &job, useful_threads(total, USEFUL, threads));
  if (job.disorder)
    outcome.disorder = find_disorder(lists);
  else
    outcome.count = job.appender.offset;
  return outcome;
}
