/* One pass over memory: each tile is packed into a scratch in the cache, takes its place in the output, and is copied
 * there. A single thread packs straight into the output while there is room. */
#include "select.h"
#include "parallel.h"

#include <float.h>
#include <math.h>

/* A quarter of a tile: fuller tiles go in several pieces while the thread holds its turn. */
enum { SCRATCH = TILE / 4 };

struct scratch {
  int32_t indices[SCRATCH];
  float values[SCRATCH];
};

struct job {
  const struct kernels *kernels;
  const struct selection *selection;
  const struct payload *payload;
  bool alone;
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

struct selection plain_selection(const float *gradient, float *x, int64_t n, int32_t key) {
  return (struct selection){.gradient = gradient,
                            .x = x,
                            .n = n,
                            .zero = gradient != NULL,
                            .key = key,
                            .key_after = key,
                            .zero_key = AS_SELECTED,
                            .cut = n};
}

/* Packs from position `at` up to `end` or to the cut; returns the position reached. */
static int64_t pack_piece(const struct job *job, int64_t at, int64_t end, struct packing *p) {
  const struct selection *s = job->selection;
  const struct kernels *kernels = job->kernels;
  bool before = at < s->cut;
  int64_t length = (before ? min64(end, s->cut) : end) - at;
  p->base = at;
  p->key = before ? s->key : s->key_after;
  p->zero_key = s->zero_key == AS_SELECTED ? p->key : s->zero_key;
  if (s->from_values)
    return at + kernels->pack_entries(s->from_indices + at, s->from_values + at, length, s->x, p);
  if (s->gradient)
    return at + kernels->pack_feedback(s->gradient + at, s->x + at, length, p);
  return at + (s->zero ? kernels->pack_zero(s->x + at, length, p) : kernels->pack(s->x + at, length, p));
}

/* Copies what has room; what has none is put back where a zero took its place. */
static void copy_out(const struct job *job, const struct packing *p, int64_t offset) {
  const struct payload *out = job->payload;
  int64_t written = max64(0, min64(p->packed, out->capacity - offset));
  if (written > 0) {
    memcpy(out->indices + offset, p->indices, (size_t)written * sizeof *p->indices);
    memcpy(out->values + offset, p->values, (size_t)written * sizeof *p->values);
  }
  for (int64_t i = written; job->selection->zero && i < p->packed; i++)
    job->selection->x[p->indices[i]] = p->values[i];
}

static void collect_band(const struct job *job, const struct packing *p) {
  struct band *band = job->selection->band;
  int32_t keys[256 + LANES];
  for (int64_t i = 0; i < p->packed; i += 256) {
    int64_t found = job->kernels->pack_keys(p->values + i, min64(256, p->packed - i), band->limit, keys);
    int64_t place = found ? atomic_fetch_add_explicit(&band->count, found, memory_order_relaxed) : 0;
    if (place + found <= band->capacity)
      memcpy(band->keys + place, keys, (size_t)found * sizeof *keys);
  }
}

static void pack_tile(struct job *job, int64_t tile, struct scratch *scratch, bool *dense) {
  int64_t at = tile * TILE, end = min64(job->selection->n, at + TILE), total = 0;
  for (bool mine = false, passed = false; !passed;) {
    struct packing p = {.dense = *dense, .indices = scratch->indices, .values = scratch->values, .room = SCRATCH};
    int64_t left = job->alone ? job->payload->capacity - job->appender.offset : 0;
    bool direct = left >= WORD;
    if (direct) {
      p.indices = job->payload->indices + job->appender.offset;
      p.values = job->payload->values + job->appender.offset;
      p.room = left;
    }
    at = pack_piece(job, at, end, &p);
    if (!mine)
      wait_turn(&job->appender, tile);
    mine = true;
    int64_t offset = job->appender.offset;
    job->appender.offset += p.packed;
    if (at >= end) {
      pass_turn(&job->appender, tile);
      passed = true;
    }
    if (!direct)
      copy_out(job, &p, offset);
    if (job->selection->band)
      collect_band(job, &p);
    total += p.packed;
  }
  *dense = total > TILE / 256;
}

static void select_worker(void *context) {
  struct job *job = context;
  struct scratch scratch;
  bool dense = false;
  for (int64_t tile; (tile = take_task(&job->tiles)) >= 0;)
    pack_tile(job, tile, &scratch, &dense);
}

int64_t run_selection(const struct selection *selection, const struct payload *payload, int threads) {
  struct job job = {.kernels = active_kernels(), .selection = selection, .payload = payload};
  int useful = useful_threads(selection->n, 2 * TILE, threads);
  job.alone = useful == 1;
  job.tiles.count = (selection->n + TILE - 1) / TILE;
  run_workers(select_worker, &job, useful);
  return job.appender.offset;
}
