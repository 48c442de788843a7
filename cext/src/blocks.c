#include "blocks.h"
#include "parallel.h"

enum { CHUNK = 4 * TILE, TAKEN = 8192 };

struct job {
  const struct kernels *kernels;
  const float *gradient;
  float *residual, *scores;
  int64_t n;
  struct tasks chunks;
};

static void scores_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t start = c * CHUNK, length = min64(CHUNK, job->n - start), whole = length / LANES * LANES;
    float *x = job->residual + start, *scores = job->scores + start / LANES;
    job->kernels->block_scores(job->gradient + start, x, whole / LANES, scores);
    if (whole == length)
      continue;
    float rest[LANES] = {0}, none[LANES] = {0};
    job->kernels->add(job->gradient + start + whole, x + whole, length - whole);
    memcpy(rest, x + whole, (size_t)(length - whole) * sizeof *rest);
    job->kernels->block_scores(none, rest, 1, scores + whole / LANES);
  }
}

void block_scores(const float *gradient, float *residual, int64_t n, float *scores, int threads) {
  struct job job = {.kernels = active_kernels(), .gradient = gradient, .residual = residual, .scores = scores, .n = n};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(scores_worker, &job, useful_threads(n, CHUNK, threads));
}

struct taking {
  float *residual, *values;
  int32_t *indices;
  const struct entries *blocks;
  int64_t n;
  struct tasks chunks;
};

/* Every block but the vector's last is whole, so block i of the list begins at entry 16 i. */
static void take_worker(void *context) {
  struct taking *job = context;
  const int32_t *list = job->blocks->indices;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(job->blocks->count, (c + 1) * TAKEN);
    for (int64_t i = c * TAKEN; i < end; i++) {
      int64_t start = (int64_t)list[i] * LANES, length = min64(LANES, job->n - start);
      __builtin_prefetch(job->residual + (int64_t)list[min64(i + 16, end - 1)] * LANES, 1);
      for (int64_t l = 0; l < length; l++)
        job->indices[i * LANES + l] = (int32_t)(start + l);
      memcpy(job->values + i * LANES, job->residual + start, (size_t)length * sizeof *job->values);
      memset(job->residual + start, 0, (size_t)length * sizeof *job->residual);
    }
  }
}

int64_t take_blocks(float *residual, int64_t n, const struct entries *blocks, int32_t *indices, float *values,
                    int threads) {
  struct taking job = {.residual = residual, .values = values, .indices = indices, .blocks = blocks, .n = n};
  job.chunks.count = (blocks->count + TAKEN - 1) / TAKEN;
  run_workers(take_worker, &job, useful_threads(blocks->count, TAKEN, threads));
  if (blocks->count == 0)
    return 0;
  return (blocks->count - 1) * LANES + min64(LANES, n - (int64_t)blocks->indices[blocks->count - 1] * LANES);
}
