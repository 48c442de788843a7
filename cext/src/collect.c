#include "collect.h"
#include "parallel.h"

#include <float.h>
#include <math.h>

enum {
  ALIGNMENT = 64,
  TILES_A_TASK = 16,
  MOST_TASKS = INT32_MAX / TILE / TILES_A_TASK + 1,
};

/* Whether up to 16 of it add up in float without an error: four trailing zeros, and no overflow. */
static bool adds_up(float threshold) { return (key_of(threshold) & 0xf) == 0 && threshold <= FLT_MAX / 64; }

int64_t collect_workspace_bytes(int64_t n) {
  return (n + TILE - 1) / TILE * (int64_t)sizeof(struct tile_sums) + ALIGNMENT;
}

struct stage stage_between(double low, double high) {
  return (struct stage){threshold_key(low), threshold_key(high), high, (float)fmin(high, FLT_MAX)};
}

bool disjoint(const struct collector *c) {
  for (int m = 0; m < c->stages; m++)
    for (int other = 0; other < m; other++)
      if (c->stage[m].low_key < c->stage[other].high_key && c->stage[other].low_key < c->stage[m].high_key)
        return false;
  return true;
}

/* What one thread keeps on its stack while it works on a part of a tile. */
struct local {
  int32_t indices[SUB_TILE + WORD]; /* survivors: what reaches any bracket, or is a candidate */
  float values[SUB_TILE + WORD];
  float between[2 * SUB_TILE + WORD];
  int64_t found;
  enum amount amount; /* of survivors that is expected */
};

/* Copies what was found, bracket by bracket, while it is in the cache: a threshold then looks at its own bracket alone.
 */
static void copy_sorted(const struct kernels *kernels, const struct collector *c, const struct local *local,
                        float *between, struct segment *segment) {
  float sorted[2 * SUB_TILE + WORD];
  int64_t packed = 0;
  for (int m = 0; m < c->stages; m++) {
    segment->count[m] =
        kernels->pack_between(local->between, local->found, c->stage[m].low_key, c->stage[m].high_key, sorted + packed);
    packed += segment->count[m];
  }
  memcpy(between, sorted, (size_t)packed * sizeof *between);
}

static void flush_between(const struct kernels *kernels, struct collector *c, struct tile_sums *sums,
                          struct local *local) {
  if (local->found == 0)
    return;
  const int64_t place = atomic_fetch_add_explicit(&c->found, local->found, memory_order_relaxed);
  if (place + local->found <= c->capacity) {
    struct segment unwanted, *segment = sums->segments < MOST_SEGMENTS ? &sums->segment[sums->segments] : &unwanted;
    segment->place = place;
    sums->segments++;
    copy_sorted(kernels, c, local, c->between + place, segment);
  }
  local->found = 0;
}

/* One sweep; candidates into *p. */
static void collect_sub_tile(const struct kernels *kernels, const struct selection *s, int64_t at, int64_t n,
                             struct packing *p, struct local *local) {
  const struct collector *c = s->collector;
  struct tile_sums *sums = &c->tiles[at / TILE];
  struct division division = {.stage = c->stage,
                              .stages = c->stages,
                              .low = c->low,
                              .second = c->second,
                              .survivors_key = c->survivors_key,
                              .amount = local->amount,
                              .indices = local->indices,
                              .values = local->values,
                              .tails = sums->tails,
                              .between = local->between,
                              .found = local->found};
  struct sweep sweep = {
      .pack = p, .moments = &sums->moments, .sums = c->sums, .division = c->stages ? &division : NULL};
  const int64_t before = p->packed;
  p->base = at;
  if (s->bf16)
    bf16_sweep(kernels, s->gradient + at, s->bf16, at, n, &sweep);
  else
    kernels->sweep(s->gradient + at, s->x + at, n, &sweep);
  p->amount = amount_of(kernels, p->packed - before, n);
  local->found = division.found;
  local->amount = amount_of(kernels, division.survivors, n);
}

int64_t collect_piece(const struct kernels *kernels, const struct selection *s, int64_t at, int64_t end,
                      struct packing *p) {
  struct collector *c = s->collector;
  struct local local;
  local.found = 0;
  local.amount = MUCH;
  const int64_t step = s->bf16 ? BF16_PIECE : SUB_TILE;
  for (; at < end && p->packed + step + WORD <= p->room; at += step) {
    struct tile_sums *sums = &c->tiles[at / TILE];
    if (at % TILE == 0)
      clear_moments(&sums->moments), memset(sums->tails, 0, sizeof sums->tails), sums->segments = 0;
    collect_sub_tile(kernels, s, at, min64(step, end - at), p, &local);
    if (local.found > SUB_TILE)
      flush_between(kernels, c, sums, &local);
  }
  flush_between(kernels, c, &c->tiles[(min64(at, end) - 1) / TILE], &local);
  return min64(at, end);
}

struct inside {
  const struct kernels *kernels;
  const struct collector *collector;
  int bracket;
  double threshold;
  struct tasks tasks; /* each of TILES_A_TASK tiles */
  int64_t tiles;
  struct tail_sums *sums; /* one a task */
};

static void sum_segment(const struct inside *inside, const struct segment *segment, struct tail_lanes *lanes) {
  const struct stage *const stage = &inside->collector->stage[inside->bracket];
  const float *x = inside->collector->between + segment->place;
  for (int m = 0; m < inside->bracket; m++)
    x += segment->count[m];
  inside->kernels->tail(x, segment->count[inside->bracket], inside->threshold, threshold_key(inside->threshold),
                        stage->high_key, lanes);
}

static void inside_worker(void *context) {
  struct inside *inside = context;
  for (int64_t task; (task = take_task(&inside->tasks)) >= 0;) {
    struct tail_lanes lanes = {.count = 0};
    for (int64_t t = task * TILES_A_TASK; t < min64(inside->tiles, (task + 1) * TILES_A_TASK); t++)
      for (int64_t s = 0; s < inside->collector->tiles[t].segments; s++)
        sum_segment(inside, &inside->collector->tiles[t].segment[s], &lanes);
    inside->sums[task] = (struct tail_sums){.count = 0};
    add_tail(&inside->sums[task], &lanes);
  }
}

/* Whether a segment is one: fits in Python, asked since, may have written to the workspace. */
static bool lies_in(const struct collector *c, const struct segment *segment) {
  if (segment->place < 0 || segment->place > c->found)
    return false;
  int64_t left = c->found - segment->place;
  for (int m = 0; m < c->stages; left -= segment->count[m++])
    if (segment->count[m] < 0 || segment->count[m] > left)
      return false;
  return true;
}

struct tail_sums sum_inside(const struct collector *c, int64_t n, int bracket, double threshold, int threads) {
  struct tail_sums total = {.count = 0}, sums[MOST_TASKS];
  struct inside inside = {.kernels = active_kernels(), .collector = c, .bracket = bracket, .threshold = threshold};
  bool told = true;
  int64_t in_bracket = 0;
  inside.tiles = (n + TILE - 1) / TILE;
  for (int64_t t = 0; t < inside.tiles && told; t++) {
    told = c->tiles[t].segments >= 0 && c->tiles[t].segments <= MOST_SEGMENTS;
    for (int64_t s = 0; told && s < c->tiles[t].segments; s++) {
      told = lies_in(c, &c->tiles[t].segment[s]);
      in_bracket += told ? c->tiles[t].segment[s].count[bracket] : 0;
    }
  }
  if (!told)
    return compute_tail(c->between, c->found, threshold, c->stage[bracket].high_key, threads);
  inside.sums = sums;
  inside.tasks.count = (inside.tiles + TILES_A_TASK - 1) / TILES_A_TASK;
  run_workers(inside_worker, &inside, useful_threads(in_bracket, 2 * TILE, threads));
  for (int64_t task = 0; task < inside.tasks.count; task++)
    join_tails(&total, &sums[task]);
  return total;
}

/* The lowest stage from key `from` on; -1 if there is none. */
static int lowest_stage(const struct collector *c, int32_t from) {
  int lowest = -1;
  for (int m = 0; m < c->stages; m++)
    if (c->stage[m].low_key >= from && (lowest < 0 || c->stage[m].low_key < c->stage[lowest].low_key))
      lowest = m;
  return lowest;
}

/* Which stages every element is held against, and what the others and the candidates look at. */
static void choose_stages(struct collector *c, int32_t candidates_key) {
  c->survivors_key = candidates_key;
  if (c->stages == 0)
    return;
  for (int m = 0; m < c->stages; m++)
    if (c->sums == 0 || (c->sums == SUM_ABS && !adds_up(c->stage[m].excess_of)))
      c->sums = SUM_ALL; /* slower: every excess is taken by itself */
  c->low = lowest_stage(c, INT32_MIN);
  /* Beside more sums than that of |x| a second stage would no longer hide behind memory. */
  c->second = c->sums == SUM_ABS ? lowest_stage(c, c->stage[c->low].high_key) : -1;
  for (int m = 0; m < c->stages; m++)
    if (m != c->low && m != c->second)
      c->survivors_key = c->stage[m].low_key < c->survivors_key ? c->stage[m].low_key : c->survivors_key;
}

struct collected collect(struct selection *selection, struct collector *c, const struct payload *payload, int threads) {
  struct collected result = {.candidates = 0};
  struct moments_total total = {.max_key = 0};
  c->tiles = (struct tile_sums *)(((uintptr_t)c->tiles + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
  selection->collector = c;
  choose_stages(c, selection->key);
  result.candidates = run_selection(selection, payload, NULL, threads);
  for (int64_t t = 0; t < (selection->n + TILE - 1) / TILE; t++) {
    add_moments(&total, &c->tiles[t].moments);
    for (int m = 0; m < c->stages; m++)
      add_tail(&result.tails[m], &c->tiles[t].tails[m]);
  }
  for (int m = 0; m < c->stages; m++)
    move_tail(&result.tails[m], c->stage[m].excess_of - c->stage[m].high);
  result.moments = finish_moments(&total);
  return result;
}
