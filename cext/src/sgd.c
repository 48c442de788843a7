/* Sparse SGD (StellaTrain, SIGCOMM 2024, CPU sparse optimizer) in float32, in
 * the order of torch.optim.SGD: momentum, dampening, Nesterov, weight decay,
 * and momentum that decays for every step since a place was last touched. */
#include "walk.h"

#if defined(__x86_64__)
#include "sgd_avx512.h"
#endif

#include <math.h>

enum { AGES = 2048 };

/* A worker's own: what each lane of a block keeps of its momentum, and copies
 * of places far apart. */
struct lanes {
  float keep[TILE_LANES];
  uint32_t touched[TILE_LANES]; /* all ones, or 0 for a first touch */
  float parameters[GATHERED], momentum[GATHERED];
};

struct job {
  const struct sgd *sgd;
  struct walk walk;
};

/* Loops that are compiled for each instruction set, with a mask where not every lane is listed and without one where
 * all are. */
static inline __attribute__((always_inline)) void plain_lanes(const struct sgd *sgd, const struct block *block,
                                                              float *restrict parameters, const bool masked) {
  const float lr = (float)sgd->lr, penalty = (float)sgd->weight_decay;
  const uint32_t penalized = penalty != 0 ? UINT32_MAX : 0;
  const float *restrict gradients = block->gradients;
  const uint32_t *restrict listed = block->listed;
  for (int64_t i = 0; i < block->lanes; i++) {
    float gradient = choose(penalized, gradients[i] + penalty * parameters[i], gradients[i]);
    float moved = parameters[i] - lr * gradient;
    parameters[i] = masked ? choose(listed[i], moved, parameters[i]) : moved;
  }
}

static inline __attribute__((always_inline)) void momentum_lanes(const struct sgd *sgd, const struct block *block,
                                                                 const struct lanes *lanes, float *restrict parameters,
                                                                 float *restrict momentum, const bool masked) {
  const float lr = (float)sgd->lr, penalty = (float)sgd->weight_decay, factor = (float)sgd->momentum;
  const float fresh = (float)(1.0 - sgd->dampening);
  const bool nesterov = sgd->nesterov;
  const uint32_t penalized = penalty != 0 ? UINT32_MAX : 0;
  const float *restrict gradients = block->gradients, *restrict keep = lanes->keep;
  const uint32_t *restrict listed = block->listed, *restrict touched = lanes->touched;
  for (int64_t i = 0; i < block->lanes; i++) {
    float gradient = choose(penalized, gradients[i] + penalty * parameters[i], gradients[i]);
    float buffer = choose(touched[i], keep[i] * momentum[i] + fresh * gradient, gradient);
    float moved = parameters[i] - lr * (nesterov ? gradient + factor * buffer : buffer);
    parameters[i] = masked ? choose(listed[i], moved, parameters[i]) : moved;
    momentum[i] = masked ? choose(listed[i], buffer, momentum[i]) : buffer;
  }
}

#define UPDATE(isa, target)                                                                                            \
  target static void update_plain_##isa(const struct sgd *sgd, const struct block *block,                              \
                                        float *restrict parameters) {                                                  \
    if (block->layout == STRETCH)                                                                                      \
      plain_lanes(sgd, block, parameters, true);                                                                       \
    else                                                                                                               \
      plain_lanes(sgd, block, parameters, false);                                                                      \
  }                                                                                                                    \
  target static void update_momentum_##isa(const struct sgd *sgd, const struct block *block,                           \
                                           const struct lanes *lanes, float *restrict parameters,                      \
                                           float *restrict momentum) {                                                 \
    if (block->layout == STRETCH)                                                                                      \
      momentum_lanes(sgd, block, lanes, parameters, momentum, true);                                                   \
    else                                                                                                               \
      momentum_lanes(sgd, block, lanes, parameters, momentum, false);                                                  \
  }

FOR_EACH_ISA(UPDATE)

/* Copies a block's places, and asks for those that come later in the list. */
static void gather_places(const struct sgd *sgd, const struct block *block, struct lanes *lanes) {
  const int32_t *indices = block->indices;
  const float *momentum = sgd->momentum_buffer;
  for (int64_t i = 0; i < block->count; i++) {
    int64_t soon = indices[min64(i + SOON, block->ahead - 1)], place = indices[i];
    __builtin_prefetch(sgd->parameters + soon, 1);
    lanes->parameters[i] = sgd->parameters[place];
    if (momentum) {
      __builtin_prefetch(momentum + soon, 1);
      lanes->momentum[i] = momentum[place];
    }
  }
}

static void scatter_places(const struct sgd *sgd, const struct block *block, const struct lanes *lanes) {
  for (int64_t i = 0; i < block->count; i++) {
    sgd->parameters[block->indices[i]] = lanes->parameters[i];
    if (sgd->momentum_buffer)
      sgd->momentum_buffer[block->indices[i]] = lanes->momentum[i];
  }
}

/* What each listed place keeps of its momentum, by the steps since it was last
 * touched; it is touched now. `table` holds the powers of the first ages as far
 * as they were needed. */
static void decay_by_age(const struct sgd *sgd, const struct block *block, struct lanes *lanes, float *table) {
  for (int64_t i = 0; i < block->count; i++) {
    int64_t lane = lane_of(block, i);
    int32_t *last = &sgd->last_touched[place_of(block, i)];
    int64_t age = (int64_t)sgd->step - *last;
    lanes->touched[lane] = *last == -1 ? 0 : UINT32_MAX;
    *last = sgd->step;
    if (!sgd->lazy_decay)
      continue;
    if (age < AGES && table[age] < 0)
      table[age] = (float)pow(sgd->momentum, (double)age);
    lanes->keep[lane] = age < AGES ? table[age] : (float)pow(sgd->momentum, (double)age);
  }
}

static void update(const struct sgd *sgd, const struct walk *walk, const struct block *block, const struct lanes *lanes,
                   float *parameters, float *momentum) {
#if defined(__x86_64__)
  if (block->layout == LISTED) {
    sgd_by_list(sgd, walk, block, lanes->keep, lanes->touched, parameters, momentum);
    return;
  }
#else
  (void)walk;
#endif
  if (sgd->momentum_buffer)
    ACTIVE_ISA(update_momentum)(sgd, block, lanes, parameters, momentum);
  else
    ACTIVE_ISA(update_plain)(sgd, block, parameters);
}

static void step_block(const struct sgd *sgd, const struct walk *walk, const struct block *block, struct lanes *lanes) {
  if (block->layout == SCATTERED) {
    gather_places(sgd, block, lanes);
    update(sgd, walk, block, lanes, lanes->parameters, lanes->momentum);
    scatter_places(sgd, block, lanes);
  } else {
    float *momentum = sgd->momentum_buffer ? sgd->momentum_buffer + block->first : NULL;
    update(sgd, walk, block, lanes, sgd->parameters + block->first, momentum);
  }
}

static void sgd_worker(void *context) {
  struct job *job = context;
  const struct sgd *sgd = job->sgd;
  float table[AGES];
  struct tile tile;
  struct lanes lanes;
  for (int age = 0; age < AGES; age++)
    table[age] = -1.0f;
  for (int i = 0; i < TILE_LANES; i++) {
    lanes.keep[i] = (float)sgd->momentum;
    lanes.touched[i] = UINT32_MAX;
  }
  if (!check_list(&job->walk))
    return;
  for (int64_t start = 0, end = 0; next_chunk(&job->walk, &start, &end);)
    for (struct block block; start < end; start += block.count) {
      block = next_block(&job->walk, start, end, &tile);
      if (sgd->last_touched)
        decay_by_age(sgd, &block, &lanes, table);
      step_block(sgd, &job->walk, &block, &lanes);
    }
}

struct refusal sparse_sgd(const struct sgd *sgd, const struct entries *list, int64_t n, int threads) {
  struct job job = {
      .sgd = sgd,
      .walk = start_walk(list, sgd->parameters, sgd->momentum_buffer, sgd->momentum_buffer != NULL, n, threads)};
  job.walk.last_touched = sgd->lazy_decay ? sgd->last_touched : NULL;
  job.walk.step = sgd->step;
  return run_walk(&job.walk, sgd_worker, &job, threads);
}
