/* Stages as Python hands them over, with fits in Python that kernels ask in between. */
#ifndef SANDTABLE_ASKING_H
#define SANDTABLE_ASKING_H

#include "arguments.h"
#include "stages.h"

/* What is asked gets the GIL, and the thread gives it back. */
struct asking {
  const char *function;
  PyObject *sequence; /* of our own: what is asked in between may change the caller's list */
  int count;
  struct stage_fit stages[MOST_STAGES];
  PyObject *fits[MOST_STAGES];
  PyThreadState *released;
};

/* from `least` to `most` stages; `take_back` gives up what is taken */
bool take_stages(struct asking *asking, PyObject *stages, int least, int most);

/* Between these two the thread runs without the GIL; `python_fits` may be asked. */
void let_go(struct asking *asking);
void take_back(struct asking *asking);
struct others python_fits(struct asking *asking);
bool asks_python(const struct asking *asking); /* for some stage */

#endif
