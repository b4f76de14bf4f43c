// SPDX-License-Identifier: MIT
// The device of a launch. A new run takes what the job names; a run that has begun goes on with the kind of
// device and the CPU path it computed on last, also where this processor would choose another. Where that
// path is not supported here the launch is refused, unless the job says run.allow_cpu_path_change. A device
// that has no kernels for the model's shapes is refused too; `auto` then takes the CPU, with a line in the
// notes. Several GPUs are of one kind: a run's latents have the bits of that kind. It goes on with more or
// fewer of them.
#ifndef STRATA_START_DEVICE_CHOICE_H
#define STRATA_START_DEVICE_CHOICE_H

#include "start/inputs.h"

struct journal;

// Opens the device and gives it to the model, fills inputs->device, inputs->trail and the verdict beside it.
// A check whose model was refused asks for the device all the same: it is closed again. ledger: of the run in
// the output, NULL when there is none. STATUS_DEVICE when the device or the run's path is not there, or
// cannot compute the model; STATUS_JOB when the job asks for another path by name.
int device_choice_open(struct inputs *inputs, struct ledger *ledger, struct error *err);

// The device's part of the run's identity: that of the first launch, when going on here was permitted.
const char *device_choice_identity(const struct inputs *inputs);

// Records a change of path that is about to happen: drops the partial shard, whose batches were computed on
// the other one, then notes the change. *has_partial becomes false. Nothing without a change.
int device_choice_settle(struct inputs *inputs, struct journal *journal, const char *folder,
                         bool *has_partial, struct error *err);

#endif
