#include "blocks.h"
#include "parallel.h"
#include "stream.h"

enum {
  PIECE = 1024,
  TAKEN = 2048,           /* blocks a task, and that are worth waking a thread for */
  STREAMED_BLOCKS = 8192, /* from which output goes past the caches: measured */
  TAKEN_AHEAD = 16,       /* of the list, that are asked for */
};

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
  bool zero, streamed;
  struct tasks chunks;
};

/* GCC makes the widest registers of an instruction set of it; of a loop over lanes it makes 16 stores. */
typedef int32_t places __attribute__((vector_size(LINE)));

static const places LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Block i of the list, of `length` elements, a constant for all but the vector's last: its places, its values, and 0
 * where it was. All before it are whole, so it begins at entry 16 i. */
static inline __attribute__((always_inline)) void take_one(const struct taking *job, int64_t i, int64_t length) {
  const int64_t start = (int64_t)job->blocks->indices[i] * LANES;
  const places place = LANE + (int32_t)start;
  memcpy(job->indices + i * LANES, &place, (size_t)length * sizeof *job->indices);
  memcpy(job->values + i * LANES, job->residual + start, (size_t)length * sizeof *job->values);
  if (job->zero)
    memset(job->residual + start, 0, (size_t)length * sizeof *job->residual);
}

/* A whole one, where output is more than caches hold and lies in lines. */
#define TAKE(isa, target)                                                                                              \
  target static void stream_one_##isa(const struct taking *job, int64_t i) {                                           \
    const int32_t start = job->blocks->indices[i] * LANES;                                                             \
    const places place = LANE + start;                                                                                 \
    stream_line_##isa(job->indices + i * LANES, &place);                                                               \
    stream_line_##isa(job->values + i * LANES, job->residual + start);                                                 \
    if (job->zero)                                                                                                     \
      memset(job->residual + start, 0, LINE);                                                                          \
  }                                                                                                                    \
  target static void take_##isa(const struct taking *job, int64_t first, int64_t end) {                                \
    const int32_t *list = job->blocks->indices;                                                                        \
    for (int64_t i = first; i < end; i++) {                                                                            \
      __builtin_prefetch(job->residual + (int64_t)list[min64(i + TAKEN_AHEAD, end - 1)] * LANES, 1);                   \
      const int64_t left = job->n - (int64_t)list[i] * LANES;                                                          \
      if (left < LANES)                                                                                                \
        take_one(job, i, left);                                                                                        \
      else if (job->streamed)                                                                                          \
        stream_one_##isa(job, i);                                                                                      \
      else                                                                                                             \
        take_one(job, i, LANES);                                                                                       \
    }                                                                                                                  \
  }

FOR_EACH_ISA(TAKE)

static void take_worker(void *context) {
  struct taking *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;)
    ACTIVE_ISA(take)(job, c * TAKEN, min64(job->blocks->count, (c + 1) * TAKEN));
  stream_done();
}

int64_t take_blocks(float *residual, int64_t n, const struct entries *blocks, bool zero, int32_t *indices,
                    float *values, int threads) {
  struct taking job = {
      .residual = residual, .values = values, .indices = indices, .blocks = blocks, .n = n, .zero = zero};
  const bool in_lines = (((uintptr_t)indices | (uintptr_t)values) & (LINE - 1)) == 0;
  job.streamed = in_lines && blocks->count >= STREAMED_BLOCKS;
  job.chunks.count = (blocks->count + TAKEN - 1) / TAKEN;
  run_workers(take_worker, &job, useful_threads(blocks->count, TAKEN, threads));
  if (blocks->count == 0)
    return 0;
  return (blocks->count - 1) * LANES + min64(LANES, n - (int64_t)blocks->indices[blocks->count - 1] * LANES);
}
