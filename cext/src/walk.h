/* How the optimizers walk a list: checked first, then block by block, each as
 * its places lie.
 *
 *   WHOLE      neighbours without a gap: worked on where they are
 *   STRETCH    close together: the whole stretch of memory is worked on where
 *              it is, under a mask
 *   LISTED     the same on AVX-512, which tells the mask as it goes
 *   SCATTERED  far apart: gathered into a tile, worked on, scattered
 *
 * The same operations on each listed place whichever way, so the same bits; but
 * a stretch streams through memory, so a long list costs no more than a dense
 * gradient.
 */
#ifndef SANDTABLE_WALK_H
#define SANDTABLE_WALK_H

#include "isa_each.h"
#include "optim.h"
#include "parallel.h"

enum {
  GATHERED = 128, /* entries gathered at once: few, so that memory streams on while a tile is filled */
  STRETCHED = 4,  /* places a listed one, up to which its stretch is worked on: measured break-even */
  TILE_LANES = GATHERED * STRETCHED + 64, /* places of a stretch and the rest of its first and last 32 */
  STRETCH_SOON = 512,                     /* places ahead of a stretch that are asked for, and half as many entries */
  SOON = 96,                              /* entries ahead whose places are asked for, one with each that is gathered */
};

enum layout { WHOLE, STRETCH, LISTED, SCATTERED };

struct block {
  enum layout layout;
  const int32_t *indices; /* NULL: first, first + 1, … */
  const float *gradients; /* one a lane; LISTED: an entry */
  const uint32_t *listed; /* of a STRETCH: all ones for each lane that is listed, else 0 */
  int64_t count, first;   /* entries; place of the first lane */
  int64_t lanes;          /* 16 or a multiple, except where the vector or the list ends */
  int64_t ahead;          /* entries of the chunk from this block's first on: those may be asked for early */
};

/* What a worker needs for its blocks. */
struct tile {
  float gradients[TILE_LANES];
  uint32_t listed[TILE_LANES];
};

/* One call's walk, shared by its threads. */
struct walk {
  struct entries list;
  int64_t n, chunk;
  const int32_t *last_touched; /* unless NULL: refuse what was touched after `step` */
  int32_t step;
  struct tasks checks, chunks;
  _Atomic int64_t checked, future; /* future: the first such entry, INT64_MAX if none */
  _Atomic bool disorder;
  int64_t outside;
  const float *parameters; /* what is worked on, to be asked for early, */
  const float *state;      /* and NULL or its state, */
  int64_t each;            /* so many numbers a place */
};

struct walk start_walk(const struct entries *list, const float *parameters, const float *state, int64_t each, int64_t n,
                       int threads);

/* Runs `worker` on threads and tells what the list was refused for. */
struct refusal run_walk(struct walk *walk, void (*worker)(void *context), void *context, int threads);

/* For each worker: takes part in the check; returns when all of it is done, true if there is work for this worker. A
 * list that is not strictly ascending is one worker's, who takes it entry by entry: repeated places are right too. */
bool check_list(struct walk *walk);

/* The entries [*start, *end) to work on next, or false. */
bool next_chunk(struct walk *walk, int64_t *start, int64_t *end);

/* The block that begins at entry `at` of a chunk that ends at entry `end`. */
struct block next_block(const struct walk *walk, int64_t at, int64_t end, struct tile *tile);

static inline int64_t place_of(const struct block *block, int64_t i) {
  return block->indices ? block->indices[i] : block->first + i;
}

/* Whether all places from the first entry's to the last's have a lane. */
static inline bool covers_gaps(const struct block *block) {
  return block->layout == STRETCH || block->layout == LISTED;
}

static inline int64_t lane_of(const struct block *block, int64_t i) {
  return covers_gaps(block) ? block->indices[i] - block->first : i;
}

/* a where mask is all ones, b where it is 0: no branch, so that loops with it
 * become vectors. */
static inline float choose(uint32_t mask, float a, float b) {
  uint32_t bits_a, bits_b;
  memcpy(&bits_a, &a, sizeof a);
  memcpy(&bits_b, &b, sizeof b);
  bits_b = (bits_a & mask) | (bits_b & ~mask);
  memcpy(&b, &bits_b, sizeof b);
  return b;
}

#endif
