// SPDX-License-Identifier: MIT
// A drift watch for each lane of a model, whose devices are of one kind: the first is calibrated, or has the
// calibration of an earlier launch; the others must compute the same bits, and are held against its times.
#ifndef STRATA_WATCH_DRIFT_WATCHES_H
#define STRATA_WATCH_DRIFT_WATCHES_H

#include "watch/drift_watch.h"

struct drift_watches {
    struct drift_watch lanes[MODEL_DEVICES];
    struct canary canaries[MODEL_DEVICES];
    size_t count;
};

struct drift_watches_options {
    struct model *model;
    const struct model_limits *limits;
    struct guard *guard;
    struct journal *journal;
    const char *device;  // with settings: part of the calibration's key
    const char *profile; // file of calibrations; NULL: none
    struct log *log;
    bool stops; // false: log only
};

// drift_watch_calibrate on the first lane, drift_watch_join on the others.
int drift_watches_calibrate(struct drift_watches *watches, const struct drift_watches_options *options,
                            struct error *err);

// What status shows of all: the first state that is not "steady".
const char *drift_watches_state(const struct drift_watches *watches);

void drift_watches_end(struct drift_watches *watches);     // the run ends: drift_watch_end of each
void drift_watches_destroy(struct drift_watches *watches); // accepts zeros

#endif
