#include "collect.h"

enum { ALIGNMENT = 64 };

int64_t collect_workspace_bytes(int64_t n) {
  return (n + TILE - 1) / TILE * (int64_t)sizeof(struct tile_sums) + ALIGNMENT;
}

static void collect_between(const struct kernels *kernels, const float *x, int64_t n, const struct stage *stage,
                            struct collector *c) {
  float found[SUB_TILE + LANES];
  int64_t count = kernels->pack_between(x, n, stage->low_key, stage->high_key, found);
  if (count == 0)
    return;
  int64_t place = atomic_fetch_add_explicit(&c->found, count, memory_order_relaxed);
  if (place + count <= c->capacity)
    memcpy(c->between + place, found, (size_t)count * sizeof *found);
}

/* The stages look only at what reaches the lowest bracket: a quarter of a vector at SIDCo's first stage. */
static void sum_stages(const struct kernels *kernels, const float *x, int64_t n, struct collector *c,
                       struct tile_sums *sums) {
  float survivors[SUB_TILE + LANES];
  int32_t lowest = INT32_MAX;
  for (int m = 0; m < c->stages; m++)
    lowest = c->stage[m].low_key < lowest ? c->stage[m].low_key : lowest;
  int64_t count = c->stages ? kernels->pack_values(x, n, lowest, survivors) : 0;
  for (int m = 0; m < c->stages; m++) {
    kernels->tail(survivors, count, c->stage[m].high, c->stage[m].high_key, &sums->tails[m]);
    collect_between(kernels, survivors, count, &c->stage[m], c);
  }
}

/* A sub-tile is added and summed, then looked at again in the first cache for each stage and for the candidates. */
int64_t collect_piece(const struct kernels *kernels, const struct selection *s, int64_t at, int64_t end,
                      struct packing *p) {
  struct collector *c = s->collector;
  struct tile_sums *sums = &c->tiles[at / TILE];
  for (; at < end && p->packed + SUB_TILE + WORD <= p->room; at += SUB_TILE) {
    int64_t n = min64(SUB_TILE, end - at);
    float *x = s->x + at;
    if (at % TILE == 0)
      clear_moments(&sums->moments), memset(sums->tails, 0, sizeof sums->tails);
    (c->logs ? kernels->moments_feedback : kernels->sums_feedback)(s->gradient + at, x, n, &sums->moments);
    sum_stages(kernels, x, n, c, sums);
    p->base = at;
    kernels->pack_zero(x, n, p);
  }
  return min64(at, end);
}

struct collected collect(struct selection *selection, struct collector *c, const struct payload *payload, int threads) {
  struct collected result = {.candidates = 0};
  struct moments_total total = {.max_key = 0};
  c->tiles = (struct tile_sums *)(((uintptr_t)c->tiles + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
  selection->collector = c;
  result.candidates = run_selection(selection, payload, NULL, threads);
  for (int64_t t = 0; t < (selection->n + TILE - 1) / TILE; t++) {
    add_moments(&total, &c->tiles[t].moments);
    for (int m = 0; m < c->stages; m++)
      add_tail(&result.tails[m], &c->tiles[t].tails[m]);
  }
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
