// Holds a run directory against its ledger: hashes, sizes, counts, ids, offsets, finite values, the ledger's own chain.
#ifndef STRATA_CHECKPOINTS_VERIFY_H
#define STRATA_CHECKPOINTS_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct verify_report {
    uint64_t shards;
    uint64_t problems;
    uint64_t rows;
    uint64_t bytes;
    uint64_t faults; // lines given to `fault`
};

// Calls `fault` with one line for everything wrong (shard, problem, what). Returns STATUS_OK when the check could be made
// (look at report->faults), STATUS_DATA when there is no ledger to check against.
int verify_run(const char *folder, void (*fault)(void *context, const char *line), void *context,
               struct verify_report *report, struct error *err);

#endif
