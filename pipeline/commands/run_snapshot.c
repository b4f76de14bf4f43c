// SPDX-License-Identifier: MIT
#include "commands/run_snapshot.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "checkpoints/device_trail.h"
#include "checkpoints/run_folder.h"
#include "start/fill.h"
#include "start/inputs.h"
#include "start/resident.h"
#include "start/reuse.h"

const char *run_state_name(enum run_state state) {
    static const char *const names[] = {
        [RUN_NEW] = "new", [RUN_RUNNING] = "running", [RUN_KILLED] = "killed", [RUN_ENDED] = "ended"};
    return names[state];
}

struct launches {
    struct run_snapshot *snapshot;
    struct ledger *ledger;
    struct error *err;
    struct ledger_launch_record last;
    uint64_t worked;
    double ended; // seconds of those that worked, but for the last one if it is open
    bool has_start;
    struct ledger_progress start;
};

static double between(int64_t start, int64_t end) {
    return end > start ? (double)end - (double)start : 0;
}

// The launch before was killed if it is open still: it worked until its last commit, as far as is known.
static int close_killed(struct launches *launches) {
    const struct ledger_launch_record *killed = &launches->snapshot->launch;
    int64_t at;
    if (launches->worked == 0 || killed->ended != 0) {
        return STATUS_OK;
    }
    TRY(ledger_launch_committed(launches->ledger, killed->epoch, &at, launches->err));
    launches->ended += between(killed->started, at);
    return STATUS_OK;
}

static int collect_launch(void *context, const struct ledger_launch_record *launch) {
    struct launches *launches = context;
    launches->last = *launch;
    launches->snapshot->launches++;
    if (launch->worked) {
        TRY(close_killed(launches));
        launches->snapshot->launch = *launch;
        launches->worked++;
        launches->ended += between(launch->started, launch->ended);
    }
    return STATUS_OK;
}

// A launch that came to an end, or was killed, before it worked on the run says nothing of the run, unless no
// other ever did.
static void choose_launch(struct run_snapshot *snapshot, const struct launches *launches, bool busy) {
    const struct ledger_launch_record *last = &launches->last;
    bool at_start = snapshot->launches > 0 && !last->worked && last->ended == 0 && busy;
    snapshot->refused = snapshot->launches > 0 && !last->worked && !at_start && launches->worked > 0;
    if (snapshot->refused) {
        snapshot->refusal = *last;
    } else if (snapshot->launches > 0) {
        snapshot->launch = *last;
    }
    const struct ledger_progress *start = &launches->start;
    if (launches->has_start && start->epoch == snapshot->launch.epoch &&
        (!snapshot->has_progress || snapshot->progress.epoch < start->epoch)) {
        snapshot->progress = *start;
        snapshot->has_progress = true;
    }
}

static int read_paths(struct run_snapshot *snapshot, struct ledger *ledger, struct error *err) {
    struct device_trail trail;
    int status;
    TRY_TO(done, status = device_trail_read(&trail, ledger, err));
    if (device_trail_changed(&trail)) {
        status = device_trail_describe(&trail, &snapshot->cpu_paths, err);
    }
done:
    device_trail_destroy(&trail);
    return status;
}

static int read_part(struct buffer *out, const struct identity *identity, const char *key,
                     struct error *err) {
    const char *value = identity_get(identity, key);
    return value == NULL ? STATUS_OK : buffer_printf(out, err, "%s", value);
}

static int read_weights(struct run_snapshot *snapshot, struct ledger *ledger, struct error *err) {
    struct identity identity = {0};
    bool found;
    int status;
    TRY_TO(done, status = ledger_identity(ledger, &identity, &found, err));
    if (found) {
        TRY_TO(done, status = read_part(&snapshot->weights, &identity, IDENTITY_WEIGHTS, err));
        status = read_part(&snapshot->adapter, &identity, IDENTITY_ADAPTER, err);
    }
done:
    identity_destroy(&identity);
    return status;
}

int run_snapshot_batch_tokens(uint64_t *tokens, struct ledger *ledger, struct error *err) {
    struct buffer text = {0};
    bool found;
    *tokens = 0;
    int status;
    TRY_TO(done, status = ledger_note(ledger, FILL_NOTE, &text, &found, err));
    if (found && sscanf(text.data, "%" SCNu64, tokens) != 1) {
        *tokens = 0;
    }
done:
    buffer_destroy(&text);
    return status;
}

// On a GPU: texts longer than its shape.
static bool has_long_texts(const struct run_snapshot *snapshot) {
    return snapshot->batch_tokens > 0 && snapshot->survey.longest > snapshot->batch_tokens;
}

// All that is read belongs to one moment of the ledger.
static int read_moment(struct run_snapshot *snapshot, struct launches *launches, struct ledger *ledger,
                       struct error *err) {
    bool found;
    launches->ledger = ledger;
    launches->err = err;
    TRY(ledger_read_begin(ledger, err));
    TRY(ledger_survey(ledger, &snapshot->survey, &snapshot->has_survey, err));
    TRY(ledger_progress(ledger, &snapshot->progress, &snapshot->has_progress, err));
    TRY(ledger_start_progress(ledger, &launches->start, &launches->has_start, err));
    TRY(ledger_each_launch(ledger, collect_launch, launches, err));
    TRY(ledger_lanes(ledger, snapshot->progress.epoch, snapshot->lanes, &snapshot->lane_count, err));
    TRY(read_paths(snapshot, ledger, err));
    TRY(read_weights(snapshot, ledger, err));
    TRY(ledger_note(ledger, RESIDENT_NOTE, &snapshot->residency, &found, err));
    TRY(run_snapshot_batch_tokens(&snapshot->batch_tokens, ledger, err));
    TRY(predicted_read(&snapshot->predicted, ledger, err));
    TRY(ledger_totals(ledger, &snapshot->totals, err));
    TRY(reuse_text_tokens(ledger, &snapshot->text_tokens, &found, err));
    TRY(ledger_retry_counts(ledger, &snapshot->failures, err));
    if (has_long_texts(snapshot)) {
        TRY(ledger_slices(ledger, snapshot->batch_tokens, &snapshot->filled_shapes, err));
    }
    return ledger_read_end(ledger, err);
}

static int read_ledger(struct run_snapshot *snapshot, struct launches *launches, const char *folder,
                       struct error *err) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, folder, err));
    TRY_TO(done, status = buffer_printf(&snapshot->elsewhere, err, "%s", ledger_elsewhere(ledger)));
    status = read_moment(snapshot, launches, ledger, err);
done:
    ledger_close(ledger);
    return status;
}

static enum run_state find_state(const struct run_snapshot *snapshot, bool busy) {
    if (snapshot->launches == 0) {
        return RUN_NEW;
    }
    if (snapshot->launch.ended != 0) {
        return RUN_ENDED;
    }
    return busy ? RUN_RUNNING : RUN_KILLED;
}

// The open launch: to now while it runs; to its last sign of life when it was killed.
static double open_seconds(const struct run_snapshot *snapshot) {
    int64_t until = snapshot->state == RUN_RUNNING  ? snapshot->now
                    : snapshot->state == RUN_KILLED ? snapshot->progress.updated
                                                    : 0;
    return until > 0 ? between(snapshot->launch.started, until) : 0;
}

static void derive_speed(struct run_snapshot *snapshot) {
    const struct ledger_totals *totals = &snapshot->totals;
    const struct ledger_progress *progress = &snapshot->progress;
    bool live = snapshot->state == RUN_RUNNING && progress->batches > totals->batches;
    // What a killed launch computed and did not seal will be computed again.
    snapshot->batches = live ? progress->batches : totals->batches;
    snapshot->tokens = live ? progress->tokens : totals->tokens;
    if (has_long_texts(snapshot)) {
        snapshot->filled_tokens = totals->tokens;
    } else {
        snapshot->filled_tokens = snapshot->tokens;
        snapshot->filled_shapes = snapshot->batches;
    }
    if (progress->seconds > 0) {
        snapshot->overall_rate = (double)progress->tokens / progress->seconds;
    } else if (totals->compute_seconds > 0) {
        snapshot->overall_rate = (double)totals->tokens / totals->compute_seconds;
    }
    double rate = snapshot->state == RUN_RUNNING && progress->tokens_per_second > 0
                      ? progress->tokens_per_second
                      : snapshot->overall_rate;
    if (snapshot->has_survey && !totals->finished && rate > 0 && isfinite(rate)) {
        uint64_t left =
            snapshot->survey.tokens > snapshot->tokens ? snapshot->survey.tokens - snapshot->tokens : 0;
        snapshot->has_eta = true;
        snapshot->eta = (double)left / rate;
    }
}

static void derive_counts(struct run_snapshot *snapshot) {
    const struct ledger_totals *totals = &snapshot->totals;
    const struct ledger_survey *survey = &snapshot->survey;
    uint64_t settled = totals->done + totals->failed + totals->skipped;
    snapshot->planned_batches =
        survey->batches > snapshot->totals.batches ? survey->batches : snapshot->totals.batches;
    snapshot->remaining = survey->problems > settled ? survey->problems - settled : 0;
    if (snapshot->has_survey && (totals->finished || survey->rows <= totals->rows)) {
        snapshot->has_planned = true;
    } else if (snapshot->has_survey && totals->rows > 0) {
        snapshot->has_planned = true;
        snapshot->planned = (uint64_t)((double)(survey->rows - totals->rows) *
                                       ((double)totals->bytes / (double)totals->rows));
    }
}

int run_snapshot_take(struct run_snapshot *snapshot, const char *folder, struct error *err) {
    *snapshot = (struct run_snapshot){.now = clock_unix()};
    struct launches launches = {.snapshot = snapshot};
    // The lock is looked at first: a run that ends in between is then seen with its end.
    bool busy = run_folder_busy(folder);
    TRY(read_ledger(snapshot, &launches, folder, err));
    TRY(file_space(folder, &snapshot->disk_free, err));
    busy = busy || snapshot->elsewhere.size > 0; // whether it was killed cannot be seen from here
    choose_launch(snapshot, &launches, busy);
    snapshot->state = find_state(snapshot, busy);
    snapshot->elapsed = launches.ended + open_seconds(snapshot);
    derive_counts(snapshot);
    derive_speed(snapshot);
    return STATUS_OK;
}

void run_snapshot_free(struct run_snapshot *snapshot) {
    buffer_destroy(&snapshot->cpu_paths);
    buffer_destroy(&snapshot->weights);
    buffer_destroy(&snapshot->adapter);
    buffer_destroy(&snapshot->elsewhere);
    buffer_destroy(&snapshot->residency);
}
