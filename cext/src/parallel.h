/* Threads that help with one call at a time, and sleep until the next one asks.
 *
 * A thread that was woken helps 20 to 60 microseconds later and costs its caller 20, which callers weigh by giving
 * small vectors one thread; one that has not begun when the work is done is called off. Calls at the same time have
 * helpers of their own. Nothing spins between calls, no signal is taken, and the child of a fork begins without any.
 */
#ifndef SANDTABLE_PARALLEL_H
#define SANDTABLE_PARALLEL_H

#include "common.h"

/* Hands out the numbers 0 .. count-1 in ascending order. */
struct tasks {
  _Atomic int64_t next;
  int64_t count;
};

static inline int64_t take_task(struct tasks *tasks) {
  int64_t task = atomic_fetch_add_explicit(&tasks->next, 1, memory_order_relaxed);
  return task < tasks->count ? task : -1;
}

/* Waits until other threads, which are at work on it, have brought the number to this value. */
void wait_until(const _Atomic int64_t *number, int64_t value);

/* Lets tasks append to one output in ascending order: each waits for the one before, takes its place, passes on. */
struct appender {
  _Atomic int64_t turn;
  int64_t offset;
};

/* Waits until every task before `task` has passed its turn; then `offset` may be read and moved. Tasks are taken in
 * ascending order, so the one that is waited for is running or done: no deadlock, even with one thread. */
void wait_turn(struct appender *appender, int64_t task);
static inline bool has_turn(const struct appender *appender, int64_t task) {
  return atomic_load_explicit(&appender->turn, memory_order_acquire) == task;
}
static inline void pass_turn(struct appender *appender, int64_t task) {
  atomic_store_explicit(&appender->turn, task + 1, memory_order_release);
}

/* Runs worker(context) on at most `threads` threads, this one included, and returns when all are done. */
void run_workers(void (*worker)(void *context), void *context, int threads);

/* Threads worth waking for n elements: one for each `grain`, at most `threads`. */
int useful_threads(int64_t n, int64_t grain, int threads);

#endif
