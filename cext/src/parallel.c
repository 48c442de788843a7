#include "parallel.h"

#include <pthread.h>
#include <sched.h>

struct start {
  void (*worker)(void *context);
  void *context;
};

static void *enter(void *argument) {
  const struct start *start = argument;
  start->worker(start->context);
  return NULL;
}

void run_workers(void (*worker)(void *context), void *context, int threads) {
  pthread_t helpers[MAX_THREADS];
  struct start start = {worker, context};
  int started = 0;
  while (started < threads - 1 && started < MAX_THREADS && pthread_create(&helpers[started], NULL, enter, &start) == 0)
    started++; /* where no more threads are to be had, fewer do the same work */
  worker(context);
  for (int i = 0; i < started; i++)
    pthread_join(helpers[i], NULL);
}

void wait_turn(struct appender *appender, int64_t task) {
  /* Spin briefly, then give the core away: with more ranks than cores the other thread may not be running. */
  for (int spins = 0; atomic_load_explicit(&appender->turn, memory_order_acquire) != task; spins++)
    if (spins > 200)
      sched_yield();
}

int useful_threads(int64_t n, int64_t grain, int threads) { return (int)max64(1, min64(threads, n / grain)); }
