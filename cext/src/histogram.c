/* The k-th largest key by three histograms over its bits: 11, 10 and 10 of them. The cost does not depend on the data.
 */
#include "histogram.h"
#include "parallel.h"

enum {
  LEVELS = 3,
  CHUNK = 4 * TILE, /* elements that a thread counts before it adds its counts to the shared ones */
  PIECE = TILE / 4, /* elements that are added, then counted from the cache */
};

static const int level_shift[LEVELS] = {20, 10, 0};
static const int level_bins[LEVELS] = {2048, 1024, 1024};

struct job {
  const struct kernels *kernels;
  const float *gradient; /* added in the first level only */
  float *x;
  int64_t n;
  int level;
  int32_t prefix; /* the key's bits above those of this level */
  struct bins *shared;
  struct tasks chunks;
};

static void count_first(const float *x, int64_t n, uint32_t bins[2][BINS]) {
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) { /* two tables: neighbours often share a bin, and would wait for each other */
    bins[0][key_of(x[i]) >> 20]++;
    bins[1][key_of(x[i + 1]) >> 20]++;
  }
  if (i < n)
    bins[0][key_of(x[i]) >> 20]++;
}

static void count_within(const float *x, int64_t n, const struct job *job, uint32_t *bins) {
  int shift = level_shift[job->level], above = level_shift[job->level - 1];
  for (int64_t i = 0; i < n; i++) {
    int32_t key = key_of(x[i]);
    if (key >> above == job->prefix)
      bins[key >> shift & (level_bins[job->level] - 1)]++;
  }
}

static void histogram_worker(void *context) {
  struct job *job = context;
  uint32_t bins[2][BINS];
  for (int64_t chunk; (chunk = take_task(&job->chunks)) >= 0;) {
    int64_t start = chunk * CHUNK, end = min64(job->n, start + CHUNK);
    memset(bins, 0, sizeof bins);
    for (int64_t at = start; at < end; at += PIECE) { /* added, then counted from the cache */
      int64_t length = min64(PIECE, end - at);
      if (job->level == 0 && job->gradient)
        job->kernels->add(job->gradient + at, job->x + at, length);
      if (job->level == 0)
        count_first(job->x + at, length, bins);
      else
        count_within(job->x + at, length, job, bins[0]);
    }
    for (int b = 0; b < level_bins[job->level]; b++)
      if (bins[0][b] + bins[1][b])
        atomic_fetch_add_explicit(&job->shared->count[b], bins[0][b] + bins[1][b], memory_order_relaxed);
  }
}

/* The bin that holds the `wanted`-th largest; *wanted becomes its rank inside the bin. */
static int32_t find_bin(const struct bins *shared, int level, int64_t *wanted) {
  int bin = level_bins[level] - 1;
  for (; bin > 0 && (int64_t)shared->count[bin] < *wanted; bin--)
    *wanted -= shared->count[bin];
  return bin;
}

struct border find_border(const float *gradient, float *x, int64_t n, int64_t k, struct bins *bins, int threads) {
  struct job job = {.kernels = active_kernels(), .gradient = gradient, .x = x, .n = n, .shared = bins};
  struct border border = {.due = k};
  for (job.level = 0; job.level < LEVELS; job.level++) {
    memset(bins, 0, sizeof *bins);
    job.chunks = (struct tasks){.count = (n + CHUNK - 1) / CHUNK};
    run_workers(histogram_worker, &job, useful_threads(n, CHUNK, threads));
    int32_t bin = find_bin(bins, job.level, &border.due);
    border.ties = bins->count[bin];
    job.prefix = job.prefix << (job.level ? 10 : 0) | bin;
  }
  border.key = job.prefix;
  return border;
}

/* Narrows [low, high] to the bin of 2^shift keys that holds the due-th largest, and the keys to those inside. */
static int64_t narrow(const int32_t *keys, int64_t n, int32_t *low, int shift, int64_t *due, int32_t *inside) {
  uint32_t count[4][BINS] = {{0}}; /* four tables: increments of one bin would wait for each other */
  int64_t whole = n / 4 * 4;
  for (int64_t i = 0; i < whole; i += 4)
    for (int table = 0; table < 4; table++)
      count[table][(keys[i + table] - *low) >> shift]++;
  for (int64_t i = whole; i < n; i++)
    count[0][(keys[i] - *low) >> shift]++;
  int bin = BINS - 1;
  for (int64_t in_bin; bin > 0; bin--, *due -= in_bin)
    if ((in_bin = count[0][bin] + (int64_t)count[1][bin] + count[2][bin] + count[3][bin]) >= *due)
      break;
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++) { /* written always, kept if inside: no branch */
    int32_t key = keys[i];
    inside[kept] = key;
    kept += (key - *low) >> shift == bin;
  }
  *low += bin << shift;
  return kept;
}

struct border find_border_of_keys(const int32_t *keys, int64_t n, int64_t k, int32_t low, int32_t high,
                                  int32_t *scratch) {
  struct border border = {.due = k};
  int shift = 0;
  while ((high - low) >> shift >= BINS)
    shift++;
  for (;; shift = shift > 11 ? shift - 11 : 0) {
    n = narrow(keys, n, &low, shift, &border.due, scratch);
    keys = scratch;
    if (shift == 0)
      break;
  }
  border.key = low;
  border.ties = n;
  return border;
}
