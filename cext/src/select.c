/* Threshold selection: each tile is marked (one pass over memory), takes its place in the output, and is written from
 * the cache in index order. */
#include "select.h"
#include "parallel.h"

#include <float.h>
#include <math.h>

struct job {
  const struct kernels *kernels;
  const struct selection *selection;
  const struct payload *payload;
  struct tasks tiles;
  struct appender appender;
};

int32_t threshold_key(double threshold) {
  if (threshold < 0)
    return -1; /* everything, zeros too */
  if (threshold > FLT_MAX)
    return isinf(threshold) ? KEY_INFINITY : key_of(FLT_MAX);
  float nearest = (float)threshold;
  return key_of((double)nearest > threshold ? nextafterf(nearest, -1.0f) : nearest);
}

/* Removes the marks from `cut` on that are not above the higher key: ties beyond the last one taken. */
static void cut_ties(const float *x, int64_t cut, int32_t key_after, struct marks *marks) {
  for (int32_t w = 0; w < marks->words; w++) {
    int64_t at = marks->word[w] * WORD;
    for (uint64_t rest = at + WORD > cut ? marks->mask[w] : 0; rest; rest &= rest - 1) {
      int i = __builtin_ctzll(rest);
      if (at + i >= cut && key_of(x[at + i]) <= key_after) {
        marks->mask[w] &= ~(UINT64_C(1) << i);
        marks->count--;
      }
    }
  }
}

static void mark_tile(const struct job *job, int64_t start, int64_t length, struct marks *marks) {
  const struct selection *s = job->selection;
  int32_t key = start < s->cut ? s->key : s->key_after;
  if (s->gradient)
    job->kernels->mark_feedback(s->gradient + start, s->x + start, length, key, marks);
  else
    job->kernels->mark(s->x + start, length, key, marks);
  if (start < s->cut && s->cut < start + length)
    cut_ties(s->x + start, s->cut - start, s->key_after, marks);
}

static void select_worker(void *context) {
  struct job *job = context;
  const struct selection *s = job->selection;
  const struct payload *out = job->payload;
  struct marks marks;
  for (int64_t tile; (tile = take_task(&job->tiles)) >= 0;) {
    int64_t start = tile * TILE, length = min64(TILE, s->n - start);
    mark_tile(job, start, length, &marks);
    int64_t offset = append_in_order(&job->appender, tile, marks.count), room = out->capacity - offset;
    if (room <= 0 || marks.count == 0)
      continue;
    if (s->zero)
      job->kernels->emit_zero(s->x + start, length, start, &marks, room, out->indices + offset, out->values + offset);
    else
      job->kernels->emit(s->x + start, length, start, &marks, room, out->indices + offset, out->values + offset);
  }
}

int64_t run_selection(const struct selection *selection, const struct payload *payload, int threads) {
  struct job job = {.kernels = active_kernels(), .selection = selection, .payload = payload};
  job.tiles.count = (selection->n + TILE - 1) / TILE;
  run_workers(select_worker, &job, useful_threads(selection->n, 2 * TILE, threads));
  return job.appender.offset;
}
