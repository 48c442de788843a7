/* Which entries of a sparse list lie on a stride through the vector. */
#ifndef SANDTABLE_STRIDE_H
#define SANDTABLE_STRIDE_H

#include "sparse.h"

/* Writes the values of the entries at the first `room` of the places start, start + stride, … behind each other, in the
 * list's order; returns how many. -1 where the list does not ascend strictly from 0 on, as far as that was noticed:
 * nothing is written beyond the room. 0 <= start, 1 <= stride. */
int64_t on_stride(const struct entries *list, int64_t start, int64_t stride, float *out, int64_t room, int threads);

#endif
