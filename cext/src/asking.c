#include "asking.h"

#include <math.h>

static double ask_python(void *context, int number, const struct means *m) {
  struct asking *asking = context;
  PyEval_RestoreThread(asking->released);
  double threshold = (double)NAN;
  if (!PyErr_Occurred()) {
    PyObject *answer = PyObject_CallFunction(asking->fits[number], "ddddd", m->count, m->of[MEAN], m->of[MEAN_SQUARE],
                                             m->of[MEAN_LOG], m->of[MEAN_X]);
    if (answer && !take_double(asking->function, answer, "a fit's threshold", &threshold))
      threshold = (double)NAN;
    Py_XDECREF(answer);
  }
  asking->released = PyEval_SaveThread();
  return threshold;
}

/* Number `number` of the stages, a tuple (fit, ratio, of). */
static bool take_stage(struct asking *asking, int number) {
  PyObject *const object = PyTuple_GET_ITEM(asking->sequence, number);
  struct stage_fit *const stage = &asking->stages[number];
  int64_t fit;
  if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 3) {
    PyErr_Format(PyExc_TypeError, "%s: every stage must be a tuple (fit, ratio, of)", asking->function);
    return false;
  }
  if (!take_int(asking->function, PyTuple_GET_ITEM(object, 0), "fit", 0, FITS - 1, &fit) ||
      !take_double(asking->function, PyTuple_GET_ITEM(object, 1), "ratio", &stage->ratio))
    return false;
  if (!(stage->ratio > 0 && stage->ratio <= 1)) {
    PyErr_Format(PyExc_ValueError, "%s: ratio must be above 0 and at most 1", asking->function);
    return false;
  }
  stage->fit = (enum fit)fit;
  stage->number = number;
  asking->fits[number] = PyTuple_GET_ITEM(object, 2);
  return true;
}

bool take_stages(struct asking *asking, PyObject *stages, int least, int most) {
  asking->sequence = PySequence_Tuple(stages);
  if (asking->sequence == NULL) {
    if (PyErr_ExceptionMatches(PyExc_TypeError))
      PyErr_Format(PyExc_TypeError, "%s: stages must be a sequence", asking->function);
    return false;
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(asking->sequence);
  bool good = count >= least && count <= most;
  if (!good)
    PyErr_Format(PyExc_ValueError, "%s: %zd stages: %s %d are allowed", asking->function, count,
                 count < least ? "at least" : "at most", count < least ? least : most);
  for (asking->count = 0; good && asking->count < count; asking->count++)
    good = take_stage(asking, asking->count);
  if (!good)
    Py_CLEAR(asking->sequence);
  return good;
}

struct others python_fits(struct asking *asking) { return (struct others){ask_python, asking}; }

bool asks_python(const struct asking *asking) {
  for (int m = 0; m < asking->count; m++)
    if (asking->stages[m].fit == FIT_OTHER)
      return true;
  return false;
}

void let_go(struct asking *asking) { asking->released = PyEval_SaveThread(); }

void take_back(struct asking *asking) {
  PyEval_RestoreThread(asking->released);
  Py_CLEAR(asking->sequence);
}
