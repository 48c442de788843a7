/* Packing what lies above a threshold, in one pass: instantiated once an instruction set.
 *
 * Comparing, compacting and the next loads share an iteration, so the processor works while memory delivers. Compaction
 * is branchless where most words of 64 elements hold an entry; where few do, one branch a word skips it.
 */
#include "common.h"

enum { MEND_AHEAD = 512 };

/* A pass that does nothing else is quickest where nothing is asked for early: measured. */
static void add(const float *gradient, float *residual, int64_t n) {
  int64_t i = 0;
  for (; i + VEC <= n; i += VEC)
    v_store(residual + i, v_add(v_load(residual + i), v_load(gradient + i)));
  for (; i < n; i++)
    residual[i] += gradient[i];
}

static void scaled(const float *x, int64_t n, float factor, float *out) {
  int64_t i = 0;
  for (; i + VEC <= n; i += VEC)
    v_store(out + i, v_mul(v_load(x + i), v_set(factor)));
  for (; i < n; i++)
    out[i] = x[i] * factor;
}

/* Every operation is rounded by itself, as torch.optim.SGD does it. */
static void momentum(const float *gradient, float *velocity, int64_t n, float factor, float *taken) {
  const vec f = v_set(factor);
  int64_t i = 0;
  for (; !taken && i + VEC <= n; i += VEC)
    v_store(velocity + i, v_add(v_mul(v_load(velocity + i), f), v_load(gradient + i)));
  for (; taken && i + VEC <= n; i += VEC) {
    const vec g = v_load(gradient + i), v = v_mul(v_add(v_load(velocity + i), g), f);
    v_store(velocity + i, v);
    v_store(taken + i, v_add(v, g));
  }
  for (; i < n; i++) {
    velocity[i] = taken ? (velocity[i] + gradient[i]) * factor : velocity[i] * factor + gradient[i];
    if (taken)
      taken[i] = velocity[i] + gradient[i];
  }
}

/* Asks for what packing comes to, which it updates if it zeroes. */
INLINE void ask_for(const float *x, bool zero) {
  if (zero)
    __builtin_prefetch(x + UPDATE_AHEAD, 1);
  else
    ask(x, READ_AHEAD);
}

/* One element, for the last few of a tile. */
INLINE void pack_one(float *x, int64_t i, struct packing *p, bool zero) {
  int32_t key = key_of(x[i]);
  if (key > p->key) {
    p->indices[p->packed] = (int32_t)(p->base + i);
    p->values[p->packed++] = x[i];
  }
  if (zero && key > p->zero_key)
    x[i] = 0.0f;
}

#if !WORDWISE
/* A word that holds some entries, most likely. */
INLINE int64_t pack_registers(float *x, int32_t base, int32_t key, int32_t zero_key, bool zero, int32_t *indices,
                              float *values) {
  int64_t packed = 0;
  for (int b = 0; b < WORD; b += VEC) {
    if (b % LANES == 0)
      ask_for(x + b, zero);
    const vec v = v_load(x + b);
    if (zero)
      v_store(x + b, v_zero_above(v, zero_key));
    packed += v_pack(v, v_greater(v, key), base + b, indices + packed, values + packed);
  }
  return packed;
}
#endif

INLINE int64_t pack_loop(float *x, int64_t n, struct packing *p, bool zero, bool dense) {
  int64_t i = 0, packed = p->packed;
  const int64_t room = p->room, base = p->base;
  const int32_t key = p->key, zero_key = p->zero_key;
  int32_t *const indices = p->indices;
  float *const values = p->values;
  for (; i + WORD <= n && packed + WORD <= room; i += WORD) {
#if !WORDWISE
    if (dense) {
      packed += pack_registers(x + i, (int32_t)(base + i), key, zero_key, zero, indices + packed, values + packed);
      continue;
    }
#endif
    vec block[WORD / VEC];
    uint64_t bits = 0;
    for (int b = 0; b < WORD / VEC; b++) {
      if (b * VEC % LANES == 0)
        ask_for(x + i + b * VEC, zero);
      block[b] = v_load(x + i + b * VEC);
      bits |= (uint64_t)v_greater(block[b], key) << b * VEC;
      if (zero)
        v_store(x + i + b * VEC, v_zero_above(block[b], zero_key));
    }
    if (dense || bits)
      packed += v_pack_word(block, bits, (int32_t)(base + i), indices + packed, values + packed);
  }
  p->packed = packed;
  if (i + WORD <= n || packed + (n - i) > room)
    return i;
  for (; i < n; i++)
    pack_one(x, i, p, zero);
  return n;
}

static int64_t pack(const float *x, int64_t n, struct packing *p) {
  float *read_only = (float *)(uintptr_t)x; /* zero is false */
  return p->dense ? pack_loop(read_only, n, p, false, true) : pack_loop(read_only, n, p, false, false);
}

static int64_t pack_zero(float *x, int64_t n, struct packing *p) {
  return p->dense ? pack_loop(x, n, p, true, true) : pack_loop(x, n, p, true, false);
}

/* Where the prediction (zero_key) and the selection (key) disagree: a selected entry is zeroed now, one that was zeroed
 * and is not selected is put back. */
static void mend(const int32_t *indices, const float *values, uint32_t wrong, uint32_t selected, float *residual) {
  for (; wrong; wrong &= wrong - 1) {
    int l = __builtin_ctz(wrong);
    residual[indices[l]] = selected >> l & 1 ? 0.0f : values[l];
  }
}

/* Mended places are scattered: they are asked for in time. */
INLINE void expect_mends(const int32_t *indices, const float *values, int32_t key, int32_t zero_key,
                         const float *residual) {
  vec v = v_load(values);
  for (uint32_t wrong = v_greater(v, key) ^ v_greater(v, zero_key); wrong; wrong &= wrong - 1)
    __builtin_prefetch(residual + indices[__builtin_ctz(wrong)], 1);
}

INLINE int64_t pack_entries_loop(const int32_t *indices, const float *values, int64_t n, float *residual,
                                 struct packing *p) {
  int64_t i = 0, packed = p->packed;
  const int64_t room = p->room;
  const int32_t key = p->key, zero_key = p->zero_key;
  int32_t *const out_indices = p->indices;
  float *const out_values = p->values;
  for (; i + VEC <= n && packed + VEC <= room; i += VEC) {
    ask((const float *)indices + i, READ_AHEAD);
    ask(values + i, READ_AHEAD);
    vec v = v_load(values + i);
    uint32_t mask = v_greater(v, key);
    if (residual && i + MEND_AHEAD + VEC <= n)
      expect_mends(indices + i + MEND_AHEAD, values + i + MEND_AHEAD, key, zero_key, residual);
    if (residual) { /* first: packing may be in place */
      uint32_t wrong = mask ^ v_greater(v, zero_key);
      if (wrong)
        mend(indices + i, values + i, wrong, mask, residual);
    }
    v_compress_pairs(v, i_load(indices + i), mask, out_indices + packed, out_values + packed);
    packed += __builtin_popcount(mask);
  }
  for (; i < n && n - i < VEC && packed < room; i++) {
    uint32_t selected = key_of(values[i]) > key, zeroed = key_of(values[i]) > zero_key;
    if (residual)
      mend(indices + i, values + i, selected ^ zeroed, selected, residual);
    if (selected) {
      out_indices[packed] = indices[i];
      out_values[packed++] = values[i];
    }
  }
  p->packed = packed;
  return i;
}

static int64_t pack_entries(const int32_t *indices, const float *values, int64_t n, float *residual,
                            struct packing *p) {
  return residual ? pack_entries_loop(indices, values, n, residual, p) : pack_entries_loop(indices, values, n, NULL, p);
}

static int64_t pack_keys(const float *x, int64_t n, int32_t limit, int32_t *keys) {
  int64_t i = 0, packed = 0;
  for (; i + VEC <= n; i += VEC) {
    vec v = v_load(x + i);
    uint32_t mask = ~v_greater(v, limit) & ((1u << VEC) - 1);
    i_compress(v_key(v), mask, keys + packed);
    packed += __builtin_popcount(mask);
  }
  for (; i < n; i++)
    if (key_of(x[i]) <= limit)
      keys[packed++] = key_of(x[i]);
  return packed;
}

static int64_t pack_between(const float *x, int64_t n, int32_t low, int32_t high, float *found) {
  int64_t i = 0, packed = 0;
  for (; i + VEC <= n; i += VEC) {
    vec v = v_load(x + i);
    uint32_t mask = v_greater(v, low) & ~v_greater(v, high);
    v_compress_values(v, mask, found + packed);
    packed += __builtin_popcount(mask);
  }
  for (; i < n; i++)
    if (key_of(x[i]) > low && key_of(x[i]) <= high)
      found[packed++] = x[i];
  return packed;
}

static int64_t count_above(const float *x, int64_t n, int32_t key) {
  ivec above[PARTS];
  UNROLL for (int part = 0; part < PARTS; part++) above[part] = i_zero();
  int64_t i = 0, count = 0;
  for (; i + LANES <= n; i += LANES) {
    ask(x + i, READ_AHEAD);
    UNROLL for (int part = 0; part < PARTS; part++) above[part] =
        i_count_above(above[part], v_load(x + i + part * VEC), key);
  }
  for (int part = 0; part < PARTS; part++) {
    int32_t counts[VEC];
    i_store(counts, above[part]);
    for (int l = 0; l < VEC; l++)
      count += counts[l];
  }
  for (; i < n; i++)
    count += key_of(x[i]) > key;
  return count;
}

/* The first position from `at` on whose key is `key`; n if there is none. */
static int64_t find_key(const float *x, int64_t at, int64_t n, int32_t key) {
  for (; at + WORD <= n; at += WORD) {
    uint32_t found = 0;
    for (int b = 0; b < WORD / VEC; b++) {
      vec v = v_load(x + at + b * VEC);
      found |= v_greater(v, key - 1) & ~v_greater(v, key);
    }
    if (found)
      break;
  }
  while (at < n && key_of(x[at]) != key)
    at++;
  return at;
}

/* Plain loops that compilers turn into this instruction set's widest. */
static bool within(const int32_t *indices, int64_t count, int64_t n) {
  int32_t wrong = 0;
  const int32_t last = (int32_t)min64(n - 1, INT32_MAX);
  for (int64_t i = 0; i < count; i++)
    wrong |= (indices[i] < 0) | (indices[i] > last);
  return !wrong;
}

static bool ascending(const int32_t *indices, int64_t count) {
  int32_t wrong = 0;
  int64_t i = 1;
  for (; i + WORD <= count; i += WORD) {
    for (int l = 0; l < WORD; l += LANES)
      ask((const float *)indices + i + l, READ_AHEAD);
    for (int l = 0; l < WORD; l++)
      wrong |= indices[i + l] <= indices[i + l - 1];
  }
  for (; i < count; i++)
    wrong |= indices[i] <= indices[i - 1];
  return !wrong;
}
