/* The inner loops for serial; setup.py gives this file its compiler flags. */
#include "isa_serial.h"

#include "inner_moments.h"
#include "inner_select.h"
#include "inner_stages.h"
#include "inner_sweep.h"
#include "inner_table.h"
