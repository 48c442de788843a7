/* cext._kernels: the Python binding. Arguments are positional and complete here; cext/__init__.py gives them names,
 * defaults and types. Every kernel runs with the GIL released. */
#include "arguments.h"
#include "moments.h"
#include "passes.h"
#include "select.h"
#include "sparse.h"
#include "topk.h"

#include <math.h>

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  (void)call;                                                                                                          \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

/* ---- selection ---- */

static bool take_threshold(const char *function, PyObject *object, double *threshold) {
  if (!take_double(function, object, "threshold", threshold))
    return false;
  if (*threshold == *threshold)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: threshold = nan: any number is allowed", function);
  return false;
}

static PyObject *select_above(struct call *call, struct selection *s, PyObject *const *args) {
  struct payload out;
  double threshold;
  int threads;
  int64_t selected;
  if (!take_threshold(call->function, args[0], &threshold) ||
      !take_entries(call, args[1], args[2], true, &out.indices, &out.values, &out.capacity) ||
      !take_threads(call->function, args[3], &threads))
    return finish(call, NULL);
  const struct bf16 *bf16 = s->bf16;
  *s = plain_selection(s->gradient, s->x, s->n, threshold_key(threshold));
  s->bf16 = bf16;
  Py_BEGIN_ALLOW_THREADS;
  selected = run_selection(s, &out, NULL, threads);
  Py_END_ALLOW_THREADS;
  return finish(call, PyLong_FromLongLong(selected));
}

METHOD(threshold_select) {
  OPEN(threshold_select, 5);
  struct selection s = {.gradient = NULL};
  if (!take_vector(&call, args[0], "x", false, &s.x, &s.n))
    return finish(&call, NULL);
  return select_above(&call, &s, args + 1);
}

static bool take_feedback(struct call *call, PyObject *const *args, const float **gradient, float **residual,
                          int64_t *n) {
  float *start;
  int64_t residual_n;
  if (!take_vector(call, args[0], "gradient", false, &start, n) ||
      !take_vector(call, args[1], "residual", true, residual, &residual_n))
    return false;
  *gradient = start;
  return same_length(call->function, "gradient", *n, "residual", residual_n);
}

/* The same, with a residual of either kind. */
static bool take_either_feedback(struct call *call, PyObject *const *args, PyObject *seed, const float **gradient,
                                 float **residual, struct bf16 *bf16, int64_t *n) {
  float *start;
  int64_t residual_n;
  if (!take_vector(call, args[0], "gradient", false, &start, n) ||
      !take_either(call, args[1], "residual", true, residual, bf16, &residual_n))
    return false;
  *gradient = start;
  return same_length(call->function, "gradient", *n, "residual", residual_n) && take_seed(call->function, seed, bf16);
}

/* gradient, residual, threshold, indices, values, threads, seed */
METHOD(threshold_select_feedback) {
  OPEN(threshold_select_feedback, 7);
  struct selection s = {.gradient = NULL};
  struct bf16 bf16;
  if (!take_either_feedback(&call, args, args[6], &s.gradient, &s.x, &bf16, &s.n))
    return finish(&call, NULL);
  s.bf16 = bf16.values ? &bf16 : NULL;
  return select_above(&call, &s, args + 2);
}

static bool take_n_and_k(const char *function, PyObject *const *args, int64_t *n, int64_t *k) {
  return take_int(function, args[0], "n", 0, INT32_MAX, n) && take_int(function, args[1], "k", 0, *n, k);
}

METHOD(topk_workspace) {
  OPEN(topk_workspace, 2);
  int64_t n, k;
  if (!take_n_and_k(call.function, args, &n, &k))
    return NULL;
  return PyLong_FromLongLong(topk_workspace_bytes(n, k));
}

METHOD(topk_predictable) {
  OPEN(topk_predictable, 2);
  int64_t n, k;
  if (!take_n_and_k(call.function, args, &n, &k))
    return NULL;
  return PyBool_FromLong(topk_predictable(n, k));
}

static bool enough(const char *function, const char *name, int64_t given, int64_t needed) {
  if (given >= needed)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: %s has room for %lld, needed are %lld", function, name, (long long)given,
               (long long)needed);
  return false;
}

static PyObject *select_largest(struct call *call, const float *gradient, float *x, const struct bf16 *bf16, int64_t n,
                                PyObject *const *args) {
  struct payload out;
  void *workspace;
  int64_t k, bytes;
  int threads;
  if (!take_int(call->function, args[0], "k", 0, n, &k) ||
      !take_entries(call, args[1], args[2], true, &out.indices, &out.values, &out.capacity) ||
      !enough(call->function, "out indices", out.capacity, k) ||
      !take_array(call, args[3], "workspace", BYTES, true, &workspace, &bytes) ||
      !enough(call->function, "workspace", bytes, topk_workspace_bytes(n, k)) ||
      !take_threads(call->function, args[4], &threads))
    return finish(call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  k = bf16 ? topk_bf16(gradient, bf16, n, k, &out, workspace, threads)
           : topk(gradient, x, n, k, &out, workspace, threads);
  Py_END_ALLOW_THREADS;
  return finish(call, PyLong_FromLongLong(k));
}

METHOD(topk_select) {
  OPEN(topk_select, 6);
  float *x;
  int64_t n;
  if (!take_vector(&call, args[0], "x", false, &x, &n))
    return finish(&call, NULL);
  return select_largest(&call, NULL, x, NULL, n, args + 1);
}

/* gradient, residual, k, indices, values, workspace, threads, seed */
METHOD(topk_select_feedback) {
  OPEN(topk_select_feedback, 8);
  const float *gradient;
  float *residual;
  struct bf16 bf16;
  int64_t n;
  if (!take_either_feedback(&call, args, args[7], &gradient, &residual, &bf16, &n))
    return finish(&call, NULL);
  return select_largest(&call, gradient, residual, bf16.values ? &bf16 : NULL, n, args + 2);
}

/* ---- moments ---- */

static PyObject *build_moments(const struct moments *m, int64_t n) {
  return Py_BuildValue("LLddddd", (long long)n, (long long)m->nonzero, m->sum, m->sum_abs, m->sum_squares, m->sum_log,
                       m->max_abs);
}

/* args: threads, sums */
static PyObject *sum_up(struct call *call, const float *gradient, float *x, int64_t n, PyObject *const *args) {
  struct moments m;
  int threads;
  int64_t sums;
  if (!take_threads(call->function, args[0], &threads) || !take_int(call->function, args[1], "sums", 0, SUM_ALL, &sums))
    return finish(call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  m = compute_moments(gradient, x, n, (int)sums, threads);
  Py_END_ALLOW_THREADS;
  return finish(call, build_moments(&m, n));
}

/* x, threads, sums */
METHOD(moments) {
  OPEN(moments, 3);
  float *x;
  int64_t n;
  if (!take_vector(&call, args[0], "x", false, &x, &n))
    return finish(&call, NULL);
  return sum_up(&call, NULL, x, n, args + 1);
}

/* gradient, residual, threads, sums */
METHOD(moments_feedback) {
  OPEN(moments_feedback, 4);
  const float *gradient;
  float *residual;
  int64_t n;
  if (!take_feedback(&call, args, &gradient, &residual, &n))
    return finish(&call, NULL);
  return sum_up(&call, gradient, residual, n, args + 2);
}

/* x, threshold, threads, limit */
METHOD(tail_moments) {
  OPEN(tail_moments, 4);
  float *x;
  int64_t n;
  double threshold, limit;
  int threads;
  struct tail_sums t;
  if (!take_vector(&call, args[0], "x", false, &x, &n) || !take_threshold(call.function, args[1], &threshold) ||
      !take_threads(call.function, args[2], &threads) || !take_double(call.function, args[3], "limit", &limit))
    return finish(&call, NULL);
  if (!(limit >= threshold)) {
    PyErr_Format(PyExc_ValueError, "%s: limit must be at least the threshold", call.function);
    return finish(&call, NULL);
  }
  Py_BEGIN_ALLOW_THREADS;
  t = compute_tail(x, n, threshold, isinf(limit) ? INT32_MAX : threshold_key(limit), threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_BuildValue("Ldd", (long long)t.count, t.sum, t.sum_squares));
}

/* x, threshold, threads */
METHOD(count_above) {
  OPEN(count_above, 3);
  float *x;
  int64_t n, above;
  double threshold;
  int threads;
  if (!take_vector(&call, args[0], "x", false, &x, &n) || !take_threshold(call.function, args[1], &threshold) ||
      !take_threads(call.function, args[2], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  above = count_above(x, n, threshold_key(threshold), threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, PyLong_FromLongLong(above));
}

METHOD(max_abs) {
  OPEN(max_abs, 2);
  float *x;
  int64_t n;
  int threads;
  double largest;
  if (!take_vector(&call, args[0], "x", false, &x, &n) || !take_threads(call.function, args[1], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  largest = max_abs(x, n, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, PyFloat_FromDouble(largest));
}

METHOD(add) {
  OPEN(add, 3);
  const float *gradient;
  float *residual;
  int64_t n;
  int threads;
  if (!take_feedback(&call, args, &gradient, &residual, &n) || !take_threads(call.function, args[2], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  add_vectors(gradient, residual, n, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* x, factor, out, threads */
METHOD(scaled) {
  OPEN(scaled, 4);
  float *x, *out;
  int64_t n, room;
  double factor;
  int threads;
  if (!take_vector(&call, args[0], "x", false, &x, &n) || !take_double(call.function, args[1], "factor", &factor) ||
      !take_vector(&call, args[2], "out", true, &out, &room) || !same_length(call.function, "x", n, "out", room) ||
      !take_threads(call.function, args[3], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  scale_vector(x, n, (float)factor, out, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* gradient, velocity, factor, threads, taken or None */
METHOD(momentum) {
  OPEN(momentum, 5);
  float *gradient, *velocity, *taken;
  int64_t n, gradient_n;
  double factor;
  int threads;
  if (!take_vector(&call, args[0], "gradient", false, &gradient, &gradient_n) ||
      !take_vector(&call, args[1], "velocity", true, &velocity, &n) ||
      !same_length(call.function, "gradient", gradient_n, "velocity", n) ||
      !take_double(call.function, args[2], "factor", &factor) || !take_threads(call.function, args[3], &threads) ||
      !take_optional_vector(&call, args[4], "taken", true, "velocity", n, &taken))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  add_momentum(gradient, velocity, n, (float)factor, taken, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

/* ---- module ---- */

METHOD(use) {
  OPEN(use, 1);
  const char *name = PyUnicode_AsUTF8(args[0]);
  const struct kernels *kernels = name ? find_kernels(name) : NULL;
  if (kernels == NULL) {
    if (!PyErr_Occurred())
      PyErr_Format(PyExc_ValueError, "simd level %R: not known, or not supported by this processor", args[0]);
    return NULL;
  }
  activate_kernels(kernels);
  Py_RETURN_NONE;
}

METHOD(simd) {
  OPEN(simd, 0);

  return PyUnicode_FromString(active_kernels()->name);
}

METHOD(supported) {
  OPEN(supported, 1);
  const char *name = PyUnicode_AsUTF8(args[0]);
  return name ? PyBool_FromLong(find_kernels(name) != NULL) : NULL;
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

static PyMethodDef methods[] = {
    ENTRY(threshold_select),
    ENTRY(threshold_select_feedback),
    ENTRY(topk_workspace),
    ENTRY(topk_predictable),
    ENTRY(topk_select),
    ENTRY(topk_select_feedback),
    ENTRY(moments),
    ENTRY(moments_feedback),
    ENTRY(tail_moments),
    ENTRY(count_above),
    ENTRY(max_abs),
    ENTRY(add),
    ENTRY(scaled),
    ENTRY(momentum),
    ENTRY(use),
    ENTRY(simd),
    ENTRY(supported),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_kernels", .m_size = 0, .m_methods = methods};

extern PyMethodDef sparse_methods[];  /* module_sparse.c */
extern PyMethodDef collect_methods[]; /* module_collect.c */
extern PyMethodDef optim_methods[];   /* module_optim.c */
extern PyMethodDef wire_methods[];    /* module_wire.c */
extern PyMethodDef bf16_methods[];    /* module_bf16.c */
extern PyMethodDef stages_methods[];  /* module_stages.c */
extern PyMethodDef draw_methods[];    /* module_draw.c */
extern PyMethodDef scan_methods[];    /* module_scan.c */

PyMODINIT_FUNC PyInit__kernels(void) {
  PyObject *module = PyModule_Create(&definition);
  if (module &&
      (PyModule_AddFunctions(module, sparse_methods) != 0 || PyModule_AddFunctions(module, collect_methods) != 0 ||
       PyModule_AddFunctions(module, optim_methods) != 0 || PyModule_AddFunctions(module, wire_methods) != 0 ||
       PyModule_AddFunctions(module, bf16_methods) != 0 || PyModule_AddFunctions(module, stages_methods) != 0 ||
       PyModule_AddFunctions(module, draw_methods) != 0 || PyModule_AddFunctions(module, scan_methods) != 0)) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
