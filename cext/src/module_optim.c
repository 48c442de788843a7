/* cext._kernels, fourth part: the sparse optimizers. */
#include "module_lists.h"
#include "optim.h"
#include "pages.h"

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  (void)call;                                                                                                          \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

/* Takes an optional state of so many elements. */
static bool take_state(struct call *call, PyObject *object, const char *name, enum kind kind, int64_t elements,
                       void **state) {
  int64_t count;
  *state = NULL;
  return object == Py_None || (take_array(call, object, name, kind, true, state, &count) &&
                               same_length(call->function, "what parameters need", elements, name, count));
}

/* The list, or `values` alone where indices is None: of every place. */
static bool take_some_or_all(struct call *call, PyObject *indices, PyObject *values, int64_t n, struct entries *list) {
  float *value;
  if (indices != Py_None)
    return take_list(call, indices, values, list);
  if (!take_vector(call, values, "values", false, &value, &list->count) ||
      !same_length(call->function, "parameters", n, "values", list->count))
    return false;
  list->indices = NULL;
  list->values = value;
  return true;
}

static bool refuse(const char *function, const char *wrong) {
  if (wrong)
    PyErr_Format(PyExc_ValueError, "%s: %s", function, wrong);
  return !wrong;
}

static bool take_sgd_numbers(const struct call *call, PyObject *const *args, struct sgd *sgd) {
  const char *function = call->function, *wrong = NULL;
  int64_t step;
  if (!take_int(function, args[0], "step", 0, INT32_MAX, &step) || !take_double(function, args[1], "lr", &sgd->lr) ||
      !take_double(function, args[2], "momentum", &sgd->momentum) ||
      !take_double(function, args[3], "dampening", &sgd->dampening) ||
      !take_double(function, args[4], "weight_decay", &sgd->weight_decay))
    return false;
  sgd->step = (int32_t)step;
  sgd->nesterov = PyObject_IsTrue(args[5]);
  sgd->lazy_decay = PyObject_IsTrue(args[6]);
  if (!(sgd->momentum >= 0))
    wrong = "momentum must be 0 or more";
  else if (sgd->momentum > 0 && !sgd->momentum_buffer)
    wrong = "momentum needs momentum_buffer";
  else if (sgd->lazy_decay && !sgd->last_touched)
    wrong = "lazy_decay needs last_touched";
  else if (sgd->nesterov && !(sgd->momentum > 0 && sgd->dampening == 0))
    wrong = "nesterov needs momentum > 0 and dampening = 0";
  if (sgd->momentum == 0)
    sgd->momentum_buffer = NULL;
  return refuse(function, wrong);
}

static PyObject *outcome(struct call *call, const struct entries *list, int64_t n, struct refusal refusal,
                         const struct sgd *sgd) {
  if (refusal.outside >= 0)
    PyErr_Format(PyExc_ValueError, "%s: indices[%lld] = %d: allowed are 0 to %lld", call->function,
                 (long long)refusal.outside, (int)list->indices[refusal.outside], (long long)n - 1);
  else if (refusal.future >= 0)
    PyErr_Format(PyExc_ValueError, "%s: step = %d, but index %d was touched in step %d", call->function, sgd->step,
                 list->indices[refusal.future], sgd->last_touched[list->indices[refusal.future]]);
  return finish(call, refusal.outside >= 0 || refusal.future >= 0 ? NULL : Py_NewRef(Py_None));
}

/* parameters, momentum_buffer, last_touched, indices, values,
 * step, lr, momentum, dampening, weight_decay, nesterov, lazy_decay, threads */
METHOD(sparse_sgd) {
  OPEN(sparse_sgd, 13);
  struct sgd sgd = {.parameters = NULL};
  struct entries list;
  struct refusal refusal;
  void *buffer, *touched;
  int64_t n;
  int threads;
  if (!take_vector(&call, args[0], "parameters", true, &sgd.parameters, &n) ||
      !take_state(&call, args[1], "momentum_buffer", FLOAT32, n, &buffer) ||
      !take_state(&call, args[2], "last_touched", INT32, n, &touched) ||
      !take_some_or_all(&call, args[3], args[4], n, &list))
    return finish(&call, NULL);
  sgd.momentum_buffer = buffer;
  sgd.last_touched = touched;
  if (!take_sgd_numbers(&call, args + 5, &sgd) || !take_threads(call.function, args[12], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  refusal = sparse_sgd(&sgd, &list, n, threads);
  Py_END_ALLOW_THREADS;
  return outcome(&call, &list, n, refusal, &sgd);
}

static bool take_adam_numbers(const struct call *call, PyObject *const *args, struct adam *adam) {
  const char *function = call->function, *wrong = NULL;
  int64_t step;
  if (!take_int(function, args[0], "step", 1, INT32_MAX, &step) || !take_double(function, args[1], "lr", &adam->lr) ||
      !take_double(function, args[2], "beta1", &adam->beta1) ||
      !take_double(function, args[3], "beta2", &adam->beta2) ||
      !take_double(function, args[4], "epsilon", &adam->epsilon) ||
      !take_double(function, args[5], "weight_decay", &adam->weight_decay))
    return false;
  adam->step = (int32_t)step;
  adam->decoupled = PyObject_IsTrue(args[6]);
  if (!(adam->beta1 >= 0 && adam->beta1 < 1))
    wrong = "beta1 must be in [0, 1)";
  else if (!(adam->beta2 >= 0 && adam->beta2 < 1))
    wrong = "beta2 must be in [0, 1)";
  return refuse(function, wrong);
}

/* parameters, moments, updates, indices, values, step, lr, beta1, beta2,
 * epsilon, weight_decay, decoupled, threads */
METHOD(sparse_adam) {
  OPEN(sparse_adam, 13);
  struct adam adam = {.parameters = NULL};
  struct entries list;
  struct refusal refusal;
  void *moments, *updates;
  int64_t n;
  int threads;
  if (!take_vector(&call, args[0], "parameters", true, &adam.parameters, &n) ||
      !take_array(&call, args[1], "moments", FLOAT32, true, &moments, &list.count) ||
      !same_length(call.function, "2 * parameters", 2 * n, "moments", list.count) ||
      !take_state(&call, args[2], "updates", INT32, n, &updates) ||
      !take_some_or_all(&call, args[3], args[4], n, &list) || !take_adam_numbers(&call, args + 5, &adam) ||
      !take_threads(call.function, args[12], &threads))
    return finish(&call, NULL);
  adam.moments = moments;
  adam.updates = updates;
  Py_BEGIN_ALLOW_THREADS;
  refusal = sparse_adam(&adam, &list, n, threads);
  Py_END_ALLOW_THREADS;
  return outcome(&call, &list, n, refusal, NULL);
}

METHOD(huge_pages) {
  OPEN(huge_pages, 1);
  Py_buffer view;
  bool huge;
  if (PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) != 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS;
  huge = ask_huge_pages(view.buf, view.len);
  Py_END_ALLOW_THREADS;
  PyBuffer_Release(&view);
  return PyBool_FromLong(huge);
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef optim_methods[] = {
    ENTRY(sparse_sgd),
    ENTRY(sparse_adam),
    ENTRY(huge_pages),
    {NULL, NULL, 0, NULL},
};
