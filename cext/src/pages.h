#ifndef SANDTABLE_PAGES_H
#define SANDTABLE_PAGES_H

#include "common.h"

/* Asks the system to back these bytes with huge pages, as far as whole ones fit in; what they hold stays. Returns
 * whether they now are. */
bool ask_huge_pages(void *start, int64_t bytes);

#endif
