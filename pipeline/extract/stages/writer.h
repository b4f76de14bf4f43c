// SPDX-License-Identifier: MIT
// The writer stage: a thread that takes finished batches, leaves out problems whose hidden states are not
// finite, appends the rest to the open shard, and every N batches seals it and commits it to the ledger,
// which it has from the journal. It is the only one that calls HDF5 during a run.
#ifndef STRATA_STAGES_WRITER_H
#define STRATA_STAGES_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "checkpoints/ledger_apart.h"
#include "journal/journal.h"
#include "model/model.h"
#include "stages/feeder.h"
#include "stages/open_shard.h"
#include "stages/throughput.h"
#include "watch/guard.h"

struct writer_options {
    const struct run_folder *folder;
    struct ledger_apart *apart;
    const struct shard_layout *layout;
    uint64_t batches_per_shard;
    uint64_t disk_reserve; // bytes of free space left alone
    uint64_t waiting;      // problems with a failed outcome that are still to be tried again
    uint64_t epoch;
    struct journal *journal;
    struct log *log;
    struct model *model;
    struct feeder *feeder; // works are given back to it
};

struct writer {
    struct writer_options options;
    struct open_shard open;
    struct ledger_position position; // after the last work; the ledger's after a commit
    struct throughput csv;
    struct queue finished; // works, computed
    bool finished_run;     // the last commit was made
    bool complete;         // set before the queue is closed: the feeder reached the last row
    atomic_bool stop;      // close without sealing a full shard
    atomic_bool done;      // the thread is through
    pthread_t thread;
    bool running;
    int status; // read after writer_finish
    struct error err;
};

// Opens the first shard (restoring `partial` when not NULL) and starts the thread.
int writer_start(struct writer *writer, const struct writer_options *options,
                 const struct ledger_partial *partial, struct error *err);

// True when this work's batch was restored from a partial shard: it needs no forward pass.
bool writer_has(const struct writer *writer, const struct work *work);

// Hands a finished work over. False when the writer has stopped (an error, a stop request): the work stays
// the caller's.
bool writer_put(struct writer *writer, struct work *work);

// Asks for an early end from any thread: batches handed over are written, the open shard is kept as a partial
// one.
void writer_request_stop(struct writer *writer);

// Ends the thread: `complete` seals the last shard and marks the run finished. Returns the first error of the
// stage.
int writer_finish(struct writer *writer, bool complete, struct error *err);
bool writer_is_complete(const struct writer *writer); // after writer_finish: the run was marked finished
void writer_destroy(struct writer *writer);           // after writer_finish

// What the guard must know of it, until writer_finish.
struct guard_writer writer_for_guard(struct writer *writer);

#endif
