// SPDX-License-Identifier: MIT
// Timing drift: is this run slower than it has any right to be? Batch times are normalised by work, so that
// lengths do not matter, and judged against a calibration made before batch 1, so that the very first batch
// counts.
//
// t is the device's own time where it tells one: the processor time that the CPU's threads worked, a GPU's
// time by its own clock. A neighbour, a quota or a pause makes batches take longer without making them more
// work (drift_share.h): a run outlasts that.
//
//   x = ln(t / (fixed + per_token * tokens + per_square * sum(len^2)))        y = x - baseline
//   baseline: the median of the first 32 x, within +-0.3 of 0, then frozen: a sliding one would absorb the
//             drift
//   told:     once, when the baseline is there: the first x take more than 1.12 times as long as calibrated,
//             absorbed or not (from 1.15 times on that is sure)
//   suspect:  one y > ln 3; 2 of 3 > ln 2; 3 of 5 > ln 1.5; or EWMA(0.1) of y (capped at ln 4) > ln 1.3
//   warn:     CUSUM on medians of 9 batches, k = 0.07, h = 0.5
//
// A GPU is calibrated cold. Its clock settles while it works: where a power cap takes it down the batches of
// the first seconds are faster than all that follow. There the 32 are the last ones of the first 45 s of the
// device's own time, a quarter of a second apart or more, so that no single reading of a clock decides. Until
// then y is x less what the clock explains now (drift_cause.h), nothing where that is not known; the average
// is suspect from ln 1.45 on, since a clock is read late, and trends are not followed. The baseline is what
// the clock explains and 0.3, or ln 1.5 in all where the clock is not known, and never more than ln 1.6. (45
// s are chosen, not measured: a cap sets in within seconds, heat within tens of them.)
//
// A suspicion is only that: the runner re-runs a fixed canary batch, waits, runs it again, and stops the run
// when both take more than 1.5 times what they took at calibration and nothing explains it that passes
// (drift_cause.h). On a GPU that is 1.5 times what they take at the pace of the baseline: 1.5 to 2.02 times
// the calibration where the clock explains nothing, at most 2.25 times where it is not known, and at most 2.4
// times under the deepest cap. Over 3 million simulated healthy batches these rules stopped nothing; a halved
// speed is stopped within 3 batches (tests/extract/test_drift_worlds.c, test_drift_settling.c).
#ifndef STRATA_WATCH_DRIFT_H
#define STRATA_WATCH_DRIFT_H

#include <stdbool.h>
#include <stddef.h>

enum { DRIFT_BASELINE = 32, DRIFT_RECENT = 5, DRIFT_BLOCK = 9 };

#define DRIFT_CONFIRM 1.5   // a canary this many times slower confirms
#define DRIFT_TOLD 1.12     // batches this many times slower than calibrated are told of
#define DRIFT_SETTLING 45.0 // seconds of work of a device that was calibrated cold

// Seconds of a batch: fixed + per_token * tokens + per_square * sum of squared text lengths. A text in slices
// is computed in as many `parts`, each of which has the fixed seconds.
struct drift_cost {
    double fixed;
    double per_token;
    double per_square;
};

double drift_predict(const struct drift_cost *cost, double parts, double tokens, double squared_lengths);

struct drift_sample {
    double tokens;
    double squared_lengths;
    double seconds;
};

// The cost from three timed shapes: a tiny batch, many short texts, few long texts. Coefficients are never
// negative. square_guess: per_square as the operations count it, 0 where it is measured alone. The
// measurement counts where the guess makes it a tenth of the long texts' time, and then within a third and
// three times the guess; otherwise the guess, and the long texts need not have been timed.
void drift_fit(struct drift_cost *cost, const struct drift_sample samples[3], double square_guess);

// Whether texts as long as those of `tall` tell per_square, by the guess.
bool drift_tells_square(const struct drift_sample *flat, const struct drift_sample *tall,
                        double square_guess);

enum drift_event { DRIFT_STEADY, DRIFT_WARN, DRIFT_SUSPECT };

struct drift {
    double first[DRIFT_BASELINE]; // x of the last batches before the baseline, less what is excused: a ring
    double clock[DRIFT_BASELINE]; // of them, what the clock explains
    size_t batches;               // of them, in all
    double settling;              // seconds of work before the baseline is taken
    double worked;                // of them
    double taken;                 // of them, when a batch last came into the ring
    double growth;                // times as long that the clock explains now; 0: not known
    bool settled;                 // the baseline is there
    double pace;                  // the median of the first x
    double explained;             // of it, by the clock
    double baseline;
    double recent[DRIFT_RECENT]; // y, oldest first
    size_t recent_count;
    double average;     // EWMA of y, less what is excused and accepted
    double own_average; // EWMA of y
    double excused;     // of y: a neighbour's, for now
    double accepted; // of y: the canary's too, less than a stop needs; the average has no more to say of it
    double block[DRIFT_BLOCK];
    size_t block_count;
    double sum; // CUSUM
    int quiet;  // batches left in which no suspicion is raised, after one was cleared
};

void drift_start(struct drift *drift);
void drift_start_cold(struct drift *drift); // of a device whose clock settles while it works

// Times as long as calibrated that a batch takes from now on for the device's clock; 0: not known, as at the
// start.
void drift_set_clock(struct drift *drift, double growth);

// Judges one batch; *score gets its y (0.69 = twice as slow as it should be).
enum drift_event drift_step(struct drift *drift, double seconds, double predicted, double *score);

// The canary was as fast as ever: forget what raised the suspicion.
void drift_cleared(struct drift *drift);

// The canary was slower than ever, by `growth` and not enough for a stop, and so are batches: that is
// forgotten too, and the average does not raise it again.
void drift_accept(struct drift *drift, double growth);

// A neighbour makes the work itself take `growth` times as long: that much is excused, until it is over.
void drift_excuse(struct drift *drift, double growth);
void drift_excuse_ends(struct drift *drift);

// Takes the baseline from what batches there were: of a run that ends before.
void drift_settle(struct drift *drift);

// Of the baseline: whether batches take longer than calibrated, and whether the clock explains all of that.
bool drift_is_slow(const struct drift *drift);
bool drift_is_explained(const struct drift *drift);

// How many times as long as at calibration the canary takes at the pace of the baseline; never less than 1.
double drift_pace(const struct drift *drift);

// Seconds between the two canary runs after a batch of `batch_seconds`: ten batch times, so that a neighbour
// may go away; never under 10 s, since a run of millisecond batches must not be stopped by some busy seconds
// of its machine.
double drift_pause(double batch_seconds);

// Both canary runs against the time at calibration.
bool drift_confirmed(double calibrated, double first_run, double second_run);

#endif
