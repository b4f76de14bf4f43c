// The programs of the Python package beside this one (strata-import, strata-export): what needs pyarrow,
// datasets or transformers is theirs, and a command that is asked for it hands over to them.
#ifndef STRATA_COMMANDS_COMPANION_H
#define STRATA_COMMANDS_COMPANION_H

#include "base/error.h"

// Becomes the companion `name` (the words' first is filled in here; NULL ends them), looked for beside this
// program, then along PATH. Returns only when that did not work: STATUS_DEVICE, with `purpose` ("Parquet
// files are read by") and how to get it.
int companion_become(const char *name, const char *purpose, const char *words[], struct error *err);

#endif
