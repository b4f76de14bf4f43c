// The writer stage: a thread that takes finished batches, leaves out problems whose hidden states are not
// finite, appends the rest to the open shard, and every N batches seals it and commits it to the ledger. It
// is the only one that calls HDF5 during a run, and the ledger is used under its lock.
#ifndef STRATA_EXTRACT_WRITER_H
#define STRATA_EXTRACT_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "extract/feeder.h"
#include "extract/open_shard.h"
#include "extract/throughput.h"
#include "model/model.h"

struct writer_options {
    const char *folder; // run directory
    const struct shard_layout *layout;
    uint64_t batches_per_shard;
    uint64_t disk_reserve; // bytes of free space left alone
    uint64_t waiting;      // problems with a failed outcome that are still to be tried again
    uint64_t epoch;
    struct ledger *ledger;
    struct log *log;
    struct model *model;
    struct feeder *feeder; // works are given back to it
};

// Counters of this launch and of the run, for progress bars and status; copied under the lock.
struct writer_progress {
    uint64_t batches; // of the run, sealed or in the open shard
    uint64_t problems;
    uint64_t tokens;
    uint64_t rows;
    uint64_t failed;
    double compute_seconds; // of the run
    uint64_t launch_tokens; // of this launch
    uint64_t sealed_shards; // of this launch
};

struct writer {
    struct writer_options options;
    struct open_shard open;
    struct ledger_position position; // after the last work; the ledger's after a commit
    struct throughput csv;
    pthread_mutex_t lock; // the ledger and progress
    struct ledger_progress live;
    struct writer_progress progress;
    double last_heartbeat;
    int ledger_status; // of the first event or progress that the ledger refused; ends the run
    struct error ledger_err;
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
                 const struct ledger_partial *partial, const struct ledger_progress *live, struct error *err);

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

void writer_snapshot(struct writer *writer, struct writer_progress *out);

// Writes an event to the ledger and the log, from any thread. A ledger that refuses it (a failed sync is
// final) ends the run with the next batch.
void writer_event(struct writer *writer, enum log_level level, const char *kind, const char *text);
// The same with kilobytes of evidence, which the ledger keeps; the log gets the line.
void writer_evidence(struct writer *writer, enum log_level level, const char *kind, const char *line,
                     const char *evidence);

// Changes what status shows; NULL, or a rate below 0, leaves a field. Written with the next heartbeat, or
// now.
void writer_live(struct writer *writer, const char *stage, const char *drift, double score, double rate,
                 bool now);

#endif
