#include "bf16.h"

#include "parallel.h"

enum { CHUNK = 32 * BF16_PIECE, AHEAD = 1024 /* elements asked for early */ };

/* 16 well mixed bits for each place. One hash serves two places, eight apart (the constants are MurmurHash3's). */
static inline uint32_t noise_of(uint32_t seed, uint32_t place) {
  uint32_t h = (place / 16 * 8 + place % 8) * UINT32_C(0x9e3779b1) + seed;
  h = (h ^ h >> 15) * UINT32_C(0x85ebca6b);
  h = (h ^ h >> 13) * UINT32_C(0xc2b2ae35);
  h ^= h >> 16;
  return place & 8 ? h & 0xffff : h >> 16;
}

static inline uint16_t rounded(float x, uint32_t noise) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t magnitude = bits & KEY_MASK, up = magnitude + noise;
  const uint32_t finite = up < UINT32_C(0x7f7fffff) ? up : UINT32_C(0x7f7fffff);
  const uint32_t other = magnitude | (magnitude > KEY_INFINITY ? UINT32_C(0x400000) : 0); /* NaN, if in its low bits */
  return (uint16_t)((magnitude < KEY_INFINITY ? finite : other) >> 16 | (bits >> 16 & 0x8000));
}

static void round_plainly(const struct bf16 *residual, int64_t at, int64_t n, const float *x) {
  for (int64_t i = 0; i < n; i++)
    residual->values[at + i] = rounded(x[i], noise_of(residual->seed, (uint32_t)(at + i)));
}

static void widen_plainly(const struct bf16 *residual, int64_t at, int64_t n, float *x) {
  for (int64_t i = 0; i < n; i++)
    x[i] = bf16_at(residual, at + i);
}

#if defined(__x86_64__)
#include "bf16_avx512.h"

#define WIDE __attribute__((target("avx2")))

WIDE static void widen_wide(const struct bf16 *residual, int64_t at, int64_t n, float *x) {
  const uint16_t *const from = residual->values + at;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(from + i)));
    _mm256_storeu_si256((__m256i *)(x + i), _mm256_slli_epi32(bits, 16));
  }
  widen_plainly(residual, at + i, n - i, x + i);
}

WIDE static inline __m256i mixed(__m256i h) {
  h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 15));
  h = _mm256_mullo_epi32(h, _mm256_set1_epi32((int32_t)UINT32_C(0x85ebca6b)));
  h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 13));
  h = _mm256_mullo_epi32(h, _mm256_set1_epi32((int32_t)UINT32_C(0xc2b2ae35)));
  return _mm256_xor_si256(h, _mm256_srli_epi32(h, 16));
}

WIDE static inline __m256i is_odd(__m256i bits) { /* too near the largest number for a plain sum, or not finite */
  return _mm256_cmpgt_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(KEY_MASK)), _mm256_set1_epi32(0x7f7effff));
}

/* at: a multiple of 16. Rounding takes as long as the sweep before it, and so it asks for what comes later, too: the
 * residual's next piece, and half a piece from `soon` on. */
WIDE static void round_wide(const struct bf16 *residual, int64_t at, int64_t n, const float *x, const float *soon) {
  const uint32_t factor = UINT32_C(0x9e3779b1);
  const __m256i lane =
      _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int32_t)factor));
  uint32_t first = (uint32_t)at / 16 * 8 * factor + residual->seed;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16, first += 8 * factor) {
    if (i % 32 == 0) { /* a cache line of the residual */
      __builtin_prefetch(residual->values + at + i + BF16_PIECE, 1);
      __builtin_prefetch(soon + i / 2);
    }
    const __m256i a = _mm256_loadu_si256((const __m256i *)(x + i));
    const __m256i b = _mm256_loadu_si256((const __m256i *)(x + i + 8));
    const __m256i odd = _mm256_or_si256(is_odd(a), is_odd(b));
    if (__builtin_expect(!_mm256_testz_si256(odd, odd), 0)) {
      round_plainly(residual, at + i, 16, x + i);
      continue;
    }
    const __m256i h = mixed(_mm256_add_epi32(lane, _mm256_set1_epi32((int32_t)first)));
    const __m256i up = _mm256_add_epi32(a, _mm256_srli_epi32(h, 16));
    const __m256i up_b = _mm256_add_epi32(b, _mm256_and_si256(h, _mm256_set1_epi32(0xffff)));
    const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(up, 16), _mm256_srli_epi32(up_b, 16));
    _mm256_storeu_si256((__m256i *)(residual->values + at + i), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  round_plainly(residual, at + i, n - i, x + i);
}

static void round_wider(const struct bf16 *residual, int64_t at, int64_t n, const float *x, const float *soon) {
  for (int64_t i = 0, odd; i < n; i += odd) {
    i += round_512(residual, at + i, n - i, x + i, soon + i / 2);
    odd = min64(AT_ONCE, n - i); /* not all of them are so small, or they are the last */
    round_plainly(residual, at + i, odd, x + i);
  }
}

static void widen(const struct bf16 *residual, int64_t at, int64_t n, float *x) {
  const int64_t done = active_kernels() == &kernels_avx512 ? widen_512(residual->values + at, n, x) : 0;
  if (active_kernels() == &kernels_serial)
    widen_plainly(residual, at, n, x);
  else
    widen_wide(residual, at + done, n - done, x + done);
}

static void round_piece(const struct bf16 *residual, int64_t at, int64_t n, const float *x, const float *soon) {
  if (active_kernels() == &kernels_avx512)
    round_wider(residual, at, n, x, soon);
  else if (active_kernels() == &kernels_avx2)
    round_wide(residual, at, n, x, soon);
  else
    round_plainly(residual, at, n, x);
}
#else
#define widen widen_plainly
#define round_piece(residual, at, n, x, soon) ((void)(soon), round_plainly(residual, at, n, x))
#endif

void bf16_put(const struct bf16 *residual, int64_t at, float value) {
  residual->values[at] = rounded(value, noise_of(residual->seed, (uint32_t)at));
}

struct job {
  const struct bf16 *residual;
  const float *x;
  int64_t n;
  struct tasks chunks;
};

static void round_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    const float *const x = job->x + c * CHUNK;
    round_piece(job->residual, c * CHUNK, min64(CHUNK, job->n - c * CHUNK), x, x + AHEAD);
  }
}

void bf16_round(const struct bf16 *residual, const float *x, int64_t n, int threads) {
  struct job job = {.residual = residual, .x = x, .n = n, .chunks = {.count = (n + CHUNK - 1) / CHUNK}};
  run_workers(round_worker, &job, useful_threads(n, CHUNK, threads));
}

void bf16_sweep(const struct kernels *kernels, const float *gradient, const struct bf16 *residual, int64_t at,
                int64_t n, struct sweep *sweep) {
  float x[BF16_PIECE] __attribute__((aligned(64)));
  widen(residual, at, n, x);
  kernels->sweep(gradient, x, n, sweep);
  round_piece(residual, at, n, x, gradient + BF16_PIECE + AHEAD); /* what the sweep has not asked for */
}

void bf16_mend(const struct bf16 *residual, const int32_t *indices, const float *values, int64_t n, int32_t key,
               int32_t zero_key) {
  for (int64_t i = 0; i < n; i++) {
    const bool selected = key_of(values[i]) > key, zeroed = key_of(values[i]) > zero_key;
    if (selected && !zeroed)
      residual->values[indices[i]] = 0;
    else if (zeroed && !selected)
      bf16_put(residual, indices[i], values[i]);
  }
}
