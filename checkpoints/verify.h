// SPDX-License-Identifier: MIT
// Holds a run directory against its ledger: hashes, sizes, counts, ids, offsets, finite values, the ledger's
// own chain.
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
    uint64_t faults; // lines given to `tell` by their kinds
    uint64_t notes;
};

// A fault is something acknowledged that is not as it was acknowledged. A note is what is no part of that:
// the files that a runner at work or a crash left unacknowledged, which the next launch clears away, and
// strangers.
enum verify_kind { VERIFY_FAULT, VERIFY_NOTE };

typedef void (*verify_tell)(void *context, enum verify_kind kind, const char *line);

struct verify_listener {
    verify_tell tell;
    void *context;
    struct verify_report *report;
};

// Gives the listener a line, in which nothing but text is left, and counts it.
void verify_say(const struct verify_listener *to, enum verify_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Calls `tell` with one line for everything wrong (shard, problem, what) or worth a note. What is checked is
// what the ledger acknowledged at the moment it was opened, though the run goes on. Returns STATUS_OK when
// the check could be made (look at report->faults), STATUS_DATA when there is no ledger to check against.
int verify_run(const char *folder, verify_tell tell, void *context, struct verify_report *report,
               struct error *err);

#endif
