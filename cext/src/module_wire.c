/* cext._kernels, fifth part: what travels, and its merging. */
#include "module_lists.h"

#include "delta.h"
#include "merge.h"

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  (void)call;                                                                                                          \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

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

/* indices, values, offsets, out indices, out values, threads */
METHOD(merge_sorted) {
  OPEN(merge_sorted, 6);
  struct lists lists;
  struct merged out;
  struct merge_outcome outcome;
  void *offsets;
  int64_t bounds;
  int threads;
  if (!take_list(&call, args[0], args[1], &lists.all) ||
      !take_array(&call, args[2], "offsets", INT64, false, &offsets, &bounds) ||
      !take_entries(&call, args[3], args[4], true, &out.indices, &out.values, &out.room) ||
      !take_threads(call.function, args[5], &threads) || !check_offsets(&call, offsets, bounds - 1, lists.all.count))
    return finish(&call, NULL);
  lists.offsets = offsets;
  lists.count = bounds - 1;
  Py_BEGIN_ALLOW_THREADS;
  outcome = merge_sorted(&lists, &out, threads);
  Py_END_ALLOW_THREADS;
  if (outcome.count >= 0)
    return finish(&call, PyLong_FromLongLong(outcome.count));
  if (outcome.disorder >= 0)
    PyErr_Format(PyExc_ValueError, "%s: indices[%lld] = %d: each list must ascend from 0 or more", call.function,
                 (long long)outcome.disorder, (int)lists.all.indices[outcome.disorder]);
  else
    PyErr_Format(PyExc_ValueError, "%s: out indices has room for %lld, needed are %lld", call.function,
                 (long long)out.room, (long long)outcome.needed);
  return finish(&call, NULL);
}

static bool take_indices(struct call *call, PyObject *object, bool writable, int32_t **indices, int64_t *count) {
  void *start;
  if (!take_array(call, object, writable ? "out indices" : "indices", INT32, writable, &start, count))
    return false;
  *indices = start;
  return true;
}

/* Codes of 1 or 2 bytes as a uint8 array. */
static bool take_codes(struct call *call, PyObject *width_object, PyObject *object, bool writable, int64_t *width,
                       void **codes, int64_t *size) {
  if (!take_int(call->function, width_object, "width", 1, 2, width) ||
      !take_array(call, object, writable ? "out codes" : "codes", BYTES, writable, codes, size))
    return false;
  bool whole = *size % *width == 0 && (uintptr_t)*codes % (uintptr_t)*width == 0;
  if (!whole)
    PyErr_Format(PyExc_ValueError, "%s: codes must be whole and aligned to their %d bytes", call->function,
                 (int)*width);
  *size /= *width;
  return whole;
}

static bool size_codes(const struct call *call, const int32_t *indices, int64_t count, int64_t codes[2]) {
  bool good;
  Py_BEGIN_ALLOW_THREADS;
  good = delta_size(indices, count, codes);
  Py_END_ALLOW_THREADS;
  if (!good)
    PyErr_Format(PyExc_ValueError, "%s: indices must ascend strictly from 0 or more", call->function);
  return good;
}

/* indices */
METHOD(delta_size) {
  OPEN(delta_size, 1);
  int32_t *indices;
  int64_t n, codes[2];
  if (!take_indices(&call, args[0], false, &indices, &n) || !size_codes(&call, indices, n, codes))
    return finish(&call, NULL);
  return finish(&call, Py_BuildValue("LL", (long long)codes[0], (long long)codes[1]));
}

/* indices, width, out codes */
METHOD(delta_encode) {
  OPEN(delta_encode, 3);
  int32_t *indices;
  void *codes;
  int64_t n, width, room, needed[2];
  if (!take_indices(&call, args[0], false, &indices, &n) ||
      !take_codes(&call, args[1], args[2], true, &width, &codes, &room) || !size_codes(&call, indices, n, needed) ||
      !same_length(call.function, "out codes", room, "what indices need", needed[width - 1]))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  delta_encode(indices, n, (int)width, codes);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* codes, width, out indices */
METHOD(delta_decode) {
  OPEN(delta_decode, 3);
  int32_t *indices;
  void *codes;
  int64_t n, width, size;
  bool good;
  if (!take_codes(&call, args[1], args[0], false, &width, &codes, &size) ||
      !take_indices(&call, args[2], true, &indices, &n))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  good = delta_decode(codes, size, (int)width, indices, n);
  Py_END_ALLOW_THREADS;
  if (!good)
    PyErr_Format(PyExc_ValueError, "%s: %lld codes are not those of %lld indices up to 2147483647", call.function,
                 (long long)size, (long long)n);
  return finish(&call, good ? Py_NewRef(Py_None) : NULL);
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef wire_methods[] = {
    ENTRY(merge_sorted), ENTRY(delta_size), ENTRY(delta_encode), ENTRY(delta_decode), {NULL, NULL, 0, NULL},
};
