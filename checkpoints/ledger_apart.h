// SPDX-License-Identifier: MIT
// The ledger of a launch that keeps it on a local disk apart from the run directory (run.ledger), from the
// start of the launch to its end: which ledger it goes on with, that of the local folder or the copy in the
// run directory; the word in the run directory that it is here now; the copy that the end leaves there. All
// of it does nothing where the ledger lies in the run directory.
#ifndef STRATA_CHECKPOINTS_LEDGER_APART_H
#define STRATA_CHECKPOINTS_LEDGER_APART_H

#include "base/copy.h"
#include "base/log.h"
#include "checkpoints/ledger.h"
#include "checkpoints/ledger_place.h"
#include "checkpoints/run_folder.h"

struct ledger_apart {
    const struct run_folder *folder;
    struct ledger_place place; // what the run directory says of this launch
    struct ledger_place found; // what it said before
    bool was_found;
    bool continues; // with the ledger that `found` means, not with its copy
    bool announced;
    double due;     // monotonic seconds of the next copy
    uint64_t again; // shards, at most, that were acknowledged after the copy this launch goes on from
};

// Whether a launch may go on, and with which ledger, without changing anything. STATUS_WRITE when the ledger
// is on another machine, unless `from_copy`, or when the local folder has that of another run; STATUS_DATA
// when it was lost. `folder` outlives *apart.
int ledger_apart_check(struct ledger_apart *apart, const struct run_folder *folder, bool from_copy,
                       struct error *err);

// The same, and puts the ledger to go on with where ledger_open looks for it (folder->ledger). Where the run
// directory is to have its ledger again, what tells of another place is removed.
int ledger_apart_begin(struct ledger_apart *apart, const struct run_folder *folder, bool from_copy,
                       struct log *log, struct error *err);

// After ledger_launch, and before anything is written to the run directory: says there that the ledger is
// here.
int ledger_apart_announce(struct ledger_apart *apart, uint64_t launch, struct error *err);

// STATUS_WRITE when another launch has said so since (invariant 1).
int ledger_apart_fence(const struct ledger_apart *apart, struct error *err);

// For copies into the run directory: the fence, and a name aside that is this launch's own. After
// ledger_apart_announce; *apart outlives it.
struct copy_claim ledger_apart_claim(const struct ledger_apart *apart);

// Copies the ledger into the run directory while the launch works, for those who look from other machines and
// against the loss of this one; not `now`: if the last copy is a minute old, or what copying takes, fifty
// times. The caller sees to it that nobody is in the ledger meanwhile, with no transaction open.
int ledger_apart_refresh(struct ledger_apart *apart, bool now, struct error *err);

// The end of an announced launch, with nobody in the ledger: a last copy, and the word that it has all. After
// a failure the run directory goes on to name this place.
int ledger_apart_end(struct ledger_apart *apart, struct error *err);

#endif
