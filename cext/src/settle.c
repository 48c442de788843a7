/* Settling on a threshold among collected entries, in place: every thread checks and packs parts of the list where they
 * lie, then the parts are moved together. Most entries stay, as a rule, and so they move by little. */
#include "collect.h"
#include "parallel.h"

enum { ENTRIES = 1 << 19 }; /* that are worth another thread */

struct job {
  const struct kernels *kernels;
  const struct payload *list;
  float *residual;
  const struct bf16 *bf16;
  int64_t n, count, part;
  int32_t key, zero_key;
  struct tasks checks, parts;
  _Atomic int64_t checked;
  _Atomic bool outside;
  int64_t kept[MAX_THREADS];
};

static int64_t length_of(const struct job *job, int64_t part) {
  return min64(job->part, job->count - part * job->part);
}

static void settle_worker(void *context) {
  struct job *job = context;
  for (int64_t p; (p = take_task(&job->checks)) >= 0; atomic_fetch_add(&job->checked, 1))
    if (!job->kernels->within(job->list->indices + p * job->part, length_of(job, p), job->n))
      job->outside = true;
  wait_until(&job->checked, job->checks.count);
  for (int64_t p; !job->outside && (p = take_task(&job->parts)) >= 0;) {
    int32_t *const indices = job->list->indices + p * job->part;
    float *const values = job->list->values + p * job->part;
    struct packing in_place = {
        .key = job->key, .zero_key = job->zero_key, .indices = indices, .values = values, .room = length_of(job, p)};
    if (job->bf16)
      bf16_mend(job->bf16, indices, values, in_place.room, job->key, job->zero_key);
    job->kernels->pack_entries(indices, values, in_place.room, job->residual, &in_place);
    job->kept[p] = in_place.packed;
  }
}

int64_t settle(const struct payload *entries, int64_t count, float *residual, const struct bf16 *bf16, int64_t n,
               int32_t key, int32_t zero_key, int threads) {
  const int parts = useful_threads(count, ENTRIES, threads);
  struct job job = {.kernels = active_kernels(),
                    .list = entries,
                    .residual = residual,
                    .bf16 = bf16,
                    .n = n,
                    .count = count,
                    .part = (count + parts - 1) / parts,
                    .key = key,
                    .zero_key = zero_key};
  job.checks.count = job.parts.count = count ? (count + job.part - 1) / job.part : 0;
  run_workers(settle_worker, &job, parts);
  if (job.outside)
    return -1;
  int64_t kept = 0;
  for (int64_t p = 0; p < job.parts.count; kept += job.kept[p++]) {
    memmove(entries->indices + kept, entries->indices + p * job.part, (size_t)job.kept[p] * sizeof(int32_t));
    memmove(entries->values + kept, entries->values + p * job.part, (size_t)job.kept[p] * sizeof(float));
  }
  return kept;
}
