// SPDX-License-Identifier: MIT
// The journal of a launch: what it says of itself from its start to its end. It owns the ledger and its lock,
// the live figures that `strata status` shows, and the events. Launch, writer, drift watch and guard tell it
// their news, each from its own thread; nobody else writes figures or events.
//
// Figures go to the ledger with a new stage, with its first news, and then every two seconds. What failed may
// have been a sync, after which nothing more may be acknowledged: the first figures or event that the ledger
// refused is kept, and whoever computes or commits asks for it (journal_check) before going on. What it
// refuses of others, such as the writer's commit or the record of a partial shard, is not kept here: they
// return it and end the run themselves.
//
// While the stages run (and for figures and events always) the ledger is used between journal_lock and
// journal_unlock; before and after them the launch's thread has it for itself.
#ifndef STRATA_JOURNAL_JOURNAL_H
#define STRATA_JOURNAL_JOURNAL_H

#include <pthread.h>

#include "base/log.h"
#include "checkpoints/ledger.h"
#include "checkpoints/ledger_lanes.h"

// What is counted of a run, sealed or in the open shard.
struct journal_counts {
    uint64_t batches;
    uint64_t problems;
    uint64_t tokens;
    uint64_t rows;
    uint64_t failed; // of the problems
    uint64_t sealed; // shards, of this launch
    double seconds;  // of computing, all launches
};

struct journal {
    struct log *log;
    pthread_mutex_t lock; // what follows
    struct ledger *ledger;
    uint64_t epoch; // of this launch; 0: not in the ledger yet
    struct ledger_progress live;
    struct ledger_lane lanes[LEDGER_LANES]; // of a run on several devices
    size_t lane_count;
    struct journal_counts counts;
    double written; // monotonic seconds when the figures last were; 0: the stage has had none
    int status;     // of the first figures or event that the ledger refused
    struct error err;
};

// ---- from the start to the end of a launch ----

void journal_start(struct journal *journal, struct log *log); // before the threads that tell it news

// Opens the ledger of a run directory, with the figures that an earlier launch left, and gives this launch
// its number.
int journal_open(struct journal *journal, const char *folder, int threads, struct error *err);

// How the launch ended, with the first line of an error; `finished`: the run is complete, though the launch
// may have failed. A launch that is not in the ledger says nothing.
void journal_end(struct journal *journal, int status, bool finished, const struct error *err);

// The same from a thread that is about to end the process, whatever the others are at. Another that holds the
// lock for longer than a second keeps the end from being recorded; the launch shows as killed then. Before
// the stages, when the launch's thread needs no lock, the caller sees to it that this thread is not in the
// ledger. Nothing more is written under the lock afterwards. False when it could not be had.
bool journal_leave(struct journal *journal, int status, const char *reason);

void journal_close(struct journal *journal); // accepts zeros

// ---- the ledger ----

struct ledger *journal_lock(struct journal *journal);
void journal_unlock(struct journal *journal);

// The failure of the first figures or event that the ledger refused; STATUS_OK without one.
int journal_check(struct journal *journal, struct error *err);

// ---- news ----

// A line for the log and an event of the ledger.
void journal_event(struct journal *journal, enum log_level level, const char *kind, const char *text);
// The same with kilobytes of evidence, which the ledger keeps; the log gets the line.
void journal_evidence(struct journal *journal, enum log_level level, const char *kind, const char *line,
                      const char *evidence);

// What the launch is at, written at once.
int journal_stage(struct journal *journal, const char *stage, struct error *err);

// Figures, written with the next journal_show or journal_refresh.
void journal_loaded(struct journal *journal, uint64_t bytes, uint64_t all); // of the weights
void journal_drift(struct journal *journal, const char *state, double score);
void journal_rate(struct journal *journal, double tokens_per_second);
void journal_device(struct journal *journal, const struct ledger_device *figures);
// The same of one of several devices, which `count` tells.
void journal_device_of(struct journal *journal, size_t lane, size_t count, const struct ledger_lane *news);
void journal_calibrates(struct journal *journal); // the state of drift until batches tell one

int journal_show(struct journal *journal, struct error *err);    // writes them now
int journal_refresh(struct journal *journal, struct error *err); // when their time has come

// ---- what is counted ----

void journal_count_from(struct journal *journal, const struct journal_counts *counts);
void journal_count(struct journal *journal, const struct journal_counts *more);
struct journal_counts journal_counts(struct journal *journal);

#endif
