/* Sparse Adam and AdamW (StellaTrain, SIGCOMM 2024, CPU sparse optimizer):
 * roots and divisions run at full vector width whatever the list. IEEE
 * operations in one order, never contracted: the same bits on every instruction
 * set. */
#include "walk.h"

#if defined(__x86_64__)
#include "adam_avx2.h"
#include "adam_avx512.h"
#endif

#include <math.h>

enum { AGES = 2048 };

/* lr / (1 - beta1^age) and 1 / sqrt(1 - beta2^age) */
struct correction {
  float rate, root;
};

/* A worker's own: the corrections of a block's lanes, and copies of places far
 * apart. */
struct lanes {
  float rate[TILE_LANES], root[TILE_LANES];
  float parameters[GATHERED], moments[2 * GATHERED];
};

struct job {
  const struct adam *adam;
  struct walk walk;
};

static struct correction correction_of(const struct adam *adam, int32_t age) {
  return (struct correction){
      .rate = (float)(adam->lr / (1.0 - pow(adam->beta1, age))),
      .root = (float)(1.0 / sqrt(1.0 - pow(adam->beta2, age))),
  };
}

/* One loop, compiled for each instruction set, with a mask where not every lane is listed and without one where all
 * are.
 */
static inline __attribute__((always_inline)) void update_lanes(const struct adam *adam, const struct block *block,
                                                               const struct lanes *lanes, float *restrict parameters,
                                                               float *restrict moments, const int64_t from,
                                                               const bool masked) {
  const float fresh = (float)(1.0 - adam->beta1), keep = (float)adam->beta2, fresh_square = (float)(1.0 - adam->beta2);
  const float epsilon = (float)adam->epsilon;
  const float penalty = adam->decoupled ? 0.0f : (float)adam->weight_decay;
  const float shrink = adam->decoupled ? (float)(1.0 - adam->lr * adam->weight_decay) : 1.0f;
  const uint32_t penalized = penalty != 0 ? UINT32_MAX : 0;
  const float *restrict gradients = block->gradients;
  const float *restrict rate = lanes->rate, *restrict root = lanes->root;
  const uint32_t *restrict listed = block->listed;
  for (int64_t i = from; i < block->lanes; i++) {
    float gradient = choose(penalized, gradients[i] + penalty * parameters[i], gradients[i]);
    float mean = moments[2 * i] + fresh * (gradient - moments[2 * i]);
    float square = keep * moments[2 * i + 1] + fresh_square * (gradient * gradient);
    float moved = shrink * parameters[i] - rate[i] * (mean / (sqrtf(square) * root[i] + epsilon));
    parameters[i] = masked ? choose(listed[i], moved, parameters[i]) : moved;
    moments[2 * i] = masked ? choose(listed[i], mean, moments[2 * i]) : mean;
    moments[2 * i + 1] = masked ? choose(listed[i], square, moments[2 * i + 1]) : square;
  }
}

#define UPDATE(isa, target)                                                                                            \
  target static void update_##isa(const struct adam *adam, const struct block *block, const struct lanes *lanes,       \
                                  float *restrict parameters, float *restrict moments, int64_t from) {                 \
    if (block->layout == STRETCH)                                                                                      \
      update_lanes(adam, block, lanes, parameters, moments, from, true);                                               \
    else                                                                                                               \
      update_lanes(adam, block, lanes, parameters, moments, from, false);                                              \
  }

FOR_EACH_ISA(UPDATE)

static void update(const struct adam *adam, const struct walk *walk, const struct block *block,
                   const struct lanes *lanes, float *parameters, float *moments) {
  int64_t done = 0;
#if defined(__x86_64__)
  if (block->layout == LISTED) {
    adam_by_list(adam, walk, block, lanes->rate, lanes->root, parameters, moments);
    return;
  }
  if (active_kernels() != &kernels_serial) /* AVX-512 divides and takes roots no faster */
    done = adam_by_hand(adam, block, lanes->rate, lanes->root, parameters, moments);
#else
  (void)walk;
#endif
  if (done < block->lanes)
    ACTIVE_ISA(update)(adam, block, lanes, parameters, moments, done);
}

/* Copies a block's places, and asks for those that come later in the list. */
static void gather_places(const struct adam *adam, const struct block *block, struct lanes *lanes) {
  const int32_t *indices = block->indices;
  for (int64_t i = 0; i < block->count; i++) {
    int64_t soon = indices[min64(i + SOON, block->ahead - 1)], place = indices[i];
    __builtin_prefetch(adam->parameters + soon, 1);
    __builtin_prefetch(adam->moments + 2 * soon, 1);
    lanes->parameters[i] = adam->parameters[place];
    memcpy(lanes->moments + 2 * i, adam->moments + 2 * place, 2 * sizeof(float));
  }
}

static void scatter_places(const struct adam *adam, const struct block *block, const struct lanes *lanes) {
  for (int64_t i = 0; i < block->count; i++) {
    int64_t place = block->indices[i];
    adam->parameters[place] = lanes->parameters[i];
    memcpy(adam->moments + 2 * place, lanes->moments + 2 * i, 2 * sizeof(float));
  }
}

/* Each listed place's own corrections; `table` holds those of the first ages as
 * far as they were needed. */
static void correct_by_age(const struct adam *adam, const struct block *block, struct lanes *lanes,
                           struct correction *table) {
  for (int64_t i = 0; i < block->count; i++) {
    int32_t *updates = &adam->updates[place_of(block, i)];
    int32_t age = *updates < INT32_MAX ? ++*updates : INT32_MAX;
    struct correction own;
    if (age >= AGES) {
      own = correction_of(adam, age);
    } else {
      if (table[age].root == 0)
        table[age] = correction_of(adam, age);
      own = table[age];
    }
    lanes->rate[lane_of(block, i)] = own.rate;
    lanes->root[lane_of(block, i)] = own.root;
  }
}

static void step_block(const struct adam *adam, const struct walk *walk, const struct block *block,
                       struct lanes *lanes) {
  if (block->layout == SCATTERED) {
    gather_places(adam, block, lanes);
    update(adam, walk, block, lanes, lanes->parameters, lanes->moments);
    scatter_places(adam, block, lanes);
  } else {
    update(adam, walk, block, lanes, adam->parameters + block->first, adam->moments + 2 * block->first);
  }
}

static void adam_worker(void *context) {
  struct job *job = context;
  const struct adam *adam = job->adam;
  struct correction table[AGES] = {{0, 0}}, common = correction_of(adam, adam->step);
  struct tile tile;
  struct lanes lanes;
  for (int i = 0; i < TILE_LANES; i++) {
    lanes.rate[i] = common.rate;
    lanes.root[i] = common.root;
  }
  if (!check_list(&job->walk))
    return;
  for (int64_t start = 0, end = 0; next_chunk(&job->walk, &start, &end);)
    for (struct block block; start < end; start += block.count) {
      block = next_block(&job->walk, start, end, &tile);
      if (adam->updates)
        correct_by_age(adam, &block, &lanes, table);
      step_block(adam, &job->walk, &block, &lanes);
    }
}

struct refusal sparse_adam(const struct adam *adam, const struct entries *list, int64_t n, int threads) {
  struct job job = {.adam = adam, .walk = start_walk(list, adam->parameters, adam->moments, 2, n, threads)};
  return run_walk(&job.walk, adam_worker, &job, threads);
}
