#include "blocks.h"
#include "parallel.h"

enum { CHUNK = 4 * TILE };

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

int64_t take_blocks(float *residual, int64_t n, const struct entries *blocks, int32_t *indices, float *values) {
  int64_t taken = 0;
  for (int64_t i = 0; i < blocks->count; i++) {
    int64_t start = (int64_t)blocks->indices[i] * LANES, length = min64(LANES, n - start);
    for (int64_t l = 0; l < length; l++)
      indices[taken + l] = (int32_t)(start + l);
    memcpy(values + taken, residual + start, (size_t)length * sizeof *values);
    memset(residual + start, 0, (size_t)length * sizeof *residual);
    taken += length;
  }
  return taken;
}
