// SPDX-License-Identifier: MIT
// --part of the command line: which part of a job, in words or as a batch system says it.
#ifndef STRATA_COMMANDS_PART_OPTION_H
#define STRATA_COMMANDS_PART_OPTION_H

#include "checkpoints/run_set.h"

// "7/64", or "auto": of a Slurm array SLURM_ARRAY_TASK_ID, counted from SLURM_ARRAY_TASK_MIN to _MAX in steps
// of SLURM_ARRAY_TASK_STEP, of SLURM_ARRAY_TASK_COUNT, with none left out; of a Kubernetes Indexed Job
// JOB_COMPLETION_INDEX of JOB_COMPLETIONS. NULL: no part. STATUS_USAGE.
int part_option_parse(struct run_part *part, const char *text, struct error *err);

#endif
