/* Reading the arguments of a call: one-dimensional C-contiguous arrays through the buffer protocol, and numbers. Every
 * refusal is one line that names the function and the argument. */
#ifndef SANDTABLE_ARGUMENTS_H
#define SANDTABLE_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "bf16.h"
#include "common.h"

struct array {
  Py_buffer view;
  const char *name;
  bool writable;
};

/* The arrays that one call holds; released together. */
struct call {
  const char *function;
  struct array arrays[8];
  int held;
};

enum kind { FLOAT32, FLOAT64, INT32, INT64, BYTES, UINT16 };

/* Holds the array and returns true, or sets TypeError or ValueError. *count receives its elements. A writable array may
 * overlap no other of the call. */
bool take_array(struct call *call, PyObject *object, const char *name, enum kind kind, bool writable, void **data,
                int64_t *count);

/* The same for float32 vectors that are indexed with int32. */
bool take_vector(struct call *call, PyObject *object, const char *name, bool writable, float **data, int64_t *n);

/* The same, or None: then *data is NULL; else it has as many elements as `as` names. */
bool take_optional_vector(struct call *call, PyObject *object, const char *name, bool writable, const char *as,
                          int64_t n, float **data);

/* A vector of float32, or, as uint16, of bfloat16: then *data is NULL, and bf16->values is not. */
bool take_either(struct call *call, PyObject *object, const char *name, bool writable, float **data, struct bf16 *bf16,
                 int64_t *n);

/* What the draws of roundings depend on. */
bool take_seed(const char *function, PyObject *object, struct bf16 *bf16);

/* The `indices` and `values` of a payload or of a list of entries: int32 and float32 of one length. */
bool take_entries(struct call *call, PyObject *indices, PyObject *values, bool writable, int32_t **index, float **value,
                  int64_t *count);

bool take_double(const char *function, PyObject *object, const char *name, double *result);
bool take_int(const char *function, PyObject *object, const char *name, int64_t low, int64_t high, int64_t *result);
bool take_threads(const char *function, PyObject *object, int *threads);
bool same_length(const char *function, const char *a, int64_t a_count, const char *b, int64_t b_count);

/* Releases all arrays; returns `result`. */
PyObject *finish(struct call *call, PyObject *result);

/* Sets TypeError unless given == wanted. */
bool has_arguments(const char *function, Py_ssize_t given, Py_ssize_t wanted);

#endif
