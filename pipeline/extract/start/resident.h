// SPDX-License-Identifier: MIT
// Where a loaded model is: asked piece by piece before the first batch, kept in the ledger for strata status.
#ifndef STRATA_START_RESIDENT_H
#define STRATA_START_RESIDENT_H

#include "base/log.h"
#include "base/memory.h"
#include "start/inputs.h"

#define RESIDENT_NOTE "device.residency"

// A log line, and appended to `note` a JSON object for the ledger: device, pieces, bytes, planned and taken
// bytes by purpose, and the driver's figure for this process where it is known; where blocks stream, how many
// of how many, and the batches of a sweep; of several devices each one's bytes. STATUS_DEVICE when a piece
// lies elsewhere, or when pieces are fewer than planned.
int resident_check(struct inputs *inputs, const struct model_limits *limits, struct buffer *note,
                   struct log *log, struct error *err);

#endif
