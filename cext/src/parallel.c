#if defined(__linux__)
#define _GNU_SOURCE /* affinity */
#endif

#include "parallel.h"

#include <pthread.h>
#include <sched.h>

struct start {
  void (*worker)(void *context);
  void *context;
#if defined(__linux__)
  bool placed;
  cpu_set_t allowed;
#endif
};

#if defined(__linux__)
/* A new thread begins on its parent's processor and, where the others have slept for a while, may wait there for
 * milliseconds (seen: 3 of 4 threads, 2 ms). So it is made for the other processors, and set free once it runs. */
static void place_elsewhere(struct start *start, pthread_attr_t *attributes) {
  int here = sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof start->allowed, &start->allowed) != 0)
    return;
  cpu_set_t others = start->allowed;
  CPU_CLR(here, &others);
  if (CPU_COUNT(&others) > 0)
    start->placed = pthread_attr_setaffinity_np(attributes, sizeof others, &others) == 0;
}

static void set_free(const struct start *start) {
  if (start->placed)
    sched_setaffinity(0, sizeof start->allowed, &start->allowed);
}
#else
static void place_elsewhere(struct start *start, pthread_attr_t *attributes) { (void)start, (void)attributes; }
static void set_free(const struct start *start) { (void)start; }
#endif

static void *enter(void *argument) {
  const struct start *start = argument;
  set_free(start);
  start->worker(start->context);
  return NULL;
}

void run_workers(void (*worker)(void *context), void *context, int threads) {
  pthread_t helpers[MAX_THREADS];
  struct start start = {.worker = worker, .context = context};
  int started = 0;
  if (threads > 1) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    place_elsewhere(&start, &attributes);
    while (started < threads - 1 && started < MAX_THREADS &&
           pthread_create(&helpers[started], &attributes, enter, &start) == 0)
      started++; /* where no more threads are to be had, fewer do the same work */
    pthread_attr_destroy(&attributes);
  }
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
