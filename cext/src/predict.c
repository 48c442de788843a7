/* Errors are the jackknife's, which leaves out one group after the other (Tukey), to first order in the means. */
#include "predict.h"
#include "moments.h"
#include "passes.h"
#include "select.h"

#include <math.h>

struct group_sums {
  int64_t groups;
  double count[MOST_GROUPS], sum[MEANS][MOST_GROUPS];
};

/* Over what lies above the threshold; over all elements where it is 0, zeros among them. */
static void sum_excesses(const float *x, int64_t n, double threshold, struct group_sums *s) {
  struct tail_sums tails[MOST_GROUPS];
  group_tails(x, n, s->groups, threshold, tails);
  for (int64_t g = 0; g < s->groups; g++) {
    s->count[g] = threshold > 0 ? (double)tails[g].count : (double)(n / s->groups);
    s->sum[MEAN][g] = tails[g].sum;
    s->sum[MEAN_SQUARE][g] = tails[g].sum_squares;
  }
}

/* Over all elements, with what only somebody else asks for. */
static void sum_all(const float *x, int64_t n, struct group_sums *s) {
  struct moments moments[MOST_GROUPS];
  group_moments(x, n, s->groups, moments);
  for (int64_t g = 0; g < s->groups; g++) {
    s->count[g] = (double)(n / s->groups);
    s->sum[MEAN][g] = moments[g].sum_abs;
    s->sum[MEAN_SQUARE][g] = moments[g].sum_squares;
    s->sum[MEAN_LOG][g] = moments[g].sum_log;
    s->sum[MEAN_X][g] = moments[g].sum;
  }
}

/* The means of all groups together; false where they cannot be told from those without one group. */
static bool mean_of_groups(const struct group_sums *s, int known, struct means *means) {
  *means = (struct means){0, {0, 0, (double)NAN, (double)NAN}};
  for (int64_t g = 0; g < s->groups; g++)
    means->count += s->count[g];
  for (int64_t g = 0; g < s->groups; g++)
    if (means->count - s->count[g] < 1)
      return false;
  for (int m = 0; m < known; m++) {
    double total = 0;
    for (int64_t g = 0; g < s->groups; g++)
      total += s->sum[m][g];
    if (!isfinite(total))
      return false;
    means->of[m] = total / means->count;
  }
  return true;
}

/* known: how many of the means there are. */
static bool estimate(const struct group_sums *s, int known, const struct stage_fit *stage, const struct others *others,
                     double *value, double *error) {
  struct means means;
  if (!mean_of_groups(s, known, &means))
    return false;
  *value = threshold_of(stage, others, &means);
  double errors[MOST_GROUPS] = {0}, squares = 0;
  for (int m = 0; m < known; m++) {
    double move[MOST_GROUPS], most = 0;
    for (int64_t g = 0; g < s->groups; g++) {
      move[g] = (s->sum[m][g] - s->count[g] * means.of[m]) / (means.count - s->count[g]);
      most = fmax(most, fabs(move[g]));
    }
    if (most == 0)
      continue;
    struct means moved = means;
    moved.of[m] += most;
    const double slope = (threshold_of(stage, others, &moved) - *value) / most;
    for (int64_t g = 0; g < s->groups; g++)
      errors[g] += slope * move[g];
  }
  for (int64_t g = 0; g < s->groups; g++)
    squares += errors[g] * errors[g];
  *error = sqrt((double)(s->groups - 1) / (double)s->groups * squares);
  return isfinite(*value) && isfinite(*error);
}

/* The least float of at most 20 significant bits that is not below a number > 0: 16 of them add up without an error. */
static double short_above(double number) {
  float above = (float)number;
  if ((double)above < number)
    above = nextafterf(above, INFINITY);
  const int32_t bits = (int32_t)(((uint32_t)key_of(above) + 15) & ~UINT32_C(15));
  memcpy(&above, &bits, sizeof above);
  return (double)above;
}

static int64_t count_in(const float *x, int64_t n, double threshold) {
  return count_above(x, n, threshold_key(threshold), 1);
}

bool predict_thresholds(const float *sample, int64_t n, int64_t groups, const struct stage_fit *stages, int count,
                        double width, int64_t fewest, const struct others *others, struct predicted *result) {
  struct group_sums sums = {.groups = groups};
  double squared_error = 0;
  *result = (struct predicted){.threshold = 0};
  if (count < 1 || count > MOST_BRACKETS)
    return false;
  for (int m = 0; m < count; m++) {
    const bool every = m == 0 && stages[m].fit == FIT_OTHER;
    every ? sum_all(sample, n, &sums) : sum_excesses(sample, n, result->threshold, &sums);
    double step, error, found = 0;
    for (int64_t g = 0; g < groups; g++)
      found += sums.count[g];
    if (found < (double)fewest ||
        !estimate(&sums, every ? MEANS : MEAN_SQUARE + 1, &stages[m], others, &step, &error) || !(step > 0))
      return false;
    result->threshold += step;
    squared_error += error * error;
    const double around = width * sqrt(squared_error);
    const double low = fmax(result->threshold - around, m ? result->high[m - 1] : 0);
    if (low >= result->threshold)
      return false;
    result->low[m] = low;
    result->high[m] = short_above(result->threshold + around);
    result->brackets = m + 1;
  }
  result->error = sqrt(squared_error);
  for (int m = 0; m < count - 1; m++)
    result->inside += count_in(sample, n, result->low[m]) - count_in(sample, n, result->high[m]);
  result->above = count_in(sample, n, result->low[count - 1]);
  return true;
}
