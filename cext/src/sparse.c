/* The listed places of a vector: checked, added to, cleared, written, gathered. */
#include "sparse.h"
#include "parallel.h"

enum {
  CHUNK = 8192,      /* entries a task */
  USEFUL = 32768,    /* entries that are worth waking a thread for, */
  USEFUL_FAR = 4096, /* fewer where most places are in no cache: */
  CACHED = 1 << 22,  /* places from the first to the last */
  SOON = 64,         /* entries ahead whose places are asked for */
};

int64_t find_bad_index(const struct entries *list, int64_t n, bool *strictly_ascending) {
  const struct kernels *kernels = active_kernels();
  if (strictly_ascending)
    *strictly_ascending = kernels->ascending(list->indices, list->count);
  if (kernels->within(list->indices, list->count, n))
    return -1;
  int64_t bad = 0;
  while ((int64_t)(uint32_t)list->indices[bad] < n)
    bad++;
  return bad;
}

struct job {
  float *x;
  const struct entries *list;
  float scale;
  void (*work)(const struct job *job, int64_t start, int64_t end); /* on these entries */
  struct tasks chunks;
};

static void list_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    job->work(job, c * CHUNK, min64(job->list->count, (c + 1) * CHUNK));
}

/* Repeated places, which only a list that does not ascend may hold, are one thread's. */
static void run(struct job *job, bool ascending, int threads) {
  const struct entries *list = job->list;
  const bool far = list->count && list->indices[list->count - 1] - list->indices[0] > CACHED;
  job->chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(list_worker, job, ascending ? useful_threads(list->count, far ? USEFUL_FAR : USEFUL, threads) : 1);
}

/* The place of entry i, once that of a later one is asked for. */
static inline float *place_of(const struct job *job, int64_t i, int64_t end) {
  const int32_t *indices = job->list->indices;
  __builtin_prefetch(job->x + indices[min64(i + SOON, end - 1)], 1);
  return job->x + indices[i];
}

static void scatter_some(const struct job *job, int64_t start, int64_t end) {
  if (job->scale == 1.0f)
    for (int64_t i = start; i < end; i++)
      *place_of(job, i, end) += job->list->values[i];
  else
    for (int64_t i = start; i < end; i++)
      *place_of(job, i, end) += job->scale * job->list->values[i];
}

static void zero_some(const struct job *job, int64_t start, int64_t end) {
  for (int64_t i = start; i < end; i++)
    *place_of(job, i, end) = 0.0f;
}

static void put_some(const struct job *job, int64_t start, int64_t end) {
  for (int64_t i = start; i < end; i++)
    *place_of(job, i, end) = job->list->values[i];
}

void scatter_add(float *out, const struct entries *list, float scale, bool ascending, int threads) {
  run(&(struct job){.x = out, .list = list, .scale = scale, .work = scatter_some}, ascending, threads);
}

void zero_at(float *x, const struct entries *list, bool ascending, int threads) {
  run(&(struct job){.x = x, .list = list, .work = zero_some}, ascending, threads);
}

void put(float *x, const struct entries *list, bool ascending, int threads) {
  run(&(struct job){.x = x, .list = list, .work = put_some}, ascending, threads);
}

void gather(const float *x, const struct entries *list, float *values) {
  for (int64_t i = 0; i < list->count; i++)
    values[i] = x[list->indices[i]];
}
