// SPDX-License-Identifier: MIT
// A moment of a run as JSON, for strata status.
#ifndef STRATA_COMMANDS_STATUS_JSON_H
#define STRATA_COMMANDS_STATUS_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "commands/run_snapshot.h"

int status_json_print(FILE *out, const char *folder, const struct run_snapshot *snapshot, bool one_line,
                      struct error *err);

// The device's report after the load; null where there is none. NULL when memory is out.
json_t *status_residency(const struct run_snapshot *snapshot);

#endif
