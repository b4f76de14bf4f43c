// SPDX-License-Identifier: MIT
#include "watch/drift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BASELINE_LIMIT 0.3
#define UNKNOWN_LIMIT log(DRIFT_CONFIRM) // of a clock that settles and is not known: more is a stop
#define PACE_LIMIT log(1.6)              // in all: more is no cap
#define RING_SECONDS 0.25                // between batches of the baseline of a clock that settles
#define SMOOTHING 0.1
#define AVERAGE_LIMIT log(1.3)
#define UNSETTLED_LIMIT log(1.45) // of a clock that settles: less than a canary needs to stop the run
#define CUSUM_SLACK 0.07
#define CUSUM_LIMIT 0.5
#define SQUARE_TELLS 0.1 // of the time: what pairs must take to be measured
#define SQUARE_MISS 3.0  // times that a guess by operations may be off

#define PAUSE_BATCHES 10.0
#define PAUSE_LEAST 10.0
#define PAUSE_MOST 300.0

enum { QUIET_BATCHES = 3 };

double drift_predict(const struct drift_cost *cost, double parts, double tokens, double squared_lengths) {
    return parts * cost->fixed + cost->per_token * tokens + cost->per_square * squared_lengths;
}

static double not_negative(double value) {
    return value > 0 ? value : 0;
}

static double within(double value, double low, double high) {
    return fmin(fmax(value, low), high);
}

bool drift_tells_square(const struct drift_sample *flat, const struct drift_sample *tall,
                        double square_guess) {
    double squares = tall->squared_lengths - flat->squared_lengths;
    return square_guess == 0 ||
           square_guess * squares > SQUARE_TELLS * flat->seconds * (tall->tokens / flat->tokens);
}

// Texts all of one length tell nothing about the quadratic part, and then do not need it. Short texts spend a
// small part of their time on pairs; a neighbour while the long text ran must not make them spend it all.
static double fit_square(const struct drift_sample *flat, const struct drift_sample *tall, double guess) {
    if (!drift_tells_square(flat, tall, guess)) {
        return guess;
    }
    double squares = tall->squared_lengths - flat->squared_lengths;
    double same = tall->seconds - flat->seconds * (tall->tokens / flat->tokens);
    double square = squares > 0 ? not_negative(same / squares) : 0;
    square = guess > 0 ? within(square, guess / SQUARE_MISS, guess * SQUARE_MISS) : square;
    return fmin(square, 0.5 * flat->seconds / flat->squared_lengths);
}

void drift_fit(struct drift_cost *cost, const struct drift_sample samples[3], double square_guess) {
    const struct drift_sample *tiny = &samples[0];
    const struct drift_sample *flat = &samples[1];
    const struct drift_sample *tall = &samples[2];
    double tokens = flat->tokens - tiny->tokens;
    cost->per_square = fit_square(flat, tall, square_guess);
    double linear =
        flat->seconds - tiny->seconds - cost->per_square * (flat->squared_lengths - tiny->squared_lengths);
    cost->per_token = tokens > 0 ? not_negative(linear / tokens) : 0;
    cost->fixed = not_negative(flat->seconds - cost->per_token * flat->tokens -
                               cost->per_square * flat->squared_lengths);
}

void drift_start(struct drift *drift) {
    memset(drift, 0, sizeof *drift);
}

void drift_start_cold(struct drift *drift) {
    drift_start(drift);
    drift->settling = DRIFT_SETTLING;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t count) {
    double sorted[DRIFT_BASELINE];
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, ascending);
    return count % 2 == 1 ? sorted[count / 2] : 0.5 * (sorted[count / 2 - 1] + sorted[count / 2]);
}

static void remember(struct drift *drift, double y) {
    if (drift->recent_count == DRIFT_RECENT) {
        memmove(drift->recent, drift->recent + 1, (DRIFT_RECENT - 1) * sizeof *drift->recent);
        drift->recent_count--;
    }
    drift->recent[drift->recent_count++] = y;
}

// How many of the last `span` scores are above `limit`.
static int recent_above(const struct drift *drift, size_t span, double limit) {
    int count = 0;
    for (size_t i = drift->recent_count > span ? drift->recent_count - span : 0; i < drift->recent_count;
         i++) {
        count += drift->recent[i] > limit;
    }
    return count;
}

// What was judged before goes on as if the baseline had been there all along.
void drift_settle(struct drift *drift) {
    size_t count = drift->batches < DRIFT_BASELINE ? drift->batches : DRIFT_BASELINE;
    double most = drift->settling > 0 && drift->growth == 0 ? UNKNOWN_LIMIT : BASELINE_LIMIT;
    drift->pace = median(drift->first, count);
    drift->explained = median(drift->clock, count);
    double own = within(drift->pace - drift->explained, -BASELINE_LIMIT, most);
    drift->baseline = fmin(drift->explained + own, PACE_LIMIT);
    drift->settled = true;
    double shift = drift->baseline - drift->explained;
    drift->own_average -= shift;
    drift->accepted = 0;
    drift->average = drift->own_average - drift->excused;
    for (size_t i = 0; i < drift->recent_count; i++) {
        drift->recent[i] -= shift;
    }
}

static double by_clock(const struct drift *drift) {
    return drift->growth > 0 ? log(drift->growth) : 0;
}

static void learn(struct drift *drift, double x, double seconds) {
    drift->worked += seconds;
    if (drift->settling > 0 && drift->worked - drift->taken < RING_SECONDS) {
        return;
    }
    drift->taken = drift->worked;
    drift->first[drift->batches % DRIFT_BASELINE] = x - drift->excused;
    drift->clock[drift->batches % DRIFT_BASELINE] = by_clock(drift);
    drift->batches++;
    if (drift->batches >= DRIFT_BASELINE && drift->worked >= drift->settling) {
        drift_settle(drift);
    }
}

static double allowance(const struct drift *drift) {
    return drift->settled ? drift->baseline : by_clock(drift);
}

static bool slow_trend(struct drift *drift, double y) {
    drift->block[drift->block_count++] = y;
    if (drift->block_count < DRIFT_BLOCK) {
        return false;
    }
    double middle = within(median(drift->block, DRIFT_BLOCK), -0.15, 0.4);
    drift->block_count = 0;
    drift->sum = fmax(0, drift->sum + middle - CUSUM_SLACK);
    if (drift->sum <= CUSUM_LIMIT) {
        return false;
    }
    drift->sum = 0;
    return true;
}

void drift_set_clock(struct drift *drift, double growth) {
    drift->growth = growth;
}

enum drift_event drift_step(struct drift *drift, double seconds, double predicted, double *score) {
    double x = log(fmax(seconds, 1e-9) / fmax(predicted, 1e-9));
    if (!drift->settled) {
        learn(drift, x, seconds);
    }
    *score = x - allowance(drift);
    bool settles = drift->settling > 0 && !drift->settled;
    drift->own_average += SMOOTHING * (fmin(*score, log(4.0)) - drift->own_average);
    if (drift->own_average < log(1.2)) {
        drift->excused = 0;
        drift->accepted = 0;
    }
    double y = *score - drift->excused;
    remember(drift, y);
    drift->average += SMOOTHING * (fmin(y - drift->accepted, log(4.0)) - drift->average);
    bool suspect = y > log(3.0) || recent_above(drift, 3, log(2.0)) >= 2 ||
                   recent_above(drift, 5, log(1.5)) >= 3 ||
                   drift->average > (settles ? UNSETTLED_LIMIT : AVERAGE_LIMIT);
    bool warn = !settles && slow_trend(drift, y);
    if (drift->quiet > 0) {
        drift->quiet--;
        suspect = false;
    }
    return suspect ? DRIFT_SUSPECT : warn ? DRIFT_WARN : DRIFT_STEADY;
}

void drift_cleared(struct drift *drift) {
    drift->recent_count = 0;
    drift->average = 0;
    drift->quiet = QUIET_BATCHES;
}

void drift_accept(struct drift *drift, double growth) {
    double level = within(fmin(log(growth), drift->own_average), 0, log(DRIFT_CONFIRM));
    drift_cleared(drift);
    drift->accepted = level;
}

void drift_excuse(struct drift *drift, double growth) {
    drift_cleared(drift);
    drift->excused = log(growth);
    drift->own_average = fmax(drift->own_average, drift->excused);
}

void drift_excuse_ends(struct drift *drift) {
    drift->excused = 0;
}

bool drift_is_slow(const struct drift *drift) {
    return drift->pace > log(DRIFT_TOLD);
}

bool drift_is_explained(const struct drift *drift) {
    return drift->pace - drift->explained <= log(DRIFT_TOLD);
}

double drift_pace(const struct drift *drift) {
    return fmax(exp(allowance(drift)), 1);
}

double drift_pause(double batch_seconds) {
    return within(PAUSE_BATCHES * batch_seconds, PAUSE_LEAST, PAUSE_MOST);
}

bool drift_confirmed(double calibrated, double first_run, double second_run) {
    return fmin(first_run, second_run) > DRIFT_CONFIRM * calibrated;
}
