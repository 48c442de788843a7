/* Adam on pairs of moments: the listed places are gathered into a block on the stack, worked on as vectors, and put
 * back, so that the roots and divisions run at full width whatever the list. Without a list the vectors are worked on
 * where they are. IEEE operations in one order, never contracted: the same bits on every instruction set. */
#include "parallel.h"
#include "sparse.h"

#include <math.h>

enum { CHUNK = 16384, BLOCK = 512, AGES = 2048, SOON = 48 };

/* Copies of a block's places, and its corrections: lr / (1 - beta1^age) and 1 / sqrt(1 - beta2^age). */
struct block {
  float parameters[BLOCK], moments[2 * BLOCK], rate[BLOCK], root[BLOCK];
};

struct correction {
  float rate, root;
};

struct job {
  const struct adam_pairs *adam;
  const struct entries *list;
  int64_t block;
  struct tasks chunks;
};

static struct correction correction_of(const struct adam_pairs *adam, int32_t age) {
  return (struct correction){
      .rate = (float)(adam->lr / (1.0 - pow(adam->beta1, age))),
      .root = (float)(1.0 / sqrt(1.0 - pow(adam->beta2, age))),
  };
}

#define UPDATE(isa, target)                                                                                            \
  target static void update_##isa(const struct adam_pairs *adam, const struct block *b, float *restrict parameters,    \
                                  float *restrict moments, const float *restrict gradients, int64_t n) {               \
    const float fresh = (float)(1.0 - adam->beta1), keep = (float)adam->beta2,                                         \
                fresh_square = (float)(1.0 - adam->beta2);                                                             \
    const float epsilon = (float)adam->epsilon;                                                                        \
    const float penalty = adam->decoupled ? 0.0f : (float)adam->weight_decay;                                          \
    const float shrink = adam->decoupled ? (float)(1.0 - adam->lr * adam->weight_decay) : 1.0f;                        \
    const bool penalized = penalty != 0;                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      float gradient = penalized ? gradients[i] + penalty * parameters[i] : gradients[i];                              \
      float mean = moments[2 * i] + fresh * (gradient - moments[2 * i]);                                               \
      float square = keep * moments[2 * i + 1] + fresh_square * (gradient * gradient);                                 \
      moments[2 * i] = mean;                                                                                           \
      moments[2 * i + 1] = square;                                                                                     \
      parameters[i] = shrink * parameters[i] - b->rate[i] * (mean / (sqrtf(square) * b->root[i] + epsilon));           \
    }                                                                                                                  \
  }

#if defined(__x86_64__)
UPDATE(avx512, __attribute__((target("avx512f,prefer-vector-width=512"))))
UPDATE(avx2, __attribute__((target("avx2"))))
#endif
UPDATE(serial, )

typedef void update_function(const struct adam_pairs *adam, const struct block *block, float *restrict parameters,
                             float *restrict moments, const float *restrict gradients, int64_t n);

static update_function *active_update(void) {
#if defined(__x86_64__)
  const char *name = active_kernels()->name;
  if (strcmp(name, "avx512") == 0)
    return update_avx512;
  if (strcmp(name, "avx2") == 0)
    return update_avx2;
#endif
  return update_serial;
}

/* Copies n places, and asks for those that come next in the list. */
static void gather_block(const struct adam_pairs *adam, const int32_t *places, struct block *b, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t place = places[i];
    if (i + SOON < n) {
      __builtin_prefetch(adam->parameters + places[i + SOON], 1);
      __builtin_prefetch(adam->moments + 2 * (int64_t)places[i + SOON], 1);
    }
    b->parameters[i] = adam->parameters[place];
    memcpy(b->moments + 2 * i, adam->moments + 2 * place, 2 * sizeof(float));
  }
}

static void scatter_block(const struct adam_pairs *adam, const int32_t *places, const struct block *b, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t place = places[i];
    adam->parameters[place] = b->parameters[i];
    memcpy(adam->moments + 2 * place, b->moments + 2 * i, 2 * sizeof(float));
  }
}

/* Each place's own corrections; `table` holds those of the first ages as far as they were needed. */
static void correct_by_age(const struct adam_pairs *adam, const int32_t *places, int64_t first, struct block *b,
                           int64_t n, struct correction *table) {
  for (int64_t i = 0; i < n; i++) {
    int32_t *updates = &adam->updates[places ? places[i] : first + i];
    int32_t age = *updates < INT32_MAX ? ++*updates : INT32_MAX;
    struct correction own;
    if (age >= AGES) {
      own = correction_of(adam, age);
    } else {
      if (table[age].root == 0)
        table[age] = correction_of(adam, age);
      own = table[age];
    }
    b->rate[i] = own.rate;
    b->root[i] = own.root;
  }
}

static void adam_worker(void *context) {
  struct job *job = context;
  const struct adam_pairs *adam = job->adam;
  const struct entries *list = job->list;
  update_function *update = active_update();
  struct correction table[AGES] = {{0, 0}}, common = correction_of(adam, adam->step);
  struct block block;
  for (int i = 0; i < BLOCK; i++) {
    block.rate[i] = common.rate;
    block.root[i] = common.root;
  }
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(list->count, (c + 1) * CHUNK);
    for (int64_t first = c * CHUNK; first < end; first += job->block) {
      int64_t n = min64(job->block, end - first);
      const int32_t *places = list->indices ? list->indices + first : NULL;
      if (adam->updates)
        correct_by_age(adam, places, first, &block, n, table);
      if (!places) {
        update(adam, &block, adam->parameters + first, adam->moments + 2 * first, list->values + first, n);
        continue;
      }
      gather_block(adam, places, &block, n);
      update(adam, &block, block.parameters, block.moments, list->values + first, n);
      scatter_block(adam, places, &block, n);
    }
  }
}

void adam_pairs(const struct adam_pairs *adam, const struct entries *list, int64_t n, bool ascending, int threads) {
  struct entries whole = {.values = list->values, .count = list->count};
  bool everything = ascending && list->count == n; /* then the list says nothing */
  struct job job = {.adam = adam, .list = everything ? &whole : list, .block = ascending ? BLOCK : 1};
  job.chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(adam_worker, &job, ascending ? useful_threads(list->count, CHUNK, threads) : 1);
}
