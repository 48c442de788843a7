/* One pass over memory: each tile is packed into a scratch in the cache, takes its place in the output, and is copied
 * there. A single thread packs straight into the output while there is room. */
#include "select.h"
#include "blocks.h"
#include "collect.h"
#include "parallel.h"
#include "stream.h"

#include <float.h>
#include <math.h>

/* A quarter of a tile: fuller tiles go in several pieces while the thread holds its turn. */
enum {
  SCRATCH = TILE / 4,
  NONE = -1,
  UNKNOWN = -1,
  FIRST_PIECE = 4096,
  CACHED = 1 << 20, /* elements */
  BAND_PIECE = 4096,
  ENTRY_TILE = 8192 - WORD, /* of entries most are kept */
  ENTRIES = 1 << 20,        /* that are worth another thread */
};

/* A packed tile, or the last piece of one, that waits for its turn. */
struct scratch {
  int32_t indices[SCRATCH];
  float values[SCRATCH];
  int64_t tile, packed;
};

struct job {
  const struct kernels *kernels;
  const struct selection *selection;
  const struct payload *payload, *overflow;
  int64_t tile; /* elements a task */
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

/* pack_feedback of a residual in bfloat16. */
static int64_t pack_bf16(const struct job *job, int64_t at, int64_t end, struct packing *p) {
  const struct selection *s = job->selection;
  struct moment_lanes unwanted = {.exponent = 0};
  struct sweep sweep = {.pack = p, .moments = &unwanted};
  for (; at < end && p->packed + BF16_PIECE + WORD <= p->room; at += BF16_PIECE) {
    const int64_t before = p->packed, length = min64(BF16_PIECE, end - at);
    p->base = at;
    bf16_sweep(job->kernels, s->gradient + at, s->bf16, at, length, &sweep);
    p->amount = amount_of(job->kernels, p->packed - before, length);
  }
  return min64(at, end);
}

/* From entries, of one payload at a time. */
static int64_t pack_from(const struct job *job, int64_t at, int64_t end, struct packing *p) {
  const struct selection *s = job->selection;
  const struct payload *from = &s->from[at >= s->from[0].capacity];
  int64_t skipped = from == s->from ? 0 : s->from[0].capacity, length = min64(end - skipped, from->capacity);
  int64_t first = at - skipped;
  if (s->bf16) /* of what finds no room now once more when it does */
    bf16_mend(s->bf16, from->indices + first, from->values + first, length - first, p->key, p->zero_key);
  return at + job->kernels->pack_entries(from->indices + first, from->values + first, length - first, s->x, p);
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
  if (s->from)
    return pack_from(job, at, at + length, p);
  if (s->elements)
    return pack_blocks(kernels, s, at, at + length, p);
  if (s->collector)
    return collect_piece(kernels, s, at, at + length, p);
  if (s->bf16)
    return pack_bf16(job, at, at + length, p);
  if (s->gradient)
    return at + kernels->pack_feedback(s->gradient + at, s->x + at, length, p);
  return at + (s->zero ? kernels->pack_zero(s->x + at, length, p) : kernels->pack(s->x + at, length, p));
}

/* Copies entries from `done` on that belong behind `offset` of this payload; returns how many are copied now. */
static int64_t copy_into(const struct payload *out, const struct scratch *from, int64_t done, int64_t offset,
                         bool streamed) {
  int64_t count = min64(from->packed - done, out->capacity - offset);
  if (count <= 0)
    return done;
  if (streamed) {
    stream_entries(out->indices + offset, out->values + offset, from->indices + done, from->values + done, count);
    return done + count;
  }
  memcpy(out->indices + offset, from->indices + done, (size_t)count * sizeof *from->indices);
  memcpy(out->values + offset, from->values + done, (size_t)count * sizeof *from->values);
  return done + count;
}

void put_back(const struct selection *selection, int64_t index, float value) {
  if (selection->bf16)
    bf16_put(selection->bf16, index, value);
  else
    selection->x[index] = value;
}

/* Whether nobody looks again at what is selected, as at candidates and the scores of blocks; what is selected among
 * entries has its place in the caches already. */
static bool is_final(const struct selection *s) {
  return !s->from && !s->elements && (s->zero_key == AS_SELECTED || s->zero_key == s->key);
}

/* Copies what has room; what has none is put back where a zero took its place. */
static void copy_out(const struct job *job, const struct scratch *from, int64_t offset) {
  const struct payload *first = job->payload, *second = job->overflow;
  const bool streamed = is_final(job->selection) && from->packed * job->tiles.count >= STREAMED;
  int64_t done = copy_into(first, from, 0, offset, streamed);
  if (second)
    done = copy_into(second, from, done, offset + done - first->capacity, streamed);
  for (; job->selection->zero && done < from->packed; done++)
    put_back(job->selection, from->indices[done], from->values[done]);
}

static void collect_band(const struct job *job, const float *values, int64_t packed) {
  struct band *band = job->selection->band;
  int32_t keys[BAND_PIECE + LANES];
  for (int64_t i = 0; band && i < packed; i += BAND_PIECE) {
    int64_t found = job->kernels->pack_keys(values + i, min64(BAND_PIECE, packed - i), band->limit, keys);
    int64_t place = found ? atomic_fetch_add_explicit(&band->count, found, memory_order_relaxed) : 0;
    if (place + found <= band->capacity)
      memcpy(band->keys + place, keys, (size_t)found * sizeof *keys);
  }
}

/* Where the next `packed` entries go. The thread has the turn. */
static int64_t advance(struct job *job, int64_t packed) {
  int64_t offset = job->appender.offset;
  job->appender.offset += packed;
  return offset;
}

/* Appends what is in the scratch, in its turn. */
static void flush(struct job *job, struct scratch *scratch) {
  if (scratch->tile == NONE)
    return;
  wait_turn(&job->appender, scratch->tile);
  int64_t offset = advance(job, scratch->packed);
  pass_turn(&job->appender, scratch->tile);
  copy_out(job, scratch, offset);
  scratch->tile = NONE;
}

/* A packing that knows how many a tile may hold. Words without branches pay early where memory is waited for. */
static struct packing expect(const struct job *job, int64_t packed) {
  const struct selection *s = job->selection;
  const int64_t dense = s->n <= CACHED && !s->elements ? TILE / 64 : TILE / 256;
  return (struct packing){.dense = packed > dense, .amount = amount_of(job->kernels, packed, TILE)};
}

/* One thread: packs a tile into the output, while it has room for whole registers; returns the position reached. A
 * short piece says first what the rest is like: half a small vector may lie in the first tile. */
static int64_t pack_direct(struct job *job, int64_t at, int64_t end, int64_t expected) {
  const struct payload *out = job->payload;
  const bool swept = job->selection->gradient && !job->selection->elements;
  bool first = expected == UNKNOWN && !job->selection->collector; /* whose sums must not depend on where pieces end */
  int64_t least = swept ? SWEPT + WORD : 2 * WORD;
  for (int64_t left; at < end && (left = out->capacity - job->appender.offset) >= least;) {
    int64_t offset = job->appender.offset, from = at;
    struct packing p = expect(job, expected);
    p.indices = out->indices + offset;
    p.values = out->values + offset;
    p.room = left;
    at = pack_piece(job, at, first ? min64(end, at + FIRST_PIECE) : end, &p);
    advance(job, p.packed);
    collect_band(job, p.values, p.packed);
    if (first)
      expected = p.packed * job->tile / (at - from);
    first = false;
  }
  return at;
}

/* Packs a tile into the scratch and leaves it there for its turn. A tile that selects more than the scratch holds is
 * appended piece by piece; `before` is what the thread must append first then. Returns the number selected; about
 * `expected` are. */
static int64_t pack_tile(struct job *job, int64_t tile, struct scratch *scratch, struct scratch *before,
                         int64_t expected) {
  int64_t at = tile * job->tile, end = min64(job->selection->n, at + job->tile), total = 0;
  if (job->alone) {
    total = -job->appender.offset;
    at = pack_direct(job, at, end, expected);
    total += job->appender.offset;
  }
  for (scratch->packed = 0;;) {
    struct packing p = expect(job, expected);
    p.indices = scratch->indices;
    p.values = scratch->values;
    p.room = SCRATCH;
    if (at < end)
      at = pack_piece(job, at, end, &p);
    collect_band(job, p.values, p.packed);
    scratch->packed = p.packed;
    total += p.packed;
    if (at >= end)
      break;
    flush(job, before);
    wait_turn(&job->appender, tile);
    copy_out(job, scratch, advance(job, p.packed));
  }
  scratch->tile = tile;
  return total;
}

/* Two scratches: while a tile waits for its turn, the next one is packed. */
static void select_worker(void *context) {
  struct job *job = context;
  struct scratch scratch[2];
  scratch[0].tile = scratch[1].tile = NONE;
  int64_t last = UNKNOWN;
  int now = 0;
  for (int64_t tile; (tile = take_task(&job->tiles)) >= 0; now = !now) {
    last = pack_tile(job, tile, &scratch[now], &scratch[!now], last);
    flush(job, &scratch[!now]);
    if (has_turn(&job->appender, tile))
      flush(job, &scratch[now]);
  }
  flush(job, &scratch[!now]); /* the older one: now is where the next would have gone */
  stream_done();
}

int64_t run_selection(const struct selection *selection, const struct payload *payload, const struct payload *overflow,
                      int threads) {
  struct job job = {.kernels = active_kernels(), .selection = selection, .payload = payload, .overflow = overflow};
  int64_t size = max64(selection->n, selection->elements);
  int useful = useful_threads(size, selection->from ? ENTRIES : 2 * TILE, threads);
  job.alone = useful == 1;
  job.tile = selection->from ? ENTRY_TILE : selection->elements ? TILE / LANES : TILE;
  job.tiles.count = (selection->n + job.tile - 1) / job.tile;
  run_workers(select_worker, &job, useful);
  return job.appender.offset;
}
