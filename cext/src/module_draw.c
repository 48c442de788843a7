/* cext._kernels: coordinates drawn without looking at the values. */
#include "arguments.h"
#include "draw.h"

/* What the blocks give must ascend, fit in them, and be the whole list. */
static bool take_ends(struct call *call, PyObject *object, int64_t n, int64_t capacity, const int64_t **ends) {
  void *data;
  int64_t count, before = 0;
  if (!take_array(call, object, "ends", INT64, false, &data, &count) ||
      !same_length(call->function, "ends", count, "the blocks", draw_blocks(n)))
    return false;
  *ends = data;
  bool good = true;
  for (int64_t b = 0; good && b < count; before = (*ends)[b++])
    good = (*ends)[b] >= before && (*ends)[b] - before <= min64(DRAW_BLOCK, n - b * DRAW_BLOCK);
  if (good && before == capacity)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: ends must ascend by at most a block's elements, to the %lld of indices",
               call->function, (long long)capacity);
  return false;
}

/* gradient or None, x or None, n, ends, seed, indices, values, threads */
static PyObject *py_select_drawn(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  struct call call = {.function = "select_drawn"};
  float *gradient, *x;
  int64_t n;
  const int64_t *ends;
  int threads;
  struct payload out;
  if (!has_arguments(call.function, count, 8) || !take_int(call.function, args[2], "n", 0, INT32_MAX, &n))
    return NULL;
  const bool feedback = args[0] != Py_None;
  const uint64_t seed = PyLong_AsUnsignedLongLongMask(args[4]); /* before the ends are looked at: it may run Python */
  if (PyErr_Occurred() || !take_threads(call.function, args[7], &threads) ||
      !take_optional_vector(&call, args[1], "x", feedback, "n", n, &x) ||
      !take_optional_vector(&call, args[0], "gradient", false, "n", n, &gradient) ||
      !take_entries(&call, args[5], args[6], true, &out.indices, &out.values, &out.capacity) ||
      !take_ends(&call, args[3], n, out.capacity, &ends))
    return finish(&call, NULL);
  if (feedback && !x)
    PyErr_Format(PyExc_ValueError, "%s: a gradient needs an x to be added to", call.function);
  if (PyErr_Occurred())
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  select_drawn(gradient, x, n, ends, seed, &out, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

PyMethodDef draw_methods[] = {
    {"select_drawn", (PyCFunction)(void (*)(void))py_select_drawn, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
