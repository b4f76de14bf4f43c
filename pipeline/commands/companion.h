// SPDX-License-Identifier: MIT
// The programs of the Python package beside this one (strata-import, strata-export): what needs pyarrow,
// datasets or transformers is theirs, and a command that is asked for it hands over to them.
#ifndef STRATA_COMMANDS_COMPANION_H
#define STRATA_COMMANDS_COMPANION_H

#include <stdbool.h>

#include "base/error.h"

// Becomes the companion `name` (the words' first is filled in here; NULL ends them), looked for beside this
// program, then along PATH. Returns only when that did not work: STATUS_DEVICE, with `purpose` ("Parquet
// files are read by") and how to get it.
int companion_become(const char *name, const char *purpose, const char *words[], struct error *err);

// Runs the companion and waits for it; the words' first is its name, its results are dropped, its errors are
// this program's. *missing: it is not on this machine. *code: its exit code; 128 and the signal that ended
// it.
int companion_run(const char *name, const char *const words[], bool *missing, int *code, struct error *err);

#endif
