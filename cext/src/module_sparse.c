/* cext._kernels, second half: the functions that work on listed places. */
#include "module_lists.h"

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
  OPEN(zero_at, 2);
  float *x;
  int64_t n;
  bool ascending;
  struct entries list = {.values = NULL};
  if (!take_vector(&call, args[0], "x", true, &x, &n) || !take_places(&call, args[1], &list) ||
      !check_places(&call, &list, n, &ascending))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  zero_at(x, &list);
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

static bool check_offsets(const struct call *call, const int64_t *offsets, int64_t lists, int64_t total) {
  bool good = lists >= 0 && lists <= MAX_LISTS && offsets[0] == 0 && offsets[lists] == total;
  for (int64_t p = 0; good && p < lists; p++)
    good = offsets[p] <= offsets[p + 1];
  if (!good)
    PyErr_Format(PyExc_ValueError,
                 "%s: offsets must rise from 0 to the %lld entries, one more than the lists, of which %d are allowed",
                 call->function, (long long)total, MAX_LISTS);
  return good;
}

static bool check_order(const struct call *call, const struct lists *lists, int64_t room) {
  int64_t disorder, bound;
  Py_BEGIN_ALLOW_THREADS;
  disorder = find_disorder(lists);
  bound = disorder < 0 ? merged_bound(lists) : 0;
  Py_END_ALLOW_THREADS;
  if (disorder >= 0)
    PyErr_Format(PyExc_ValueError, "%s: indices[%lld] = %d: each list must ascend from 0 or more", call->function,
                 (long long)disorder, (int)lists->all.indices[disorder]);
  else if (bound > room)
    PyErr_Format(PyExc_ValueError, "%s: out indices has room for %lld, needed are %lld", call->function,
                 (long long)room, (long long)bound);
  return disorder < 0 && bound <= room;
}

METHOD(merge_sorted) {
  OPEN(merge_sorted, 6);
  struct lists lists;
  void *offsets;
  int32_t *out_indices;
  float *out_values;
  int64_t bounds, room, merged;
  int threads;
  if (!take_list(&call, args[0], args[1], &lists.all) ||
      !take_array(&call, args[2], "offsets", INT64, false, &offsets, &bounds) ||
      !take_entries(&call, args[3], args[4], true, &out_indices, &out_values, &room) ||
      !take_threads(call.function, args[5], &threads) || !check_offsets(&call, offsets, bounds - 1, lists.all.count))
    return finish(&call, NULL);
  lists.offsets = offsets;
  lists.count = bounds - 1;
  if (!check_order(&call, &lists, room))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  merged = merge_sorted(&lists, out_indices, out_values, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, PyLong_FromLongLong(merged));
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef sparse_methods[] = {
    ENTRY(scatter_add), ENTRY(zero_at), ENTRY(gather), ENTRY(merge_sorted), {NULL, NULL, 0, NULL},
};
