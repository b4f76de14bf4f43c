// SPDX-License-Identifier: MIT
// The guard: a thread that hears signals and watches the batch in flight, so that no global state and no
// handler is needed.
//
// A stop signal (base/process.h has the list) asks for a clean stop: batches that are computed are kept, the
// one in flight too when it ends in half of the time to stop; the process is gone within 20 s even when it
// takes longer, with a farewell within 25 s. The same signal again, or another more than 3 s later, ends the
// process at once; those that machines repeat (SIGHUP, SIGXCPU, timers) never do. A batch that is in flight 4
// times longer than predicted is logged; at 8 times it counts as hung: the evidence is recorded, what is done
// is kept, and the process ends with the exit code of drift. Where the host's own processors compute, a busy
// machine may take any time for a batch: there one hangs when its threads had 8 times the predicted processor
// time, or none for a minute.
//
// Before batch 1 the guard watches phases, each by name: one that makes no progress is told of after 30 s, or
// half of its limit, and ends the launch after its limit.
#ifndef STRATA_WATCH_GUARD_H
#define STRATA_WATCH_GUARD_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

struct model;
struct journal;

// The stage that keeps what is computed, as far as the guard must know it.
struct guard_writer {
    void (*stop)(void *writer);                           // asks for an early end
    bool (*is_done)(const void *writer);                  // it has ended
    int (*result)(const void *writer, struct error *err); // then
    void *writer;
};

struct guard_options {
    struct log *log;
    double stop_seconds;     // from the first signal to the end, at most; 15
    double together_seconds; // stop signals of several kinds within them are one request; 3
    double hung_seconds;     // a batch is never called hung before; 60
    double phase_seconds;    // and no phase before; 30
    // Seconds of processor time that each computing thread had until now; negative: not on this host. May be
    // NULL; guard_set_clock.
    double (*clock)(const struct model *model);
    const struct model *model;
    const char *folder;      // run directory, for messages
    struct journal *journal; // gets the evidence, and the end when the guard ends the process itself
};

// What a phase of the start waits for when it makes no progress.
enum guard_phase {
    GUARD_NO_PHASE, // a batch is in flight
    GUARD_FILES,    // it makes progress while the process takes a tenth of a processor's time
    GUARD_DEVICE,   // while it is said to go on (guard_goes_on)
};

struct guard_deadline {
    double seconds;
    int code; // of the exit
};

struct guard {
    struct guard_options options;
    void (*farewell)(void *context); // guard_set_farewell
    void *farewell_context;
    struct guard_deadline deadline; // of the farewell
    pthread_t thread;
    bool running;
    sigset_t signals;
    sigset_t previous_mask;
    atomic_int signal;    // the first stop signal, 0: none
    atomic_bool finish;   // the thread is to end
    pthread_mutex_t lock; // what follows
    struct guard_writer writer;
    bool attached; // there is a writer
    bool ended;    // the writer came and went: the run is closing, and its own end counts
    bool gave_up;  // on the batch in flight: the writer was asked to keep what it has
    bool in_flight;
    bool warned;
    enum guard_phase phase;
    const char *what;   // "batch", "the canary after batch"; the phase's name
    const char *device; // that computes the batch, where there is more than one; otherwise ""
    uint64_t batch;
    double predicted; // of a phase: its limit
    double elapsed; // seconds the process was awake since the batch began: a suspended process is not a hung
                    // batch
    double clock_begun;  // what the clock said then
    double clock_before; // and when it was last seen to move
    double still;        // seconds awake since
};

// Blocks the signals in this thread (and so in all made later) and starts the thread: before any other thread
// is made.
int guard_start(struct guard *guard, const struct guard_options *options, struct error *err);
void guard_attach(struct guard *guard, const struct guard_writer *writer); // to stop; NULL detaches

// The run closes, and its own end counts. Where there is a farewell, what closing takes is bounded all the
// same: a file server that hangs then does not keep a process that was asked to stop.
void guard_closes(struct guard *guard);
void guard_stop(struct guard *guard); // ends the thread, restores the signal mask

// The model whose devices' threads are watched beside the wall clock (model/model.h, model_clock), once it
// has them.
void guard_set_clock(struct guard *guard, double (*clock)(const struct model *model),
                     const struct model *model);

// What is left to do when the guard ends the process, once that end is in the ledger and nobody can write to
// it any more; a writer that is late with a shard does not keep it from that then. It has some seconds.
void guard_set_farewell(struct guard *guard, void (*farewell)(void *context), void *context);

bool guard_stop_requested(const struct guard *guard);
const char *guard_signal_name(const struct guard *guard); // "SIGTERM"; "" when none came

// The device that computes what begins from now on, by name; "" where there is no other. The name stays.
void guard_set_device(struct guard *guard, const char *device);

void guard_batch_begins(struct guard *guard, uint64_t batch, double predicted);
void guard_canary_begins(struct guard *guard, uint64_t batch, double predicted); // ends with guard_batch_ends

// A phase of the start, "opening the model": it has no prediction, and hangs after `limit` seconds without
// progress or a word that it goes on. The process then ends with the exit code of a device that is not there,
// where files are waited for, otherwise of drift. Ends with the next phase or guard_batch_ends. The name
// stays.
void guard_phase_begins(struct guard *guard, enum guard_phase phase, const char *name, double limit);
void guard_batch_ends(struct guard *guard);

// What began has not ended, and does not hang: its seconds are counted anew.
void guard_goes_on(struct guard *guard);

// Sleeps, but not past a stop request.
void guard_sleep(struct guard *guard, double seconds);

#endif
