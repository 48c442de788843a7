/* A number is a multiple of d = odd * 2^s if and only if, times the inverse of `odd` and rotated right by s, it is no
 * larger than (2^32 - 1) / d, and that is the quotient then (Granlund and Montgomery 1994, section 9): one
 * multiplication an entry and no division, many entries at a time. */
#include "stride.h"
#include "isa_each.h"
#include "parallel.h"

enum {
  TESTED = 32, /* entries that are tested at once: most often one of these lies on the stride, or none */
  ONE = 1 << 16,
  USEFUL = 1 << 17, /* entries that are worth another thread */
};

struct divisor {
  uint32_t inverse, shift, most; /* most: the largest quotient that counts */
};

static struct divisor divisor_of(int64_t d, int64_t room) {
  struct divisor divisor = {.shift = (uint32_t)__builtin_ctzll((uint64_t)d)};
  const uint32_t odd = (uint32_t)(d >> divisor.shift);
  divisor.inverse = odd; /* right in its lowest three bits, and in twice as many after each of Newton's steps */
  for (int step = 0; step < 4; step++)
    divisor.inverse *= 2 - odd * divisor.inverse;
  divisor.most = (uint32_t)min64(UINT32_MAX / d, room - 1);
  return divisor;
}

static inline uint32_t quotient(int32_t index, int32_t start, struct divisor by) {
  const uint32_t product = ((uint32_t)index - (uint32_t)start) * by.inverse;
  return product >> by.shift | product << (-by.shift & 31);
}

/* A part of the list, and where the values go of what it may hold. */
struct part {
  int64_t first, end;
  int64_t out, room, found; /* found: -1 if there was more than room */
};

struct job {
  const struct entries *list;
  int32_t start;
  struct divisor by;
  float *out;
  struct part *parts;
  struct tasks tasks;
};

/* How many of TESTED entries lie on the stride, times ONE, plus the sum of their numbers: a single one's is known then.
 */
#define TEST(isa, target)                                                                                              \
  target static uint32_t test_##isa(const int32_t *indices, int32_t start, struct divisor by) {                        \
    uint32_t found = 0;                                                                                                \
    for (uint32_t i = 0; i < TESTED; i++)                                                                              \
      found += quotient(indices[i], start, by) <= by.most ? ONE + i : 0;                                               \
    return found;                                                                                                      \
  }
FOR_EACH_ISA(TEST)

static void take_part(const struct job *job, struct part *part) {
  uint32_t (*test)(const int32_t *, int32_t, struct divisor) = ACTIVE_ISA(test);
  const int32_t *indices = job->list->indices;
  for (int64_t i = part->first; i < part->end; i += TESTED) {
    int64_t from = i, end = min64(part->end, i + TESTED);
    if (end - i == TESTED) {
      const uint32_t found = test(indices + i, job->start, job->by);
      if (!found)
        continue;
      if (found < 2 * ONE)
        from = i + found - ONE, end = from + 1;
    }
    for (int64_t e = from; e < end; e++) {
      if (quotient(indices[e], job->start, job->by) > job->by.most)
        continue;
      if (part->found == part->room) {
        part->found = -1;
        return;
      }
      job->out[part->out + part->found++] = job->list->values[e];
    }
  }
}

static void stride_worker(void *context) {
  struct job *job = context;
  for (int64_t p; (p = take_task(&job->tasks)) >= 0;)
    take_part(job, &job->parts[p]);
}

/* How many of the places lie before one. */
static int64_t places_before(int32_t index, int64_t start, int64_t stride) {
  return index <= start ? 0 : (index - start + stride - 1) / stride;
}

int64_t on_stride(const struct entries *list, int64_t start, int64_t stride, float *out, int64_t room, int threads) {
  int64_t first = 0;
  while (first < list->count && list->indices[first] < start) /* few, as a rule: fewer than `stride` */
    first++;
  if (first == list->count || room == 0 || start > INT32_MAX)
    return 0;
  const int64_t count = list->count - first;
  const int parts = useful_threads(count, USEFUL, threads);
  struct part part[MAX_THREADS];
  struct job job = {.list = list,
                    .start = (int32_t)start,
                    .by = divisor_of(stride, room),
                    .out = out,
                    .parts = part,
                    .tasks = {.count = parts}};
  for (int64_t p = parts - 1, end = list->count, out_end = room; p >= 0; p--) {
    const int64_t begin = first + count * p / parts;
    const int64_t at = p ? min64(out_end, places_before(list->indices[begin], start, stride)) : 0;
    part[p] = (struct part){.first = begin, .end = end, .out = at, .room = out_end - at};
    end = begin, out_end = at;
  }
  run_workers(stride_worker, &job, parts);
  int64_t found = 0;
  for (int p = 0; p < parts; p++) {
    if (part[p].found < 0)
      return -1;
    memmove(out + found, out + part[p].out, (size_t)part[p].found * sizeof *out);
    found += part[p].found;
  }
  return found;
}
