/* cext._kernels, fourth part: the sparse optimizers. */
#include "module_lists.h"

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  (void)call;                                                                                                          \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

static bool take_sgd_state(struct call *call, PyObject *const *args, struct sgd *sgd, int64_t *n) {
  int64_t state_n;
  void *touched;
  if (!take_vector(call, args[0], "parameters", true, &sgd->parameters, n))
    return false;
  if (args[1] != Py_None && (!take_vector(call, args[1], "momentum_buffer", true, &sgd->momentum_buffer, &state_n) ||
                             !same_length(call->function, "parameters", *n, "momentum_buffer", state_n)))
    return false;
  if (args[2] == Py_None)
    return true;
  if (!take_array(call, args[2], "last_touched", INT32, true, &touched, &state_n) ||
      !same_length(call->function, "parameters", *n, "last_touched", state_n))
    return false;
  sgd->last_touched = touched;
  return true;
}

static bool take_sgd_numbers(const struct call *call, PyObject *const *args, struct sgd *sgd) {
  const char *function = call->function;
  int64_t step;
  if (!take_int(function, args[0], "step", 0, INT32_MAX, &step) || !take_double(function, args[1], "lr", &sgd->lr) ||
      !take_double(function, args[2], "momentum", &sgd->momentum) ||
      !take_double(function, args[3], "dampening", &sgd->dampening) ||
      !take_double(function, args[4], "weight_decay", &sgd->weight_decay))
    return false;
  sgd->step = (int32_t)step;
  sgd->nesterov = PyObject_IsTrue(args[5]);
  sgd->lazy_decay = PyObject_IsTrue(args[6]);
  const char *wrong = NULL;
  if (!(sgd->momentum >= 0))
    wrong = "momentum must be 0 or more";
  else if (sgd->momentum > 0 && !sgd->momentum_buffer)
    wrong = "momentum needs momentum_buffer";
  else if (sgd->lazy_decay && !sgd->last_touched)
    wrong = "lazy_decay needs last_touched";
  else if (sgd->nesterov && !(sgd->momentum > 0 && sgd->dampening == 0))
    wrong = "nesterov needs momentum > 0 and dampening = 0";
  if (wrong)
    PyErr_Format(PyExc_ValueError, "%s: %s", function, wrong);
  return !wrong;
}

static bool check_touched(const struct call *call, const struct sgd *sgd, const struct entries *list) {
  int64_t bad;
  Py_BEGIN_ALLOW_THREADS;
  bad = find_future_touch(sgd, list);
  Py_END_ALLOW_THREADS;
  if (bad >= 0)
    PyErr_Format(PyExc_ValueError, "%s: step = %d, but index %d was touched in step %d", call->function, sgd->step,
                 list->indices[bad], sgd->last_touched[list->indices[bad]]);
  return bad < 0;
}

METHOD(sparse_sgd) {
  OPEN(sparse_sgd, 13);
  struct sgd sgd = {.momentum_buffer = NULL};
  struct entries list;
  int64_t n;
  int threads;
  bool ascending;
  if (!take_sgd_state(&call, args, &sgd, &n) || !take_list(&call, args[3], args[4], &list) ||
      !take_sgd_numbers(&call, args + 5, &sgd) || !take_threads(call.function, args[12], &threads) ||
      !check_places(&call, &list, n, &ascending) || !check_touched(&call, &sgd, &list))
    return finish(&call, NULL);
  if (sgd.momentum == 0)
    sgd.momentum_buffer = NULL;
  Py_BEGIN_ALLOW_THREADS;
  sparse_sgd(&sgd, &list, ascending, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* parameters, state, indices, values, step, lr, beta1, beta2, epsilon, weight_decay, decoupled, own_age, threads */
METHOD(sparse_adam) {
  OPEN(sparse_adam, 13);
  struct adam adam = {.parameters = NULL};
  struct entries list;
  void *state;
  int64_t n, state_n;
  int threads;
  bool ascending;
  if (!take_array(&call, args[1], "state", FLOAT32, true, &state, &state_n) ||
      !same_length(call.function, "state", state_n, "whole lines of four", state_n / 4 * 4) ||
      (args[0] != Py_None && (!take_vector(&call, args[0], "parameters", true, &adam.parameters, &n) ||
                              !same_length(call.function, "state", state_n, "four for each parameter", 4 * n))) ||
      !take_list(&call, args[2], args[3], &list) ||
      !take_int(call.function, args[4], "step", 1, INT32_MAX, &adam.step) ||
      !take_double(call.function, args[5], "lr", &adam.lr) ||
      !take_double(call.function, args[6], "beta1", &adam.beta1) ||
      !take_double(call.function, args[7], "beta2", &adam.beta2) ||
      !take_double(call.function, args[8], "epsilon", &adam.epsilon) ||
      !take_double(call.function, args[9], "weight_decay", &adam.weight_decay) ||
      !take_threads(call.function, args[12], &threads) || !check_places(&call, &list, state_n / 4, &ascending))
    return finish(&call, NULL);
  if (!(adam.beta1 >= 0 && adam.beta1 < 1 && adam.beta2 >= 0 && adam.beta2 < 1)) {
    PyErr_Format(PyExc_ValueError, "%s: beta1 and beta2 must be in [0, 1)", call.function);
    return finish(&call, NULL);
  }
  adam.state = state;
  adam.decoupled = PyObject_IsTrue(args[10]);
  adam.own_age = PyObject_IsTrue(args[11]);
  Py_BEGIN_ALLOW_THREADS;
  sparse_adam(&adam, &list, ascending, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef optim_methods[] = {
    ENTRY(sparse_sgd),
    ENTRY(sparse_adam),
    {NULL, NULL, 0, NULL},
};
