/* cext._kernels: residuals in bfloat16, and vectors rounded to 16 bits. */
#include "module_lists.h" /* Python's header comes first */

#include "half.h"

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

/* One that is written. */
static bool take_residual(struct call *call, PyObject *object, PyObject *seed, struct bf16 *residual, int64_t *n) {
  float *unused;
  if (!take_either(call, object, "residual", true, &unused, residual, n) || !take_seed(call->function, seed, residual))
    return false;
  if (residual->values)
    return true;
  PyErr_Format(PyExc_TypeError, "%s: residual must be a uint16 array, not float32", call->function);
  return false;
}

/* x, residual, threads, seed */
METHOD(round_bf16) {
  OPEN(round_bf16, 4);
  float *x;
  struct bf16 residual;
  int64_t n, residual_n;
  int threads;
  if (!take_vector(&call, args[0], "x", false, &x, &n) ||
      !take_residual(&call, args[1], args[3], &residual, &residual_n) ||
      !same_length(call.function, "x", n, "residual", residual_n) || !take_threads(call.function, args[2], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  bf16_round(&residual, x, n, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* residual, indices, values, seed */
METHOD(put_bf16) {
  OPEN(put_bf16, 4);
  struct bf16 residual;
  struct entries list;
  int64_t n;
  bool ascending;
  if (!take_residual(&call, args[0], args[3], &residual, &n) || !take_list(&call, args[1], args[2], &list) ||
      !check_places(&call, &list, n, &ascending))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  for (int64_t i = 0; i < list.count; i++)
    bf16_put(&residual, list.indices[i], list.values[i]);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* gradient or None, x, out, kind, threads */
METHOD(round_half) {
  OPEN(round_half, 5);
  float *gradient, *x;
  void *out;
  int64_t n, room, kind;
  int threads;
  if (!take_vector(&call, args[1], "x", args[0] != Py_None, &x, &n) ||
      !take_optional_vector(&call, args[0], "gradient", false, "x", n, &gradient) ||
      !take_array(&call, args[2], "out", UINT16, true, &out, &room) ||
      !same_length(call.function, "out", room, "x", n) ||
      !take_int(call.function, args[3], "kind", 0, HALVES - 1, &kind) ||
      !take_threads(call.function, args[4], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  round_half(gradient, x, n, (enum half)kind, out, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef bf16_methods[] = {ENTRY(round_bf16), ENTRY(put_bf16), ENTRY(round_half), {NULL, NULL, 0, NULL}};
