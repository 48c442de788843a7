/* The listed places of a vector: checked, added to, cleared, written, gathered. */
#include "sparse.h"
#include "parallel.h"

enum { CHUNK = 32768 };

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

static void run(struct job *job, bool ascending, int threads) {
  job->chunks.count = (job->list->count + CHUNK - 1) / CHUNK;
  run_workers(list_worker, job, ascending ? useful_threads(job->list->count, CHUNK, threads) : 1);
}

static void scatter_some(const struct job *job, int64_t start, int64_t end) {
  if (job->scale == 1.0f)
    for (int64_t i = start; i < end; i++)
      job->x[job->list->indices[i]] += job->list->values[i];
  else
    for (int64_t i = start; i < end; i++)
      job->x[job->list->indices[i]] += job->scale * job->list->values[i];
}

static void zero_some(const struct job *job, int64_t start, int64_t end) {
  for (int64_t i = start; i < end; i++)
    job->x[job->list->indices[i]] = 0.0f;
}

static void put_some(const struct job *job, int64_t start, int64_t end) {
  for (int64_t i = start; i < end; i++)
    job->x[job->list->indices[i]] = job->list->values[i];
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
