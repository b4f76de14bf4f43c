// SPDX-License-Identifier: MIT
// The training layouts that strata-export writes: `strata export` hands over to it, and has the Parquet
// tables beside R-JEPA's shards made by it.
#ifndef STRATA_COMMANDS_EXPORT_COMPANION_H
#define STRATA_COMMANDS_EXPORT_COMPANION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "commands/options.h"

// Names and help of its formats, NULL past the last.
const char *export_companion_format(size_t index);
const char *export_companion_help(size_t index);

// Whether a format is its own; NULL is none.
bool export_companion_has(const char *format);

// Becomes strata-export with the same words. STATUS_USAGE for options that it has not; STATUS_DEVICE when it
// is not there.
int export_companion_become(const struct arguments *arguments, struct error *err);

// Has it write shard-NNNN.parquet beside every shard-NNNN.jsonl in the folder, an unfinished export. Where it
// or pyarrow is not there, *missing is set and nothing else happens; STATUS_WRITE when it fails.
int export_companion_tables(const char *folder, bool *missing, struct error *err);

#endif
