/* Marking and writing what a threshold selects, tile by tile: instantiated once an instruction set. */
#include "common.h"

#define INLINE static inline __attribute__((always_inline))

static inline uint64_t mark_word(const float *x, int32_t key) {
  uint64_t mask = v_greater(v_load(x), key);
  mask |= (uint64_t)v_greater(v_load(x + LANES), key) << LANES;
  mask |= (uint64_t)v_greater(v_load(x + 2 * LANES), key) << (2 * LANES);
  mask |= (uint64_t)v_greater(v_load(x + 3 * LANES), key) << (3 * LANES);
  return mask;
}

/* residual += gradient, 64 elements, marked while they are in registers */
static inline uint64_t mark_word_feedback(const float *gradient, float *residual, int32_t key) {
  uint64_t mask = 0;
  for (int b = 0; b < WORD; b += LANES) {
    vec sum = v_add(v_load(residual + b), v_load(gradient + b));
    v_store(residual + b, sum);
    mask |= (uint64_t)v_greater(sum, key) << b;
  }
  return mask;
}

/* Appends without a branch: the entry is overwritten by the next word if this one selects nothing. */
INLINE void push_word(struct marks *marks, int64_t word, uint64_t mask) {
  marks->mask[marks->words] = mask;
  marks->word[marks->words] = (uint16_t)word;
  marks->words += mask != 0;
  marks->count += __builtin_popcountll(mask);
}

static uint64_t mark_rest(const float *x, int64_t rest, int32_t key) {
  uint64_t mask = 0;
  for (int64_t i = 0; i < rest; i++)
    mask |= (uint64_t)(key_of(x[i]) > key) << i;
  return mask;
}

static void add(const float *gradient, float *residual, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    v_store(residual + i, v_add(v_load(residual + i), v_load(gradient + i)));
  for (; i < n; i++)
    residual[i] += gradient[i];
}

static void mark(const float *x, int64_t n, int32_t key, struct marks *marks) {
  marks->count = marks->words = 0;
  int64_t word = 0;
  for (; (word + 1) * WORD <= n; word++)
    push_word(marks, word, mark_word(x + word * WORD, key));
  if (word * WORD < n)
    push_word(marks, word, mark_rest(x + word * WORD, n - word * WORD, key));
}

static void mark_feedback(const float *gradient, float *residual, int64_t n, int32_t key, struct marks *marks) {
  marks->count = marks->words = 0;
  int64_t word = 0;
  for (; (word + 1) * WORD <= n; word++)
    push_word(marks, word, mark_word_feedback(gradient + word * WORD, residual + word * WORD, key));
  if (word * WORD < n) {
    add(gradient + word * WORD, residual + word * WORD, n - word * WORD);
    push_word(marks, word, mark_rest(residual + word * WORD, n - word * WORD, key));
  }
}

/* One word, element by element: exact at the end of the output and of the tile. Returns the entries written. */
INLINE int64_t emit_bits(float *x, uint64_t mask, int64_t base, int64_t room, int32_t *indices, float *values,
                         bool zero) {
  int64_t written = 0;
  for (; mask && written < room; mask &= mask - 1, written++) {
    int i = __builtin_ctzll(mask);
    indices[written] = (int32_t)(base + i);
    values[written] = x[i];
    if (zero)
      x[i] = 0.0f;
  }
  return written;
}

/* One full word, compacted in registers; writes up to 64 entries of which popcount(mask) are valid. */
INLINE int64_t emit_packed(float *x, uint64_t mask, int64_t base, int32_t *indices, float *values, bool zero) {
  int64_t written = 0;
  for (int b = 0; b < WORD; b += LANES) {
    uint32_t part = (uint32_t)(mask >> b) & 0xffff;
    vec block = v_load(x + b);
    v_compress(block, part, (int32_t)(base + b), indices + written, values + written);
    if (zero)
      v_store(x + b, v_zero_at(block, part));
    written += __builtin_popcount(part);
  }
  return written;
}

INLINE void emit_tile(float *x, int64_t n, int64_t base, const struct marks *marks, int64_t room, int32_t *indices,
                      float *values, bool zero) {
  int64_t end = min64(room, marks->count), written = 0;
  int32_t i = 0;
  /* Packing pays where a word holds a few selected elements; below that, walking the set bits is shorter. */
  bool packed = marks->count >= 4 * (int64_t)marks->words;
  for (; packed && i < marks->words && written + WORD <= end && (marks->word[i] + 1) * WORD <= n; i++) {
    int64_t at = marks->word[i] * WORD;
    written += emit_packed(x + at, marks->mask[i], base + at, indices + written, values + written, zero);
  }
  for (; i < marks->words && written < end; i++) {
    int64_t at = marks->word[i] * WORD;
    written += emit_bits(x + at, marks->mask[i], base + at, end - written, indices + written, values + written, zero);
  }
}

static void emit(const float *x, int64_t n, int64_t base, const struct marks *marks, int64_t room, int32_t *indices,
                 float *values) {
  emit_tile((float *)(uintptr_t)x, n, base, marks, room, indices, values, false); /* false: x is only read */
}

static void emit_zero(float *x, int64_t n, int64_t base, const struct marks *marks, int64_t room, int32_t *indices,
                      float *values) {
  emit_tile(x, n, base, marks, room, indices, values, true);
}
