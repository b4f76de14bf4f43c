// SPDX-License-Identifier: MIT
// latents.h5 of a run, or of a set of parts: virtual datasets over the shards, for convenience. Explicit
// mappings, relative names, NaN fill, at most 500 shards (beyond that none is written): never the primary
// index. Rows and problems are in shard order, part after part. Latents and token ids are virtual; /problems,
// /rows, /batches, offsets (counted from the first shard) and the summed /statistics are real. An error of
// HDF5's leaves the library as untrusted as shard.h says.
#ifndef STRATA_CHECKPOINTS_VIEW_H
#define STRATA_CHECKPOINTS_VIEW_H

#include <stdbool.h>

#include "checkpoints/ledger.h"

// Beyond about 500 sources the readers' open files run out, and HDF5 then returns the fill value without an
// error.
enum { VIEW_SHARDS = 500 };
// What takes its place then, for people.
#define VIEW_INSTEAD "read the shards by strata_reader (tools/python), or write one file by strata export"

// Writes FOLDER/latents.h5 aside and publishes it. *written is false when there are no shards, or too many:
// one of a time when they were fewer is then removed, which shows only some of them.
int view_write(const char *folder, struct ledger *ledger, bool *written, struct error *err);

// The same of a set's folder, once all its parts are finished: until then *written is false, and of a set of
// more than VIEW_SHARDS parts. Numbers of batches are each part's own. Opens every part's ledger.
int view_write_set(const char *folder, bool *written, struct error *err);

#endif
