// SPDX-License-Identifier: MIT
// What is named on the command line in place of a run directory or of a job file: the other of the two, a
// database, a model. A job file that stands for its run is taken; anything else is told by what it is.
#ifndef STRATA_COMMANDS_OPERAND_HINTS_H
#define STRATA_COMMANDS_OPERAND_HINTS_H

#include "base/error.h"
#include "base/file.h"
#include "commands/options.h"

// Looks at the first operand where the command's table calls it DIR or JOB.yaml. A job file in the place of
// DIR gives way to its run.output, which is put into `output` (as long-lived as the arguments) and told on
// standard error. STATUS_DATA when there is no run, STATUS_JOB when there is no job.
int operand_hints_check(struct arguments *arguments, char output[PATH_SIZE], struct error *err);

#endif
