// SPDX-License-Identifier: MIT
// `strata run JOB.yaml --parts N`: all parts of the job as processes on this machine.
#ifndef STRATA_COMMANDS_RUN_PARTS_H
#define STRATA_COMMANDS_RUN_PARTS_H

#include "commands/command.h"

enum {
    RUN_PARTS_AT_ONCE = 64, // at most
    RUN_PARTS_RESTARTS = 3, // of one, where --restarts does not say
};

// As a command's run, of the arguments of `strata run` with --parts among them.
int run_parts(struct command_context *context, struct error *err);

#endif
