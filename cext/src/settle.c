/* Settling on a threshold among collected entries, or on the largest of them, in place: every thread checks and packs
 * parts of the list where they lie, then the parts are moved together. Most entries stay, as a rule, and so they move
 * by little. */
#include "collect.h"
#include "histogram.h"
#include "parallel.h"

enum { ENTRIES = 1 << 19 }; /* that are worth another thread */

struct job {
  const struct kernels *kernels;
  const struct payload *list;
  float *residual;
  const struct bf16 *bf16;
  int64_t n, count, part;
  int32_t key, key_after, zero_key; /* entries stay above key, and above key_after */
  int64_t cut;                      /* from this one on */
  struct tasks checks, parts, arrays;
  _Atomic int64_t checked, settled;
  _Atomic bool outside;
  int64_t kept[MAX_THREADS];
};

static int64_t length_of(const struct job *job, int64_t part) {
  return min64(job->part, job->count - part * job->part);
}

/* Packs entries [at, end), all before the cut or behind it, to those of a part that stay already. */
static void settle_piece(const struct job *job, int64_t at, int64_t end, int32_t key, struct packing *stay) {
  const int32_t *const indices = job->list->indices + at;
  const float *const values = job->list->values + at;
  stay->key = key;
  if (job->bf16)
    bf16_mend(job->bf16, indices, values, end - at, key, job->zero_key);
  job->kernels->pack_entries(indices, values, end - at, job->residual, stay);
}

static int64_t settle_part(const struct job *job, int64_t at, int64_t end) {
  const int64_t cut = max64(at, min64(end, job->cut));
  struct packing stay = {.zero_key = job->zero_key,
                         .indices = job->list->indices + at,
                         .values = job->list->values + at,
                         .room = end - at};
  settle_piece(job, at, cut, job->key, &stay);
  settle_piece(job, cut, end, job->key_after, &stay);
  return stay.packed;
}

/* Numbers of four bytes: those of every part behind those of the parts before. */
static void move_together(const struct job *job, char *array) {
  int64_t kept = job->kept[0] * 4;
  for (int64_t p = 1; p < job->parts.count; kept += job->kept[p++] * 4)
    memmove(array + kept, array + p * job->part * 4, (size_t)job->kept[p] * 4);
}

static void settle_worker(void *context) {
  struct job *job = context;
  for (int64_t p; (p = take_task(&job->checks)) >= 0; atomic_fetch_add(&job->checked, 1))
    if (!job->kernels->within(job->list->indices + p * job->part, length_of(job, p), job->n))
      job->outside = true;
  wait_until(&job->checked, job->checks.count);
  if (job->outside)
    return;
  for (int64_t p; (p = take_task(&job->parts)) >= 0; atomic_fetch_add(&job->settled, 1))
    job->kept[p] = settle_part(job, p * job->part, p * job->part + length_of(job, p));
  wait_until(&job->settled, job->parts.count);
  for (int64_t a; (a = take_task(&job->arrays)) >= 0;)
    move_together(job, a ? (char *)job->list->values : (char *)job->list->indices);
}

static int64_t settle_from(struct job job, bool checked, int threads) {
  const int64_t count = job.count;
  const int parts = useful_threads(count, ENTRIES, threads);
  job.part = (count + parts - 1) / parts;
  job.parts.count = count ? (count + job.part - 1) / job.part : 0;
  job.checks.count = checked ? 0 : job.parts.count;
  job.arrays.count = job.parts.count > 1 ? 2 : 0;
  run_workers(settle_worker, &job, parts);
  if (job.outside)
    return -1;
  int64_t kept = 0;
  for (int64_t p = 0; p < job.parts.count; p++)
    kept += job.kept[p];
  return kept;
}

int64_t settle(const struct payload *entries, int64_t count, float *residual, const struct bf16 *bf16, int64_t n,
               int32_t key, int32_t zero_key, bool checked, int threads) {
  const struct job job = {.kernels = active_kernels(),
                          .list = entries,
                          .residual = residual,
                          .bf16 = bf16,
                          .n = n,
                          .count = count,
                          .key = key,
                          .zero_key = zero_key,
                          .cut = count};
  return settle_from(job, checked, threads);
}

int64_t settle_topk(const struct payload *entries, int64_t count, float *residual, const struct bf16 *bf16, int64_t n,
                    int64_t k, int32_t zero_key, int threads) {
  struct bins bins;
  if (k == 0)
    return settle(entries, count, residual, bf16, n, INT32_MAX, zero_key, false, threads);
  struct border border = find_border(NULL, entries->values, count, k, &bins, threads);
  const struct job job = {
      .kernels = active_kernels(),
      .list = entries,
      .residual = residual,
      .bf16 = bf16,
      .n = n,
      .count = count,
      .key = border.key - 1,
      .key_after = border.key,
      .zero_key = zero_key,
      .cut = border.due == border.ties ? count : position_after(entries->values, count, border.key, &border.due)};
  return settle_from(job, false, threads);
}
