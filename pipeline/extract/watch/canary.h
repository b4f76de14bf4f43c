// SPDX-License-Identifier: MIT
// Fixed, seeded batches run through the model: to calibrate the cost of a batch before batch 1, and as a
// canary that is re-run when timing is suspect. The canary's outputs are hashed: the same device must give
// the same bits, always.
#ifndef STRATA_WATCH_CANARY_H
#define STRATA_WATCH_CANARY_H

#include "base/digest.h"
#include "model/model.h"
#include "watch/drift.h"
#include "watch/drift_share.h"
#include "watch/guard.h"

enum { CANARY_RUNS = 3 }; // at most, of which the fastest counts

struct canary {
    struct model *model;
    size_t lane;
    struct model_limits limits;
    struct guard *guard; // while calibrating
    bool on_host;        // the host's processors compute
    bool streams;        // blocks come to the device for every run
    size_t vocabulary;
    int32_t *ids;
    int32_t *starts;
    struct device_span *spans;
    struct model_batch *copies; // of a sweep
    const struct model_batch **sweep;
    size_t tokens; // of the canary batch
    size_t texts;
    struct drift_time calibrated; // the canary's: the fastest of its runs
    struct drift_time last;       // of the runs made last, likewise
    double queueing;              // seconds of these runs until all work was queued, likewise
    char sha256[DIGEST_HEX];      // of its outputs
};

// On a lane of the model. `limits` as given to model_load; the last of its slots is the canary's own, on
// devices that queue the last ones for a whole sweep.
int canary_create(struct canary *canary, struct model *model, size_t lane, const struct model_limits *limits,
                  struct error *err);
void canary_destroy(struct canary *canary); // accepts zeros

// Times the canary itself: fills canary->calibrated and canary->sha256. A launch that finds what an earlier
// one calibrated needs no more. The guard, which watches the start, is told of each run that ends.
int canary_calibrate(struct canary *canary, struct guard *guard, struct error *err);

// Times the shapes that tell what a batch costs, by the wall clock and by the device's own time (zeros where
// it tells none). After canary_calibrate.
//
// Calibration is bounded: on a GPU, which is timed at the sizes it will run, by its speed; on processors by
// the model's operations for the canary and by seconds for the shapes, some 10 s in all however large the
// model is.
int canary_fit(struct canary *canary, struct guard *guard, struct drift_cost *cost,
               struct drift_cost *own_cost, struct error *err);

// Runs the canary again: fills canary->last; *same tells whether the outputs still have the calibrated hash.
int canary_run(struct canary *canary, bool *same, struct error *err);

#endif
