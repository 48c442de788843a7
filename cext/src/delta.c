/* Delta coding at memory speed: blocks without a long gap, which is nearly all of them, are vectors; the others are
 * taken gap by gap. */
#include "delta.h"
#include "isa_each.h"

enum { BLOCK = 256, MAX_BYTE = 255, MAX_SHORT = 65535 };

#define BLOCKS(isa, target)                                                                                            \
  /* The largest gap before indices[1 .. n-1], as unsigned: huge where they do not ascend strictly. */                 \
  target static uint32_t widest_gap_##isa(const int32_t *indices, int64_t n) {                                         \
    uint32_t widest = 0;                                                                                               \
    for (int64_t i = 1; i < n; i++) {                                                                                  \
      uint32_t gap = (uint32_t)indices[i] - (uint32_t)indices[i - 1] - 1;                                              \
      widest = gap > widest ? gap : widest;                                                                            \
    }                                                                                                                  \
    return widest;                                                                                                     \
  }                                                                                                                    \
  target static void extra_codes_##isa(const int32_t *indices, int64_t n, int64_t extra[2]) {                          \
    uint32_t bytes = 0, shorts = 0;                                                                                    \
    for (int64_t i = 1; i < n; i++) {                                                                                  \
      uint32_t gap = (uint32_t)indices[i] - (uint32_t)indices[i - 1] - 1;                                              \
      bytes += gap / MAX_BYTE;                                                                                         \
      shorts += gap / MAX_SHORT;                                                                                       \
    }                                                                                                                  \
    extra[0] += bytes;                                                                                                 \
    extra[1] += shorts;                                                                                                \
  }                                                                                                                    \
  target static void short_gaps_as_bytes_##isa(const int32_t *restrict indices, int64_t n, uint8_t *restrict codes) {  \
    for (int64_t i = 1; i < n; i++)                                                                                    \
      codes[i - 1] = (uint8_t)(indices[i] - indices[i - 1] - 1);                                                       \
  }                                                                                                                    \
  target static void short_gaps_as_shorts_##isa(const int32_t *restrict indices, int64_t n,                            \
                                                uint16_t *restrict codes) {                                            \
    for (int64_t i = 1; i < n; i++)                                                                                    \
      codes[i - 1] = (uint16_t)(indices[i] - indices[i - 1] - 1);                                                      \
  }                                                                                                                    \
  target static bool has_long_byte_##isa(const uint8_t *codes, int64_t n) {                                            \
    uint8_t largest = 0;                                                                                               \
    for (int64_t i = 0; i < n; i++)                                                                                    \
      largest = codes[i] > largest ? codes[i] : largest;                                                               \
    return largest == MAX_BYTE;                                                                                        \
  }                                                                                                                    \
  target static bool has_long_short_##isa(const uint16_t *codes, int64_t n) {                                          \
    uint16_t largest = 0;                                                                                              \
    for (int64_t i = 0; i < n; i++)                                                                                    \
      largest = codes[i] > largest ? codes[i] : largest;                                                               \
    return largest == MAX_SHORT;                                                                                       \
  }

FOR_EACH_ISA(BLOCKS)

/* The first index has no index before it: it is `0 .. indices[0]-1` that is skipped. */
bool delta_size(const int32_t *indices, int64_t count, int64_t codes[2]) {
  codes[0] = codes[1] = count;
  if (count == 0)
    return true;
  if (indices[0] < 0)
    return false;
  codes[0] += indices[0] / MAX_BYTE;
  codes[1] += indices[0] / MAX_SHORT;
  for (int64_t start = 0; start + 1 < count; start += BLOCK) {
    int64_t n = min64(BLOCK + 1, count - start); /* gaps of n - 1 indices; each block begins with the last of another */
    uint32_t widest = ACTIVE_ISA(widest_gap)(indices + start, n);
    if (widest > INT32_MAX)
      return false;
    if (widest >= MAX_BYTE)
      ACTIVE_ISA(extra_codes)(indices + start, n, codes);
  }
  return true;
}

/* One gap. The first "go on" is written in any case and overwritten unless it is one: a branch would be guessed wrong.
 */
#define DEFINE_PUT(name, code_t, most)                                                                                 \
  static inline int64_t name(code_t *codes, int64_t at, uint32_t gap) {                                                \
    codes[at] = most;                                                                                                  \
    const uint32_t over = gap >= most;                                                                                 \
    at += over;                                                                                                        \
    gap -= most & -over;                                                                                               \
    for (; gap >= most; gap -= most)                                                                                   \
      codes[at++] = most;                                                                                              \
    codes[at] = (code_t)gap;                                                                                           \
    return at + 1;                                                                                                     \
  }

DEFINE_PUT(put_bytes, uint8_t, MAX_BYTE)
DEFINE_PUT(put_shorts, uint16_t, MAX_SHORT)

static int64_t put_gaps(const int32_t *indices, int64_t n, int width, void *codes, int64_t at) {
  if (width == 1)
    for (int64_t i = 1; i < n; i++)
      at = put_bytes(codes, at, (uint32_t)indices[i] - (uint32_t)indices[i - 1] - 1);
  else
    for (int64_t i = 1; i < n; i++)
      at = put_shorts(codes, at, (uint32_t)indices[i] - (uint32_t)indices[i - 1] - 1);
  return at;
}

void delta_encode(const int32_t *indices, int64_t count, int width, void *codes) {
  const uint32_t most = width == 1 ? MAX_BYTE : MAX_SHORT;
  const int32_t first[2] = {-1, count > 0 ? indices[0] : 0};
  int64_t at = count > 0 ? put_gaps(first, 2, width, codes, 0) : 0;
  for (int64_t start = 0; start + 1 < count; start += BLOCK) {
    const int32_t *block = indices + start;
    int64_t n = min64(BLOCK + 1, count - start);
    if (ACTIVE_ISA(widest_gap)(block, n) >= most) {
      at = put_gaps(block, n, width, codes, at);
      continue;
    }
    if (width == 1)
      ACTIVE_ISA(short_gaps_as_bytes)(block, n, (uint8_t *)codes + at);
    else
      ACTIVE_ISA(short_gaps_as_shorts)(block, n, (uint16_t *)codes + at);
    at += n - 1;
  }
}

/* Writes the indices of n codes, none of which goes on; returns the place after the last. Four at a time: one addition
 * waits for another only once. */
#define DEFINE_RUN(name, code_t)                                                                                       \
  static int64_t name(const code_t *codes, int64_t n, int64_t next, int32_t *indices) {                                \
    int64_t i = 0;                                                                                                     \
    for (; i + 4 <= n; i += 4) {                                                                                       \
      uint32_t base = (uint32_t)next, two = (uint32_t)codes[i] + codes[i + 1];                                         \
      indices[i] = (int32_t)(base + codes[i]);                                                                         \
      indices[i + 1] = (int32_t)(base + two + 1);                                                                      \
      indices[i + 2] = (int32_t)(base + two + codes[i + 2] + 2);                                                       \
      indices[i + 3] = (int32_t)(base + two + codes[i + 2] + codes[i + 3] + 3);                                        \
      next += (int64_t)two + codes[i + 2] + codes[i + 3] + 4;                                                          \
    }                                                                                                                  \
    for (; i < n; i++) {                                                                                               \
      next += codes[i];                                                                                                \
      indices[i] = (int32_t)(uint32_t)next++;                                                                          \
    }                                                                                                                  \
    return next;                                                                                                       \
  }

DEFINE_RUN(run_of_bytes, uint8_t)
DEFINE_RUN(run_of_shorts, uint16_t)

struct reading {
  const void *codes;
  int width;
  int32_t *indices;
  int64_t count, written;
  int64_t next; /* place after the last index or skip */
};

/* Codes [start, start + n), some of which go on; false if there are more indices than room. Each writes an index, which
 * stays only if the code does not go on: a branch would be guessed wrong. */
static bool read_slowly(struct reading *reading, int64_t start, int64_t n) {
  const uint8_t *bytes = reading->codes;
  const uint16_t *shorts = reading->codes;
  const bool narrow = reading->width == 1;
  const int64_t most = narrow ? MAX_BYTE : MAX_SHORT;
  int64_t next = reading->next, written = reading->written, i = start;
  for (; i < start + n && written < reading->count; i++) {
    int64_t code = narrow ? bytes[i] : shorts[i];
    next += code;
    reading->indices[written] = (int32_t)(uint32_t)next;
    written += code != most;
    next += code != most;
  }
  reading->next = next;
  reading->written = written;
  return i == start + n;
}

static bool read_block(struct reading *reading, int64_t start, int64_t n) {
  const uint8_t *bytes = (const uint8_t *)reading->codes + start;
  const uint16_t *shorts = (const uint16_t *)reading->codes + start;
  bool goes_on = reading->width == 1 ? ACTIVE_ISA(has_long_byte)(bytes, n) : ACTIVE_ISA(has_long_short)(shorts, n);
  if (goes_on || reading->written + n > reading->count)
    return read_slowly(reading, start, n);
  int32_t *indices = reading->indices + reading->written;
  reading->next = reading->width == 1 ? run_of_bytes(bytes, n, reading->next, indices)
                                      : run_of_shorts(shorts, n, reading->next, indices);
  reading->written += n;
  return true;
}

bool delta_decode(const void *codes, int64_t size, int width, int32_t *indices, int64_t count) {
  struct reading reading = {.codes = codes, .width = width, .indices = indices, .count = count};
  for (int64_t start = 0; start < size; start += BLOCK)
    if (!read_block(&reading, start, min64(BLOCK, size - start)) || reading.next > (int64_t)INT32_MAX + 1)
      return false;
  const int64_t most = width == 1 ? MAX_BYTE : MAX_SHORT;
  int64_t last = size == 0 ? 0 : width == 1 ? ((const uint8_t *)codes)[size - 1] : ((const uint16_t *)codes)[size - 1];
  return reading.written == count && last != most;
}
