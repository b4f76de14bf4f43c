// SPDX-License-Identifier: MIT
// The share of its device that a run gets: how much longer batches take than the device works on them. A
// neighbour, a quota or a pause take a part of the time away; what is left computes as fast as ever, so a run
// outlasts it. Batches' seconds are added up with a memory of some ten seconds, so that one warning stands
// for as long as it lasts, however short the batches.
#ifndef STRATA_WATCH_DRIFT_SHARE_H
#define STRATA_WATCH_DRIFT_SHARE_H

#include <stdbool.h>

#define DRIFT_SHARE_LOST 1.5 // times as long as at calibration for the same work

struct drift_share {
    double wall;     // seconds of the last batches
    double worked;   // of them, by the device's own time
    double expected; // what they would have taken at calibration's share
    double calm;     // seconds that batches have been as ever again
    double said;     // times as long, when it was last said
    bool lost;
};

enum drift_share_event { DRIFT_SHARE_AS_EVER, DRIFT_SHARE_LESS, DRIFT_SHARE_BACK };

struct drift_time {
    double wall;
    double worked; // by the device's own time
};

void drift_share_start(struct drift_share *share);

// One batch, and what calibration predicts for it. Each event comes once for each time that share is lost,
// and LESS again when batches take twice as long as when it last came: another cause may be behind that.
enum drift_share_event drift_share_step(struct drift_share *share, struct drift_time batch,
                                        struct drift_time predicted);

double drift_share_now(const struct drift_share *share);    // of the device's time, 0 to 1
double drift_share_before(const struct drift_share *share); // at calibration
double drift_share_longer(const struct drift_share *share); // times as long as at calibration

#endif
