/* The inner loops for avx512; setup.py gives this file its compiler flags. */
#if defined(__x86_64__)
#include "isa_avx512.h"

#include "inner_moments.h"
#include "inner_select.h"
#include "inner_stages.h"
#include "inner_sweep.h"
#include "inner_table.h"
#else
typedef int not_on_this_processor; /* an empty file is not C */
#endif
