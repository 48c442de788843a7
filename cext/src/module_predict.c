/* cext._kernels: what a sample says about the thresholds to come. */
#include "arguments.h"
#include "predict.h"

#include <math.h>

/* Fits in Python, asked in between: they get the GIL, and the thread gives it back. */
struct asking {
  PyObject *fits[MOST_BRACKETS];
  PyThreadState *released;
};

static double ask_python(void *context, int number, const struct means *m) {
  struct asking *asking = context;
  PyEval_RestoreThread(asking->released);
  double threshold = (double)NAN;
  if (!PyErr_Occurred()) {
    PyObject *answer = PyObject_CallFunction(asking->fits[number], "ddddd", m->count, m->of[MEAN], m->of[MEAN_SQUARE],
                                             m->of[MEAN_LOG], m->of[MEAN_X]);
    if (answer && !take_double("predict_stages", answer, "a fit's threshold", &threshold))
      threshold = (double)NAN;
    Py_XDECREF(answer);
  }
  asking->released = PyEval_SaveThread();
  return threshold;
}

/* A tuple (fit, ratio, of). */
static bool take_stage(PyObject *object, int number, struct stage_fit *stage, struct asking *asking) {
  int64_t fit;
  if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 3) {
    PyErr_SetString(PyExc_TypeError, "predict_stages: every stage must be a tuple (fit, ratio, of)");
    return false;
  }
  if (!take_int("predict_stages", PyTuple_GET_ITEM(object, 0), "fit", 0, FITS - 1, &fit) ||
      !take_double("predict_stages", PyTuple_GET_ITEM(object, 1), "ratio", &stage->ratio))
    return false;
  if (!(stage->ratio > 0 && stage->ratio <= 1)) {
    PyErr_SetString(PyExc_ValueError, "predict_stages: ratio must be above 0 and at most 1");
    return false;
  }
  stage->fit = (enum fit)fit;
  stage->number = number;
  asking->fits[number] = PyTuple_GET_ITEM(object, 2);
  return true;
}

/* A tuple of our own: what is asked in between may change the caller's list. */
static PyObject *own_stages(PyObject *stages) {
  PyObject *sequence = PySequence_Tuple(stages);
  if (sequence == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
    PyErr_SetString(PyExc_TypeError, "predict_stages: stages must be a sequence");
  return sequence;
}

static PyObject *build_predicted(const struct predicted *p) {
  PyObject *brackets = PyTuple_New(p->brackets);
  for (int m = 0; brackets && m < p->brackets; m++) {
    PyObject *bracket = Py_BuildValue("dd", p->low[m], p->high[m]);
    if (bracket)
      PyTuple_SET_ITEM(brackets, m, bracket);
    else
      Py_CLEAR(brackets);
  }
  if (brackets == NULL)
    return NULL;
  return Py_BuildValue("ddNLL", p->threshold, p->error, brackets, (long long)p->above, (long long)p->inside);
}

/* sample, groups, stages, width, fewest */
static PyObject *py_predict_stages(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  struct call call = {.function = "predict_stages"};
  float *sample;
  int64_t n, groups, fewest;
  double width;
  struct stage_fit stages[MOST_BRACKETS];
  struct asking asking;
  struct predicted predicted;
  if (!has_arguments(call.function, count, 5))
    return NULL;
  if (!take_vector(&call, args[0], "sample", false, &sample, &n) ||
      !take_int(call.function, args[1], "groups", 2, MOST_GROUPS, &groups) ||
      !take_double(call.function, args[3], "width", &width) ||
      !take_int(call.function, args[4], "fewest", 0, INT32_MAX, &fewest))
    return finish(&call, NULL);
  if (!(width >= 0)) {
    PyErr_SetString(PyExc_ValueError, "predict_stages: width must be 0 or more");
    return finish(&call, NULL);
  }
  PyObject *sequence = own_stages(args[2]);
  const Py_ssize_t wanted = sequence ? PyTuple_GET_SIZE(sequence) : -1;
  bool good = wanted >= 0 && wanted <= MOST_BRACKETS;
  for (Py_ssize_t m = 0; good && m < wanted; m++)
    good = take_stage(PyTuple_GET_ITEM(sequence, m), (int)m, &stages[m], &asking);
  if (wanted > MOST_BRACKETS)
    PyErr_Format(PyExc_ValueError, "predict_stages: %zd stages: at most %d are allowed", wanted, MOST_BRACKETS);
  if (!good) {
    Py_XDECREF(sequence);
    return finish(&call, NULL);
  }
  asking.released = PyEval_SaveThread();
  const bool told =
      predict_thresholds(sample, n, groups, stages, (int)wanted, width, fewest, ask_python, &asking, &predicted);
  PyEval_RestoreThread(asking.released);
  Py_DECREF(sequence);
  if (PyErr_Occurred())
    return finish(&call, NULL);
  return finish(&call, told ? build_predicted(&predicted) : Py_NewRef(Py_None));
}

PyMethodDef predict_methods[] = {
    {"predict_stages", (PyCFunction)(void (*)(void))py_predict_stages, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
