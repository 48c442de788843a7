/* Exact top-k by predict, verify, repair.
 *
 * A sample predicts where the k-th largest magnitude lies. One pass over memory packs the candidates above the low end
 * of its bracket and, with error feedback, zeroes the residual above the predicted value. The exact border is then
 * found among the candidates' keys inside the bracket, the candidates above it are written, and the residual is mended
 * in the thin band where prediction and border disagree. Where the sample is full of ties, a pass that only counts
 * shows whether they are the border. Where both missed, or the vector is tiny, three histograms over the bits find the
 * border: slower, never wrong.
 */
#include "topk.h"
#include "histogram.h"
#include "sample.h"

enum {
  ALIGNMENT = 64,
  SMALL = 16384, /* elements below which counting is quicker than predicting */
  SPILL = 128,   /* elements an entry of room for candidates, at least: where few are wanted a sample says little */
};

/* Where the parts of the workspace begin. */
struct workspace {
  struct bins *bins;
  struct sample_room *sample;
  struct payload spill; /* candidates beyond the k that the payload holds */
  int32_t *keys, *scratch;
  int64_t band; /* keys that fit */
  int64_t bytes;
};

bool topk_predictable(int64_t n, int64_t k) { return n >= SMALL && k <= n / 3; }

static int64_t part(int64_t *bytes, size_t size) {
  int64_t at = *bytes;
  *bytes += ((int64_t)size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

static struct workspace lay_out(void *memory, int64_t n, int64_t k) {
  uintptr_t start = ((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
  int64_t bytes = 0, spill = min64(n - k, max64(k / 2 + min64(2 * k, 65536) + 4096, n / SPILL)), band = k + spill;
  struct workspace w = {.bins = (struct bins *)(start + (uintptr_t)part(&bytes, sizeof(struct bins)))};
  if (topk_predictable(n, k)) {
    size_t spilled = (size_t)spill * sizeof(int32_t), keys = (size_t)(band + LANES) * sizeof(int32_t);
    w.sample = (struct sample_room *)(start + (uintptr_t)part(&bytes, sizeof(struct sample_room)));
    w.spill.indices = (int32_t *)(start + (uintptr_t)part(&bytes, spilled));
    w.spill.values = (float *)(start + (uintptr_t)part(&bytes, spilled));
    w.spill.capacity = spill;
    w.keys = (int32_t *)(start + (uintptr_t)part(&bytes, keys));
    w.scratch = (int32_t *)(start + (uintptr_t)part(&bytes, keys));
    w.band = band;
  }
  w.bytes = bytes + ALIGNMENT;
  return w;
}

int64_t topk_workspace_bytes(int64_t n, int64_t k) { return lay_out(NULL, n, k).bytes; }

static int64_t find_cut(const struct selection *s, const struct border *border) {
  int64_t due = border->due;
  if (due == border->ties)
    return s->n;
  if (!s->from)
    return position_after(s->x, s->n, border->key, &due);
  int64_t first = min64(s->n, s->from[0].capacity), cut = position_after(s->from[0].values, first, border->key, &due);
  return due == 0 ? cut : first + position_after(s->from[1].values, s->n - first, border->key, &due);
}

/* Selects what the border admits: everything above it, and the ties before the cut. */
static void select_to_border(struct selection *s, const struct border *border, const struct payload *payload,
                             int threads) {
  s->key = border->key - 1;
  s->key_after = border->key;
  s->cut = find_cut(s, border);
  run_selection(s, payload, NULL, threads);
}

static void put_all_back(const struct selection *s, const struct payload *taken, int64_t count) {
  for (int64_t i = 0; i < min64(count, taken->capacity); i++)
    put_back(s, taken->indices[i], taken->values[i]);
}

static int64_t all_keys(const struct payload *entries, int64_t count, int32_t *keys) {
  return active_kernels()->pack_keys(entries->values, count, INT32_MAX, keys);
}

/* A pass over the vector that selects by the prediction. Returns whether that held; if not, the gradient has been added
 * and nothing else has changed in the vector. */
static bool topk_predicted(struct selection pass, int64_t k, struct prediction prediction,
                           const struct payload *payload, const struct workspace *w, int threads) {
  struct band band = {.limit = prediction.high, .keys = w->keys, .capacity = w->band};
  pass.zero_key = prediction.key;
  pass.band = &band;
  int64_t candidates = run_selection(&pass, payload, &w->spill, threads), in_band = band.count;
  int64_t due = k - (candidates - in_band); /* the k-th largest is the due-th largest of the band */
  if (candidates > k + w->spill.capacity || due > in_band) {
    if (pass.zero)
      put_all_back(&pass, payload, candidates), put_all_back(&pass, &w->spill, candidates - k);
    return false;
  }
  if (due < 1) { /* above the band: the border is among the candidates all the same */
    in_band = all_keys(payload, min64(candidates, k), w->keys);
    in_band += all_keys(&w->spill, candidates - in_band, w->keys + in_band);
    due = k;
  }
  struct border border = find_border_of_keys(w->keys, in_band, due, w->scratch);
  const struct payload from[2] = {*payload, w->spill};
  struct selection finish = {.n = candidates, .from = from, .zero_key = prediction.key};
  if (pass.zero)
    finish.x = pass.x, finish.bf16 = pass.bf16;
  select_to_border(&finish, &border, payload, threads);
  return true;
}

int64_t topk(const float *gradient, float *x, int64_t n, int64_t k, const struct payload *out, void *memory,
             int threads) {
  const struct payload payload = {out->indices, out->values, k}; /* what is behind k is left alone */
  if (k == 0) {
    if (gradient)
      active_kernels()->add(gradient, x, n);
    return 0;
  }
  struct workspace w = lay_out(memory, n, k);
  struct border border;
  if (topk_predictable(n, k)) {
    const struct sampled sampled = {.gradient = gradient, .x = x};
    struct prediction prediction = predict_border(&sampled, n, k, w.sample);
    bool found = prediction.tied && border_is(gradient, x, n, k, prediction.key, &border, threads);
    if (!prediction.tied &&
        topk_predicted(plain_selection(gradient, x, n, prediction.low), k, prediction, &payload, &w, threads))
      return k;
    if (!found)
      border = find_border(NULL, x, n, k, w.bins, threads);
  } else
    border = find_border(gradient, x, n, k, w.bins, threads);
  struct selection finish = plain_selection(NULL, x, n, border.key);
  finish.zero = gradient != NULL;
  select_to_border(&finish, &border, &payload, threads);
  return k;
}

int64_t topk_bf16(const float *gradient, const struct bf16 *residual, int64_t n, int64_t k, const struct payload *out,
                  void *memory, int threads) {
  const struct payload payload = {out->indices, out->values, k};
  struct selection pass = plain_selection(gradient, NULL, n, INT32_MAX);
  pass.bf16 = residual;
  if (k > 0 && topk_predictable(n, k)) {
    const struct workspace w = lay_out(memory, n, k);
    const struct sampled sampled = {.gradient = gradient, .bf16 = residual};
    const struct prediction prediction = predict_border(&sampled, n, k, w.sample);
    pass.key = pass.key_after = prediction.low;
    return topk_predicted(pass, k, prediction, &payload, &w, threads) ? k : -1;
  }
  run_selection(&pass, &payload, NULL, threads); /* adds the gradient */
  return k > 0 ? -1 : 0;
}
