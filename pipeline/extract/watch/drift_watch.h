// SPDX-License-Identifier: MIT
// Drift in a running job: feeds the detector, re-runs the canary on suspicion, gathers the evidence; follows
// the share of its device that the run gets, and warns once for each time that it is less.
#ifndef STRATA_WATCH_DRIFT_WATCH_H
#define STRATA_WATCH_DRIFT_WATCH_H

#include "journal/journal.h"
#include "watch/canary.h"
#include "watch/drift_cause.h"
#include "watch/guard.h"

enum { DRIFT_WATCH_HISTORY = 16 };

enum { DRIFT_WATCH_STATE = 64, DRIFT_WATCH_NAME = 32 };

struct drift_watch {
    struct drift detector;
    struct drift_share share;
    struct drift_cost cost;        // of a batch by the wall clock
    struct drift_cost own_cost;    // by the device's own time; zeros: it tells none
    struct drift_time canary_time; // the fastest of those of the calibrations
    bool stops;                    // false: log only
    char state[DRIFT_WATCH_STATE]; // what status shows: "steady", "sharing: neighbour, 34 %", ...
    const char *verdict;           // of the detector: "steady", "warned", "suspect", "stopped"
    const char *share_cause;       // while share is lost
    struct canary *canary;
    const char *device; // where there are several, the name of the watched lane's; otherwise ""
    struct guard *guard;
    struct journal *journal;
    struct {
        uint64_t batch;
        double seconds;
        double own_seconds;
        double predicted;
        double score;
    } history[DRIFT_WATCH_HISTORY]; // the last batches, as a ring
    size_t seen;
    struct drift_moment
        calibrated; // what the system and the device said at the calibration that is the reference
    struct drift_moment present; // and at the last canary runs, with the sample of the batch before them
    struct {
        struct drift_host host;
        double time;
    } looks[2];           // at the host, some time apart: what went on since the older one
    double cleared_at;    // monotonic seconds of the last suspicion that was cleared
    double excused_until; // likewise: a neighbour's growth is looked at again then
    double warned_at;     // of the last warning of a slow trend
};

// A batch that is done, as far as the watch must know it.
struct drift_batch {
    uint64_t number;
    size_t tokens;
    double squared_lengths;
    double parts; // drift_predict
    double predicted_seconds;
    double seconds; // by the wall clock
    const struct device_times *times;
    const struct device_sample *sample;
};

// Calibrates, and holds the calibration against the one an earlier launch on the same device left in the
// ledger: the earlier one stays the reference, so that a launch that starts slow is seen, and spares this one
// all but the canary. STATUS_DEVICE when the canary's bits differ.
int drift_watch_calibrate(struct drift_watch *watch, struct canary *canary, struct ledger *ledger,
                          const char *device, const char *profile, struct log *log, struct error *err);

// The same of another lane of the model, whose device is of the same kind: `first`, which is calibrated, is
// the reference. STATUS_DEVICE when the canary's bits differ from those of its device.
int drift_watch_join(struct drift_watch *watch, struct canary *canary, const struct drift_watch *first,
                     struct log *log, struct error *err);

// Judges a batch; *score is how far it is from what it should have taken. The first batches that take longer
// than calibrated are told of once, when the device has settled; where a part of that is not explained with
// the cause, if one shows.
enum drift_event drift_watch_batch(struct drift_watch *watch, const struct drift_batch *batch, double *score);

// Does what the last batch's verdict asks for, after the batch was handed to the writer: canary runs take
// time, and a slow batch is right all the same. STATUS_DRIFT when the run is to stop, STATUS_DEVICE when the
// canary's bits changed.
int drift_watch_follow(struct drift_watch *watch, enum drift_event event, struct error *err);

// The run ends: what would have been told when the device had settled.
void drift_watch_end(struct drift_watch *watch);

#endif
