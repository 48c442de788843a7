/* The sparse optimizers: only the listed places are read as state and written.
 */
#ifndef SANDTABLE_OPTIM_H
#define SANDTABLE_OPTIM_H

#include "sparse.h"

struct sgd {
  float *parameters;
  float *momentum_buffer; /* NULL: no momentum */
  int32_t *last_touched;  /* NULL: every place counts as touched before */
  int32_t step;
  double lr, momentum, dampening, weight_decay;
  bool nesterov, lazy_decay;
};

struct adam {
  float *parameters;
  float *moments;   /* mean and mean square of a place beside each other: one
                       cache line less than apart */
  int32_t *updates; /* NULL: every place is as old as the tensor, `step` updates */
  int32_t step;
  double lr, beta1, beta2, epsilon, weight_decay;
  bool decoupled; /* AdamW's weight decay */
};

/* What a list is refused for: the entry whose index is outside [0, n), or whose
 * place was touched after this step. */
struct refusal {
  int64_t outside, future; /* position in the list, or -1 */
};

/* One step. The list's indices may be NULL: every place of the n. Nothing is
 * written if the list is refused. */
struct refusal sparse_sgd(const struct sgd *sgd, const struct entries *list, int64_t n, int threads);
struct refusal sparse_adam(const struct adam *adam, const struct entries *list, int64_t n, int threads);

#endif
