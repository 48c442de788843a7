#include "walk.h"

enum {
  CHECK = 32768,      /* entries a task of the check */
  SMALLEST = 1024,    /* entries a chunk: small ones share a short list evenly, */
  LARGEST = 65536,    /* large ones let the processor's own prefetching run */
  USEFUL = 16384,     /* entries that are worth waking a thread for, */
  USEFUL_FAR = 2048,  /* fewer where most places are in no cache: */
  CACHED = 1 << 22,   /* numbers, parameters and state together */
  ALIGNED = ~(16 - 1) /* chunks and stretches begin at multiples of 16 places: no two threads share a vector */
};

struct walk start_walk(const struct entries *list, const float *parameters, const float *state, int64_t each, int64_t n,
                       int threads) {
  int64_t chunk = max64(SMALLEST, min64(LARGEST, list->count / (8 * threads)));
  return (struct walk){
      .list = *list,
      .n = n,
      .chunk = chunk,
      .checks = {.count = list->indices ? (list->count + CHECK - 1) / CHECK : 0},
      .chunks = {.count = (list->count + chunk - 1) / chunk},
      .future = INT64_MAX,
      .outside = -1,
      .parameters = parameters,
      .state = state,
      .each = each,
  };
}

struct refusal run_walk(struct walk *walk, void (*worker)(void *context), void *context, int threads) {
  const int64_t useful = walk->n * (1 + walk->each) > CACHED ? USEFUL_FAR : USEFUL;
  run_workers(worker, context, useful_threads(walk->list.count, useful, threads));
  int64_t future = walk->future;
  return (struct refusal){.outside = walk->outside, .future = future < INT64_MAX ? future : -1};
}

/* The first entry of [start, end) that was touched after this step. */
static int64_t find_future(const struct walk *walk, int64_t start, int64_t end) {
  for (int64_t i = start; i < end; i++) {
    __builtin_prefetch(walk->last_touched + walk->list.indices[min64(i + SOON, end - 1)]);
    if (walk->last_touched[walk->list.indices[i]] > walk->step)
      return i;
  }
  return INT64_MAX;
}

static void note_future(struct walk *walk, int64_t found) {
  int64_t known = walk->future;
  while (found < known && !atomic_compare_exchange_weak(&walk->future, &known, found))
    ;
}

/* One task of the check. Indices that ascend strictly from 0 or more to less
 * than n are all inside. */
static void check_part(struct walk *walk, int64_t start, int64_t end) {
  const int32_t *indices = walk->list.indices;
  const int64_t before = max64(start - 1, 0);
  if (indices[start] < 0 || indices[end - 1] >= walk->n || !active_kernels()->ascending(indices + before, end - before))
    walk->disorder = true;
  else if (walk->last_touched)
    note_future(walk, find_future(walk, start, end));
}

/* The whole check of a list that does not ascend, or leaves [0, n). */
static bool check_slowly(struct walk *walk) {
  for (int64_t i = 0; i < walk->list.count; i++)
    if ((int64_t)(uint32_t)walk->list.indices[i] >= walk->n) { /* a negative index is a huge unsigned one */
      walk->outside = i;
      return false;
    }
  if (walk->last_touched)
    note_future(walk, find_future(walk, 0, walk->list.count));
  return walk->future == INT64_MAX;
}

bool check_list(struct walk *walk) {
  for (int64_t task; (task = take_task(&walk->checks)) >= 0; atomic_fetch_add(&walk->checked, 1))
    check_part(walk, task * CHECK, min64(walk->list.count, (task + 1) * CHECK));
  wait_until(&walk->checked, walk->checks.count);
  if (!walk->disorder)
    return walk->future == INT64_MAX;
  return take_task(&walk->chunks) == 0 && check_slowly(walk);
}

/* The entry at which a chunk begins: the first that shares its 16 places with
 * entry `at`. */
static int64_t chunk_border(const struct walk *walk, int64_t at) {
  const int32_t *indices = walk->list.indices;
  if (at >= walk->list.count)
    return walk->list.count;
  if (!indices)
    return at;
  for (int32_t border = indices[at] & ALIGNED; at > 0 && indices[at - 1] >= border;)
    at--;
  return at;
}

bool next_chunk(struct walk *walk, int64_t *start, int64_t *end) {
  if (walk->disorder) { /* this worker has it all to itself, once */
    *start = *end;
    *end = walk->list.count;
    return *start < *end;
  }
  int64_t chunk = take_task(&walk->chunks);
  if (chunk < 0)
    return false;
  *start = chunk_border(walk, chunk * walk->chunk);
  *end = chunk_border(walk, (chunk + 1) * walk->chunk);
  return true;
}

/* Spreads the block's entries over the tile, one by one. */
static void spread_plainly(const struct block *block, struct tile *tile) {
  const int32_t *restrict indices = block->indices, base = (int32_t)block->first;
  const float *restrict values = block->gradients;
  float *restrict gradients = tile->gradients;
  uint32_t *restrict listed = tile->listed;
  memset(gradients, 0, (size_t)block->lanes * sizeof *gradients);
  memset(listed, 0, (size_t)block->lanes * sizeof *listed);
  for (int64_t i = 0; i < block->count; i++) { /* no condition but the count: no entry need wait for the one before */
    gradients[indices[i] - base] = values[i];
    listed[indices[i] - base] = UINT32_MAX;
  }
}

#if defined(__x86_64__)
#include "expand_table.h"
#include <immintrin.h>

enum { PLACES = 32 }; /* places that are spread at a time */

/* A bit for each of the next 32 places that is listed, from 32 entries of the list. */
__attribute__((target("avx2"))) static inline uint32_t listed_of(const int32_t *indices, int32_t base) {
  __m256i bits = _mm256_setzero_si256();
  for (int e = 0; e < PLACES; e += 8) { /* shifted by 32 and more, a bit is gone */
    const __m256i index = _mm256_loadu_si256((const __m256i *)(indices + e));
    bits = _mm256_or_si256(bits,
                           _mm256_sllv_epi32(_mm256_set1_epi32(1), _mm256_sub_epi32(index, _mm256_set1_epi32(base))));
  }
  __m128i four = _mm_or_si128(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  four = _mm_or_si128(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_or_si128(four, _mm_shuffle_epi32(four, 0xb1));
  return (uint32_t)_mm_cvtsi128_si32(four);
}

/* Spreading leaves memory idle otherwise. */
static inline void ask_for_stretch(const struct walk *walk, int64_t place, const int32_t *indices,
                                   const float *values) {
  __builtin_prefetch(indices + STRETCH_SOON / 2);
  __builtin_prefetch(values + STRETCH_SOON / 2);
  for (int64_t l = 0; l < PLACES; l += LANES)
    __builtin_prefetch(walk->parameters + place + l, 1);
  for (int64_t l = 0; l < PLACES * walk->each; l += LANES)
    __builtin_prefetch(walk->state + place * walk->each + l, 1);
}

/* The same, 32 places at a time: reads PLACES entries beyond the block's. */
__attribute__((target("avx2,popcnt"))) static void spread_wide(const struct walk *walk, const struct block *block,
                                                               struct tile *tile) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const float *values = block->gradients;
  const int32_t *indices = block->indices;
  int64_t left = block->count;
  for (int64_t at = 0; at < block->lanes; at += PLACES) {
    ask_for_stretch(walk, block->first + at + STRETCH_SOON, indices, values);
    uint32_t places = listed_of(indices, (int32_t)(block->first + at));
    int64_t count = __builtin_popcount(places);
    for (; count > left; count--) /* those above belong to the next block */
      places &= ~(UINT32_C(1) << (31 - __builtin_clz(places)));
    for (int part = 0; part < PLACES; part += 8) {
      const uint32_t here = places >> part & 0xff;
      const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)expand_table[here]));
      const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int32_t)here), lane), lane);
      const __m256 spread = _mm256_permutevar8x32_ps(_mm256_loadu_ps(values), order);
      _mm256_storeu_ps(tile->gradients + at + part, _mm256_and_ps(spread, _mm256_castsi256_ps(set)));
      _mm256_storeu_si256((__m256i *)(tile->listed + at + part), set);
      values += __builtin_popcount(here);
    }
    indices += count;
    left -= count;
  }
}

static void spread(const struct walk *walk, const struct block *block, struct tile *tile) {
  const int64_t beyond = walk->list.indices + walk->list.count - block->indices - block->count;
  if (active_kernels() == &kernels_serial || beyond < PLACES)
    spread_plainly(block, tile);
  else
    spread_wide(walk, block, tile);
}

/* Whole registers of places, and as many entries beyond the block's as are read. */
static bool told_by_list(const struct walk *walk, const struct block *block) {
  const int64_t beyond = walk->list.indices + walk->list.count - block->indices - block->count;
  return active_kernels() == &kernels_avx512 && beyond >= LANES && block->lanes % LANES == 0;
}
#else
static bool told_by_list(const struct walk *walk, const struct block *block) {
  (void)walk, (void)block;
  return false;
}

static void spread(const struct walk *walk, const struct block *block, struct tile *tile) {
  (void)walk;
  spread_plainly(block, tile);
}
#endif

/* A block whose entries are close together, spread over the tile where need be. */
static void take_stretch(const struct walk *walk, struct block *block, struct tile *tile) {
  const int64_t last = block->indices[block->count - 1];
  block->layout = STRETCH;
  block->first = block->indices[0] & ALIGNED;
  block->lanes = min64(walk->n - block->first, (last - block->first + 16) & ALIGNED);
  if (told_by_list(walk, block)) {
    block->layout = LISTED;
    return;
  }
  spread(walk, block, tile);
  block->gradients = tile->gradients;
  block->listed = tile->listed;
}

struct block next_block(const struct walk *walk, int64_t at, int64_t end, struct tile *tile) {
  struct block block = {
      .layout = WHOLE,
      .indices = walk->list.indices ? walk->list.indices + at : NULL,
      .gradients = walk->list.values + at,
      .ahead = end - at,
  };
  const int32_t *indices = block.indices;
  block.count = walk->disorder ? 1 : min64(TILE_LANES, end - at);
  block.first = indices ? indices[0] : at;
  if (indices && indices[block.count - 1] - indices[0] != block.count - 1) {
    block.count = min64(GATHERED, block.count);
    if (indices[block.count - 1] - indices[0] < block.count * STRETCHED)
      take_stretch(walk, &block, tile);
    else
      block.layout = SCATTERED;
  }
  if (!covers_gaps(&block))
    block.lanes = block.count;
  return block;
}
