/* cext._kernels, eighth part: the scan of a carried threshold. */
#include "arguments.h"
#include "scan.h"
#include "select.h"

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)

/* n, k, most */
METHOD(scan_workspace) {
  const char *const function = "scan_workspace";
  struct scan scan;
  int64_t n;
  (void)module;
  if (!has_arguments(function, count, 3) || !take_int(function, args[0], "n", 1, INT32_MAX, &n) ||
      !take_int(function, args[1], "k", 1, n, &scan.k) || !take_int(function, args[2], "most", 0, n, &scan.most))
    return NULL;
  return PyLong_FromLongLong(scan_workspace_bytes(n, &scan));
}

static bool take_scan(struct call *call, PyObject *const *args, struct scored *scored, struct scan *scan,
                      int32_t **out) {
  float *scores;
  void *places, *taken;
  int64_t listed, start;
  double threshold;
  if (!take_vector(call, args[0], "scores", false, &scores, &scored->n) ||
      !take_array(call, args[1], "places", INT32, false, &places, &listed) ||
      !same_length(call->function, "scores", scored->n, "places", listed) ||
      !take_double(call->function, args[2], "threshold", &threshold) ||
      !take_int(call->function, args[3], "most", 0, scored->n, &scan->most) ||
      !take_int(call->function, args[4], "start", 0, INT32_MAX, &start) ||
      !take_array(call, args[5], "out", INT32, true, &taken, &scan->k))
    return false;
  scored->scores = scores;
  scored->places = places;
  scan->start = (int32_t)start;
  *out = taken;
  if (threshold != threshold)
    PyErr_Format(PyExc_ValueError, "%s: threshold = nan: any number is allowed", call->function);
  else if (scan->k < 1 || scan->k > scored->n)
    PyErr_Format(PyExc_ValueError, "%s: out has room for %lld, allowed are 1 to %lld", call->function,
                 (long long)scan->k, (long long)scored->n);
  else
    scan->key = threshold_key(threshold);
  return !PyErr_Occurred();
}

/* scores, places, threshold, most, start, out, workspace, threads */
METHOD(scan_select) {
  struct call call = {.function = "scan_select"};
  struct scored scored;
  struct scan scan;
  struct scanned found;
  int32_t *out;
  void *workspace;
  int64_t bytes, needed;
  int threads;
  (void)module;
  if (!has_arguments(call.function, count, 8) || !take_scan(&call, args, &scored, &scan, &out) ||
      !take_array(&call, args[6], "workspace", BYTES, true, &workspace, &bytes) ||
      !take_threads(call.function, args[7], &threads))
    return finish(&call, NULL);
  if (bytes < (needed = scan_workspace_bytes(scored.n, &scan))) {
    PyErr_Format(PyExc_ValueError, "%s: workspace has room for %lld, needed are %lld", call.function, (long long)bytes,
                 (long long)needed);
    return finish(&call, NULL);
  }
  Py_BEGIN_ALLOW_THREADS;
  found = scan_select(&scored, &scan, out, workspace, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_BuildValue("Ldd", (long long)found.above, (double)found.lowest, (double)found.largest));
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef scan_methods[] = {ENTRY(scan_workspace), ENTRY(scan_select), {NULL, NULL, 0, NULL}};
