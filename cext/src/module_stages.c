/* cext._kernels: thresholds of stages that follow one another, and what a sample says about them beforehand. */
#include "asking.h"
#include "predict.h"
#include "stages.h"

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
  struct asking asking = {.function = call.function};
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
  if (!take_stages(&asking, args[2], 0, MOST_BRACKETS))
    return finish(&call, NULL);
  const struct others others = python_fits(&asking);
  let_go(&asking);
  const bool told =
      predict_thresholds(sample, n, groups, asking.stages, asking.count, width, fewest, &others, &predicted);
  take_back(&asking);
  if (PyErr_Occurred())
    return finish(&call, NULL);
  return finish(&call, told ? build_predicted(&predicted) : Py_NewRef(Py_None));
}

static PyObject *py_stages_workspace(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  int64_t n;
  if (!has_arguments("stages_workspace", count, 1) || !take_int("stages_workspace", args[0], "n", 0, INT32_MAX, &n))
    return NULL;
  return PyLong_FromLongLong(stages_workspace_bytes(n));
}

/* gradient or None, x, stages, sums, indices, values, workspace */
static PyObject *py_select_stages(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  struct call call = {.function = "select_stages"};
  struct asking asking = {.function = call.function};
  float *gradient, *x;
  int64_t n, sums, bytes;
  struct payload out;
  void *workspace;
  if (!has_arguments(call.function, count, 7))
    return NULL;
  if (!take_vector(&call, args[1], "x", args[0] != Py_None, &x, &n) ||
      !take_optional_vector(&call, args[0], "gradient", false, "x", n, &gradient) ||
      !take_int(call.function, args[3], "sums", 0, SUM_ALL, &sums) ||
      !take_entries(&call, args[4], args[5], true, &out.indices, &out.values, &out.capacity) ||
      !take_array(&call, args[6], "workspace", BYTES, true, &workspace, &bytes))
    return finish(&call, NULL);
  if (!(sums & SUM_ABS))
    PyErr_Format(PyExc_ValueError, "%s: sums must have SUM_ABS among them", call.function);
  else if (bytes < stages_workspace_bytes(n))
    PyErr_Format(PyExc_ValueError, "%s: workspace has room for %lld, needed are %lld", call.function, (long long)bytes,
                 (long long)stages_workspace_bytes(n));
  if (PyErr_Occurred() || !take_stages(&asking, args[2], 1, MOST_STAGES))
    return finish(&call, NULL);
  const struct others others = python_fits(&asking);
  let_go(&asking);
  const struct staged found =
      select_stages(gradient, x, n, asking.stages, asking.count, (int)sums, &others, &out, workspace);
  take_back(&asking);
  if (found.count < 0 && !PyErr_Occurred())
    PyErr_Format(PyExc_ValueError, "%s: the workspace was written to by a fit", call.function);
  if (PyErr_Occurred())
    return finish(&call, NULL);
  return finish(&call, Py_BuildValue("Ldd", (long long)found.count, found.threshold, found.sum_abs));
}

PyMethodDef stages_methods[] = {
    {"predict_stages", (PyCFunction)(void (*)(void))py_predict_stages, METH_FASTCALL, NULL},
    {"stages_workspace", (PyCFunction)(void (*)(void))py_stages_workspace, METH_FASTCALL, NULL},
    {"select_stages", (PyCFunction)(void (*)(void))py_select_stages, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
