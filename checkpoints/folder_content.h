// SPDX-License-Identifier: MIT
// What a run directory may hold: which names are the program's own, and whether a folder may become a run
// directory.
#ifndef STRATA_CHECKPOINTS_FOLDER_CONTENT_H
#define STRATA_CHECKPOINTS_FOLDER_CONTENT_H

#include <stdbool.h>

#include "base/error.h"
#include "checkpoints/run_folder.h"

// True for a file that the program writes aside and then renames: part-NNNNNN[.partial].h5.tmp in shards/,
// job.yaml.tmp, latents.h5.tmp, ledger.sqlite.tmp and ledger.json.tmp beside it, all of them also with the
// token of a launch before .tmp (ledger_place.h). Any other name ending in .tmp is somebody else's.
bool folder_content_is_aside(const char *name, bool in_shards);

// STATUS_WRITE naming the first file that is somebody else's, when the folder has no ledger and holds more
// than a first start leaves that was killed before it made one. Nothing is written. A folder that is not
// there, or that holds shards (ledger_open refuses those), passes.
int folder_content_admit(const char *folder, struct error *err);

// The same for a folder that is to become a set of parts (run_set.h).
int folder_content_admit_set(const char *folder, struct error *err);

// The name of a shard in FOLDER/shards, sealed or kept by a clean stop; empty when there is none.
int folder_content_shard(char name[RUN_FOLDER_NAME], const char *folder, struct error *err);

// True when FOLDER/ledger.sqlite is missing or has no byte, and no file tells of one elsewhere: nothing was
// ever recorded in it, or it was lost.
bool folder_content_lacks_ledger(const char *folder);

#endif
