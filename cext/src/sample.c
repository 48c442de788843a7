#include "sample.h"
#include "histogram.h"

#include <math.h>

/* A well mixed number for each line, the same in every run (splitmix64). */
static uint64_t mix(uint64_t z) {
  z = (z + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* Where line j of `taken` begins: somewhere in its stratum of the vector. */
static int64_t line_of(int64_t j, int64_t taken, int64_t all) {
  int64_t first = j * all / taken, width = (j + 1) * all / taken - first;
  return (first + (int64_t)(mix((uint64_t)j) % (uint64_t)width)) * LANES;
}

int64_t take_sample(const float *gradient, const float *x, int64_t n, int64_t lines, float *sample) {
  int64_t all = n / LANES, taken = min64(lines, all);
  for (int64_t j = 0; j < taken; j++) {
    int64_t at = line_of(j, taken, all), soon = line_of(min64(j + 24, taken - 1), taken, all);
    __builtin_prefetch(x + soon);
    if (gradient)
      __builtin_prefetch(gradient + soon);
    for (int l = 0; l < LANES; l++)
      sample[j * LANES + l] = gradient ? x[at + l] + gradient[at + l] : x[at + l];
  }
  return taken * LANES;
}

/* A key that at least `wanted` elements of the sample reach, and not many more. */
static int32_t edge_below(const float *sample, int64_t n, int64_t wanted) {
  uint32_t count[2][BINS] = {{0}};
  for (int64_t i = 0; i + 2 <= n; i += 2) { /* n is a multiple of 16 */
    count[0][key_of(sample[i]) >> 20]++;
    count[1][key_of(sample[i + 1]) >> 20]++;
  }
  int64_t above = 0;
  for (int bin = BINS - 1; bin > 0; bin--)
    if ((above += count[0][bin] + count[1][bin]) >= wanted)
      return bin << 20;
  return 0;
}

/* Standard deviation of the number of sampled elements that reach `key`, from the counts a line. */
static double deviation(const struct sample_room *room, int64_t largest, int32_t key, int64_t lines) {
  double sum = 0, squares = 0, run = 0;
  int32_t line = -1;
  for (int64_t i = 0; i < largest; i++) {
    if (key_of(room->largest[i]) < key)
      continue;
    int32_t here = room->indices[i] / LANES;
    run = here == line ? run + 1 : 1;
    line = here;
    sum += 1;
    squares += 2 * run - 1; /* the difference of two squares */
  }
  return sqrt(fmax(1.0, squares - sum * sum / (double)lines));
}

static int64_t lines_for(int64_t n, int64_t k) {
  int64_t lines = k * 20 > n ? SAMPLE_LINES / 2 : SAMPLE_LINES / 4;
  return max64(min64(lines, n / LANES / 16), min64(512, n / LANES));
}

struct prediction predict_border(const float *gradient, const float *x, int64_t n, int64_t k,
                                 struct sample_room *room) {
  int64_t taken = take_sample(gradient, x, n, lines_for(n, k), room->values);
  double rank = (double)k / (double)n * (double)taken;
  int64_t middle = max64(1, (int64_t)rank);
  int64_t reserve = min64(taken, (int64_t)(rank + 16 * sqrt(rank) + 16)); /* 16: every line all or nothing */
  int32_t floor = edge_below(room->values, taken, reserve);
  struct packing p = {.key = floor - 1, .dense = k * 50 > n};
  p.indices = room->indices;
  p.values = room->largest;
  p.room = taken + WORD; /* whole registers are written */
  active_kernels()->pack(room->values, taken, &p);
  for (int64_t i = 0; i < p.packed; i++)
    room->keys[i] = key_of(room->largest[i]);
  struct prediction result = {.high = INT32_MAX};
  result.key = find_border_of_keys(room->keys, p.packed, middle, floor, INT32_MAX, room->scratch).key;
  double margin = 4 * deviation(room, p.packed, result.key, taken / LANES) + 4;
  int64_t low = min64(p.packed, (int64_t)(rank + margin) + 1), high = (int64_t)(rank - margin);
  result.low = find_border_of_keys(room->keys, p.packed, low, floor, INT32_MAX, room->scratch).key - 1;
  if (high >= 1)
    result.high = find_border_of_keys(room->keys, p.packed, high, floor, INT32_MAX, room->scratch).key;
  return result;
}
