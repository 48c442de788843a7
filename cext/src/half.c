#include "half.h"
#include "isa_each.h"
#include "parallel.h"
#include "stream.h"

#if defined(__x86_64__)
#include "half_avx2.h"
#endif

enum {
  CHUNK = 4 * TILE,
  PIECE = 4096,       /* elements rounded into the cache before they are written past it, */
  FAR = 2 * STREAMED, /* and from how many on they are */
};

struct job {
  const float *gradient;
  float *x;
  uint16_t *out;
  int64_t n;
  enum half kind;
  struct tasks chunks;
};

/* All ones where a < b, both below 2^31: no branch, so that the loops become vectors. */
static inline uint32_t below(uint32_t a, uint32_t b) { return (uint32_t)((int32_t)(a - b) >> 31); }

static inline uint32_t pick(uint32_t mask, uint32_t a, uint32_t b) { return (a & mask) | (b & ~mask); }

/* The magnitude's bits, rounded to so many fewer and cut to the largest finite number: integers carry into the exponent
 * as they should. */
static inline uint32_t nearest(uint32_t magnitude, int fewer, uint32_t largest) {
  const uint32_t up = magnitude + (UINT32_C(1) << (fewer - 1)) - 1 + (magnitude >> fewer & 1);
  const uint32_t rounded = up >> fewer << fewer;
  return pick(below(rounded, largest), rounded, largest); /* whatever, where it is not finite */
}

struct rounded {
  uint32_t bits;      /* in 16 bits, without the sign */
  uint32_t magnitude; /* of the number that they stand for, as a float */
};

/* Below 2^-14 a half's steps are 2^-24, those of a float near 0.5: adding that rounds. */
static inline struct rounded fp16_of(uint32_t magnitude) {
  const uint32_t normal = nearest(magnitude, 13, UINT32_C(0x477fe000));
  const float small = float_of(magnitude) + 0.5f;
  const uint32_t is_small = below(magnitude, UINT32_C(0x38800000)), is_finite = below(magnitude, KEY_INFINITY);
  const uint32_t finite = pick(is_small, bits_of(small) - UINT32_C(0x3f000000), (normal >> 13) - (112 << 10));
  const uint32_t other = 0x7c00 | (below(KEY_INFINITY, magnitude) & 0x200);
  return (struct rounded){pick(is_finite, finite, other), pick(is_small, bits_of(small - 0.5f), normal)};
}

static inline struct rounded bf16_of(uint32_t magnitude) {
  const uint32_t normal = nearest(magnitude, 16, UINT32_C(0x7f7f0000));
  const uint32_t other = 0x7f80 | (below(KEY_INFINITY, magnitude) & 0x40);
  return (struct rounded){pick(below(magnitude, KEY_INFINITY), normal >> 16, other), normal};
}

static inline __attribute__((always_inline)) void round_each(const float *restrict gradient, float *restrict x,
                                                             int64_t n, uint16_t *restrict out, const enum half kind) {
  for (int64_t i = 0; i < n; i++) {
    const float sum = gradient ? x[i] + gradient[i] : x[i];
    const uint32_t bits = bits_of(sum), magnitude = bits & KEY_MASK;
    const uint32_t sign = bits & UINT32_C(0x80000000) & ~below(KEY_INFINITY, magnitude); /* a NaN's is anybody's */
    const struct rounded r = kind == HALF_FP16 ? fp16_of(magnitude) : bf16_of(magnitude);
    out[i] = (uint16_t)(r.bits | sign >> 16);
    if (gradient)
      x[i] = float_of(bits_of(sum - float_of(r.magnitude | sign)) & below(magnitude, KEY_INFINITY));
  }
}

/* Apart for each format, with a gradient and without: no condition is left in the loops. */
static void round_plainly(const float *gradient, float *x, int64_t n, uint16_t *out, enum half kind) {
  if (kind == HALF_FP16)
    gradient ? round_each(gradient, x, n, out, HALF_FP16) : round_each(NULL, x, n, out, HALF_FP16);
  else
    gradient ? round_each(gradient, x, n, out, HALF_BF16) : round_each(NULL, x, n, out, HALF_BF16);
}

static void round_piece(const float *gradient, float *x, int64_t n, uint16_t *out, enum half kind) {
  int64_t i = 0;
#if defined(__x86_64__)
  while (active_kernels() != &kernels_serial && i + EACH <= n) {
    i += round_by_hand(gradient ? gradient + i : NULL, x + i, n - i, out + i, kind);
    const int64_t odd = min64(EACH, n - i); /* not all of them are finite, or they are the last */
    round_plainly(gradient ? gradient + i : NULL, x + i, odd, out + i, kind);
    i += odd;
  }
#endif
  round_plainly(gradient ? gradient + i : NULL, x + i, n - i, out + i, kind);
}

static void round_past_the_caches(const float *gradient, float *x, int64_t n, uint16_t *out, enum half kind) {
  uint16_t piece[PIECE] __attribute__((aligned(LINE)));
  for (int64_t at = 0; at < n; at += PIECE) {
    const int64_t length = min64(PIECE, n - at);
    round_piece(gradient ? gradient + at : NULL, x + at, length, piece, kind);
    stream_copy(out + at, piece, length * (int64_t)sizeof *piece);
  }
}

static void round_worker(void *context) {
  struct job *job = context;
  for (int64_t c; (c = take_task(&job->chunks)) >= 0;) {
    const int64_t at = c * CHUNK, n = min64(CHUNK, job->n - at);
    const float *const gradient = job->gradient ? job->gradient + at : NULL;
    if (job->n < FAR)
      round_piece(gradient, job->x + at, n, job->out + at, job->kind);
    else
      round_past_the_caches(gradient, job->x + at, n, job->out + at, job->kind);
  }
  stream_done();
}

void round_half(const float *gradient, float *x, int64_t n, enum half kind, uint16_t *out, int threads) {
  struct job job = {.gradient = gradient, .x = x, .out = out, .n = n, .kind = kind};
  job.chunks.count = (n + CHUNK - 1) / CHUNK;
  run_workers(round_worker, &job, useful_threads(n, CHUNK, threads));
}
