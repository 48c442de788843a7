/* Every other kernel is measured against reading and adding. */
#include "passes.h"
#include "parallel.h"

enum { CHUNK = 4 * TILE };

struct job {
  const struct kernels *kernels;
  const float *gradient;
  float *x, *out;
  float factor;
  int64_t n;
  struct tasks chunks;
  int32_t key;
  _Atomic int32_t max_key;
  _Atomic int64_t above;
};

static void max_worker(void *context) {
  struct job *job = context;
  int32_t mine = 0;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int32_t key = job->kernels->max_key(job->x + c * CHUNK, min64(CHUNK, job->n - c * CHUNK));
    mine = key > mine ? key : mine;
  }
  int32_t known = atomic_load(&job->max_key);
  while (mine > known && !atomic_compare_exchange_weak(&job->max_key, &known, mine))
    continue;
}

double max_abs(const float *x, int64_t n, int threads) {
  struct job job = {.kernels = active_kernels(), .x = (float *)(uintptr_t)x, .n = n};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(max_worker, &job, useful_threads(n, CHUNK, threads));
  int32_t key = job.max_key;
  float max;
  memcpy(&max, &key, sizeof max);
  return (double)max;
}

static void add_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    job->kernels->add(job->gradient + c * CHUNK, job->x + c * CHUNK, min64(CHUNK, job->n - c * CHUNK));
}

void add_vectors(const float *gradient, float *residual, int64_t n, int threads) {
  struct job job = {.kernels = active_kernels(), .gradient = gradient, .x = residual, .n = n};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(add_worker, &job, useful_threads(n, CHUNK, threads));
}

static void scale_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    job->kernels->scaled(job->x + c * CHUNK, min64(CHUNK, job->n - c * CHUNK), job->factor, job->out + c * CHUNK);
}

void scale_vector(const float *x, int64_t n, float factor, float *out, int threads) {
  struct job job = {.kernels = active_kernels(), .x = (float *)(uintptr_t)x, .out = out, .factor = factor, .n = n};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(scale_worker, &job, useful_threads(n, CHUNK, threads));
}

static void momentum_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    job->kernels->momentum(job->gradient + c * CHUNK, job->x + c * CHUNK, min64(CHUNK, job->n - c * CHUNK), job->factor,
                           job->out ? job->out + c * CHUNK : NULL);
}

void add_momentum(const float *gradient, float *velocity, int64_t n, float factor, float *taken, int threads) {
  struct job job = {
      .kernels = active_kernels(), .gradient = gradient, .x = velocity, .out = taken, .factor = factor, .n = n};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(momentum_worker, &job, useful_threads(n, CHUNK, threads));
}

static void count_worker(void *context) {
  struct job *job = context;
  int64_t mine = 0;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    mine += job->kernels->count_above(job->x + c * CHUNK, min64(CHUNK, job->n - c * CHUNK), job->key);
  atomic_fetch_add(&job->above, mine);
}

int64_t count_above(const float *x, int64_t n, int32_t key, int threads) {
  struct job job = {.kernels = active_kernels(), .x = (float *)(uintptr_t)x, .n = n, .key = key};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(count_worker, &job, useful_threads(n, CHUNK, threads));
  return job.above;
}
