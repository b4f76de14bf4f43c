// SPDX-License-Identifier: MIT
#include "journal/journal.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/process.h"

enum {
    SHOW_SECONDS = 2,  // between two records of the figures
    LEAVE_SECONDS = 1, // that the end of the process waits for the ledger
};

// ---- the ledger ----

struct ledger *journal_lock(struct journal *journal) {
    pthread_mutex_lock(&journal->lock);
    return journal->ledger;
}

void journal_unlock(struct journal *journal) {
    pthread_mutex_unlock(&journal->lock);
}

// Under the lock. Passes the status on.
static int heed(struct journal *journal, int status, const struct error *err) {
    if (status != STATUS_OK && journal->status == STATUS_OK) {
        journal->status = status;
        journal->err = *err;
    }
    return status;
}

int journal_check(struct journal *journal, struct error *err) {
    journal_lock(journal);
    int status = journal->status;
    if (status != STATUS_OK) {
        *err = journal->err;
    }
    journal_unlock(journal);
    return status;
}

// ---- figures ----

// Under the lock.
static void take_counts(struct journal *journal) {
    const struct journal_counts *counts = &journal->counts;
    struct ledger_progress *live = &journal->live;
    live->updated = clock_unix();
    live->batches = counts->batches;
    live->problems = counts->problems;
    live->tokens = counts->tokens;
    live->rows = counts->rows;
    live->seconds = counts->seconds;
}

// Under the lock. Of several devices, in a note beside the live state.
static int write_lanes(struct journal *journal, struct error *err) {
    return journal->lane_count == 0
               ? STATUS_OK
               : ledger_set_lanes(journal->ledger, journal->epoch, journal->lanes, journal->lane_count, err);
}

// Under the lock.
static int write_live(struct journal *journal, struct error *err) {
    TRY(ledger_set_progress(journal->ledger, &journal->live, err));
    return write_lanes(journal, err);
}

// Under the lock.
static int write_figures(struct journal *journal, struct error *err) {
    take_counts(journal);
    journal->live.memory_bytes = process_memory();
    journal->written = clock_seconds();
    return heed(journal, write_live(journal, err), err);
}

int journal_show(struct journal *journal, struct error *err) {
    journal_lock(journal);
    int status = write_figures(journal, err);
    journal_unlock(journal);
    return status;
}

int journal_refresh(struct journal *journal, struct error *err) {
    journal_lock(journal);
    bool due = journal->written == 0 || clock_seconds() - journal->written > SHOW_SECONDS;
    int status = due ? write_figures(journal, err) : STATUS_OK;
    journal_unlock(journal);
    return status;
}

int journal_stage(struct journal *journal, const char *stage, struct error *err) {
    journal_lock(journal);
    snprintf(journal->live.stage, sizeof journal->live.stage, "%s", stage);
    int status = write_figures(journal, err);
    journal->written = 0;
    journal_unlock(journal);
    return status;
}

void journal_loaded(struct journal *journal, uint64_t bytes, uint64_t all) {
    journal_lock(journal);
    journal->live.loaded_bytes = bytes;
    journal->live.load_bytes = all;
    journal_unlock(journal);
}

static void set_drift(struct journal *journal, const char *state) {
    snprintf(journal->live.drift, sizeof journal->live.drift, "%s", state);
}

void journal_drift(struct journal *journal, const char *state, double score) {
    journal_lock(journal);
    set_drift(journal, state);
    journal->live.score = score;
    journal_unlock(journal);
}

void journal_calibrates(struct journal *journal) {
    journal_lock(journal);
    set_drift(journal, "calibrating");
    journal_unlock(journal);
}

void journal_rate(struct journal *journal, double tokens_per_second) {
    journal_lock(journal);
    journal->live.tokens_per_second = tokens_per_second;
    journal_unlock(journal);
}

void journal_device(struct journal *journal, const struct ledger_device *figures) {
    journal_lock(journal);
    journal->live.device = *figures;
    journal_unlock(journal);
}

void journal_device_of(struct journal *journal, size_t lane, size_t count, const struct ledger_lane *news) {
    journal_lock(journal);
    journal->lanes[lane] = *news;
    journal->lane_count = count;
    journal_unlock(journal);
}

// ---- what is counted ----

void journal_count_from(struct journal *journal, const struct journal_counts *counts) {
    journal_lock(journal);
    journal->counts = *counts;
    journal_unlock(journal);
}

void journal_count(struct journal *journal, const struct journal_counts *more) {
    journal_lock(journal);
    struct journal_counts *counts = &journal->counts;
    counts->batches += more->batches;
    counts->problems += more->problems;
    counts->tokens += more->tokens;
    counts->rows += more->rows;
    counts->failed += more->failed;
    counts->sealed += more->sealed;
    counts->seconds += more->seconds;
    journal_unlock(journal);
}

struct journal_counts journal_counts(struct journal *journal) {
    journal_lock(journal);
    struct journal_counts counts = journal->counts;
    journal_unlock(journal);
    return counts;
}

// ---- events ----

void journal_event(struct journal *journal, enum log_level level, const char *kind, const char *text) {
    journal_evidence(journal, level, kind, text, text);
}

void journal_evidence(struct journal *journal, enum log_level level, const char *kind, const char *line,
                      const char *evidence) {
    struct error err;
    log_write(journal->log, level, "%s: %s", kind, line);
    struct ledger *ledger = journal_lock(journal);
    heed(journal, ledger_event(ledger, kind, evidence, &err), &err);
    journal_unlock(journal);
}

// ---- from the start to the end of a launch ----

void journal_start(struct journal *journal, struct log *log) {
    *journal = (struct journal){.log = log};
    pthread_mutex_init(&journal->lock, NULL);
}

// What status shows until there is news.
static int take_last_figures(struct journal *journal, struct error *err) {
    bool found;
    struct ledger_progress *live = &journal->live;
    TRY(ledger_progress(journal->ledger, live, &found, err));
    live->device = (struct ledger_device){0}; // another launch's, of another moment
    journal->counts = (struct journal_counts){.batches = live->batches,
                                              .problems = live->problems,
                                              .tokens = live->tokens,
                                              .rows = live->rows,
                                              .seconds = live->seconds};
    return STATUS_OK;
}

int journal_open(struct journal *journal, const char *folder, int threads, struct error *err) {
    int status;
    struct ledger **ledger = &journal->ledger;
    journal_lock(journal);
    TRY_TO(done, status = ledger_open(ledger, folder, err));
    TRY_TO(done, status = take_last_figures(journal, err));
    TRY_TO(done, status = ledger_launch(*ledger, threads, &journal->epoch, err));
    journal->live.epoch = journal->epoch;
done:
    journal_unlock(journal);
    return status;
}

static const char *last_stage(int status, bool finished) {
    switch (status) {
    case STATUS_OK:
        return "finished";
    case STATUS_STOPPED:
        return "stopped";
    case STATUS_DRIFT:
        return "drift";
    default:
        // Too many failed problems end a run that is otherwise complete.
        return finished ? "finished" : "failed";
    }
}

static int write_end(struct journal *journal, int status, const char *reason, struct error *err) {
    TRY(write_live(journal, err));
    return ledger_launch_end(journal->ledger, error_exit_code(status), reason, err);
}

// Under the lock. An end that cannot be recorded shows as a launch that was killed: the truth is in the
// shards and commits before it. An error has its own line on the terminal, and needs no second.
static void record_end(struct journal *journal, int status, bool finished, const char *reason) {
    struct error err;
    enum log_level level = status == STATUS_OK ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
    if (journal->epoch == 0) {
        return;
    }
    snprintf(journal->live.stage, sizeof journal->live.stage, "%s", last_stage(status, finished));
    take_counts(journal);
    if (write_end(journal, status, reason, &err) != STATUS_OK) {
        log_write(journal->log, level, "the end of this launch was not recorded: %s", err.message);
    }
}

void journal_end(struct journal *journal, int status, bool finished, const struct error *err) {
    char reason[sizeof err->message] = "every problem is accounted for";
    if (status != STATUS_OK) {
        snprintf(reason, sizeof reason, "%.*s", (int)error_first_line(err), err->message);
    }
    journal_lock(journal);
    record_end(journal, status, finished, reason);
    journal_unlock(journal);
}

bool journal_leave(struct journal *journal, int status, const char *reason) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += LEAVE_SECONDS;
    if (pthread_mutex_timedlock(&journal->lock, &limit) != 0) {
        return false;
    }
    if (journal->epoch > 0) {
        ledger_hurry(journal->ledger);
    }
    record_end(journal, status, false, reason); // and keeps the lock
    return true;
}

void journal_close(struct journal *journal) {
    ledger_close(journal->ledger);
    pthread_mutex_destroy(&journal->lock);
    *journal = (struct journal){0};
}
