/* Sparse SGD: only the listed places are read and written, in float32, in the order of torch.optim.SGD. */
#include "parallel.h"
#include "sparse.h"

#include <math.h>

enum { CHUNK = 16384, AGES = 256 };

struct job {
  const struct sgd *sgd;
  const struct entries *list;
  struct tasks chunks;
};

int64_t find_future_touch(const struct sgd *sgd, const struct entries *list) {
  for (int64_t i = 0; sgd->last_touched && i < list->count; i++)
    if (sgd->last_touched[list->indices[i]] > sgd->step)
      return i;
  return -1;
}

/* momentum^age as a float; the first ages are tabulated, the first use of each fills its place. */
static float decay_of(const struct sgd *sgd, int64_t age, float *table) {
  if (age >= AGES)
    return (float)pow(sgd->momentum, (double)age);
  if (table[age] < 0)
    table[age] = (float)pow(sgd->momentum, (double)age);
  return table[age];
}

static float with_momentum(const struct sgd *sgd, int32_t index, float gradient, float *table) {
  float momentum = (float)sgd->momentum, buffer = gradient;
  int32_t last = sgd->last_touched ? sgd->last_touched[index] : 0;
  if (last != -1) {
    float decay = sgd->lazy_decay ? decay_of(sgd, (int64_t)sgd->step - last, table) : momentum;
    buffer = decay * sgd->momentum_buffer[index] + (float)(1.0 - sgd->dampening) * gradient;
  }
  sgd->momentum_buffer[index] = buffer;
  return sgd->nesterov ? gradient + momentum * buffer : buffer;
}

static void sgd_worker(void *context) {
  struct job *job = context;
  const struct sgd *sgd = job->sgd;
  const float lr = (float)sgd->lr, weight_decay = (float)sgd->weight_decay;
  float table[AGES];
  for (int age = 0; age < AGES; age++)
    table[age] = -1.0f;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    int64_t end = min64(job->list->count, (c + 1) * CHUNK);
    for (int64_t i = c * CHUNK; i < end; i++) {
      int32_t index = job->list->indices[i];
      float gradient = job->list->values[i], *parameter = &sgd->parameters[index];
      if (weight_decay != 0)
        gradient = gradient + weight_decay * *parameter;
      if (sgd->momentum_buffer)
        gradient = with_momentum(sgd, index, gradient, table);
      if (sgd->last_touched)
        sgd->last_touched[index] = sgd->step;
      *parameter = *parameter - lr * gradient;
    }
  }
}

void sparse_sgd(const struct sgd *sgd, const struct entries *list, bool ascending, int threads) {
  struct job job = {.sgd = sgd, .list = list};
  job.chunks.count = (list->count + CHUNK - 1) / CHUNK;
  run_workers(sgd_worker, &job, ascending ? useful_threads(list->count, CHUNK, threads) : 1);
}
