// SPDX-License-Identifier: MIT
// How batches are planned: by the job, and in a run that has begun by what it began with. Every batch is a
// function of these limits, and those that are sealed must be met again.
#ifndef STRATA_START_BATCHING_H
#define STRATA_START_BATCHING_H

#include "checkpoints/ledger.h"
#include "start/inputs.h"

struct plan_limits batching_limits(const struct job *job);

// Before the survey: takes what the job file leaves open from the run in the ledger, if one has begun there.
// Earlier versions had numbers for defaults, so a run of theirs goes on with those. What that changes is
// added to inputs->notes. Values that the job file gives stay: they are compared with the rest of the
// identity. What texts go on from is the run's, too (start/reuse.h).
int batching_settle(struct inputs *inputs, struct ledger *ledger, struct error *err);

#endif
