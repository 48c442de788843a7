/* cext._kernels, second half: the functions that work on listed places. */
#include "module_lists.h"
#include "stride.h"

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  (void)call;                                                                                                          \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

static bool take_places(struct call *call, PyObject *indices, struct entries *list) {
  void *index;
  if (!take_array(call, indices, "indices", INT32, false, &index, &list->count))
    return false;
  list->indices = index;
  return true;
}

METHOD(scatter_add) {
  OPEN(scatter_add, 5);
  float *out;
  int64_t n;
  double scale;
  int threads;
  bool ascending;
  struct entries list;
  if (!take_vector(&call, args[0], "out", true, &out, &n) || !take_list(&call, args[1], args[2], &list) ||
      !take_double(call.function, args[3], "scale", &scale) || !take_threads(call.function, args[4], &threads) ||
      !check_places(&call, &list, n, &ascending))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  scatter_add(out, &list, (float)scale, ascending, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

METHOD(zero_at) {
  OPEN(zero_at, 3);
  float *x;
  int64_t n;
  int threads;
  bool ascending;
  struct entries list = {.values = NULL};
  if (!take_vector(&call, args[0], "x", true, &x, &n) || !take_places(&call, args[1], &list) ||
      !take_threads(call.function, args[2], &threads) || !check_places(&call, &list, n, &ascending))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  zero_at(x, &list, ascending, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

METHOD(put) {
  OPEN(put, 4);
  float *x;
  int64_t n;
  int threads;
  bool ascending;
  struct entries list;
  if (!take_vector(&call, args[0], "x", true, &x, &n) || !take_list(&call, args[1], args[2], &list) ||
      !take_threads(call.function, args[3], &threads) || !check_places(&call, &list, n, &ascending))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  put(x, &list, ascending, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

METHOD(gather) {
  OPEN(gather, 3);
  float *x, *values;
  int64_t n, room;
  bool ascending;
  struct entries list = {.values = NULL};
  if (!take_vector(&call, args[0], "x", false, &x, &n) || !take_places(&call, args[1], &list) ||
      !take_vector(&call, args[2], "values", true, &values, &room) ||
      !same_length(call.function, "indices", list.count, "values", room) || !check_places(&call, &list, n, &ascending))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  gather(x, &list, values);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* indices, values, start, stride, out, threads */
METHOD(on_stride) {
  OPEN(on_stride, 6);
  struct entries list;
  int64_t start, stride, room, found;
  float *out;
  int threads;
  if (!take_list(&call, args[0], args[1], &list) || !take_int(call.function, args[2], "start", 0, INT32_MAX, &start) ||
      !take_int(call.function, args[3], "stride", 1, INT32_MAX, &stride) ||
      !take_vector(&call, args[4], "out", true, &out, &room) || !take_threads(call.function, args[5], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  found = on_stride(&list, start, stride, out, room, threads);
  Py_END_ALLOW_THREADS;
  if (found < 0)
    PyErr_Format(PyExc_ValueError, "%s: indices must ascend", call.function);
  return finish(&call, found < 0 ? NULL : PyLong_FromLongLong(found));
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef sparse_methods[] = {
    ENTRY(scatter_add), ENTRY(zero_at), ENTRY(put), ENTRY(gather), ENTRY(on_stride), {NULL, NULL, 0, NULL},
};
