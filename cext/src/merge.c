/* Merging by ranks: the index range is cut into windows. In each, a bit is set at every index that occurs in any list;
 * the number of bits before an index is its entry's place in the output, where the values are added list after list. No
 * entry is compared with another, nothing is sorted. Threads take windows in turn; a window's count is known before
 * anything of it is written, so each writes straight to its place. Lists close together are added up in the window
 * itself (merge_close.c): no entry is looked at twice. Few entries among many places are merged two by two
 * (merge_few.c), those of very many lists by windows that jump (merge_thin.c), a part of the range a task, and parts
 * are moved together. */
#include "merge.h"
#include "isa_each.h"
#include "merge_close.h"
#include "merge_few.h"
#include "merge_thin.h"
#include "parallel.h"

enum {
  WIDEST = 262144, /* indices a window: its bits fill the L1 cache */
  WIDEST_WORDS = WIDEST / WORD,
  WANTED = 4096,   /* entries a window, if it can be so wide */
  CHECK = 65536,   /* entries a task of the check */
  THIN = 40,       /* indices an entry and level of merging two by two, beyond which lists are thin: measured, */
  THIN_MANY = 200, /* and beyond so many for lists that merge_thin takes */
  PARTS = 4,       /* of the range, a thread: what the first to be done takes on */
  CLOSE = 4,       /* indices an entry up to which a window is added up densely */
  USEFUL = 16384,  /* entries that are worth waking a thread for */
};

struct window {
  int64_t base, width;          /* the indices base .. base+width-1 */
  uint64_t bits[WIDEST_WORDS];  /* one an index */
  int32_t before[WIDEST_WORDS]; /* bits in the words before */
};

union thin {
  struct few_window few;
  struct thin_window jump;
};

struct job {
  const struct lists *lists;
  const struct merged *out;
  int64_t low, high, width; /* of the indices; of a window */
  bool close, thin, few;
  struct {
    int64_t at, count;
  } part[PARTS * MAX_THREADS]; /* of the thin: where in the output, how many */
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

/* Whether any of the indices [first, end) is below the one before. */
#define DESCENTS(isa, target)                                                                                          \
  target static int32_t descents_##isa(const int32_t *indices, int64_t first, int64_t end) {                           \
    int32_t wrong = 0;                                                                                                 \
    for (int64_t i = first; i < end; i++)                                                                              \
      wrong |= indices[i] < indices[i - 1];                                                                            \
    return wrong;                                                                                                      \
  }

FOR_EACH_ISA(DESCENTS)

/* Whether entries [start, end) descend somewhere, the beginning of a list excepted; one task of the check. */
static bool descends(const struct lists *lists, int64_t start, int64_t end) {
  const int32_t *indices = lists->all.indices;
  int64_t p = 0;
  while (lists->offsets[p + 1] <= start)
    p++;
  for (int64_t i = start; i < end; p++) {
    int64_t stop = min64(end, lists->offsets[p + 1]);
    int32_t wrong = i == lists->offsets[p] && i < stop && indices[i] < 0;
    wrong |= ACTIVE_ISA(descents)(indices, max64(i, lists->offsets[p] + 1), stop);
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
  wait_until(&job->checked, job->checks.count);
  return job->disorder == 0;
}

/* ---- one window ---- */

/* Sets the bit of each of the entries. */
static void set_bits(struct window *window, const int32_t *indices, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t place = (uint32_t)(indices[i] - (int32_t)window->base);
    window->bits[place / WORD] |= UINT64_C(1) << (place % WORD);
  }
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

/* The entries [from[p], to[p]) of each list are the window's next. */
static void find_entries(const struct job *job, int64_t base, int64_t *from, int64_t *to) {
  const struct lists *lists = job->lists;
  for (int64_t p = 0; p < lists->count; p++) {
    from[p] = seek_index(lists->all.indices, to[p], lists->offsets[p + 1], base);
    to[p] = seek_index(lists->all.indices, from[p], lists->offsets[p + 1], base + job->width);
  }
}

/* Where the task's `count` entries go: behind those of all tasks before it. */
static int64_t take_room(struct job *job, int64_t task, int64_t count) {
  wait_turn(&job->appender, task);
  int64_t offset = job->appender.offset;
  job->appender.offset += count;
  pass_turn(&job->appender, task);
  return offset;
}

static void merge_by_ranks(struct job *job, struct window *window, int64_t task, int64_t *from, int64_t *to) {
  const struct entries *all = &job->lists->all;
  window->base = job->low + task * job->width;
  window->width = job->width;
  memset(window->bits, 0, (size_t)(window->width / WORD) * sizeof *window->bits);
  find_entries(job, window->base, from, to);
  for (int64_t p = 0; p < job->lists->count; p++)
    set_bits(window, all->indices + from[p], to[p] - from[p]);
  int64_t count = ACTIVE_ISA(count_bits)(window), offset = take_room(job, task, count);
  int32_t *indices = job->out->indices + offset;
  float *values = job->out->values + offset;
  for (int64_t i = 0; i < count; i++)
    values[i] = -0.0f; /* -0.0 + v is v, for v = 0.0 and -0.0 too */
  for (int64_t p = 0; p < job->lists->count; p++)
    ACTIVE_ISA(add_entries)
  (window, all->indices + from[p], all->values + from[p], to[p] - from[p], indices, values);
}

static void merge_close(struct job *job, struct close_window *window, int64_t task, int64_t *from, int64_t *to) {
  const struct entries *all = &job->lists->all;
  const int64_t base = job->low + task * job->width;
  find_entries(job, base, from, to);
  for (int64_t p = 0; p < job->lists->count; p++)
    add_close(window, (int32_t)base, all->indices + from[p], all->values + from[p], to[p] - from[p]);
  int64_t count = count_close(window), offset = take_room(job, task, count);
  drain_close(window, (int32_t)base, count, job->out->indices + offset, job->out->values + offset);
}

/* Into the room that its entries would need if no index occurred twice. */
static void merge_part(struct job *job, union thin *window, int64_t task, int64_t *from, int64_t *to) {
  int64_t at = 0;
  find_entries(job, job->low + task * job->width, from, to);
  for (int64_t p = 0; p < job->lists->count; p++)
    at += from[p] - job->lists->offsets[p];
  job->part[task].at = at;
  int32_t *const indices = job->out->indices + at;
  float *const values = job->out->values + at;
  job->part[task].count = job->few ? merge_few(&window->few, job->lists, from, to, indices, values)
                                   : merge_thin(&window->jump, job->lists, from, to, indices, values);
}

/* Moves the parts together; returns the number of all entries. */
static int64_t join_parts(const struct job *job) {
  const struct merged *out = job->out;
  int64_t total = 0;
  for (int64_t task = 0; task < job->windows.count; task++) {
    const int64_t at = job->part[task].at, count = job->part[task].count;
    memmove(out->indices + total, out->indices + at, (size_t)count * sizeof *out->indices);
    memmove(out->values + total, out->values + at, (size_t)count * sizeof *out->values);
    total += count;
  }
  return total;
}

static void merge_worker(void *context) {
  struct job *job = context;
  int64_t from[MAX_LISTS], to[MAX_LISTS];
  union {
    struct window ranks;
    struct close_window close;
    union thin thin;
  } window;
  memcpy(to, job->lists->offsets, (size_t)job->lists->count * sizeof *to);
  if (!check_lists(job))
    return;
  if (job->close)
    clear_close(&window.close, job->high - job->low);
  if (job->thin && !job->few)
    clear_thin(&window.thin.jump);
  for (int64_t task; (task = take_task(&job->windows)) >= 0;)
    if (job->thin)
      merge_part(job, &window.thin, task, from, to);
    else if (job->close)
      merge_close(job, &window.close, task, from, to);
    else
      merge_by_ranks(job, &window.ranks, task, from, to);
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

/* Of merging lists two by two. */
static int64_t levels_of(int64_t lists) {
  int64_t levels = 1;
  while (INT64_C(1) << levels < lists)
    levels++;
  return levels;
}

/* Windows of a power of two, so wide that each holds WANTED entries if those are spread evenly; of thin lists, parts of
 * the range. */
static void cut_windows(struct job *job, int threads) {
  int64_t range = job->high - job->low, total = job->lists->all.count;
  const int64_t parts = threads > 1 ? PARTS * threads : 1;
  job->few = job->lists->count <= FEW_LISTS && total <= UINT32_MAX;
  job->thin = range > total * (job->few ? THIN * levels_of(job->lists->count) : THIN_MANY);
  job->close = range < total * CLOSE;
  job->width = job->thin ? (range + parts - 1) / parts : job->close ? CLOSE_WIDTH : 4 * WORD;
  while (!job->thin && !job->close && job->width < WIDEST && job->width * total < range * WANTED)
    job->width *= 2;
  job->windows.count = (range + job->width - 1) / job->width;
}

struct merge_outcome merge_sorted(const struct lists *lists, const struct merged *out, int threads) {
  struct job job = {.lists = lists, .out = out};
  int64_t total = lists->all.count;
  find_range(&job); /* nonsense if the lists do not ascend, which is found before it is used */
  int64_t range = job.high - job.low;
  struct merge_outcome outcome = {.count = -1, .disorder = -1, .needed = min64(total, range)};
  if (job.low < 0 || range <= 0 || outcome.needed > out->room) {
    outcome.disorder = find_disorder(lists);
    if (outcome.disorder < 0 && total == 0)
      outcome.count = 0;
    return outcome;
  }
  threads = useful_threads(total, USEFUL, threads);
  cut_windows(&job, threads);
  job.checks.count = (total + CHECK - 1) / CHECK;
  run_workers(merge_worker, &job, threads);
  if (job.disorder)
    outcome.disorder = find_disorder(lists);
  else
    outcome.count = job.thin ? join_parts(&job) : job.appender.offset;
  return outcome;
}
