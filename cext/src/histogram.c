/* The k-th largest key by three histograms over its bits: 11, 10 and 10 of them; of what caches hold, by halving where
 * registers compare. The cost does not depend on the data.
 */
#include "histogram.h"
#include "parallel.h"

#include <math.h>

enum {
  LEVELS = 3,
  TABLES = 4,
  WITHIN = 2048,
  CHUNK = 4 * TILE, /* elements that a thread counts before it adds its counts to the shared ones */
  PIECE = 16384,    /* elements that are added, then counted from the cache */
  FEW_KEYS = 4096,  /* so few are done before many bins are cleared */
  FEW_BINS = 256,
  MANY_KEYS = 16384, /* of which one in EVERY says between which two the border lies */
  EVERY = 64,
  HALVED = 32768, /* elements of a vector up to which halving is quicker than histograms */
  LEFT = 64,      /* elements that are done one by one */
  TIE_PIECE = 4096,
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

/* Several tables: neighbours often share a bin, and would wait for each other. */
static void count_first(const float *x, int64_t n, uint32_t bins[TABLES][BINS]) {
  int64_t i = 0;
  for (; i + TABLES <= n; i += TABLES)
    for (int t = 0; t < TABLES; t++)
      bins[t][key_of(x[i + t]) >> 20]++;
  for (; i < n; i++)
    bins[0][key_of(x[i]) >> 20]++;
}

/* What shares the bits above this level's is packed first: most often little, at the speed of memory. */
static void count_within(const float *x, int64_t n, const struct job *job, uint32_t bins[TABLES][BINS]) {
  int shift = level_shift[job->level], above = level_shift[job->level - 1];
  int32_t low = job->prefix << above, mask = level_bins[job->level] - 1;
  float found[WITHIN + LANES];
  for (int64_t at = 0; at < n; at += WITHIN) {
    int64_t count = job->kernels->pack_between(x + at, min64(WITHIN, n - at), low - 1, low + (1 << above) - 1, found);
    for (int64_t i = 0; i < count; i++)
      bins[i % TABLES][key_of(found[i]) >> shift & mask]++;
  }
}

static void histogram_worker(void *context) {
  struct job *job = context;
  uint32_t bins[TABLES][BINS];
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
        count_within(job->x + at, length, job, bins);
    }
    for (int b = 0; b < level_bins[job->level]; b++) {
      uint32_t sum = bins[0][b] + bins[1][b] + bins[2][b] + bins[3][b];
      if (sum)
        atomic_fetch_add_explicit(&job->shared->count[b], sum, memory_order_relaxed);
    }
  }
}

/* The bin that holds the `wanted`-th largest; *wanted becomes its rank inside the bin. */
static int32_t find_bin(const struct bins *shared, int level, int64_t *wanted) {
  int bin = level_bins[level] - 1;
  for (; bin > 0 && (int64_t)shared->count[bin] < *wanted; bin--)
    *wanted -= shared->count[bin];
  return bin;
}

/* Keeps the keys that share the bin of 2^shift keys, counted from low on, with the due-th largest. */
static int64_t narrow(const int32_t *keys, int64_t n, int32_t low, int shift, int bins, int64_t *due, int32_t *inside) {
  uint32_t count[TABLES][BINS]; /* increments of one bin would wait for each other */
  for (int table = 0; table < TABLES; table++)
    memset(count[table], 0, (size_t)bins * sizeof **count);
  int64_t whole = n / TABLES * TABLES;
  for (int64_t i = 0; i < whole; i += TABLES)
    for (int table = 0; table < TABLES; table++)
      count[table][(keys[i + table] - low) >> shift]++;
  for (int64_t i = whole; i < n; i++)
    count[0][(keys[i] - low) >> shift]++;
  int bin = bins - 1;
  for (int64_t in_bin; bin > 0; bin--, *due -= in_bin)
    if ((in_bin = count[0][bin] + (int64_t)count[1][bin] + count[2][bin] + count[3][bin]) >= *due)
      break;
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++) { /* written always, kept if inside: no branch */
    int32_t key = keys[i];
    inside[kept] = key;
    kept += (key - low) >> shift == bin;
  }
  return kept;
}

static struct border count_down(const int32_t *keys, int64_t n, int64_t k, int32_t *scratch) {
  const int bins = n < FEW_KEYS ? FEW_BINS : BINS;
  struct border border = {.due = k};
  for (;; keys = scratch) {
    int32_t low = INT32_MAX, high = 0;
    for (int64_t i = 0; i < n; i++) {
      low = keys[i] < low ? keys[i] : low;
      high = keys[i] > high ? keys[i] : high;
    }
    border.key = low;
    border.ties = n;
    if (low >= high)
      return border;
    int shift = 0;
    while ((high - low) >> shift >= bins)
      shift++;
    n = narrow(keys, n, low, shift, bins, &border.due, scratch);
  }
}

/* Whether a register compares many keys at once. */
static bool wide(void) { return active_kernels() != &kernels_serial; }

/* Halves the range of keys until few elements are left in it. */
static struct border halve(const float *x, int64_t n, int64_t k) {
  const struct kernels *kernels = active_kernels();
  int32_t low = -1, high = INT32_MAX; /* at least k lie above low, fewer above high */
  int64_t above_low = n, above_high = 0;
  while (above_low - above_high > LEFT && high - 1 > low) {
    const int32_t middle = low + (int32_t)(((uint32_t)high - (uint32_t)low) / 2);
    const int64_t above = kernels->count_above(x, n, middle);
    if (above < k)
      high = middle, above_high = above;
    else
      low = middle, above_low = above;
  }
  if (high - 1 == low)
    return (struct border){.key = high, .due = k - above_high, .ties = above_low - above_high};
  float found[LEFT + LANES];
  int32_t keys[LEFT], scratch[LEFT];
  const int64_t left = kernels->pack_between(x, n, low, high, found);
  for (int64_t i = 0; i < left; i++)
    keys[i] = key_of(found[i]);
  return count_down(keys, left, k - above_high, scratch);
}

struct border find_border(const float *gradient, float *x, int64_t n, int64_t k, struct bins *bins, int threads) {
  if (n <= HALVED && wide()) {
    if (gradient)
      active_kernels()->add(gradient, x, n);
    return halve(x, n, k);
  }
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

int64_t position_after(const float *x, int64_t n, int32_t key, int64_t *due) {
  const struct kernels *kernels = active_kernels();
  for (int64_t at = 0; at < n; at += TIE_PIECE) {
    int64_t end = min64(n, at + TIE_PIECE);
    int64_t ties = kernels->count_above(x + at, end - at, key - 1) - kernels->count_above(x + at, end - at, key);
    if (ties < *due) {
      *due -= ties;
      continue;
    }
    for (int64_t i = at; (i = kernels->find_key(x, i, end, key)) < end; i++)
      if (--*due == 0)
        return i + 1;
  }
  return n;
}

struct counting {
  const struct kernels *kernels;
  const float *gradient;
  float *x;
  int64_t n;
  int32_t key;
  _Atomic int64_t above, at_least;
  struct tasks chunks;
};

static void counting_worker(void *context) {
  struct counting *job = context;
  int64_t above = 0, at_least = 0;
  for (int64_t chunk; (chunk = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(job->n, (chunk + 1) * CHUNK);
    for (int64_t at = chunk * CHUNK; at < end; at += PIECE) { /* added, then counted from the cache */
      int64_t length = min64(PIECE, end - at);
      if (job->gradient)
        job->kernels->add(job->gradient + at, job->x + at, length);
      above += job->kernels->count_above(job->x + at, length, job->key);
      at_least += job->kernels->count_above(job->x + at, length, job->key - 1);
    }
  }
  atomic_fetch_add_explicit(&job->above, above, memory_order_relaxed);
  atomic_fetch_add_explicit(&job->at_least, at_least, memory_order_relaxed);
}

bool border_is(const float *gradient, float *x, int64_t n, int64_t k, int32_t key, struct border *border, int threads) {
  struct counting job = {.kernels = active_kernels(), .gradient = gradient, .x = x, .n = n, .key = key};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(counting_worker, &job, useful_threads(n, CHUNK, threads));
  *border = (struct border){.key = key, .due = k - job.above, .ties = job.at_least - job.above};
  return job.above < k && k <= job.at_least;
}

/* A key is a magnitude's bits. */
static struct border border_in_cache(const int32_t *keys, int64_t n, int64_t k, int32_t *scratch) {
  return wide() ? halve((const float *)keys, n, k) : count_down(keys, n, k, scratch);
}

/* Keeps the keys between two that a sample names, a register at a time, where counting goes key by key: the due-th
 * largest is among them as a rule. 0 if not. */
static int64_t narrow_by_sample(const int32_t *keys, int64_t n, int64_t *due, int32_t *scratch) {
  const struct kernels *kernels = active_kernels();
  const float *const magnitudes = (const float *)keys;
  const int64_t size = n / EVERY, rank = *due / EVERY, margin = 2 * (int64_t)sqrt((double)size) + 2;
  int32_t *const room = scratch + size;
  for (int64_t i = 0; i < size; i++)
    scratch[i] = keys[i * EVERY];
  const int32_t high = rank > margin ? border_in_cache(scratch, size, rank - margin, room).key : INT32_MAX;
  const int32_t low = rank + margin <= size ? border_in_cache(scratch, size, rank + margin, room).key - 1 : -1;
  const int64_t above = kernels->count_above(magnitudes, n, high);
  if (above >= *due)
    return 0;
  const int64_t kept = kernels->pack_between(magnitudes, n, low, high, (float *)scratch);
  if (above + kept < *due)
    return 0;
  *due -= above;
  return kept;
}

struct border find_border_of_keys(const int32_t *keys, int64_t n, int64_t k, int32_t *scratch) {
  int64_t due = k;
  const int64_t kept = n < MANY_KEYS ? 0 : narrow_by_sample(keys, n, &due, scratch);
  return kept ? border_in_cache(scratch, kept, due, scratch) : border_in_cache(keys, n, k, scratch);
}
