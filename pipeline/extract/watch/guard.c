// SPDX-License-Identifier: MIT
#include "watch/guard.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/printable.h"
#include "base/process.h"
#include "journal/journal.h"

#define TICK 0.2
#define WARN_FACTOR 4.0
#define HUNG_FACTOR 8.0
#define CLOCK_MOVES 0.002 // seconds: more than looking at the clock takes
#define FILES_MOVE 0.02   // in a tick: more than this thread and a wait that is tried again take
#define LAST_SECONDS 3.0  // to keep what is computed when the time to stop is over
#define FAREWELL_SECONDS 5.0
#define WRITER_SECONDS 20.0 // to keep what is computed after a batch hangs

// Waits for a signal for one tick; 0 when none came.
static int wait_tick(const struct guard *guard) {
    struct timespec tick = {.tv_nsec = (long)(TICK * 1e9)};
    int number = sigtimedwait(&guard->signals, NULL, &tick);
    return number > 0 ? number : 0;
}

// Slurm sends SIGTERM to every process of a job and its script's trap forwards a signal of its own: two kinds
// within seconds are one request. The same one again is a person's.
static bool is_same_request(const struct guard *guard, int first, int number, double since_first) {
    return process_signal_repeats(number) ||
           (number != first && since_first < guard->options.together_seconds);
}

static void on_signal(struct guard *guard, int number, double since_first) {
    const char *name = process_signal_name(number);
    int first = 0;
    char which[64];
    if (atomic_compare_exchange_strong(&guard->signal, &first, number)) {
        log_write(guard->options.log, LOG_LEVEL_WARN, "%s: stopping; computed batches are kept", name);
        return;
    }
    if (number == first) {
        snprintf(which, sizeof which, "%s again", name);
    } else {
        snprintf(which, sizeof which, "%s after %s", name, process_signal_name(first));
    }
    if (is_same_request(guard, first, number, since_first)) {
        log_write(guard->options.log, LOG_LEVEL_INFO, "%s: part of the same request to stop", which);
        return;
    }
    log_write(guard->options.log, LOG_LEVEL_WARN, "%s: ending at once; unsealed batches are dropped", which);
    _exit(error_exit_code(STATUS_STOPPED));
}

// Waits for the writer's thread to end, `seconds` at most.
static void let_writer_end(struct guard *guard, double seconds) {
    double began = clock_seconds();
    while (guard->attached && !guard->writer.is_done(guard->writer.writer) &&
           clock_seconds() - began < seconds) {
        clock_sleep(0.05);
    }
}

static void *end_late(void *context) {
    const struct guard_deadline *deadline = context;
    clock_sleep(deadline->seconds);
    _exit(deadline->code);
}

// A file server that hangs must not keep the process: it ends then, wherever its threads are.
static void end_within(struct guard *guard, double seconds, int code) {
    pthread_t thread;
    guard->deadline = (struct guard_deadline){.seconds = seconds, .code = code};
    if (pthread_create(&thread, NULL, end_late, &guard->deadline) == 0) {
        pthread_detach(thread);
    }
}

// The process ends here, in this thread. An error of the writer counts more than the reason to leave. Before
// the writer came, the end is recorded when the main thread waits for the device, not in the ledger.
static void leave(struct guard *guard, int status, const char *reason) {
    const struct guard_writer *writer = &guard->writer;
    struct error err;
    bool done = guard->attached && writer->is_done(writer->writer);
    int result = done ? writer->result(writer->writer, &err) : STATUS_OK;
    if (result != STATUS_OK) {
        log_write(guard->options.log, LOG_LEVEL_ERROR, "%s", err.message);
        _exit(error_exit_code(result));
    }
    // The journal's lock keeps a late writer out of the ledger.
    bool may_write = done || (guard->attached ? guard->farewell != NULL : guard->in_flight);
    if (may_write && journal_leave(guard->options.journal, status, reason) && guard->farewell != NULL) {
        end_within(guard, FAREWELL_SECONDS, error_exit_code(status));
        guard->farewell(guard->farewell_context);
    }
    _exit(error_exit_code(status));
}

// " on cuda:1" where there are several devices.
static const char *on_device(const struct guard *guard, char text[32]) {
    bool several = guard->device != NULL && guard->device[0] != 0;
    snprintf(text, 32, "%s%.24s", several ? " on " : "", several ? guard->device : "");
    return text;
}

static void keep_what_is_done(struct guard *guard, const char *evidence) {
    struct journal *journal = guard->options.journal;
    struct error ignored; // the journal keeps it
    char on[32];
    char state[48];
    snprintf(state, sizeof state, "stopped%s", on_device(guard, on));
    journal_drift(journal, state, 0);
    journal_stage(journal, "drift", &ignored);
    journal_event(journal, LOG_LEVEL_ERROR, "drift", evidence);
    guard->writer.stop(guard->writer.writer);
    let_writer_end(guard, WRITER_SECONDS);
}

// Seconds without progress.
static double waited(const struct guard *guard) {
    return guard->phase == GUARD_FILES ? guard->still : guard->elapsed;
}

// Nothing is in flight, and no writer is there.
static void end_phase(struct guard *guard) {
    char folder[PRINTABLE_TEXT];
    char reason[128];
    snprintf(reason, sizeof reason, "%s made no progress before the first batch", guard->what);
    fprintf(
        stderr,
        "strata: %s has made no progress for %.0f s (model.load_timeout): stopped. Sealed shards in %s are "
        "safe; run the same command to resume.\n",
        guard->what, waited(guard), printable(folder, sizeof folder, guard->options.folder));
    leave(guard, guard->phase == GUARD_FILES ? STATUS_DEVICE : STATUS_DRIFT, reason);
}

static void end_hung(struct guard *guard) {
    char text[512];
    char folder[PRINTABLE_TEXT];
    char on[32];
    char reason[64];
    snprintf(text, sizeof text,
             "{\"cause\": \"%s hangs%s\", \"batch\": %" PRIu64
             ", \"seconds\": %.3f, \"predicted_seconds\": %.3f}",
             guard->what, on_device(guard, on), guard->batch, guard->elapsed, guard->predicted);
    if (guard->attached) {
        keep_what_is_done(guard, text);
    }
    fprintf(stderr,
            "strata: %s %" PRIu64 "%s has been computing for %.0f s, %.1f times its prediction: stopped. "
            "Sealed shards in %s are safe; run the same command to resume.\n",
            guard->what, guard->batch, on_device(guard, on), guard->elapsed,
            guard->elapsed / guard->predicted, printable(folder, sizeof folder, guard->options.folder));
    snprintf(reason, sizeof reason, "a batch hung%s", on);
    leave(guard, STATUS_DRIFT, reason);
}

// What the main thread waits for is in a run directory that does not answer. The end is in the ledger, or it
// counts as a kill.
static void end_closing(struct guard *guard) {
    char folder[PRINTABLE_TEXT];
    fprintf(stderr,
            "strata: %s does not answer: ending without what was to be written there last; run the "
            "same command to resume\n",
            printable(folder, sizeof folder, guard->options.folder));
    _exit(error_exit_code(STATUS_STOPPED));
}

// After a signal: the batch in flight gets half of the time to stop, then what is done is kept without it.
static void end_in_time(struct guard *guard, double seconds) {
    double limit = guard->options.stop_seconds;
    pthread_mutex_lock(&guard->lock);
    if (seconds > 0.5 * limit && guard->attached && !guard->gave_up) {
        guard->gave_up = true;
        guard->writer.stop(guard->writer.writer);
    }
    if (seconds > limit && !guard->ended) {
        const char *reason = !guard->attached   ? "stopped by a signal during start-up"
                             : guard->in_flight ? "stopped by a signal; the batch in flight is dropped"
                                                : "stopped by a signal";
        let_writer_end(guard, LAST_SECONDS);
        log_write(guard->options.log, LOG_LEVEL_WARN, "%s", reason);
        leave(guard, STATUS_STOPPED, reason);
    }
    if (seconds > limit + FAREWELL_SECONDS && guard->ended && guard->farewell != NULL) {
        end_closing(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

// Negative where the host's processors do not compute.
static double read_clock(const struct guard *guard) {
    if (guard->phase == GUARD_FILES) {
        return clock_process_seconds();
    }
    return guard->options.clock == NULL ? -1 : guard->options.clock(guard->options.model);
}

static void follow_clock(struct guard *guard, double passed) {
    double now = read_clock(guard);
    bool files = guard->phase == GUARD_FILES;
    guard->still += passed;
    if (now > guard->clock_before + (files ? FILES_MOVE : CLOCK_MOVES)) {
        guard->clock_before = now;
        guard->still = 0;
    } else if (files) {
        guard->clock_before = now;
    }
}

// Seconds without progress that end a phase.
static double phase_limit(const struct guard *guard) {
    return fmax(guard->predicted, guard->options.phase_seconds);
}

// Threads that compute on this host and get little of it are slow, not hung.
static bool is_hung(const struct guard *guard) {
    bool is_phase = guard->phase != GUARD_NO_PHASE;
    double limit = is_phase ? phase_limit(guard) : HUNG_FACTOR * guard->predicted;
    bool late = waited(guard) > limit && (is_phase || guard->elapsed > guard->options.hung_seconds);
    if (guard->phase == GUARD_FILES) {
        return late;
    }
    return late && (guard->clock_before < 0 || guard->still > guard->options.hung_seconds ||
                    guard->clock_before - guard->clock_begun > limit);
}

static void warn_of_batch(struct guard *guard) {
    char on[32];
    log_write(guard->options.log, LOG_LEVEL_WARN,
              "%s %" PRIu64 "%s has been computing for %.1f s; %.1f s were predicted", guard->what,
              guard->batch, on_device(guard, on), guard->elapsed, guard->predicted);
}

static void warn_of_phase(struct guard *guard) {
    log_write(guard->options.log, LOG_LEVEL_WARN,
              "%s has made no progress for %.1f s; after %.0f s it ends the launch (model.load_timeout)",
              guard->what, waited(guard), phase_limit(guard));
}

static bool is_late(const struct guard *guard) {
    double least = 0.5 * guard->options.hung_seconds;
    return guard->phase != GUARD_NO_PHASE
               ? waited(guard) > fmin(least, 0.5 * phase_limit(guard))
               : guard->elapsed > least && guard->elapsed > WARN_FACTOR * guard->predicted;
}

static void watch_batch(struct guard *guard, double passed) {
    pthread_mutex_lock(&guard->lock);
    if (guard->in_flight) {
        double awake = passed < 2 * TICK ? passed : 2 * TICK;
        bool is_phase = guard->phase != GUARD_NO_PHASE;
        guard->elapsed += awake;
        follow_clock(guard, awake);
        if (!guard->warned && is_late(guard)) {
            guard->warned = true;
            is_phase ? warn_of_phase(guard) : warn_of_batch(guard);
        }
        if (is_hung(guard)) {
            is_phase ? end_phase(guard) : end_hung(guard);
        }
    }
    pthread_mutex_unlock(&guard->lock);
}

static void *guard_main(void *context) {
    struct guard *guard = context;
    double before = clock_seconds();
    double asked = 0;
    while (!atomic_load(&guard->finish)) {
        int number = wait_tick(guard);
        double now = clock_seconds();
        if (number != 0) {
            asked = asked == 0 ? now : asked;
            on_signal(guard, number, now - asked);
        }
        if (asked > 0) {
            end_in_time(guard, now - asked);
        }
        watch_batch(guard, now - before);
        before = now;
    }
    return NULL;
}

int guard_start(struct guard *guard, const struct guard_options *options, struct error *err) {
    *guard = (struct guard){.options = *options};
    atomic_init(&guard->signal, 0);
    atomic_init(&guard->finish, false);
    pthread_mutex_init(&guard->lock, NULL);
    process_stop_signals(&guard->signals);
    signal(SIGPIPE, SIG_IGN); // a reader of the progress that goes away must not end the run
    pthread_sigmask(SIG_BLOCK, &guard->signals, &guard->previous_mask);
    if (pthread_create(&guard->thread, NULL, guard_main, guard) != 0) {
        return error_set(err, STATUS_INTERNAL, "cannot start the guard thread");
    }
    guard->running = true;
    return STATUS_OK;
}

void guard_attach(struct guard *guard, const struct guard_writer *writer) {
    pthread_mutex_lock(&guard->lock);
    guard->ended = guard->ended || (writer == NULL && guard->attached);
    guard->attached = writer != NULL;
    guard->writer = guard->attached ? *writer : (struct guard_writer){0};
    pthread_mutex_unlock(&guard->lock);
}

void guard_closes(struct guard *guard) {
    if (guard->running) {
        pthread_mutex_lock(&guard->lock);
        guard->attached = false;
        guard->ended = true;
        guard->in_flight = false;
        pthread_mutex_unlock(&guard->lock);
    }
}

void guard_stop(struct guard *guard) {
    if (!guard->running) {
        return;
    }
    atomic_store(&guard->finish, true);
    pthread_join(guard->thread, NULL);
    const struct timespec now = {0};
    // A signal of the last moment: the run has ended, and must not look as if it were killed.
    for (int number; (number = sigtimedwait(&guard->signals, NULL, &now)) > 0;) {
        int none = 0;
        atomic_compare_exchange_strong(&guard->signal, &none, number);
    }
    pthread_sigmask(SIG_SETMASK, &guard->previous_mask, NULL);
    pthread_mutex_destroy(&guard->lock);
    guard->running = false;
}

void guard_set_farewell(struct guard *guard, void (*farewell)(void *context), void *context) {
    pthread_mutex_lock(&guard->lock);
    guard->farewell = farewell;
    guard->farewell_context = context;
    pthread_mutex_unlock(&guard->lock);
}

void guard_set_clock(struct guard *guard, double (*clock)(const struct model *model),
                     const struct model *model) {
    pthread_mutex_lock(&guard->lock);
    guard->options.clock = clock;
    guard->options.model = model;
    pthread_mutex_unlock(&guard->lock);
}

bool guard_stop_requested(const struct guard *guard) {
    return atomic_load(&guard->signal) != 0;
}

const char *guard_signal_name(const struct guard *guard) {
    return process_signal_name(atomic_load(&guard->signal));
}

static void restart(struct guard *guard) {
    guard->elapsed = 0;
    guard->still = 0;
    guard->clock_begun = guard->clock_before = read_clock(guard);
}

void guard_set_device(struct guard *guard, const char *device) {
    pthread_mutex_lock(&guard->lock);
    guard->device = device;
    pthread_mutex_unlock(&guard->lock);
}

static void begin(struct guard *guard, enum guard_phase phase, const char *what, uint64_t batch,
                  double predicted) {
    pthread_mutex_lock(&guard->lock);
    guard->in_flight = true;
    guard->warned = false;
    guard->phase = phase;
    guard->what = what;
    guard->batch = batch;
    guard->predicted = predicted;
    restart(guard);
    pthread_mutex_unlock(&guard->lock);
}

void guard_batch_begins(struct guard *guard, uint64_t batch, double predicted) {
    begin(guard, GUARD_NO_PHASE, "batch", batch, predicted);
}

void guard_canary_begins(struct guard *guard, uint64_t batch, double predicted) {
    begin(guard, GUARD_NO_PHASE, "the canary after batch", batch, predicted);
}

void guard_phase_begins(struct guard *guard, enum guard_phase phase, const char *name, double limit) {
    begin(guard, phase, name, 0, limit);
}

void guard_goes_on(struct guard *guard) {
    pthread_mutex_lock(&guard->lock);
    restart(guard);
    guard->warned = false;
    pthread_mutex_unlock(&guard->lock);
}

void guard_batch_ends(struct guard *guard) {
    pthread_mutex_lock(&guard->lock);
    guard->in_flight = false;
    pthread_mutex_unlock(&guard->lock);
}

void guard_sleep(struct guard *guard, double seconds) {
    double end = clock_seconds() + seconds;
    while (!guard_stop_requested(guard) && clock_seconds() < end) {
        double left = end - clock_seconds();
        clock_sleep(left < TICK ? left : TICK);
    }
}
