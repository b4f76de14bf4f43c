// SPDX-License-Identifier: MIT
// A moment of a set, for strata status: as a page, as a line, as JSON.
#ifndef STRATA_COMMANDS_SET_STATUS_H
#define STRATA_COMMANDS_SET_STATUS_H

#include <stdio.h>

#include "commands/set_snapshot.h"

void set_status_line(FILE *out, const struct set_snapshot *snapshot); // for logs that watch

// With a line for each of the parts that are not done, `most` at most, and a count of the others.
int set_status_page(FILE *out, const struct set_snapshot *snapshot, int most, struct error *err);
int set_status_json(FILE *out, const struct set_snapshot *snapshot, bool one_line, struct error *err);

#endif
