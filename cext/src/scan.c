#include "scan.h"

#include "topk.h"

#include <math.h>

/* Numbers of scores, and their values, which only the exact top-k needs; whole registers are written. */
static int64_t room_of(int64_t n, const struct scan *scan) { return max64(scan->k, min64(scan->most, n)) + WORD; }

int64_t scan_workspace_bytes(int64_t n, const struct scan *scan) {
  return topk_workspace_bytes(n, scan->k) + (room_of(n, scan) + 1) * (int64_t)(sizeof(int32_t) + sizeof(float));
}

/* How many of n ascending numbers are below this one. */
static int64_t count_below(const int32_t *numbers, int64_t n, int64_t limit) {
  int64_t low = 0;
  for (int64_t high = n; low < high;) {
    const int64_t middle = low + (high - low) / 2;
    if (numbers[middle] < limit)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static void write_places(const int32_t *places, const int32_t *numbers, int64_t count, int32_t *out) {
  for (int64_t i = 0; i < count; i++)
    out[i] = places[numbers[i]];
}

static void take_in_turn(const struct scored *scored, const struct scan *scan, const struct payload *room,
                         int64_t above, int32_t *out) {
  struct packing packing = {.key = scan->key,
                            .zero_key = INT32_MAX,
                            .indices = room->indices,
                            .values = room->values,
                            .room = room->capacity};
  active_kernels()->pack(scored->scores, scored->n, &packing);
  const int64_t start = count_below(scored->places, scored->n, scan->start);
  const int64_t first = count_below(room->indices, above, start), wrapped = max64(0, first + scan->k - above);
  write_places(scored->places, room->indices, wrapped, out);
  write_places(scored->places, room->indices + first, scan->k - wrapped, out + wrapped);
}

static float take_largest(const struct scored *scored, const struct scan *scan, const struct payload *room,
                          void *workspace, int32_t *out, int threads) {
  topk(NULL, (float *)(uintptr_t)scored->scores, scored->n, scan->k, room, workspace, threads); /* only read */
  write_places(scored->places, room->indices, scan->k, out);
  int32_t lowest = INT32_MAX;
  for (int64_t i = 0; i < scan->k; i++) {
    const int32_t key = key_of(room->values[i]);
    lowest = key < lowest ? key : lowest;
  }
  return float_of((uint32_t)lowest);
}

struct scanned scan_select(const struct scored *scored, const struct scan *scan, int32_t *out, void *workspace,
                           int threads) {
  const struct kernels *kernels = active_kernels();
  const int64_t capacity = room_of(scored->n, scan);
  int32_t *const indices = (int32_t *)(((uintptr_t)workspace + 3) / 4 * 4);
  const struct payload room = {.indices = indices, .values = (float *)(indices + capacity), .capacity = capacity};
  const int32_t largest = kernels->max_key(scored->scores, scored->n);
  struct scanned found = {.above = kernels->count_above(scored->scores, scored->n, scan->key),
                          .lowest = NAN,
                          .largest = float_of((uint32_t)largest)};
  if (scan->k <= found.above && found.above <= scan->most && largest < KEY_INFINITY)
    take_in_turn(scored, scan, &room, found.above, out);
  else
    found.lowest = take_largest(scored, scan, &room, room.values + capacity, out, threads);
  return found;
}
