// Why batches became slow, as far as the figures tell: a pure function from what was seen at calibration and
// what is seen now to a cause and a sentence with the figures. A cause is named only by its own signature:
// - hardware: the driver reported a critical error of the device (XID, ECC among them) since;
// - throttling: the SM clock went down, and the device gives a reason that slows it;
// - offload: less of the process lies on the device than the model takes; or much PCIe traffic at low power;
// - neighbour: more processes compute on the device than at calibration; on the host: tasks wait for
//   processors;
// - host: the device's own time is as it was while the batch's wall time grew; or a processor quota;
// - memory: tasks wait for memory (reclaim, swapping);
// - storage: tasks wait for storage;
// - unknown: none of these, also an answer.
#ifndef STRATA_EXTRACT_DRIFT_CAUSE_H
#define STRATA_EXTRACT_DRIFT_CAUSE_H

#include <stdint.h>

#include "extract/drift_host.h"
#include "kernels/device.h"

enum drift_cause {
    DRIFT_CAUSE_UNKNOWN,
    DRIFT_CAUSE_HARDWARE,
    DRIFT_CAUSE_THROTTLING,
    DRIFT_CAUSE_OFFLOAD,
    DRIFT_CAUSE_NEIGHBOUR,
    DRIFT_CAUSE_HOST,
    DRIFT_CAUSE_MEMORY,
    DRIFT_CAUSE_STORAGE,
};

struct drift_moment {
    double wall_seconds;         // of the canary
    double device_seconds;       // of them, by the device's own clock; 0: it has none
    struct device_sample sample; // taken while the device was at work
    struct drift_host host;
    double quota_share; // seconds that the processor quota held tasks back, for each of the canary's;
                        // DRIFT_HOST_UNKNOWN: not known
};

// A moment of which nothing is known.
void drift_moment_clear(struct drift_moment *moment);

const char *drift_cause_name(enum drift_cause cause); // "throttling"

enum { DRIFT_CAUSE_TEXT = 320 };

// model_bytes: what the model has on the device. The sentence has no full stop.
enum drift_cause drift_cause_find(const struct drift_moment *calibrated, const struct drift_moment *present,
                                  uint64_t model_bytes, char sentence[DRIFT_CAUSE_TEXT]);

#endif
