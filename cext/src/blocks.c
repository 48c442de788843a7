#include "blocks.h"
#include "parallel.h"

enum { PIECE = 1024, TAKEN = 8192 };

/* The vector's last block, where it is not whole: what is missing counts as zeros. */
static float score_rest(const struct kernels *kernels, const float *gradient, float *x, int64_t length) {
  float rest[LANES] = {0}, score;
  if (gradient)
    kernels->add(gradient, x, length);
  memcpy(rest, x, (size_t)length * sizeof *rest);
  kernels->block_scores(NULL, rest, 1, &score);
  return score;
}

/* Scores are packed while they and their blocks are in the first cache. */
int64_t pack_blocks(const struct kernels *kernels, const struct selection *s, int64_t at, int64_t end,
                    struct packing *p) {
  while (at < end && p->room - p->packed >= 2 * WORD) {
    float scores[PIECE];
    int64_t blocks = min64(end - at, min64(PIECE, (p->room - p->packed) / WORD * WORD)), first = at * LANES;
    int64_t whole = min64(blocks, (s->elements - first) / LANES);
    const float *gradient = s->gradient ? s->gradient + first : NULL;
    kernels->block_scores(gradient, s->x + first, whole, scores);
    if (whole < blocks)
      scores[whole] = score_rest(kernels, gradient ? gradient + whole * LANES : NULL, s->x + first + whole * LANES,
                                 s->elements % LANES);
    p->base = at;
    at += kernels->pack(scores, blocks, p); /* all: there is room */
  }
  return at;
}

int64_t select_blocks(const float *gradient, float *x, int64_t n, int32_t key, const struct payload *payload,
                      int threads) {
  struct selection s = plain_selection(gradient, x, blocks_of(n), key);
  s.elements = n;
  s.zero = false;
  return run_selection(&s, payload, NULL, threads);
}

struct taking {
  float *residual, *values;
  int32_t *indices;
  const struct entries *blocks;
  int64_t n;
  bool zero;
  struct tasks chunks;
};

/* Every block but the vector's last is whole, so block i of the list begins at entry 16 i. */
static void take_worker(void *context) {
  struct taking *job = context;
  const int32_t *list = job->blocks->indices;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(job->blocks->count, (c + 1) * TAKEN);
    for (int64_t i = c * TAKEN; i < end; i++) {
      int64_t start = (int64_t)list[i] * LANES, length = min64(LANES, job->n - start);
      __builtin_prefetch(job->residual + (int64_t)list[min64(i + 16, end - 1)] * LANES, 1);
      for (int64_t l = 0; l < length; l++)
        job->indices[i * LANES + l] = (int32_t)(start + l);
      memcpy(job->values + i * LANES, job->residual + start, (size_t)length * sizeof *job->values);
      if (job->zero)
        memset(job->residual + start, 0, (size_t)length * sizeof *job->residual);
    }
  }
}

int64_t take_blocks(float *residual, int64_t n, const struct entries *blocks, bool zero, int32_t *indices,
                    float *values, int threads) {
  struct taking job = {
      .residual = residual, .values = values, .indices = indices, .blocks = blocks, .n = n, .zero = zero};
  job.chunks.count = (blocks->count + TAKEN - 1) / TAKEN;
  run_workers(take_worker, &job, useful_threads(blocks->count, TAKEN, threads));
  if (blocks->count == 0)
    return 0;
  return (blocks->count - 1) * LANES + min64(LANES, n - (int64_t)blocks->indices[blocks->count - 1] * LANES);
}
