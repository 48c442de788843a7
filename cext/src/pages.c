/* Huge pages for memory that is read and written at scattered places: one address look-up covers 2 MiB instead of 4
 * KiB. Measured: 25,600 places of a 25.6 M vector and its state in half the time. */
#if defined(__linux__)
#define _DEFAULT_SOURCE
#include <sys/mman.h>
#endif

#include "pages.h"

enum { HUGE = 2 * 1024 * 1024 };

bool ask_huge_pages(void *start, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  enum { COLLAPSE = 25 }; /* MADV_COLLAPSE, Linux 6.1: at once, not by and by; older kernels refuse it */
  uintptr_t first = ((uintptr_t)start + HUGE - 1) / HUGE * HUGE,
            last = ((uintptr_t)start + (uintptr_t)bytes) / HUGE * HUGE;
  if (last <= first || madvise((void *)first, last - first, MADV_HUGEPAGE) != 0)
    return false;
  return madvise((void *)first, last - first, COLLAPSE) == 0;
#else
  (void)start, (void)bytes;
  return false;
#endif
}
