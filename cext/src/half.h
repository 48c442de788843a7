/* Vectors rounded to 16 bits, to nearest and ties to even: IEEE half precision or bfloat16. */
#ifndef SANDTABLE_HALF_H
#define SANDTABLE_HALF_H

#include "common.h"

enum half { HALF_FP16, HALF_BF16, HALVES };

/* x += gradient, unless that is NULL; out = x, rounded. What is finite stays so: beyond the format's largest number it
 * is cut to that. A NaN stays one, of a single pattern. With a gradient x keeps what was rounded away (exactly,
 * unless half precision cuts a number beyond 2^29), and 0 where it was not finite. */
void round_half(const float *gradient, float *x, int64_t n, enum half kind, uint16_t *out, int threads);

#endif
