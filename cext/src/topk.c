/* Exact top-k: the k-th largest key is found by three histograms over its bits (11, 10 and 10 of them), then one
 * selection pass writes what lies above it and as many ties as are due. Its cost does not depend on the data. */
#include "topk.h"
#include "parallel.h"

enum {
  BINS = 2048,
  LEVELS = 3,
  CHUNK = 4 * TILE, /* elements that a thread counts before it adds its counts to the shared ones */
  ALIGNMENT = 64,
};

static const int level_shift[LEVELS] = {20, 10, 0};
static const int level_bins[LEVELS] = {2048, 1024, 1024};

struct workspace {
  _Atomic uint32_t bins[BINS];
};

struct job {
  const struct kernels *kernels;
  const float *gradient; /* added in the first level only */
  float *x;
  int64_t n;
  int level;
  int32_t prefix; /* the key's bits above those of this level */
  struct workspace *shared;
  struct tasks chunks;
};

int64_t topk_workspace_bytes(int64_t n, int64_t k) {
  (void)n, (void)k;
  return (int64_t)sizeof(struct workspace) + ALIGNMENT;
}

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
    for (int64_t at = start; at < end; at += TILE / 4) { /* added, then counted from the cache */
      int64_t length = min64(TILE / 4, end - at);
      if (job->level == 0 && job->gradient)
        job->kernels->add(job->gradient + at, job->x + at, length);
      if (job->level == 0)
        count_first(job->x + at, length, bins);
      else
        count_within(job->x + at, length, job, bins[0]);
    }
    for (int b = 0; b < level_bins[job->level]; b++)
      if (bins[0][b] + bins[1][b])
        atomic_fetch_add_explicit(&job->shared->bins[b], bins[0][b] + bins[1][b], memory_order_relaxed);
  }
}

/* The bin that holds the `wanted`-th largest; *wanted becomes its rank inside the bin. */
static int32_t find_bin(const struct workspace *shared, int level, int64_t *wanted) {
  int bin = level_bins[level] - 1;
  for (; bin > 0 && (int64_t)shared->bins[bin] < *wanted; bin--)
    *wanted -= shared->bins[bin];
  return bin;
}

/* The position just behind the `wanted`-th element whose key is `key`. */
static int64_t position_after(const float *x, int64_t n, int32_t key, int64_t wanted) {
  for (int64_t i = 0; i < n; i++)
    if (key_of(x[i]) == key && --wanted == 0)
      return i + 1;
  return n;
}

int64_t topk(const float *gradient, float *x, int64_t n, int64_t k, const struct payload *payload, void *workspace,
             int threads) {
  struct job job = {.kernels = active_kernels(), .gradient = gradient, .x = x, .n = n};
  if (k == 0) {
    if (gradient)
      job.kernels->add(gradient, x, n);
    return 0;
  }
  job.shared = (struct workspace *)(((uintptr_t)workspace + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
  int64_t wanted = k, ties = 0;
  for (job.level = 0; job.level < LEVELS; job.level++) {
    memset(job.shared, 0, sizeof *job.shared);
    job.chunks = (struct tasks){.count = (n + CHUNK - 1) / CHUNK};
    run_workers(histogram_worker, &job, useful_threads(n, CHUNK, threads));
    int32_t bin = find_bin(job.shared, job.level, &wanted);
    ties = job.shared->bins[bin];
    job.prefix = job.prefix << (job.level ? 10 : 0) | bin;
  }
  struct selection selection = plain_selection(NULL, x, n, job.prefix - 1);
  selection.zero = gradient != NULL;
  selection.key_after = job.prefix;
  selection.cut = wanted == ties ? n : position_after(x, n, job.prefix, wanted);
  return run_selection(&selection, payload, threads);
}
