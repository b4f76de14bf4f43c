// SPDX-License-Identifier: MIT
// The figures of a device in records: from what it says of itself to what the ledger keeps of it.
#ifndef STRATA_JOURNAL_FIGURES_H
#define STRATA_JOURNAL_FIGURES_H

#include <jansson.h>
#include <stdint.h>

#include "checkpoints/ledger_device.h"
#include "kernels/telemetry.h"

// A sample older than this says nothing of the batch that just ended: the thread that reads the monitoring
// hangs.
#define FIGURES_OLD_SECONDS 10.0

// `times` of a device without a clock of its own are zeros: not known then.
void figures_take(struct ledger_device *out, const struct device_sample *sample,
                  const struct device_times *times);

// The known figures by name, for evidence; and what only a verdict needs: the highest clock, the power limit,
// other processes. NULL when memory is out.
json_t *figures_json(const struct device_sample *sample, const struct device_times *times);

#endif
