/* Sparse Adam and AdamW: only the listed places are read and written, in float32, in the order of torch.optim.Adam. */
#include "parallel.h"
#include "sparse.h"

#include <math.h>

enum { CHUNK = 16384, AGES = 512, P = 0, M = 1, V = 2, T = 3, WIDTH = 4, PREFETCH = 16 };

/* What depends on the number of updates only. */
struct correction {
  float step_size; /* lr / (1 - beta1^t) */
  float root;      /* sqrt(1 - beta2^t) */
};

struct job {
  const struct adam *adam;
  const struct entries *list;
  struct tasks chunks;
};

static struct correction correction_of(const struct adam *adam, double t) {
  return (struct correction){.step_size = (float)(adam->lr / (1.0 - pow(adam->beta1, t))),
                             .root = (float)sqrt(1.0 - pow(adam->beta2, t))};
}

/* The first ages are tabulated; the first use of each fills its place. */
static struct correction correction_at_age(const struct adam *adam, float t, struct correction *table) {
  if (t >= AGES)
    return correction_of(adam, (double)t);
  struct correction *entry = &table[(int)t];
  if (entry->root == 0.0f)
    *entry = correction_of(adam, (double)t);
  return *entry;
}

static void update(const struct adam *adam, float *state, float *parameter, float gradient,
                   const struct correction *correction) {
  const float keep1 = (float)(1.0 - adam->beta1), beta2 = (float)adam->beta2, keep2 = (float)(1.0 - adam->beta2);
  float p = *parameter;
  if (adam->weight_decay != 0 && adam->decoupled)
    p = p * (float)(1.0 - adam->lr * adam->weight_decay);
  else if (adam->weight_decay != 0)
    gradient = gradient + (float)adam->weight_decay * p;
  state[M] = state[M] + keep1 * (gradient - state[M]);
  state[V] = beta2 * state[V] + keep2 * (gradient * gradient);
  float denominator = sqrtf(state[V]) / correction->root + (float)adam->epsilon;
  *parameter = p - correction->step_size * (state[M] / denominator);
}

static void adam_worker(void *context) {
  struct job *job = context;
  const struct adam *adam = job->adam;
  const int32_t *indices = job->list->indices;
  struct correction table[AGES] = {{0, 0}}, correction = correction_of(adam, (double)adam->step);
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(job->list->count, (c + 1) * CHUNK);
    for (int64_t i = c * CHUNK; i < end; i++) {
      int64_t soon = indices[min64(i + PREFETCH, end - 1)], index = indices[i];
      __builtin_prefetch(adam->state + soon * WIDTH, 1);
      if (adam->parameters)
        __builtin_prefetch(adam->parameters + soon, 1);
      float *state = adam->state + index * WIDTH;
      state[T] += 1.0f;
      if (adam->own_age)
        correction = correction_at_age(adam, state[T], table);
      update(adam, state, adam->parameters ? adam->parameters + index : state + P, job->list->values[i], &correction);
    }
  }
}

void sparse_adam(const struct adam *adam, const struct entries *list, bool ascending, int threads) {
  struct job job = {.adam = adam, .list = list};
  job.chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(adam_worker, &job, ascending ? useful_threads(list->count, CHUNK, threads) : 1);
}
