/* cext._kernels, third part: sampling, collecting candidates with statistics, settling on a threshold or on what stages
 * end at, whole blocks. */
#include "asking.h"
#include "blocks.h"
#include "resolve.h"
#include "sample.h"
#include "sparse.h"

#include <math.h>

#define METHOD(name) static PyObject *py_##name(PyObject *module, PyObject *const *args, Py_ssize_t count)
#define OPEN(name, wanted)                                                                                             \
  (void)module, (void)args;                                                                                            \
  struct call call = {.function = #name};                                                                              \
  (void)call;                                                                                                          \
  if (!has_arguments(#name, count, wanted))                                                                            \
  return NULL

static bool take_key(const char *function, PyObject *object, const char *name, int32_t *key) {
  double value;
  if (!take_double(function, object, name, &value))
    return false;
  if (value != value) {
    PyErr_Format(PyExc_ValueError, "%s: %s = nan: any number is allowed", function, name);
    return false;
  }
  *key = threshold_key(value);
  return true;
}

/* gradient or None, and x of either kind */
static bool take_sampled(struct call *call, PyObject *const *args, struct sampled *of, struct bf16 *bf16, int64_t *n) {
  float *gradient, *x;
  if (!take_either(call, args[1], "x", false, &x, bf16, n) ||
      !take_optional_vector(call, args[0], "gradient", false, "x", *n, &gradient))
    return false;
  *of = (struct sampled){.gradient = gradient, .x = x, .bf16 = bf16->values ? bf16 : NULL};
  return true;
}

/* gradient or None, x, out, groups */
METHOD(sample) {
  OPEN(sample, 4);
  struct sampled of;
  float *out;
  int64_t n, room, taken, groups;
  struct bf16 bf16;
  if (!take_sampled(&call, args, &of, &bf16, &n) || !take_vector(&call, args[2], "out", true, &out, &room) ||
      !take_int(call.function, args[3], "groups", 1, INT32_MAX, &groups))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  taken = take_sample(&of, n, room / GRAIN, groups, out);
  Py_END_ALLOW_THREADS;
  return finish(&call, PyLong_FromLongLong(taken));
}

/* gradient or None, x, start, stride, out, threads */
METHOD(sample_strided) {
  OPEN(sample_strided, 6);
  struct strided s;
  struct bf16 bf16;
  int64_t n;
  int threads;
  if (!take_sampled(&call, args, &s.of, &bf16, &n) ||
      !take_int(call.function, args[2], "start", 0, INT32_MAX, &s.start) ||
      !take_int(call.function, args[3], "stride", 1, INT32_MAX, &s.stride) ||
      !take_vector(&call, args[4], "out", true, &s.out, &s.count) || !take_threads(call.function, args[5], &threads))
    return finish(&call, NULL);
  if (s.count && s.start + (s.count - 1) * s.stride >= n) {
    PyErr_Format(PyExc_ValueError, "%s: %lld elements from %lld on, %lld apart, reach beyond the vector's %lld",
                 call.function, (long long)s.count, (long long)s.start, (long long)s.stride, (long long)n);
    return finish(&call, NULL);
  }
  Py_BEGIN_ALLOW_THREADS;
  take_strided(&s, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, Py_NewRef(Py_None));
}

METHOD(collect_workspace) {
  OPEN(collect_workspace, 1);
  int64_t n;
  if (!take_int(call.function, args[0], "n", 0, INT32_MAX, &n))
    return NULL;
  return PyLong_FromLongLong(collect_workspace_bytes(n));
}

/* The stages' brackets: low and high in turn. */
static bool take_brackets(struct call *call, PyObject *object, struct collector *c) {
  void *data;
  int64_t numbers;
  if (!take_array(call, object, "brackets", FLOAT64, false, &data, &numbers))
    return false;
  const double *bounds = data;
  bool good = numbers % 2 == 0 && numbers <= 2 * MAX_STAGES;
  for (int64_t i = 0; good && i < numbers; i += 2)
    good = bounds[i] >= 0 && bounds[i] <= bounds[i + 1];
  if (!good) {
    PyErr_Format(PyExc_ValueError, "%s: brackets must be pairs 0 <= low <= high, of at most %d stages", call->function,
                 MAX_STAGES);
    return false;
  }
  c->stages = (int)(numbers / 2);
  for (int m = 0; m < c->stages; m++)
    c->stage[m] = stage_between(bounds[2 * m], bounds[2 * m + 1]);
  if (!disjoint(c)) {
    PyErr_Format(PyExc_ValueError, "%s: brackets must not overlap", call->function);
    return false;
  }
  return true;
}

static bool take_collector(struct call *call, PyObject *const *args, int64_t n, struct collector *c) {
  void *workspace;
  int64_t bytes;
  if (!take_brackets(call, args[0], c) || !take_vector(call, args[1], "between", true, &c->between, &c->capacity) ||
      !take_array(call, args[2], "workspace", BYTES, true, &workspace, &bytes))
    return false;
  if (bytes < collect_workspace_bytes(n)) {
    PyErr_Format(PyExc_ValueError, "%s: workspace has room for %lld, needed are %lld", call->function, (long long)bytes,
                 (long long)collect_workspace_bytes(n));
    return false;
  }
  c->tiles = workspace;
  int64_t sums;
  if (!take_int(call->function, args[3], "sums", 0, SUM_ALL, &sums))
    return false;
  c->sums = (int)sums;
  return true;
}

static PyObject *tuple_of(const struct collected *r, const struct collector *c, int64_t n) {
  PyObject *tails = PyTuple_New(c->stages);
  for (int m = 0; tails && m < c->stages; m++) {
    const struct tail_sums *t = &r->tails[m];
    PyObject *item = Py_BuildValue("Ldd", (long long)t->count, t->sum, t->sum_squares);
    if (item == NULL)
      Py_CLEAR(tails);
    else
      PyTuple_SET_ITEM(tails, m, item);
  }
  if (tails == NULL)
    return NULL;
  const struct moments *m = &r->moments;
  return Py_BuildValue("L(LLddddd)NL", (long long)r->candidates, (long long)n, (long long)m->nonzero, m->sum,
                       m->sum_abs, m->sum_squares, m->sum_log, m->max_abs, tails, (long long)c->found);
}

/* One call's pass. */
struct collecting {
  struct selection selection;
  struct collector collector;
  struct payload out;
  struct bf16 bf16;
  int sums, threads;
};

/* args: gradient, residual, low, zero_above, indices, values, brackets, between, workspace, sums; last: threads, seed
 */
static bool take_collecting(struct call *call, PyObject *const *args, PyObject *const *last, struct collecting *c) {
  float *gradient, *residual;
  int64_t n, residual_n;
  int32_t low, zero_above;
  if (!take_vector(call, args[0], "gradient", false, &gradient, &n) ||
      !take_either(call, args[1], "residual", true, &residual, &c->bf16, &residual_n) ||
      !same_length(call->function, "gradient", n, "residual", residual_n) ||
      !take_key(call->function, args[2], "low", &low) ||
      !take_key(call->function, args[3], "zero_above", &zero_above) ||
      !take_entries(call, args[4], args[5], true, &c->out.indices, &c->out.values, &c->out.capacity) ||
      !take_collector(call, args + 6, n, &c->collector) || !take_threads(call->function, last[0], &c->threads) ||
      !take_seed(call->function, last[1], &c->bf16))
    return false;
  if (zero_above < low) {
    PyErr_Format(PyExc_ValueError, "%s: zero_above must be at least low, or values would be lost", call->function);
    return false;
  }
  c->sums = c->collector.sums;
  c->selection = plain_selection(gradient, residual, n, low);
  c->selection.zero_key = zero_above;
  c->selection.bf16 = c->bf16.values ? &c->bf16 : NULL;
  return true;
}

/* what take_collecting's args are, threads, seed */
METHOD(collect_feedback) {
  OPEN(collect_feedback, 12);
  struct collecting c = {.collector = {.stages = 0}};
  struct collected seen;
  if (!take_collecting(&call, args, args + 10, &c))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  seen = collect(&c.selection, &c.collector, &c.out, c.threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, tuple_of(&seen, &c.collector, c.selection.n));
}

enum { NOT_KNOWN = -1, WRITTEN_TO = -2 };

/* Settles on the last stage's threshold; NOT_KNOWN, and no stage, unless it is and the candidates reach down to it;
 * WRITTEN_TO if a fit has left indices among the candidates that are none. */
static int64_t settle_stages(struct collecting *c, const struct collected *seen, struct asking *asking,
                             struct resolved *stages) {
  const struct others others = python_fits(asking);
  const struct selection *s = &c->selection;
  const bool whole = seen->candidates <= c->out.capacity;
  if (!whole ||
      !resolve_stages(seen, &c->collector, s->n, c->sums, asking->stages, asking->count, &others, c->threads, stages) ||
      threshold_key(stages->threshold[stages->stages - 1]) < s->key) {
    stages->stages = 0;
    return NOT_KNOWN;
  }
  const int32_t key = threshold_key(stages->threshold[stages->stages - 1]);
  const bool as_written = !asks_python(asking);
  const int64_t kept = settle(&c->out, seen->candidates, s->x, s->bf16, s->n, key, s->zero_key, as_written, c->threads);
  return kept < 0 ? WRITTEN_TO : kept;
}

/* Puts back what was taken, where a fit failed. */
static void take_nothing(struct collecting *c, const struct collected *seen) {
  const struct selection *s = &c->selection;
  settle(&c->out, min64(seen->candidates, c->out.capacity), s->x, s->bf16, s->n, INT32_MAX, s->zero_key, false,
         c->threads);
}

static PyObject *thresholds_of(const struct resolved *found) {
  PyObject *thresholds = PyTuple_New(found->stages);
  for (int m = 0; thresholds && m < found->stages; m++) {
    PyObject *threshold = PyFloat_FromDouble(found->threshold[m]);
    if (threshold == NULL)
      Py_CLEAR(thresholds);
    else
      PyTuple_SET_ITEM(thresholds, m, threshold);
  }
  return thresholds;
}

/* what take_collecting's args are, stages, threads, seed */
METHOD(collect_stages) {
  OPEN(collect_stages, 13);
  struct collecting c = {.collector = {.stages = 0}};
  struct asking asking = {.function = call.function};
  struct collected seen;
  struct resolved found = {.stages = 0};
  if (!take_collecting(&call, args, args + 11, &c))
    return finish(&call, NULL);
  if (!(c.sums & SUM_ABS))
    PyErr_Format(PyExc_ValueError, "%s: sums must have SUM_ABS among them", call.function);
  if (PyErr_Occurred() || !take_stages(&asking, args[10], 1, MOST_STAGES))
    return finish(&call, NULL);
  let_go(&asking);
  seen = collect(&c.selection, &c.collector, &c.out, c.threads);
  const int64_t kept = settle_stages(&c, &seen, &asking, &found);
  take_back(&asking);
  if (kept == WRITTEN_TO && !PyErr_Occurred())
    PyErr_Format(PyExc_ValueError, "%s: the candidates were written to by a fit", call.function);
  if (PyErr_Occurred()) {
    take_nothing(&c, &seen);
    return finish(&call, NULL);
  }
  PyObject *const told = kept >= 0 ? Py_NewRef(Py_None) : tuple_of(&seen, &c.collector, c.selection.n);
  PyObject *const thresholds = told ? thresholds_of(&found) : NULL;
  if (thresholds)
    return finish(&call, Py_BuildValue("NLNL", told, (long long)kept, thresholds, (long long)c.collector.found));
  Py_XDECREF(told);
  return finish(&call, NULL);
}

/* residual, indices, values, count, zeroed_above, k or threshold, threads, seed */
static PyObject *settle_on(struct call call, PyObject *const *args, bool largest) {
  float *residual;
  struct bf16 bf16;
  int64_t n, entries, kept, k = 0, bad = -1;
  int32_t key = 0, zero_key;
  int threads;
  struct payload list;
  if (!take_either(&call, args[0], "residual", true, &residual, &bf16, &n) ||
      !take_entries(&call, args[1], args[2], true, &list.indices, &list.values, &list.capacity) ||
      !take_int(call.function, args[3], "count", 0, list.capacity, &entries) ||
      !take_key(call.function, args[4], "zeroed_above", &zero_key) ||
      !(largest ? take_int(call.function, args[5], "k", 0, entries, &k)
                : take_key(call.function, args[5], "threshold", &key)) ||
      !take_threads(call.function, args[6], &threads) || !take_seed(call.function, args[7], &bf16))
    return finish(&call, NULL);
  const struct entries places = {list.indices, NULL, entries};
  const struct bf16 *const stored = bf16.values ? &bf16 : NULL;
  Py_BEGIN_ALLOW_THREADS;
  kept = largest ? settle_topk(&list, entries, residual, stored, n, k, zero_key, threads)
                 : settle(&list, entries, residual, stored, n, key, zero_key, false, threads);
  if (kept < 0)
    bad = find_bad_index(&places, n, NULL);
  Py_END_ALLOW_THREADS;
  if (kept >= 0)
    return finish(&call, PyLong_FromLongLong(kept));
  PyErr_Format(PyExc_ValueError, "%s: indices[%lld] = %d: allowed are 0 to %lld", call.function, (long long)bad,
               (int)list.indices[bad], (long long)n - 1);
  return finish(&call, NULL);
}

METHOD(settle) {
  OPEN(settle, 8);
  return settle_on(call, args, false);
}

METHOD(settle_topk) {
  OPEN(settle_topk, 8);
  return settle_on(call, args, true);
}

/* gradient or None, x, low, blocks, scores, threads */
METHOD(select_blocks) {
  OPEN(select_blocks, 6);
  float *gradient, *x;
  int64_t n, count_found;
  int32_t low;
  int threads;
  struct payload out;
  if (!take_vector(&call, args[1], "x", args[0] != Py_None, &x, &n) ||
      !take_optional_vector(&call, args[0], "gradient", false, "x", n, &gradient) ||
      !take_key(call.function, args[2], "low", &low) ||
      !take_entries(&call, args[3], args[4], true, &out.indices, &out.values, &out.capacity) ||
      !take_threads(call.function, args[5], &threads))
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  count_found = select_blocks(gradient, x, n, low, &out, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, PyLong_FromLongLong(count_found));
}

/* residual, blocks, indices, values, threads, zero */
METHOD(take_blocks) {
  OPEN(take_blocks, 6);
  int threads;
  float *residual;
  void *list;
  int64_t n, zero, taken = 0;
  bool ascending;
  struct payload out;
  struct entries blocks = {.values = NULL};
  if (!take_int(call.function, args[5], "zero", 0, 1, &zero) ||
      !take_vector(&call, args[0], "residual", zero, &residual, &n) ||
      !take_array(&call, args[1], "blocks", INT32, false, &list, &blocks.count) ||
      !take_entries(&call, args[2], args[3], true, &out.indices, &out.values, &out.capacity) ||
      !take_threads(call.function, args[4], &threads))
    return finish(&call, NULL);
  blocks.indices = list;
  int64_t needed = min64(n, blocks.count * LANES), bad = find_bad_index(&blocks, blocks_of(n), &ascending);
  if (bad >= 0 || !ascending)
    PyErr_Format(PyExc_ValueError, "%s: blocks must ascend strictly within 0 to %lld", call.function,
                 (long long)blocks_of(n) - 1);
  else if (out.capacity < needed)
    PyErr_Format(PyExc_ValueError, "%s: out indices has room for %lld, needed are %lld", call.function,
                 (long long)out.capacity, (long long)needed);
  if (PyErr_Occurred())
    return finish(&call, NULL);
  Py_BEGIN_ALLOW_THREADS;
  taken = take_blocks(residual, n, &blocks, zero, out.indices, out.values, threads);
  Py_END_ALLOW_THREADS;
  return finish(&call, PyLong_FromLongLong(taken));
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

PyMethodDef collect_methods[] = {
    ENTRY(sample),         ENTRY(collect_workspace), ENTRY(collect_feedback), ENTRY(settle),
    ENTRY(settle_topk),    ENTRY(select_blocks),     ENTRY(take_blocks),      ENTRY(sample_strided),
    ENTRY(collect_stages), {NULL, NULL, 0, NULL},
};
