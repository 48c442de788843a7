#include "draw.h"
#include "mix.h"
#include "parallel.h"

enum { WORDS = DRAW_BLOCK / WORD, PIECE = SWEPT, BLOCKS_A_THREAD = 4, PLACES = 4 };

struct job {
  const float *gradient;
  float *x;
  int64_t n;
  const int64_t *ends;
  uint64_t seed;
  const struct payload *out;
  struct tasks blocks;
};

/* 1 if the place was free; it is taken then. */
static inline int64_t take_place(uint64_t *bits, uint32_t place) {
  const uint64_t word = bits[place / WORD], bit = UINT64_C(1) << place % WORD;
  bits[place / WORD] = word | bit;
  return !(word & bit);
}

/* The first `wanted` distinct places below `length` that the generator says. */
static void take_places(uint64_t *bits, int64_t length, int64_t wanted, uint64_t state) {
  uint32_t mask = DRAW_BLOCK - 1;
  while (mask / 2 >= length - 1 && mask > 0)
    mask /= 2;
  for (int64_t found = 0; found < wanted;) {
    state += MIX_STEP;
    uint64_t number = mixed(state);
    if (length == (int64_t)mask + 1 && found + PLACES <= wanted) {
      for (int i = 0; i < PLACES; i++, number >>= 16)
        found += take_place(bits, (uint32_t)number & mask);
      continue;
    }
    for (int i = 0; i < PLACES && found < wanted; i++, number >>= 16)
      if (((uint32_t)number & mask) < length)
        found += take_place(bits, (uint32_t)number & mask);
  }
}

/* A bit for each of the block's places: those that are drawn, or, where these are most, those that are not. */
static void draw_block(uint64_t *bits, int64_t length, int64_t count, uint64_t state) {
  const bool others = count > length / 2;
  memset(bits, 0, WORDS * sizeof *bits);
  take_places(bits, length, others ? length - count : count, state);
  for (int64_t w = 0; others && w * WORD < length; w++)
    bits[w] = ~bits[w] & (length - w * WORD >= WORD ? ~UINT64_C(0) : (UINT64_C(1) << (length - w * WORD)) - 1);
}

/* Entries of one word's places; returns how many. */
static int64_t give(const struct job *job, uint64_t bits, int64_t base, int64_t at) {
  int32_t *const indices = job->out->indices + at;
  float *const values = job->out->values + at;
  int64_t given = 0;
  for (; bits; bits &= bits - 1, given++) {
    const int64_t place = base + __builtin_ctzll(bits);
    indices[given] = (int32_t)place;
    values[given] = job->x ? job->x[place] : 0.0f;
    if (job->gradient)
      job->x[place] = 0.0f;
  }
  return given;
}

static void draw_worker(void *context) {
  struct job *job = context;
  uint64_t bits[WORDS];
  for (int64_t b; (b = take_task(&job->blocks)) >= 0;) {
    const int64_t start = b * DRAW_BLOCK, length = min64(DRAW_BLOCK, job->n - start);
    int64_t at = b ? job->ends[b - 1] : 0;
    draw_block(bits, length, job->ends[b] - at, mixed(job->seed + (uint64_t)(b + 1) * MIX_STEP));
    for (int64_t piece = 0; piece < length; piece += PIECE) {
      const int64_t end = min64(length, piece + PIECE);
      if (job->gradient)
        active_kernels()->add(job->gradient + start + piece, job->x + start + piece, end - piece);
      for (int64_t w = piece / WORD; w * WORD < end; w++)
        at += give(job, bits[w], start + w * WORD, at);
    }
  }
}

void select_drawn(const float *gradient, float *x, int64_t n, const int64_t *ends, uint64_t seed,
                  const struct payload *out, int threads) {
  struct job job = {.gradient = gradient, .x = x, .n = n, .ends = ends, .seed = seed, .out = out};
  job.blocks.count = draw_blocks(n);
  run_workers(draw_worker, &job, useful_threads(n, BLOCKS_A_THREAD * DRAW_BLOCK, threads));
}
