// From what a device says of itself to what the ledger keeps of it.
#ifndef STRATA_EXTRACT_TELEMETRY_H
#define STRATA_EXTRACT_TELEMETRY_H

#include <jansson.h>

#include "checkpoints/ledger_device.h"
#include "kernels/telemetry.h"

// A sample older than this says nothing of the batch that just ended: the thread that reads the monitoring
// hangs.
#define TELEMETRY_OLD_SECONDS 10.0

// `times` of a device without a clock of its own are zeros: not known then.
void telemetry_figures(struct ledger_device *out, const struct device_sample *sample,
                       const struct device_times *times);

// The known figures by name, for evidence; and what only a verdict needs: the highest clock, the power limit,
// other processes. NULL when memory is out.
json_t *telemetry_json(const struct device_sample *sample, const struct device_times *times);

#endif
