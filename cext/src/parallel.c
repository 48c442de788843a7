#define _GNU_SOURCE /* affinity, signals */

#include "parallel.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { HELPERS = MAX_THREADS - 1, SPINS = 200, YIELDS = 400 };

enum state { IDLE, ASKED, RUNNING };

/* A thread that sleeps until a call asks for it. */
struct helper {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  _Atomic enum state state; /* changes under the lock, once the thread is there */
  void (*worker)(void *context);
  void *context;
  fenv_t floats; /* how the caller rounds, and whether denormals count as zero there: each thread's own, but no result
                    may depend on which thread works on what */
  bool started;  /* this, and what follows, is for the call that has claimed it */
  atomic_flag claimed;
#if defined(__linux__)
  cpu_set_t allowed;
#endif
};

static struct helper helpers[HELPERS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* No helper is there: at first, and in the child of a fork. */
static void begin_alone(void) {
  for (struct helper *h = helpers; h < helpers + HELPERS; h++) {
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    h->state = IDLE;
    h->started = false;
    atomic_flag_clear(&h->claimed);
  }
}

static void prepare(void) {
  begin_alone();
  pthread_atfork(NULL, NULL, begin_alone);
}

#if defined(__linux__)
/* Where the caller may run, but not where it runs: there a thread that is woken or new may wait for milliseconds, while
 * another processor sleeps (seen with either). */
static cpu_set_t elsewhere(void) {
  cpu_set_t others;
  const int here = sched_getcpu();
  if (sched_getaffinity(0, sizeof others, &others) != 0)
    CPU_ZERO(&others);
  else if (CPU_COUNT(&others) > 1 && here >= 0 && here < CPU_SETSIZE)
    CPU_CLR(here, &others);
  return others;
}

static void place_new(struct helper *helper, pthread_attr_t *attributes) {
  helper->allowed = elsewhere();
  if (CPU_COUNT(&helper->allowed) > 0)
    pthread_attr_setaffinity_np(attributes, sizeof helper->allowed, &helper->allowed);
}

static void place(struct helper *helper) {
  const cpu_set_t others = elsewhere();
  if (CPU_COUNT(&others) > 0 && !CPU_EQUAL(&others, &helper->allowed) &&
      pthread_setaffinity_np(helper->thread, sizeof others, &others) == 0)
    helper->allowed = others;
}
#else
static void place_new(struct helper *helper, pthread_attr_t *attributes) { (void)helper, (void)attributes; }
static void place(struct helper *helper) { (void)helper; }
#endif

static void *help(void *argument) {
  struct helper *helper = argument;
  pthread_mutex_lock(&helper->lock);
  for (;;) {
    while (helper->state != ASKED)
      pthread_cond_wait(&helper->changed, &helper->lock);
    helper->state = RUNNING;
    pthread_mutex_unlock(&helper->lock);
    fesetenv(&helper->floats);
    helper->worker(helper->context);
    pthread_mutex_lock(&helper->lock);
    helper->state = IDLE;
    pthread_cond_signal(&helper->changed);
  }
  return NULL;
}

/* Signals are for the threads of the program that asks; but for those that tell of a fault in this very one. */
static bool start(struct helper *helper) {
  sigset_t every, before;
  pthread_attr_t attributes;
  sigfillset(&every);
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
    sigdelset(&every, faults[i]);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  place_new(helper, &attributes);
  pthread_sigmask(SIG_SETMASK, &every, &before);
  const bool started = pthread_create(&helper->thread, &attributes, help, helper) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return started;
}

/* False where no more threads are to be had: fewer do the same work. */
static bool ask(struct helper *helper, void (*worker)(void *context), void *context) {
  if (helper->started)
    place(helper);
  pthread_mutex_lock(&helper->lock);
  helper->worker = worker;
  helper->context = context;
  fegetenv(&helper->floats);
  helper->state = ASKED;
  pthread_cond_signal(&helper->changed);
  pthread_mutex_unlock(&helper->lock);
  helper->started = helper->started || start(helper);
  return helper->started;
}

/* Until it is done, or called off if it has not begun: it may have no processor. */
static void await(struct helper *helper) {
  for (int spins = 0; helper->state == RUNNING && spins < SPINS + YIELDS; spins++)
    if (spins > SPINS)
      sched_yield();
  pthread_mutex_lock(&helper->lock);
  if (helper->state == ASKED)
    helper->state = IDLE;
  while (helper->state == RUNNING)
    pthread_cond_wait(&helper->changed, &helper->lock);
  pthread_mutex_unlock(&helper->lock);
}

void run_workers(void (*worker)(void *context), void *context, int threads) {
  struct helper *asked[HELPERS];
  int count = 0;
  if (threads > 1)
    pthread_once(&once, prepare);
  for (struct helper *h = helpers; count < threads - 1 && h < helpers + HELPERS; h++) {
    if (atomic_flag_test_and_set(&h->claimed))
      continue; /* another thread's call */
    if (!ask(h, worker, context)) {
      atomic_flag_clear(&h->claimed);
      break;
    }
    asked[count++] = h;
  }
  worker(context);
  for (int i = 0; i < count; i++) {
    await(asked[i]);
    atomic_flag_clear(&asked[i]->claimed);
  }
}

void wait_until(const _Atomic int64_t *number, int64_t value) {
  /* Spin briefly, then give the core away: with more ranks than cores the other thread may not be running. */
  for (int spins = 0; atomic_load_explicit(number, memory_order_acquire) != value; spins++)
    if (spins > SPINS)
      sched_yield();
}

void wait_turn(struct appender *appender, int64_t task) { wait_until(&appender->turn, task); }

int useful_threads(int64_t n, int64_t grain, int threads) { return (int)max64(1, min64(threads, n / grain)); }
