/* The plain passes over vectors: reading, adding, counting, scaling. */
#ifndef SANDTABLE_PASSES_H
#define SANDTABLE_PASSES_H

#include "common.h"

/* The largest |x|, 0 for an empty vector, NaN if there is one. One pass that does nothing but read: the floor of every
 * method that looks at each element once. */
double max_abs(const float *x, int64_t n, int threads);

/* out = factor * x */
void scale_vector(const float *x, int64_t n, float factor, float *out, int threads);

/* velocity = factor * velocity + gradient. With `taken`, Nesterov's: velocity = factor * (velocity + gradient), and
 * taken = velocity + gradient. */
void add_momentum(const float *gradient, float *velocity, int64_t n, float factor, float *taken, int threads);

/* How many keys lie above `key`. */
int64_t count_above(const float *x, int64_t n, int32_t key, int threads);

/* residual += gradient: the floor of every method with error feedback. */
void add_vectors(const float *gradient, float *residual, int64_t n, int threads);

#endif
