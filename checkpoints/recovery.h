// SPDX-License-Identifier: MIT
// Brings a run directory back to what the ledger says, before a runner goes on: removes what was written
// aside (folder_content.h) and every shard the ledger does not know, checks that the shards it knows are
// there with their sizes.
#ifndef STRATA_CHECKPOINTS_RECOVERY_H
#define STRATA_CHECKPOINTS_RECOVERY_H

#include "base/log.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_folder.h"

struct recovery_report {
    size_t removed;      // files discarded
    size_t shards;       // acknowledged and present
    bool partial_usable; // the recorded partial shard is there and its hash is right
};

// STATUS_DATA naming the shard when an acknowledged one is missing or has another size; STATUS_WRITE when
// that cannot be told. Removals are logged.
int recovery_run(const struct run_folder *folder, struct ledger *ledger, struct log *log,
                 struct recovery_report *report, struct error *err);

#endif
