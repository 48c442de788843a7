#include "sample.h"
#include "histogram.h"
#include "mix.h"
#include "parallel.h"

#include <math.h>

enum {
  SOON = 32, /* grains that are under way at once */
  SKIP = 8,
  TIED = 48, /* elements of a sample */
  STRIDED_CHUNK = 16384,
};

/* Where grain j begins: somewhere in stratum j, of `step` / 2^32 grains. No division: it would cost more than a grain.
 */
static int64_t grain_of(int64_t j, uint64_t step) {
  uint64_t first = (uint64_t)j * step >> 32, width = ((uint64_t)(j + 1) * step >> 32) - first;
  return (int64_t)(first + ((mixed((uint64_t)(j + 1) * MIX_STEP) >> 32) * width >> 32)) * GRAIN;
}

/* `count` elements; the compiler knows how many. */
static inline __attribute__((always_inline)) void copy_from(const struct sampled *of, int64_t at, const int64_t count,
                                                            float *restrict out) {
  if (of->bf16)
    for (int64_t l = 0; l < count; l++)
      out[l] = bf16_at(of->bf16, at + l);
  else
    memcpy(out, of->x + at, (size_t)count * sizeof *out);
  if (of->gradient)
    for (int64_t l = 0; l < count; l++)
      out[l] += of->gradient[at + l];
}

static inline void ask_for(const struct sampled *of, int64_t at) {
  if (of->bf16)
    __builtin_prefetch(of->bf16->values + at);
  else
    __builtin_prefetch(of->x + at);
  if (of->gradient)
    __builtin_prefetch(of->gradient + at);
}

/* Asks for grain j, and says where it begins. */
static inline int64_t ask_for_grain(const struct sampled *of, int64_t j, uint64_t step) {
  const int64_t at = grain_of(j, step);
  for (int l = 0; l < GRAIN; l += LANES)
    ask_for(of, at + l);
  ask_for(of, at + GRAIN - 1); /* a vector need not begin at a cache line */
  return at;
}

int64_t take_sample(const struct sampled *of, int64_t n, int64_t grains, int64_t groups, float *sample) {
  int64_t all = n / GRAIN, taken = min64(grains, all), coming[SOON];
  uint64_t step = taken ? ((uint64_t)all << 32) / (uint64_t)taken : 0;
  const int64_t each = taken / groups;
  for (int64_t j = 0; j < min64(SOON, taken); j++)
    coming[j] = ask_for_grain(of, j, step);
  for (int64_t j = 0, group = 0, within = 0; j < taken; j++) {
    const int64_t at = coming[j % SOON];
    if (j + SOON < taken)
      coming[j % SOON] = ask_for_grain(of, j + SOON, step);
    copy_from(of, at, GRAIN, sample + (within < each ? group * each + within : j) * GRAIN);
    if (++group == groups)
      group = 0, within++;
  }
  return taken * GRAIN;
}

struct strided_job {
  const struct strided *strided;
  struct tasks chunks;
};

static void strided_worker(void *context) {
  struct strided_job *job = context;
  const struct strided *s = job->strided;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(s->count, (c + 1) * STRIDED_CHUNK);
    for (int64_t j = c * STRIDED_CHUNK; j < end; j++) {
      int64_t at = s->start + j * s->stride, soon = s->start + min64(j + SOON, end - 1) * s->stride;
      ask_for(&s->of, soon);
      copy_from(&s->of, at, 1, s->out + j);
    }
  }
}

void take_strided(const struct strided *strided, int threads) {
  struct strided_job job = {.strided = strided};
  job.chunks.count = (strided->count + STRIDED_CHUNK - 1) / STRIDED_CHUNK;
  run_workers(strided_worker, &job, useful_threads(strided->count, STRIDED_CHUNK, threads));
}

/* A key that about `wanted` elements of the sample reach, most often more: counted in every eighth. */
static int32_t edge_below(const float *sample, int64_t n, int64_t wanted) {
  uint32_t count[BINS] = {0};
  wanted = wanted / SKIP + (int64_t)(4 * sqrt((double)wanted / SKIP)) + 4;
  for (int64_t i = 0; i < n; i += SKIP)
    count[key_of(sample[i]) >> 20]++;
  int64_t above = 0;
  for (int bin = BINS - 1; bin > 0; bin--)
    if ((above += count[bin]) >= wanted)
      return bin << 20;
  return 0;
}

/* Standard deviation of the number of sampled elements that reach `key`, from the counts a grain. */
static double deviation(const struct sample_room *room, int64_t largest, int32_t key, int64_t grains) {
  double sum = 0, squares = 0, run = 0;
  int32_t grain = -1;
  for (int64_t i = 0; i < largest; i++) {
    if (key_of(room->largest[i]) < key)
      continue;
    int32_t here = room->indices[i] / GRAIN;
    run = here == grain ? run + 1 : 1;
    grain = here;
    sum += 1;
    squares += 2 * run - 1; /* the difference of two squares */
  }
  return sqrt(fmax(1.0, squares - sum * sum / (double)grains));
}

static int64_t grains_for(int64_t n, int64_t k) {
  int64_t grains = k * 20 > n ? SAMPLE_GRAINS / 2 : SAMPLE_GRAINS / 4;
  return max64(min64(grains, n / GRAIN / 16), min64(256, n / GRAIN));
}

struct prediction predict_border(const struct sampled *of, int64_t n, int64_t k, struct sample_room *room) {
  int64_t taken = take_sample(of, n, grains_for(n, k), 1, room->values);
  double rank = (double)k / (double)n * (double)taken;
  int64_t middle = max64(1, (int64_t)rank);
  int64_t reserve =
      min64(taken, (int64_t)(rank + 24 * sqrt(rank) + 32)); /* 24 = 4 sqrt(32): every grain all or nothing */
  int32_t floor = edge_below(room->values, taken, reserve);
  struct packing p = {.key = floor - 1, .dense = k * 50 > n};
  p.indices = room->indices;
  p.values = room->largest;
  p.room = taken + WORD; /* whole registers are written */
  active_kernels()->pack(room->values, taken, &p);
  if (p.packed < reserve) { /* every eighth was no picture of the sample */
    p.key = -1;
    p.packed = 0;
    active_kernels()->pack(room->values, taken, &p);
  }
  for (int64_t i = 0; i < p.packed; i++)
    room->keys[i] = key_of(room->largest[i]);
  struct prediction result = {.high = INT32_MAX};
  struct border border = find_border_of_keys(room->keys, p.packed, middle, room->scratch);
  result.key = border.key;
  result.tied = border.ties >= TIED;
  double margin = 4 * deviation(room, p.packed, result.key, taken / GRAIN) + 4;
  int64_t low = min64(p.packed, (int64_t)(rank + margin) + 1), high = (int64_t)(rank - margin);
  result.low = find_border_of_keys(room->keys, p.packed, low, room->scratch).key - 1;
  if (high >= 1)
    result.high = find_border_of_keys(room->keys, p.packed, high, room->scratch).key;
  return result;
}
