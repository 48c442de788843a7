#include "collect.h"

#include <math.h>

enum { ALIGNMENT = 64 };

int64_t collect_workspace_bytes(int64_t n) {
  return (n + TILE - 1) / TILE * (int64_t)sizeof(struct tile_sums) + ALIGNMENT;
}

/* What one thread keeps on its stack while it works on a part of a tile. */
struct local {
  int32_t indices[SUB_TILE + WORD]; /* survivors: what reaches any bracket but the lowest, or is a candidate */
  float values[SUB_TILE + WORD];
  float between[2 * SUB_TILE + LANES];
  int64_t found;
  bool dense;
};

static void flush_between(struct collector *c, struct local *local) {
  int64_t place = local->found ? atomic_fetch_add_explicit(&c->found, local->found, memory_order_relaxed) : 0;
  if (place + local->found <= c->capacity)
    memcpy(c->between + place, local->between, (size_t)local->found * sizeof *local->between);
  local->found = 0;
}

/* The brackets above the lowest look only at what reaches them. */
static void sum_stages(const struct kernels *kernels, struct collector *c, int64_t survivors, struct local *local,
                       struct tile_sums *sums) {
  for (int m = 0; m < c->stages; m++) {
    const struct stage *stage = &c->stage[m];
    if (m == c->lowest)
      continue;
    kernels->tail(local->values, survivors, stage->high, stage->high_key, INT32_MAX, &sums->tails[m]);
    if (local->found > SUB_TILE)
      flush_between(c, local);
    local->found +=
        kernels->pack_between(local->values, survivors, stage->low_key, stage->high_key, local->between + local->found);
  }
}

/* One sweep; then the survivors in the cache are looked at again for the other stages and the candidates. */
static void collect_sub_tile(const struct kernels *kernels, const struct selection *s, int64_t at, int64_t n,
                             struct packing *p, struct local *local) {
  struct collector *c = s->collector;
  struct tile_sums *sums = &c->tiles[at / TILE];
  struct packing survivors = {.key = c->survivors_key, .zero_key = p->zero_key, .base = at, .dense = local->dense};
  struct sweep sweep = {.pack = c->stages > 1 ? &survivors : p, .moments = &sums->moments, .sums = c->sums};
  survivors.indices = local->indices;
  survivors.values = local->values;
  if (c->stages) {
    const struct stage *lowest = &c->stage[c->lowest];
    sweep.low_key = lowest->low_key;
    sweep.high_key = lowest->high_key;
    sweep.high = lowest->high;
    sweep.tail = sums->tails[c->lowest];
    sweep.between = local->between;
    sweep.found = local->found;
  }
  p->base = at;
  int64_t before = sweep.pack->packed;
  kernels->sweep(s->gradient + at, s->x + at, n, &sweep);
  local->dense = p->dense = (sweep.pack->packed - before) * 256 > n;
  if (!c->stages)
    return;
  local->found = sweep.found;
  sums->tails[c->lowest] = sweep.tail;
  if (c->stages > 1) {
    sum_stages(kernels, c, survivors.packed, local, sums);
    kernels->pack_entries(local->indices, local->values, survivors.packed, NULL, p);
  }
}

int64_t collect_piece(const struct kernels *kernels, const struct selection *s, int64_t at, int64_t end,
                      struct packing *p) {
  struct collector *c = s->collector;
  struct local local;
  local.found = 0;
  local.dense = p->dense;
  for (; at < end && p->packed + SUB_TILE + WORD <= p->room; at += SUB_TILE) {
    struct tile_sums *sums = &c->tiles[at / TILE];
    if (at % TILE == 0)
      clear_moments(&sums->moments), memset(sums->tails, 0, sizeof sums->tails);
    collect_sub_tile(kernels, s, at, min64(SUB_TILE, end - at), p, &local);
    if (local.found > SUB_TILE)
      flush_between(c, &local);
  }
  flush_between(c, &local);
  return min64(at, end);
}

/* Which bracket is the lowest, and from where on elements survive for the others. */
static void order_brackets(struct collector *c, int32_t candidates_key) {
  c->lowest = 0;
  for (int m = 1; m < c->stages; m++)
    if (c->stage[m].low_key < c->stage[c->lowest].low_key)
      c->lowest = m;
  c->survivors_key = candidates_key;
  for (int m = 0; m < c->stages; m++)
    if (m != c->lowest && c->stage[m].low_key < c->survivors_key)
      c->survivors_key = c->stage[m].low_key;
}

/* From sums of |x| and its square to those of the excesses over `high`. */
static void subtract(struct tail_sums *tail, double high) {
  double count = (double)tail->count, sum = tail->sum;
  if (isinf(sum)) /* infinity less anything stays */
    return;
  tail->sum = sum - count * high;
  tail->sum_squares += high * (count * high - 2 * sum);
}

struct collected collect(struct selection *selection, struct collector *c, const struct payload *payload, int threads) {
  struct collected result = {.candidates = 0};
  struct moments_total total = {.max_key = 0};
  c->tiles = (struct tile_sums *)(((uintptr_t)c->tiles + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
  selection->collector = c;
  order_brackets(c, selection->key);
  result.candidates = run_selection(selection, payload, NULL, threads);
  for (int64_t t = 0; t < (selection->n + TILE - 1) / TILE; t++) {
    add_moments(&total, &c->tiles[t].moments);
    for (int m = 0; m < c->stages; m++)
      add_tail(&result.tails[m], &c->tiles[t].tails[m]);
  }
  if (c->stages)
    subtract(&result.tails[c->lowest], c->stage[c->lowest].high);
  result.moments = finish_moments(&total);
  return result;
}

int64_t settle(const struct payload *entries, int64_t count, float *residual, int32_t key, int32_t zero_key,
               int threads) {
  const struct payload from[2] = {{entries->indices, entries->values, count}, {NULL, NULL, 0}};
  struct selection s = plain_selection(NULL, residual, count, key);
  s.from = from;
  s.zero_key = zero_key;
  return run_selection(&s, &from[0], NULL, threads);
}
