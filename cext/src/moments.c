/* A vector is cut in at most 64 chunks, whatever the number of threads; each is summed in 16 lanes; lanes, then chunks,
 * are added in order. So threads and instruction sets cannot change a bit of the result. */
#include "moments.h"
#include "parallel.h"
#include "select.h"

#include <math.h>

enum { CHUNKS = 64, SMALLEST_CHUNK = 16384 };

static const double LN2 = 0.693147180559945309417232121458;

struct job {
  const struct kernels *kernels;
  const float *gradient;
  float *x;
  int64_t n, chunk;
  double threshold;
  struct tasks chunks;
  struct moments moments[CHUNKS];
  int32_t max_key[CHUNKS];
  struct tail_sums tails[CHUNKS];
};

static void cut_in_chunks(struct job *job) {
  int64_t even = (job->n + CHUNKS - 1) / CHUNKS;
  job->chunk = max64(SMALLEST_CHUNK, (even + LANES - 1) / LANES * LANES);
  job->chunks = (struct tasks){.count = (job->n + job->chunk - 1) / job->chunk};
}

static double sum_lanes(const double *lanes) {
  double sum = 0;
  for (int l = 0; l < LANES; l++)
    sum += lanes[l];
  return sum;
}

static void moments_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    struct moment_lanes lanes = {.exponent = 0};
    int64_t start = c * job->chunk, length = min64(job->chunk, job->n - start);
    for (int l = 0; l < LANES; l++)
      lanes.mantissa[l] = 1.0;
    if (job->gradient)
      job->kernels->moments_feedback(job->gradient + start, job->x + start, length, &lanes);
    else
      job->kernels->moments(job->x + start, length, &lanes);
    double product = 1.0;
    for (int l = 0; l < LANES; l++)
      product *= lanes.mantissa[l];
    job->moments[c] = (struct moments){.nonzero = lanes.nonzero,
                                       .sum_abs = sum_lanes(lanes.sum_abs),
                                       .sum_squares = sum_lanes(lanes.sum_squares),
                                       .sum_log = (double)lanes.exponent * LN2 + log(product)};
    job->max_key[c] = lanes.max_key;
  }
}

struct moments compute_moments(const float *gradient, float *x, int64_t n, int threads) {
  struct job job = {.kernels = active_kernels(), .gradient = gradient, .x = x, .n = n};
  cut_in_chunks(&job);
  run_workers(moments_worker, &job, useful_threads(n, 2 * TILE, threads));
  struct moments total = {0};
  int32_t max_key = 0;
  for (int64_t c = 0; c < job.chunks.count; c++) {
    total.nonzero += job.moments[c].nonzero;
    total.sum_abs += job.moments[c].sum_abs;
    total.sum_squares += job.moments[c].sum_squares;
    total.sum_log += job.moments[c].sum_log;
    max_key = job.max_key[c] > max_key ? job.max_key[c] : max_key;
  }
  float max_abs;
  memcpy(&max_abs, &max_key, sizeof max_abs);
  total.max_abs = (double)max_abs;
  if (max_key > KEY_INFINITY)
    total.sum_abs = total.sum_squares = total.sum_log = total.max_abs = (double)NAN;
  else if (max_key == KEY_INFINITY)
    total.sum_log = (double)INFINITY;
  return total;
}

static void tail_worker(void *context) {
  struct job *job = context;
  int32_t key = threshold_key(job->threshold);
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    struct tail_lanes lanes = {.count = 0};
    int64_t start = c * job->chunk, length = min64(job->chunk, job->n - start);
    job->kernels->tail(job->x + start, length, job->threshold, key, &lanes);
    job->tails[c] = (struct tail_sums){lanes.count, sum_lanes(lanes.sum), sum_lanes(lanes.sum_squares)};
  }
}

struct tail_sums compute_tail(const float *x, int64_t n, double threshold, int threads) {
  struct job job = {.kernels = active_kernels(), .x = (float *)(uintptr_t)x, .n = n, .threshold = threshold};
  cut_in_chunks(&job);
  run_workers(tail_worker, &job, useful_threads(n, 2 * TILE, threads));
  struct tail_sums total = {0};
  for (int64_t c = 0; c < job.chunks.count; c++) {
    total.count += job.tails[c].count;
    total.sum += job.tails[c].sum;
    total.sum_squares += job.tails[c].sum_squares;
  }
  return total;
}
