/* Ascending indices as the gaps between them, in codes of 1 or 2 bytes.
 *
 * A code is the places skipped before an index. A gap that reaches the largest code M (255 or 65535) is written as M,
 * which means "M further, and go on", as often as needed, then the rest.
 */
#ifndef SANDTABLE_DELTA_H
#define SANDTABLE_DELTA_H

#include "common.h"

/* Codes that `count` indices take in 1 byte each and in 2; returns false if they do not ascend strictly from 0 or more.
 */
bool delta_size(const int32_t *indices, int64_t count, int64_t codes[2]);

/* Writes the codes of `width` bytes, as many as delta_size told; `codes` is aligned to them. */
void delta_encode(const int32_t *indices, int64_t count, int width, void *codes);

/* Reads `size` codes and writes `count` indices; returns false, with something written, unless the codes are those of
 * exactly `count` indices of at most INT32_MAX. */
bool delta_decode(const void *codes, int64_t size, int width, int32_t *indices, int64_t count);

#endif
