#include "stream.h"

/* Whole lines; returns how many bytes. */
#define LINES(isa, target)                                                                                             \
  target static int64_t lines_##isa(char *to, const char *from, int64_t bytes) {                                       \
    int64_t at = 0;                                                                                                    \
    for (; at + LINE <= bytes; at += LINE)                                                                             \
      stream_line_##isa(to + at, from + at);                                                                           \
    return at;                                                                                                         \
  }

FOR_EACH_ISA(LINES)

void stream_copy(void *to, const void *from, int64_t bytes) {
  char *t = to;
  const char *f = from;
  const int64_t head = min64(bytes, -(int64_t)(uintptr_t)t & (LINE - 1));
  memcpy(t, f, (size_t)head);
  const int64_t done = head + ACTIVE_ISA(lines)(t + head, f + head, bytes - head);
  memcpy(t + done, f + done, (size_t)(bytes - done));
}

void stream_done(void) {
#if defined(__x86_64__)
  _mm_sfence(); /* such stores are seen late otherwise */
#endif
}
