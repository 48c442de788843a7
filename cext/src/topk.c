/* Exact top-k by predict, verify, repair.
 *
 * A sample predicts where the k-th largest magnitude lies. One pass over memory packs the candidates above the low end
 * of its bracket and, with error feedback, zeroes the residual above the predicted value. The exact border is then
 * found among the candidates' keys inside the bracket, the candidates above it are written, and the residual is mended
 * in the thin band where prediction and border disagree. Where the bracket missed (or ties or a tiny vector make
 * prediction useless), three histograms over the bits find the border: slower, never wrong.
 */
#include "topk.h"
#include "histogram.h"
#include "sample.h"

enum {
  ALIGNMENT = 64,
  SMALL = 16384, /* elements below which counting is quicker than predicting */
};

/* Where the parts of the workspace begin. */
struct workspace {
  struct bins *bins;
  struct sample_room *sample;
  struct payload candidates;
  int32_t *keys, *scratch;
  int64_t bytes;
};

static bool predictable(int64_t n, int64_t k) { return n >= SMALL && k <= n / 3; }

static int64_t part(int64_t *bytes, size_t size) {
  int64_t at = *bytes;
  *bytes += ((int64_t)size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

static struct workspace lay_out(void *memory, int64_t n, int64_t k) {
  uintptr_t start = ((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
  int64_t bytes = 0, capacity = min64(n, k + k / 2 + min64(2 * k, 65536) + 4096);
  size_t entries = (size_t)(capacity + WORD) * sizeof(int32_t);
  struct workspace w = {.bins = (struct bins *)(start + (uintptr_t)part(&bytes, sizeof(struct bins)))};
  if (predictable(n, k)) {
    w.sample = (struct sample_room *)(start + (uintptr_t)part(&bytes, sizeof(struct sample_room)));
    w.candidates.indices = (int32_t *)(start + (uintptr_t)part(&bytes, entries));
    w.candidates.values = (float *)(start + (uintptr_t)part(&bytes, entries));
    w.candidates.capacity = capacity;
    w.keys = (int32_t *)(start + (uintptr_t)part(&bytes, entries));
    w.scratch = (int32_t *)(start + (uintptr_t)part(&bytes, entries));
  }
  w.bytes = bytes + ALIGNMENT;
  return w;
}

int64_t topk_workspace_bytes(int64_t n, int64_t k) { return lay_out(NULL, n, k).bytes; }

/* The position just behind the last of the `due` first elements whose key is `border`. */
static int64_t position_after(const float *x, int64_t n, const struct border *border) {
  int64_t due = border->due;
  if (due == border->ties)
    return n;
  for (int64_t i = 0; i < n; i++)
    if (key_of(x[i]) == border->key && --due == 0)
      return i + 1;
  return n;
}

/* Selects what the border admits: everything above it, and the ties before the cut. */
static void select_to_border(struct selection *s, const struct border *border, int64_t k, const struct payload *payload,
                             int threads) {
  const struct payload exact = {payload->indices, payload->values, k};
  s->key = border->key - 1;
  s->key_after = border->key;
  s->cut = position_after(s->from_values ? s->from_values : s->x, s->n, border);
  run_selection(s, &exact, threads);
}

/* Returns whether the prediction held; if not, gradient has been added to x and nothing else has changed. */
static bool topk_predicted(const float *gradient, float *x, int64_t n, int64_t k, const struct payload *payload,
                           const struct workspace *w, int threads) {
  struct prediction prediction = predict_border(gradient, x, n, k, w->sample);
  struct band band = {.limit = prediction.high, .keys = w->keys, .capacity = w->candidates.capacity};
  struct selection pass = plain_selection(gradient, x, n, prediction.low);
  pass.zero_key = prediction.key;
  pass.band = &band;
  int64_t candidates = run_selection(&pass, &w->candidates, threads);
  int64_t in_band = band.count, kept = min64(candidates, w->candidates.capacity);
  int64_t due = k - (candidates - in_band); /* the k-th largest is the due-th largest of the band */
  if (candidates > kept || in_band > band.capacity || due < 1 || due > in_band) {
    for (int64_t i = 0; gradient && i < kept; i++)
      x[w->candidates.indices[i]] = w->candidates.values[i];
    return false;
  }
  struct border border = find_border_of_keys(w->keys, in_band, due, w->scratch);
  struct selection finish = {.n = candidates, .from_indices = w->candidates.indices};
  finish.from_values = w->candidates.values;
  finish.x = gradient ? x : NULL;
  finish.zero_key = prediction.key;
  select_to_border(&finish, &border, k, payload, threads);
  return true;
}

int64_t topk(const float *gradient, float *x, int64_t n, int64_t k, const struct payload *payload, void *memory,
             int threads) {
  if (k == 0) {
    if (gradient)
      active_kernels()->add(gradient, x, n);
    return 0;
  }
  struct workspace w = lay_out(memory, n, k);
  const float *to_add = gradient;
  if (predictable(n, k)) {
    if (topk_predicted(gradient, x, n, k, payload, &w, threads))
      return k;
    to_add = NULL;
  }
  struct border border = find_border(to_add, x, n, k, w.bins, threads);
  struct selection finish = plain_selection(NULL, x, n, border.key);
  finish.zero = gradient != NULL;
  select_to_border(&finish, &border, k, payload, threads);
  return k;
}
