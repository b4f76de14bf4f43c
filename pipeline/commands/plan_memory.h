// SPDX-License-Identifier: MIT
// What a job takes on its device, as `strata plan` tells it: no device is asked for its memory.
#ifndef STRATA_COMMANDS_PLAN_MEMORY_H
#define STRATA_COMMANDS_PLAN_MEMORY_H

#include <stdio.h>

#include "start/inputs.h"

// A table of weights, activations and scratch at batch.tokens; where weights are packed, beside what they
// would take stored as computed. After the survey. Opens no device but the processor, and gives it to the
// model, which must have none.
int plan_memory_write(FILE *out, struct inputs *inputs, struct error *err);

#endif
