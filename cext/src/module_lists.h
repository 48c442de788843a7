/* Reading a list of entries and checking its places, for the modules that work on listed places. */
#ifndef SANDTABLE_MODULE_LISTS_H
#define SANDTABLE_MODULE_LISTS_H

#include "arguments.h"
#include "sparse.h"

/* Refuses a list with an index outside [0, n) before anything is written. */
static inline bool check_places(const struct call *call, const struct entries *list, int64_t n, bool *ascending) {
  int64_t bad;
  Py_BEGIN_ALLOW_THREADS;
  bad = find_bad_index(list, n, ascending);
  Py_END_ALLOW_THREADS;
  if (bad < 0)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: indices[%lld] = %d: allowed are 0 to %lld", call->function, (long long)bad,
               (int)list->indices[bad], (long long)n - 1);
  return false;
}

static inline bool take_list(struct call *call, PyObject *indices, PyObject *values, struct entries *list) {
  int32_t *index;
  float *value;
  if (!take_entries(call, indices, values, false, &index, &value, &list->count))
    return false;
  list->indices = index;
  list->values = value;
  return true;
}

#endif
