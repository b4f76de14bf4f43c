// Drift in a running job: feeds the detector, re-runs the canary on suspicion, gathers the evidence.
#ifndef STRATA_EXTRACT_DRIFT_WATCH_H
#define STRATA_EXTRACT_DRIFT_WATCH_H

#include "extract/canary.h"
#include "extract/drift_cause.h"
#include "extract/guard.h"
#include "extract/writer.h"

enum { DRIFT_WATCH_HISTORY = 16 };

struct drift_watch {
    struct drift detector;
    struct drift_cost cost;
    double canary_seconds;
    bool stops;        // false: log only
    const char *state; // what status shows: "steady", "warned", "suspect", "stopped"
    struct canary *canary;
    struct guard *guard;
    struct writer *writer;
    struct {
        uint64_t batch;
        double seconds;
        double predicted;
        double score;
    } history[DRIFT_WATCH_HISTORY]; // the last batches, as a ring
    size_t seen;
    struct drift_moment
        calibrated; // what the system and the device said at the calibration that is the reference
    struct drift_moment present; // and at the last canary runs, with the sample of the batch before them
};

// Calibrates, and holds the calibration against the one an earlier launch on the same device left in the
// ledger: the earlier one stays the reference, so that a launch that begins slow is seen. STATUS_DEVICE when
// the canary's bits differ.
int drift_watch_calibrate(struct drift_watch *watch, struct canary *canary, struct ledger *ledger,
                          const char *device, const char *profile, struct log *log, struct error *err);

// Judges a batch that took `seconds`; fills work->score.
enum drift_event drift_watch_batch(struct drift_watch *watch, struct work *work, double seconds);

// Does what the last batch's verdict asks for, after the batch was handed to the writer: canary runs take
// time, and a slow batch is right all the same. STATUS_DRIFT when the run is to stop, STATUS_DEVICE when the
// canary's bits changed.
int drift_watch_follow(struct drift_watch *watch, enum drift_event event, struct error *err);

#endif
