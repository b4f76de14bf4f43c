// SPDX-License-Identifier: MIT
// Why batches became slow, as far as the figures tell: a pure function from what was seen at calibration and
// what is seen now to a cause and a sentence with the figures. A cause is named only by its own signature.
//
// The device's, which a run does not outlast:
// - hardware: the driver reported a critical error of the device (XID, ECC among them) since;
// - throttling: the SM clock went down, and the device gives a reason that slows it;
// - offload: less of the process lies on the device than the model takes; or much PCIe traffic at low power
//   where no weights stream;
// - neighbour: more processes compute on the device than at calibration;
// - unknown: none of these and of the host's, also an answer.
//
// The host's, which pass:
// - quota: the control group's processor quota holds tasks back;
// - neighbour: others use the processors, or tasks wait for them, or another virtual machine has them;
// - memory: tasks wait for memory (reclaim, swapping);
// - storage: tasks wait for storage;
// - host: a GPU's own time is as it was while the batch's wall time grew; or it does its work as fast as
//   this host queues it, and did not at calibration;
// - paused: the same on processors, and nothing tells who else had them: the process or its machine was
//   stopped for a part of the time.
// They explain that the device waits, not that it takes longer for its work. Processors are both: who shares
// a core's units, its caches, the memory's bandwidth or the clock's budget with others works up to 2.5 times
// as long, which a neighbour explains when there is one, and nothing else.
#ifndef STRATA_WATCH_DRIFT_CAUSE_H
#define STRATA_WATCH_DRIFT_CAUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/telemetry.h"
#include "watch/drift_host.h"

enum drift_cause {
    DRIFT_CAUSE_UNKNOWN,
    DRIFT_CAUSE_HARDWARE,
    DRIFT_CAUSE_THROTTLING,
    DRIFT_CAUSE_OFFLOAD,
    DRIFT_CAUSE_NEIGHBOUR,
    DRIFT_CAUSE_HOST,
    DRIFT_CAUSE_MEMORY,
    DRIFT_CAUSE_STORAGE,
    DRIFT_CAUSE_QUOTA,
    DRIFT_CAUSE_PAUSED,
};

struct drift_moment {
    double wall_seconds;         // of the canary, or of batches
    double own_seconds;          // of them, by the device's own time; 0: it tells none
    double queueing_seconds;     // of the wall's, until all work was queued; 0: not known
    bool on_host;                // the host's processors compute: their own time is processor time
    bool streams;                // weights come to the device all the time, as the job wants it
    struct device_sample sample; // taken while the device was at work
    struct drift_host host;
    double quota_share; // seconds that the processor quota held tasks back, for each of the canary's;
                        // DRIFT_HOST_UNKNOWN: not known, as below
    double processors;  // of this host
    double others;      // of them, in use by others
    double stolen;      // processors that another machine had
};

// A moment of which nothing is known.
void drift_moment_clear(struct drift_moment *moment);

const char *drift_cause_name(enum drift_cause cause); // "throttling"

enum { DRIFT_CAUSE_TEXT = 320 };

struct drift_finding {
    enum drift_cause cause;
    bool passes;                 // a run outlasts it
    char text[DRIFT_CAUSE_TEXT]; // a sentence without full stop
};

// Why the work takes longer than at calibration. model_bytes: what the model has on the device.
void drift_cause_find(const struct drift_moment *calibrated, const struct drift_moment *present,
                      uint64_t model_bytes, struct drift_finding *out);

// Why batches take longer than the work: the host's causes alone.
void drift_cause_find_share(const struct drift_moment *calibrated, const struct drift_moment *present,
                            struct drift_finding *out);

// How many times as long the device takes for the same work; 0 where it does not tell.
double drift_cause_growth(const struct drift_moment *calibrated, const struct drift_moment *present);

// How much of a slow-down a GPU's power cap explains. A calibration runs at the clock of a GPU that was idle
// before; within seconds of work the cap may take it down, 1980 to 1450 MHz say, and every batch then takes
// 1.37 times as long. That is how the device works, and no drift. A clock below 1/1.6 of that at calibration,
// and any other reason beside the cap (heat, a power brake) are causes.
//
// Times as long as at calibration that work takes for the cap: 1 where it explains nothing, 0 where the
// device's monitoring does not tell the clocks or what slows them.
double drift_cause_power_growth(const struct device_sample *calibrated, const struct device_sample *now);

#endif
