/* The listed places of a vector: checked, added to, cleared, gathered. */
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

struct scatter_job {
  float *out;
  const struct entries *list;
  float scale;
  struct tasks chunks;
};

static void scatter_worker(void *context) {
  struct scatter_job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(job->list->count, (c + 1) * CHUNK);
    if (job->scale == 1.0f)
      for (int64_t i = c * CHUNK; i < end; i++)
        job->out[job->list->indices[i]] += job->list->values[i];
    else
      for (int64_t i = c * CHUNK; i < end; i++)
        job->out[job->list->indices[i]] += job->scale * job->list->values[i];
  }
}

void scatter_add(float *out, const struct entries *list, float scale, bool ascending, int threads) {
  struct scatter_job job = {.out = out, .list = list, .scale = scale};
  job.chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(scatter_worker, &job, ascending ? useful_threads(list->count, CHUNK, threads) : 1);
}

static void zero_worker(void *context) {
  struct scatter_job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    for (int64_t i = c * CHUNK; i < min64(job->list->count, (c + 1) * CHUNK); i++)
      job->out[job->list->indices[i]] = 0.0f;
}

void zero_at(float *x, const struct entries *list, bool ascending, int threads) {
  struct scatter_job job = {.out = x, .list = list};
  job.chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(zero_worker, &job, ascending ? useful_threads(list->count, CHUNK, threads) : 1);
}

static void put_worker(void *context) {
  struct scatter_job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    for (int64_t i = c * CHUNK; i < min64(job->list->count, (c + 1) * CHUNK); i++)
      job->out[job->list->indices[i]] = job->list->values[i];
}

void put(float *x, const struct entries *list, bool ascending, int threads) {
  struct scatter_job job = {.out = x, .list = list};
  job.chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(put_worker, &job, ascending ? useful_threads(list->count, CHUNK, threads) : 1);
}

void gather(const float *x, const struct entries *list, float *values) {
  for (int64_t i = 0; i < list->count; i++)
    values[i] = x[list->indices[i]];
}
