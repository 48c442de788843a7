/* What every kernel file shares: sizes, the order of magnitudes, and the table that run-time dispatch fills.
 *
 * Order. |x| is compared by its bits as a signed integer ("key"): for floats of one sign that is the order of the
 * numbers, exact for denormals whatever the processor's flush-to-zero mode, and it puts infinity above every finite
 * number and NaN above infinity. A NaN in a gradient is therefore always selected: carried to the optimizer, never
 * lost, and identical on every instruction set.
 */
#ifndef SANDTABLE_COMMON_H
#define SANDTABLE_COMMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
  LANES = 16,    /* elements a block: one cache line of floats; all sums run in 16 lanes on every ISA */
  WORD = 64,     /* elements a mask word */
  TILE = 131072, /* elements a tile, 512 KiB: its candidates stay in L2 until it is their turn */
  TILE_WORDS = TILE / WORD,
  SWEPT = 8192, /* elements one sweep is given at most */
  MAX_THREADS = 256,
};

#define KEY_MASK 0x7fffffff
#define KEY_INFINITY 0x7f800000

static inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static inline int32_t key_of(float x) { return (int32_t)(bits_of(x) & KEY_MASK); }

/* How much of a sweep is expected to go on, and so how it is packed: so many places of a word are noted at a time, or
 * all its registers are compacted. */
enum amount { FEW = 2, SOME = 6, MUCH = WORD };

/* What to pack and where: entries go to indices[packed], values[packed] and on. Whole registers are written, so at
 * least 64 entries of room beyond those in use are needed to go on. */
struct packing {
  int32_t key;      /* packed: above this */
  int32_t zero_key; /* zeroed: above this */
  int64_t base;     /* index of x[0] */
  bool dense;       /* expect some entries in most words of 64; a sweep looks at amount instead */
  enum amount amount;
  int32_t *indices;
  float *values;
  int64_t packed, room;
};

/* Running sums of one chunk, 16 lanes each, so that every ISA adds the same numbers in the same order. */
struct moment_lanes {
  double sum[LANES];
  double sum_abs[LANES];
  double sum_squares[LANES];
  double mantissa[LANES]; /* product of mantissas since the last fold, in [1, 2^512) */
  int64_t exponent;       /* sum of the exponents of everything folded */
  int64_t nonzero;
  int32_t max_key;
};

struct tail_lanes {
  double sum[LANES];
  double sum_squares[LANES];
  int64_t count;
};

/* Which sums a sweep makes, besides the largest magnitude. */
enum { SUM_X = 1, SUM_ABS = 2, SUM_SQUARES = 4, SUM_LOGS = 8, SUM_ALL = 15 };

/* The bracket of one threshold, keys in (low_key, high_key]; high is that key's number, `excess_of` its nearest float.
 */
struct stage {
  int32_t low_key, high_key;
  double high;
  float excess_of;
};

/* The brackets of stages, which are disjoint. The lowest keep so many elements (SIDCo: a quarter, a sixteenth) that
 * each element is held against them where it lies; what is inside their brackets or above survivors_key is packed for
 * the others. */
struct division {
  const struct stage *stage;
  int stages;            /* one or more, */
  int low, second;       /* the lowest; the one above it, or -1 if only the lowest is every element's */
  int32_t survivors_key; /* what the other stages and the candidates look at lies above it */
  enum amount amount;    /* of survivors that is expected */
  int32_t *indices;      /* survivors; room for the whole piece and WORD more */
  float *values;
  int64_t survivors;        /* how many were found */
  struct tail_lanes *tails; /* one a stage: sums of |x| - excess_of above its bracket */
  float *between;           /* what lies inside any bracket; room for all of it, and for WORD more */
  int64_t found;            /* entries of it */
};

/* What one sweep over a piece wants and finds. */
struct sweep {
  struct packing *pack; /* what lies above its key; zeroed is what lies above its zero_key. There must be room. */
  struct moment_lanes *moments;
  int sums;                  /* at least these are made; non-zeros are not counted */
  struct division *division; /* NULL: no stages */
};

/* The inner loops of one instruction set. */
struct kernels {
  const char *name;
  int64_t few_below; /* FEW go on where it is less than one in so many; 0: never, as whole words cost less: measured */
  /* Packs the entries of x[0..n) with |x| above pack->key behind each other; returns the elements it has done: n, or
   * less if the room ran short. */
  int64_t (*pack)(const float *x, int64_t n, struct packing *pack);
  /* the same, and x becomes 0 above pack->zero_key */
  int64_t (*pack_zero)(float *x, int64_t n, struct packing *pack);
  /* The same after residual += gradient, in pieces: it goes on while there is room for SWEPT + WORD more. */
  int64_t (*pack_feedback)(const float *gradient, float *residual, int64_t n, struct packing *pack);
  /* Packs from n entries instead; where key and zero_key disagree, residual (unless NULL) is mended. */
  int64_t (*pack_entries)(const int32_t *indices, const float *values, int64_t n, float *residual,
                          struct packing *pack);
  /* the keys of x[0..n) that are at most `limit`; writes up to 16 more than it returns */
  int64_t (*pack_keys)(const float *x, int64_t n, int32_t limit, int32_t *keys);
  /* the elements of x[0..n) with keys in (low, high], as they are; writes up to 16 more than it returns */
  int64_t (*pack_between)(const float *x, int64_t n, int32_t low, int32_t high, float *found);
  int64_t (*count_above)(const float *x, int64_t n, int32_t key);
  /* the first position from `at` on whose key is `key`; n if there is none */
  int64_t (*find_key)(const float *x, int64_t at, int64_t n, int32_t key);
  /* whether all indices lie in [0, n); whether they ascend strictly */
  bool (*within)(const int32_t *indices, int64_t count, int64_t n);
  bool (*ascending)(const int32_t *indices, int64_t count);
  void (*add)(const float *gradient, float *residual, int64_t n);
  void (*scaled)(const float *x, int64_t n, float factor, float *out);
  /* velocity = factor * velocity + gradient; with `taken`, factor * (velocity + gradient), and taken that + gradient */
  void (*momentum)(const float *gradient, float *velocity, int64_t n, float factor, float *taken);
  /* x += gradient, unless that is NULL; scores of whole blocks */
  void (*block_scores)(const float *gradient, float *x, int64_t blocks, float *scores);
  int32_t (*max_key)(const float *x, int64_t n);
  void (*moments)(const float *x, int64_t n, struct moment_lanes *lanes);
  void (*moments_feedback)(const float *gradient, float *residual, int64_t n, struct moment_lanes *lanes);
  /* residual += gradient, then sums and packs in the same pass; n is at most SWEPT */
  void (*sweep)(const float *gradient, float *residual, int64_t n, struct sweep *sweep);
  /* sums over the elements with keys in (key, limit], key being that of the threshold */
  void (*tail)(const float *x, int64_t n, double threshold, int32_t key, int32_t limit, struct tail_lanes *lanes);
};

static inline enum amount amount_of(const struct kernels *kernels, int64_t going_on, int64_t n) {
  if (kernels->few_below && going_on * kernels->few_below < n)
    return FEW;
  return going_on * 12 < n ? SOME : MUCH; /* 5 a word: measured */
}

extern const struct kernels kernels_serial;
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;

/* dispatch.c */
const struct kernels *active_kernels(void);
bool kernels_supported(const struct kernels *kernels);
const struct kernels *find_kernels(const char *name); /* NULL: no such level, or not on this processor */
void activate_kernels(const struct kernels *kernels);

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
