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
  int sums;
  double threshold;
  int32_t limit;
  struct tasks chunks;
  struct moment_lanes moments[CHUNKS];
  struct tail_lanes tails[CHUNKS];
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

void clear_moments(struct moment_lanes *lanes) {
  *lanes = (struct moment_lanes){.exponent = 0};
  for (int l = 0; l < LANES; l++)
    lanes->mantissa[l] = 1.0;
}

void add_moments(struct moments_total *total, const struct moment_lanes *lanes) {
  double product = 1.0;
  for (int l = 0; l < LANES; l++)
    product *= lanes->mantissa[l];
  total->sums.nonzero += lanes->nonzero;
  total->sums.sum += sum_lanes(lanes->sum);
  total->sums.sum_abs += sum_lanes(lanes->sum_abs);
  total->sums.sum_squares += sum_lanes(lanes->sum_squares);
  total->sums.sum_log += (double)lanes->exponent * LN2 + log(product);
  total->max_key = lanes->max_key > total->max_key ? lanes->max_key : total->max_key;
}

struct moments finish_moments(const struct moments_total *total) {
  struct moments sums = total->sums;
  float max_abs;
  memcpy(&max_abs, &total->max_key, sizeof max_abs);
  sums.max_abs = (double)max_abs;
  if (total->max_key > KEY_INFINITY)
    sums.sum_abs = sums.sum_squares = sums.sum_log = sums.max_abs = (double)NAN;
  else if (total->max_key == KEY_INFINITY)
    sums.sum_log = (double)INFINITY;
  if (total->max_key >= KEY_INFINITY)
    sums.sum = (double)NAN;
  return sums;
}

void add_tail(struct tail_sums *total, const struct tail_lanes *lanes) {
  total->count += lanes->count;
  total->sum += sum_lanes(lanes->sum);
  total->sum_squares += sum_lanes(lanes->sum_squares);
}

/* Only the sums that are asked for. Nothing is packed, but whole registers may be noted; and what is only read is swept
 * in a copy, so that the same numbers have the same sums. */
static void sweep_chunk(const struct job *job, int64_t start, int64_t length, struct moment_lanes *lanes) {
  static const float zeros[SWEPT];
  float copy[SWEPT];
  int32_t indices[WORD];
  float values[WORD];
  struct packing nothing = {
      .key = INT32_MAX, .zero_key = INT32_MAX, .amount = FEW, .indices = indices, .values = values, .room = WORD};
  struct sweep sweep = {.pack = &nothing, .moments = lanes, .sums = job->sums};
  for (int64_t at = start; at < start + length; at += SWEPT) {
    const int64_t piece = min64(SWEPT, start + length - at);
    if (!job->gradient)
      memcpy(copy, job->x + at, (size_t)piece * sizeof *copy);
    job->kernels->sweep(job->gradient ? job->gradient + at : zeros, job->gradient ? job->x + at : copy, piece, &sweep);
  }
}

static void moments_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t start = c * job->chunk, length = min64(job->chunk, job->n - start);
    clear_moments(&job->moments[c]);
    if (job->sums != SUM_ALL)
      sweep_chunk(job, start, length, &job->moments[c]);
    else if (job->gradient)
      job->kernels->moments_feedback(job->gradient + start, job->x + start, length, &job->moments[c]);
    else
      job->kernels->moments(job->x + start, length, &job->moments[c]);
  }
}

struct moments compute_moments(const float *gradient, float *x, int64_t n, int sums, int threads) {
  struct job job = {.kernels = active_kernels(), .gradient = gradient, .x = x, .n = n, .sums = sums};
  struct moments_total total = {.max_key = 0};
  cut_in_chunks(&job);
  run_workers(moments_worker, &job, useful_threads(n, 2 * TILE, threads));
  for (int64_t c = 0; c < job.chunks.count; c++)
    add_moments(&total, &job.moments[c]);
  if (isinf(total.sums.sum_abs) && total.max_key < KEY_INFINITY) /* a few are added up in float, where they overflow */
    return compute_moments(NULL, x, n, SUM_ALL, threads);
  return finish_moments(&total);
}

static void tail_worker(void *context) {
  struct job *job = context;
  int32_t key = threshold_key(job->threshold);
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t start = c * job->chunk, length = min64(job->chunk, job->n - start);
    job->kernels->tail(job->x + start, length, job->threshold, key, job->limit, &job->tails[c]);
  }
}

void join_tails(struct tail_sums *total, const struct tail_sums *part) {
  total->count += part->count;
  total->sum += part->sum;
  total->sum_squares += part->sum_squares;
}

void move_tail(struct tail_sums *tail, double by) {
  if (tail->count == 0) /* `by` may be infinite */
    return;
  tail->sum_squares += by * (2 * tail->sum + (double)tail->count * by);
  tail->sum += (double)tail->count * by;
}

struct tail_sums compute_tail(const float *x, int64_t n, double threshold, int32_t limit, int threads) {
  struct job job = {.kernels = active_kernels(), .x = (float *)(uintptr_t)x, .n = n, .threshold = threshold};
  job.limit = limit;
  cut_in_chunks(&job);
  run_workers(tail_worker, &job, useful_threads(n, 2 * TILE, threads));
  struct tail_sums total = {0};
  for (int64_t c = 0; c < job.chunks.count; c++)
    add_tail(&total, &job.tails[c]);
  return total;
}

void group_moments(const float *x, int64_t n, int64_t groups, struct moments *sums) {
  const int64_t each = n / groups;
  for (int64_t g = 0; g < groups; g++) {
    struct moment_lanes lanes;
    struct moments_total total = {.max_key = 0};
    clear_moments(&lanes);
    active_kernels()->moments(x + g * each, each, &lanes);
    add_moments(&total, &lanes);
    sums[g] = finish_moments(&total);
  }
}

void group_tails(const float *x, int64_t n, int64_t groups, double threshold, struct tail_sums *sums) {
  const int64_t each = n / groups;
  for (int64_t g = 0; g < groups; g++) {
    struct tail_lanes lanes = {.count = 0};
    active_kernels()->tail(x + g * each, each, threshold, threshold_key(threshold), INT32_MAX, &lanes);
    sums[g] = (struct tail_sums){.count = 0};
    add_tail(&sums[g], &lanes);
  }
}
