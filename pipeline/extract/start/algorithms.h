// SPDX-License-Identifier: MIT
// How a run's matmuls are computed, on devices that have a choice: as the ledger says (a resume), as
// run.profile says (a fresh run on a device that was tuned before), or by what is fastest now. What was
// chosen is part of the run's identity, so that a resumed run equals an uninterrupted one.
#ifndef STRATA_START_ALGORITHMS_H
#define STRATA_START_ALGORITHMS_H

#include "base/log.h"
#include "checkpoints/ledger.h"
#include "start/inputs.h"

struct guard;

// After the load, before the device is sealed. The guard hears of each shape (guard_phase_begins before).
// STATUS_DEVICE when an algorithm of the ledger is not available; what a profile names is timed anew then.
int algorithms_tune(struct inputs *inputs, struct ledger *ledger, const struct model_limits *limits,
                    struct guard *guard, struct log *log, struct error *err);

// Takes those that another part of the job settled meanwhile (inputs->part.shared), in place of the chosen
// ones.
int algorithms_adopt(struct inputs *inputs, struct guard *guard, struct error *err);

#define IDENTITY_ALGORITHMS "device.algorithms" // of a run's identity: the digest

// SHA-256 of what was chosen, or "" where there is nothing to choose.
int algorithms_digest(const struct inputs *inputs, char hex[DIGEST_HEX], struct error *err);

// Keeps the choice in the ledger, which has its identity by now.
int algorithms_keep(const struct inputs *inputs, struct ledger *ledger, struct error *err);

#endif
