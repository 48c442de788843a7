/* Chooses the instruction set at run time: the best the processor has, or the one that is forced. */
#include "common.h"

static const struct kernels *const levels[] = {
#if defined(__x86_64__)
    &kernels_avx512,
    &kernels_avx2,
#endif
    &kernels_serial,
};

static const struct kernels *_Atomic active;

bool kernels_supported(const struct kernels *kernels) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kernels == &kernels_avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2");
  if (kernels == &kernels_avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("f16c");
#endif
  return kernels == &kernels_serial;
}

const struct kernels *find_kernels(const char *name) {
  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
    if (strcmp(levels[i]->name, name) == 0 && kernels_supported(levels[i]))
      return levels[i];
  return NULL;
}

const struct kernels *active_kernels(void) {
  const struct kernels *chosen = atomic_load_explicit(&active, memory_order_relaxed);
  for (size_t i = 0; chosen == NULL; i++)
    if (kernels_supported(levels[i]))
      chosen = levels[i];
  return chosen;
}

void activate_kernels(const struct kernels *kernels) { atomic_store_explicit(&active, kernels, memory_order_relaxed); }
