// What records tell of the device and of this process: from what a device says of itself to what the ledger
// keeps of it, and the process's memory.
#ifndef STRATA_JOURNAL_TELEMETRY_H
#define STRATA_JOURNAL_TELEMETRY_H

#include <jansson.h>
#include <stdint.h>

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

uint64_t telemetry_memory(void);      // resident bytes of this process; 0 when unknown
uint64_t telemetry_memory_peak(void); // the most so far

#endif
