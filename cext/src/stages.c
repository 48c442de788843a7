/* What a stage lets through is packed, and the next one looks at that alone. */
#include "stages.h"
#include "moments.h"

#include <math.h>

enum { ALIGNMENT = 64, PIECE = SWEPT };

static int64_t room_of(int64_t n) { return (n + 2 * WORD - 1) / WORD * WORD; }

int64_t stages_workspace_bytes(int64_t n) {
  return room_of(n) * (int64_t)(sizeof(int32_t) + sizeof(float)) + ALIGNMENT;
}

static struct payload lay_out(void *memory, int64_t n) {
  const uintptr_t start = ((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
  const int64_t room = room_of(n);
  return (struct payload){(int32_t *)start, (float *)start + room, room};
}

/* Keeps what of the vector, or later of the kept, lies above the threshold, and sums up its excesses. */
static int64_t keep_above(const float *x, int64_t n, const struct payload *kept, bool first, double threshold,
                          struct means *means) {
  const struct kernels *const kernels = active_kernels();
  const int32_t key = threshold_key(threshold);
  struct packing p = {.key = key, .dense = true, .indices = kept->indices, .values = kept->values};
  p.room = kept->capacity;
  struct tail_lanes lanes = {.count = 0};
  for (int64_t at = 0; at < n; at += PIECE) {
    const int64_t before = p.packed, length = min64(PIECE, n - at);
    p.base = at;
    if (first)
      kernels->pack(x + at, length, &p);
    else
      kernels->pack_entries(kept->indices + at, kept->values + at, length, NULL, &p);
    kernels->tail(kept->values + before, p.packed - before, threshold, key, INT32_MAX, &lanes);
  }
  struct tail_sums sums = {.count = 0};
  add_tail(&sums, &lanes);
  *means = means_of_tail(&sums, SUM_ALL);
  return p.packed;
}

struct staged select_stages(const float *gradient, float *x, int64_t n, const struct stage_fit *stages, int count,
                            int sums, const struct others *others, const struct payload *payload, void *workspace) {
  struct payload kept[2] = {lay_out(workspace, n), {NULL, NULL, 0}};
  struct staged result = {.threshold = 0};
  if (n == 0)
    return result;
  const struct moments moments = compute_moments(gradient, x, n, sums, 1);
  struct means means = means_of_moments(&moments, n, sums);
  result.sum_abs = means.of[MEAN] * means.count;
  int64_t left = n;
  bool packed = false;
  for (int m = 0; m < count; m++) {
    if (m) {
      left = keep_above(x, left, &kept[0], !packed, result.threshold, &means);
      packed = true;
      if (!left)
        return result;
    }
    result.threshold = next_threshold(result.threshold, threshold_of(&stages[m], others, &means));
    if (!isfinite(result.threshold))
      return result;
  }
  struct selection last = plain_selection(NULL, x, n, threshold_key(result.threshold));
  last.zero = gradient != NULL;
  if (packed && !active_kernels()->within(kept[0].indices, left, n)) { /* others had the workspace in between */
    result.count = -1;
    return result;
  }
  if (packed) {
    kept[0].capacity = last.n = last.cut = left;
    last.from = kept;
    last.x = gradient ? x : NULL;
    last.zero_key = INT32_MAX; /* nothing is zero yet */
  }
  result.count = run_selection(&last, payload, NULL, 1);
  return result;
}
