/* splitmix64: a well mixed number for each of a sequence of neighbouring ones, the same in every run. */
#ifndef SANDTABLE_MIX_H
#define SANDTABLE_MIX_H

#include <stdint.h>

#define MIX_STEP UINT64_C(0x9E3779B97F4A7C15) /* between neighbours */

static inline uint64_t mixed(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

#endif
