#include "collect.h"

#include <float.h>
#include <math.h>

enum { ALIGNMENT = 64 };

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

static void flush_between(struct collector *c, struct local *local) {
  int64_t place = local->found ? atomic_fetch_add_explicit(&c->found, local->found, memory_order_relaxed) : 0;
  if (place + local->found <= c->capacity)
    memcpy(c->between + place, local->between, (size_t)local->found * sizeof *local->between);
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
      clear_moments(&sums->moments), memset(sums->tails, 0, sizeof sums->tails);
    collect_sub_tile(kernels, s, at, min64(step, end - at), p, &local);
    if (local.found > SUB_TILE)
      flush_between(c, &local);
  }
  flush_between(c, &local);
  return min64(at, end);
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
