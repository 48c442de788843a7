#include "arguments.h"

struct kind_rule {
  const char *name;
  const char *codes;
  Py_ssize_t size;
};

static const struct kind_rule rules[] = {
    [FLOAT32] = {"float32", "f", 4}, [FLOAT64] = {"float64", "d", 8}, [INT32] = {"int32", "il", 4},
    [INT64] = {"int64", "lq", 8},    [BYTES] = {"uint8", "Bbc", 1},   [UINT16] = {"uint16", "H", 2},
};

static bool has_format(const Py_buffer *view, const struct kind_rule *rule) {
  const char *format = view->format ? view->format : "B";
  if (*format == '@' || *format == '=' || *format == '<') /* '<' is native on the processors we build for */
    format++;
  return format[0] && !format[1] && strchr(rule->codes, format[0]) && view->itemsize == rule->size;
}

static bool overlaps(const Py_buffer *a, const Py_buffer *b) {
  const char *start_a = a->buf, *start_b = b->buf;
  return a->len && b->len && start_a < start_b + b->len && start_b < start_a + a->len;
}

static bool refuse_overlap(const struct call *call, const struct array *array) {
  for (int i = 0; i < call->held; i++) {
    const struct array *other = &call->arrays[i];
    if ((array->writable || other->writable) && overlaps(&array->view, &other->view)) {
      PyErr_Format(PyExc_ValueError, "%s: %s and %s share memory: one of them is written, so they must not",
                   call->function, other->name, array->name);
      return true;
    }
  }
  return false;
}

bool take_array(struct call *call, PyObject *object, const char *name, enum kind kind, bool writable, void **data,
                int64_t *count) {
  const struct kind_rule *rule = &rules[kind];
  struct array *array = &call->arrays[call->held];
  int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object, &array->view, flags) != 0) {
    PyErr_Format(PyExc_TypeError, "%s: %s must be a %sC-contiguous %s array, not %.100s", call->function, name,
                 writable ? "writable " : "", rule->name, Py_TYPE(object)->tp_name);
    return false;
  }
  array->name = name;
  array->writable = writable;
  if (!has_format(&array->view, rule) || array->view.ndim != 1)
    PyErr_Format(PyExc_TypeError, "%s: %s must be a one-dimensional %s array, not one of %d dimensions and type %.20s",
                 call->function, name, rule->name, array->view.ndim, array->view.format ? array->view.format : "B");
  else if ((uintptr_t)array->view.buf % (uintptr_t)rule->size != 0)
    PyErr_Format(PyExc_ValueError, "%s: %s must be aligned to its %zd-byte elements", call->function, name, rule->size);
  else if (!refuse_overlap(call, array)) {
    *data = array->view.buf;
    *count = array->view.len / rule->size;
    call->held++;
    return true;
  }
  PyBuffer_Release(&array->view);
  return false;
}

static bool can_be_indexed(const struct call *call, const char *name, int64_t n) {
  if (n <= INT32_MAX)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: %s has %lld elements: int32 indices reach 2147483647", call->function, name,
               (long long)n);
  return false;
}

bool take_vector(struct call *call, PyObject *object, const char *name, bool writable, float **data, int64_t *n) {
  void *start;
  if (!take_array(call, object, name, FLOAT32, writable, &start, n))
    return false;
  *data = start;
  return can_be_indexed(call, name, *n);
}

static bool has_two_bytes(PyObject *object) {
  Py_buffer view;
  if (PyObject_GetBuffer(object, &view, PyBUF_STRIDES) != 0) {
    PyErr_Clear(); /* take_array says what is wrong */
    return false;
  }
  const bool two = view.itemsize == 2;
  PyBuffer_Release(&view);
  return two;
}

bool take_optional_vector(struct call *call, PyObject *object, const char *name, bool writable, const char *as,
                          int64_t n, float **data) {
  int64_t count;
  *data = NULL;
  return object == Py_None ||
         (take_vector(call, object, name, writable, data, &count) && same_length(call->function, name, count, as, n));
}

bool take_either(struct call *call, PyObject *object, const char *name, bool writable, float **data, struct bf16 *bf16,
                 int64_t *n) {
  void *start;
  bf16->values = NULL;
  if (!has_two_bytes(object))
    return take_vector(call, object, name, writable, data, n);
  if (!take_array(call, object, name, UINT16, writable, &start, n))
    return false;
  *data = NULL;
  bf16->values = start;
  return can_be_indexed(call, name, *n);
}

bool take_seed(const char *function, PyObject *object, struct bf16 *bf16) {
  int64_t seed;
  const bool ok = take_int(function, object, "seed", 0, UINT32_MAX, &seed);
  bf16->seed = ok ? (uint32_t)seed : 0;
  return ok;
}

bool take_entries(struct call *call, PyObject *indices, PyObject *values, bool writable, int32_t **index, float **value,
                  int64_t *count) {
  void *index_start, *value_start;
  int64_t value_count;
  const char *index_name = writable ? "out indices" : "indices", *value_name = writable ? "out values" : "values";
  if (!take_array(call, indices, index_name, INT32, writable, &index_start, count) ||
      !take_array(call, values, value_name, FLOAT32, writable, &value_start, &value_count) ||
      !same_length(call->function, index_name, *count, value_name, value_count))
    return false;
  *index = index_start;
  *value = value_start;
  return true;
}

bool take_double(const char *function, PyObject *object, const char *name, double *result) {
  *result = PyFloat_AsDouble(object);
  if (!PyErr_Occurred())
    return true;
  if (PyErr_ExceptionMatches(PyExc_TypeError)) /* what the object itself raises is passed on */
    PyErr_Format(PyExc_TypeError, "%s: %s must be a number, not %.100s", function, name, Py_TYPE(object)->tp_name);
  return false;
}

bool take_int(const char *function, PyObject *object, const char *name, int64_t low, int64_t high, int64_t *result) {
  PyObject *integer = PyNumber_Index(object);
  if (integer == NULL) {
    PyErr_Format(PyExc_TypeError, "%s: %s must be an integer, not %.100s", function, name, Py_TYPE(object)->tp_name);
    return false;
  }
  int overflow;
  *result = PyLong_AsLongLongAndOverflow(integer, &overflow);
  Py_DECREF(integer);
  if (!overflow && *result >= low && *result <= high)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: %s = %S: allowed are %lld to %lld", function, name, object, (long long)low,
               (long long)high);
  return false;
}

bool take_threads(const char *function, PyObject *object, int *threads) {
  int64_t value;
  bool ok = take_int(function, object, "threads", 1, MAX_THREADS, &value);
  *threads = ok ? (int)value : 1;
  return ok;
}

bool same_length(const char *function, const char *a, int64_t a_count, const char *b, int64_t b_count) {
  if (a_count == b_count)
    return true;
  PyErr_Format(PyExc_ValueError, "%s: %s has %lld elements, %s has %lld: they must be equal", function, a,
               (long long)a_count, b, (long long)b_count);
  return false;
}

PyObject *finish(struct call *call, PyObject *result) {
  while (call->held > 0)
    PyBuffer_Release(&call->arrays[--call->held].view);
  return result;
}

bool has_arguments(const char *function, Py_ssize_t given, Py_ssize_t wanted) {
  if (given == wanted)
    return true;
  PyErr_Format(PyExc_TypeError, "%s: %zd arguments, not %zd", function, wanted, given);
  return false;
}
