// SPDX-License-Identifier: MIT
#include "run/runner.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/size.h"
#include "checkpoints/view.h"
#include "journal/figures.h"
#include "stages/in_flight.h"
#include "stages/writer.h"
#include "start/fill.h"
#include "start/launch.h"

_Static_assert((int)MODEL_DEVICES <= (int)LEDGER_LANES, "the journal has a place for each device");

struct recent { // tokens and their seconds, smoothed over the last batches
    double tokens;
    double seconds;
};

// The stages and what passes between them.
struct run {
    const struct runner_options *options;
    struct launch launch;
    struct feeder feeder;
    struct writer writer;
    struct in_flight in_flight;
    struct runner_summary *summary;
    double began;
    uint64_t tokens_before;                 // sealed when this launch began
    struct recent recent;                   // of all
    struct recent recent_of[MODEL_DEVICES]; // of each of several lanes
    struct ledger_lane lanes[MODEL_DEVICES];
    enum drift_event events[MODEL_DEVICES]; // of each lane: the gravest verdict that is not followed yet
    char device[64];                        // its figures at the last batch, for the progress line
    bool hdf5_failed; // without an end of the run: nothing more may be asked of it in this process
};

// ---- one batch ----

// Tokens and seconds apart: two batches may be noticed in one moment.
static void smooth(struct recent *recent, const struct work *work, double seconds) {
    double kept = recent->seconds == 0 ? 0 : 0.8;
    recent->tokens = kept * recent->tokens + (1 - kept) * (double)work->batch.tokens;
    recent->seconds = kept * recent->seconds + (1 - kept) * seconds;
}

static double rate_of(const struct recent *recent) {
    return recent->seconds > 0 ? recent->tokens / recent->seconds : 0;
}

// "GPU 97 %, 12.3 GB, 250 W": of the first of several devices; empty where none of it is known.
static void describe_device(char *out, size_t size, const struct device_sample *sample) {
    int used = 0;
    out[0] = 0;
    if (sample->utilization != DEVICE_UNKNOWN) {
        used += snprintf(out, size, "GPU %d %%", sample->utilization);
    }
    if (sample->memory_used != DEVICE_UNKNOWN) {
        used += snprintf(out + used, size - (size_t)used, "%s%.1f GB", used == 0 ? "GPU " : ", ",
                         (double)sample->memory_used * 1e-9);
    }
    if (sample->power != DEVICE_UNKNOWN) {
        snprintf(out + used, size - (size_t)used, "%s%.0f W", used == 0 ? "GPU " : ", ", sample->power);
    }
}

static void show_progress(struct run *run, bool now) {
    const struct survey *survey = &run->launch.inputs.survey;
    char note[64];
    const struct journal_counts counts = journal_counts(&run->launch.journal);
    uint64_t tokens = survey->totals.tokens;
    if (run->launch.inputs.retries) { // on top of those that are sealed
        tokens = run->tokens_before + run->launch.inputs.retry.totals.tokens;
    }
    uint64_t left = tokens > counts.tokens ? tokens - counts.tokens : 0;
    double rate = rate_of(&run->recent);
    snprintf(note, sizeof note, "%" PRIu64 " shards sealed%s", counts.sealed,
             counts.failed > 0 ? ", some failed" : "");
    struct display_state state = {.stage = "running",
                                  .done = counts.problems,
                                  .all = survey->totals.problems,
                                  .unit = "problems",
                                  .rate = rate,
                                  .seconds_left = rate > 0 ? (double)left / rate : 0,
                                  .note = note,
                                  .device = run->device[0] == 0 ? NULL : run->device};
    display_update(&run->launch.display, &state, now);
}

// One of several lanes, whose sweeps are of one batch: by the lane's own seconds.
static void count_lane(struct run *run, const struct work *work, double seconds) {
    const struct model *model = run->launch.inputs.model;
    size_t lanes = model_lanes(model);
    struct ledger_lane *lane = &run->lanes[work->lane];
    if (lanes > 1) {
        lane->batches++;
        smooth(&run->recent_of[work->lane], work, seconds);
        lane->tokens_per_second = rate_of(&run->recent_of[work->lane]);
        figures_take(&lane->figures, &work->sample, &work->times);
        journal_device_of(&run->launch.journal, work->lane, lanes, lane);
    }
}

// Several lanes have names before their first batches.
static void name_lanes(struct run *run) {
    const struct model *model = run->launch.inputs.model;
    size_t lanes = model_lanes(model);
    for (size_t i = 0; i < lanes && lanes > 1; i++) {
        struct ledger_lane *lane = &run->lanes[i];
        snprintf(lane->name, sizeof lane->name, "%s", model_lane_name(model, i));
        journal_device_of(&run->launch.journal, i, lanes, lane);
    }
}

static void count_batch(struct run *run, const struct work *work, const struct sweep *sweep) {
    smooth(&run->recent, work, work->compute_seconds + work->wait_seconds);
    count_lane(run, work, sweep->seconds);
    run->summary->launch_batches++;
    run->summary->launch_tokens += work->batch.tokens;
    run->summary->wait_seconds += work->wait_seconds;
    run->summary->launch_seconds = clock_seconds() - run->began;
    journal_drift(&run->launch.journal, drift_watches_state(&run->launch.watches), work->score);
    journal_rate(&run->launch.journal, rate_of(&run->recent));
    if (work->lane == 0) {
        describe_device(run->device, sizeof run->device, &work->sample);
    }
    show_progress(run, false);
}

static int stop_reason(const struct run *run, struct error *err) {
    if (guard_stop_requested(&run->launch.guard)) {
        return error_set(err, STATUS_STOPPED, "stopped by %s; run the same command to resume",
                         guard_signal_name(&run->launch.guard));
    }
    uint64_t stop_after = run->options->stop_after;
    if (stop_after > 0 && run->summary->launch_batches >= stop_after) {
        return error_set(err, STATUS_STOPPED,
                         "stopped after %" PRIu64 " batches as asked; run the same command to resume",
                         stop_after);
    }
    return STATUS_OK;
}

static int hand_over(struct run *run, struct work *work, struct error *err) {
    if (writer_put(&run->writer, work)) {
        return STATUS_OK;
    }
    // The writer stopped: by the stop that was asked for, or by an error of its own, which end_stages
    // reports.
    TRY(stop_reason(run, err));
    return error_set(err, STATUS_STOPPED, "the writer stopped");
}

// Waits for the oldest sweep, judges its time and hands its batches to the writer. The verdict is noted.
static int complete(struct run *run, struct error *err) {
    const struct sweep *sweep;
    double score;
    TRY(in_flight_complete(&run->in_flight, &sweep, err));
    const struct drift_batch batch = {.number = sweep->works[sweep->count - 1]->number,
                                      .tokens = sweep->tokens,
                                      .squared_lengths = sweep->squared_lengths,
                                      .parts = sweep->parts,
                                      .predicted_seconds = sweep->predicted_seconds,
                                      .seconds = sweep->seconds,
                                      .times = &sweep->times,
                                      .sample = &sweep->sample};
    enum drift_event verdict = drift_watch_batch(&run->launch.watches.lanes[sweep->lane], &batch, &score);
    enum drift_event *event = &run->events[sweep->lane];
    *event = verdict > *event ? verdict : *event;
    for (size_t i = 0; i < sweep->count; i++) {
        sweep->works[i]->score = score;
        count_batch(run, sweep->works[i], sweep);
        TRY(hand_over(run, sweep->works[i], err));
    }
    return STATUS_OK;
}

// Everything that is on the devices, in order.
static int drain_devices(struct run *run, struct error *err) {
    while (run->in_flight.count > 0) {
        TRY(complete(run, err));
    }
    return STATUS_OK;
}

// And what is gathered.
static int drain(struct run *run, struct error *err) {
    TRY(drain_devices(run, err));
    TRY(in_flight_flush(&run->in_flight, err));
    return drain_devices(run, err);
}

static bool has_verdict(const struct run *run) {
    for (size_t i = 0; i < run->launch.watches.count; i++) {
        if (run->events[i] != DRIFT_STEADY) {
            return true;
        }
    }
    return false;
}

// What a verdict asks for comes when the devices are idle and all is handed over: canary runs take time, and
// need the device for themselves.
static int follow(struct run *run, struct error *err) {
    if (!has_verdict(run)) {
        return STATUS_OK;
    }
    TRY(drain(run, err));
    for (size_t i = 0; i < run->launch.watches.count; i++) {
        enum drift_event event = run->events[i];
        run->events[i] = DRIFT_STEADY;
        if (event != DRIFT_STEADY) {
            TRY(drift_watch_follow(&run->launch.watches.lanes[i], event, err));
        }
    }
    return STATUS_OK;
}

static int complete_one(struct run *run, struct error *err) {
    TRY(complete(run, err));
    return follow(run, err);
}

static int drain_all(struct run *run, struct error *err) {
    TRY(drain(run, err));
    return follow(run, err);
}

// The oldest sweep leaves if it is done, or the only one to wait for.
static int look_on(struct run *run, struct error *err) {
    if (in_flight_ready(&run->in_flight)) {
        return complete_one(run, err);
    }
    in_flight_rest(&run->in_flight);
    return STATUS_OK;
}

static int make_room(struct run *run, struct error *err) {
    while (in_flight_full(&run->in_flight)) {
        TRY(look_on(run, err));
    }
    return STATUS_OK;
}

// No more batches are wanted than are there.
static bool is_last_asked(const struct run *run) {
    uint64_t there = run->summary->launch_batches + in_flight_batches(&run->in_flight);
    return run->options->stop_after > 0 && there >= run->options->stop_after;
}

// A text in slices may need more of a sweep than is left beside the batches that are gathered.
static int make_room_beside(struct run *run, const struct work *work, struct error *err) {
    if (in_flight_takes(&run->in_flight, work)) {
        return STATUS_OK;
    }
    TRY(in_flight_flush(&run->in_flight, err));
    return make_room(run, err);
}

// Puts a work's batch on the device; completes the oldest when that fills it. A work with nothing to compute
// goes to the writer in its turn, behind those on the device.
static int take(struct run *run, struct work *work, struct error *err) {
    if (work->computes && !writer_has(&run->writer, work)) {
        TRY(make_room(run, err)); // a look at the devices may have found a failure
        TRY(make_room_beside(run, work, err));
        TRY(in_flight_add(&run->in_flight, work, err));
        return is_last_asked(run) ? drain_all(run, err) : make_room(run, err);
    }
    TRY(drain(run, err));
    TRY(hand_over(run, work, err));
    return follow(run, err);
}

// One turn: the next work if there is one, without waiting for it while a sweep is on the device, whose end
// must not be noticed late. *more: false after the last.
static int turn(struct run *run, bool *more, struct error *err) {
    struct work *work = NULL;
    double waited = clock_seconds();
    if (run->in_flight.count == 0) {
        work = feeder_next(&run->feeder);
    } else if (!feeder_try_next(&run->feeder, &work)) {
        return look_on(run, err);
    }
    if (feeder_pauses(&run->feeder, work)) {
        size_t gathered = in_flight_gathered(&run->in_flight);
        bool waits_for_these = gathered > 0 && feeder_handed(&run->feeder) == gathered;
        return waits_for_these ? drain_all(run, err) : STATUS_OK;
    }
    if (work != NULL) {
        work->wait_seconds = clock_seconds() - waited;
        return take(run, work, err);
    }
    *more = run->in_flight.count > 0 || in_flight_gathered(&run->in_flight) > 0;
    return *more ? drain_all(run, err) : STATUS_OK;
}

// The stage loop: until the last work, a stop, drift or an error.
static int turn_over(struct run *run, struct error *err) {
    bool more = true;
    while (more) {
        TRY(stop_reason(run, err));
        TRY(turn(run, &more, err));
    }
    return STATUS_OK;
}

static int compute_all(struct run *run, struct error *err) {
    run->began = clock_seconds();
    in_flight_open(&run->in_flight, run->launch.inputs.model, &run->launch.limits,
                   &run->launch.watches.lanes[0].cost, &run->launch.guard);
    int status = turn_over(run, err);
    if (status == STATUS_STOPPED) { // what is computed is kept
        struct error drain_err;
        int drained = drain_devices(run, &drain_err);
        if (drained != STATUS_OK && drained != STATUS_STOPPED) {
            *err = drain_err;
            status = drained;
        }
    }
    if (status == STATUS_OK || status == STATUS_STOPPED) {
        drift_watches_end(&run->launch.watches);
    }
    return status;
}

// ---- the run ----

// Of few batches each: enough for those on several devices and the ones behind them.
static size_t feeder_windows(const struct model *model) {
    size_t sweeps = in_flight_sweeps(model, model_sweep_batches(model));
    return size_min(size_max(FEEDER_WINDOWS, sweeps + 1), FEEDER_WINDOWS_MOST);
}

static int start_stages(struct run *run, struct error *err) {
    struct launch *launch = &run->launch;
    struct ledger_position position;
    struct feeder_limits limits = {.plan = inputs_plan_limits(&launch->inputs),
                                   .tokens = launch->limits.tokens,
                                   .rows = launch->limits.rows,
                                   .works = launch->limits.slots -
                                            inputs_canary_slots(&launch->inputs, launch->limits.group),
                                   .windows = feeder_windows(launch->inputs.model)};
    struct writer_options options = {.folder = &launch->folder,
                                     .apart = &launch->apart,
                                     .layout = &launch->layout.shard,
                                     .batches_per_shard = (uint64_t)launch->inputs.job.checkpoint_every,
                                     .disk_reserve = (uint64_t)(launch->inputs.job.disk_reserve_gb * 1e9),
                                     .waiting = launch->retry.list.waiting,
                                     .epoch = launch->journal.epoch,
                                     .journal = &launch->journal,
                                     .log = &launch->log,
                                     .model = launch->inputs.model,
                                     .feeder = &run->feeder};
    TRY(ledger_position(launch->journal.ledger, &position, err));
    TRY(feeder_start(&run->feeder, &limits, launch->inputs.source, launch->inputs.preparer,
                     launch->inputs.retries ? &launch->retry.list : NULL, &position, err));
    TRY(writer_start(&run->writer, &options, launch->has_partial ? &launch->partial : NULL, err));
    const struct guard_writer writer = writer_for_guard(&run->writer);
    run->tokens_before = journal_counts(&launch->journal).tokens;
    guard_attach(&launch->guard, &writer);
    journal_drift(&launch->journal, drift_watches_state(&launch->watches), 0);
    journal_rate(&launch->journal, 0);
    name_lanes(run);
    return journal_stage(&launch->journal, "running", err);
}

// Ends feeder and writer in that order. The first error counts; a stop gives way to an error of the writer.
static int end_stages(struct run *run, int status, struct error *err) {
    struct error writer_err;
    struct error feeder_err;
    bool complete = false;
    int feeder_status = feeder_finish(&run->feeder, &complete, &feeder_err);
    if (feeder_status != STATUS_OK && status == STATUS_OK) {
        *err = feeder_err;
        status = feeder_status;
    }
    bool unchanged =
        !complete || run->feeder.problems_sha256[0] == 0 ||
        strcmp(run->feeder.problems_sha256, run->launch.inputs.survey.totals.problems_sha256) == 0;
    if (status == STATUS_OK && !unchanged) {
        status = error_set(err, STATUS_DATA, "the problem database changed while the run was reading it");
    }
    int writer_status = writer_finish(&run->writer, complete && status == STATUS_OK, &writer_err);
    if (writer_status != STATUS_OK && status == STATUS_DRIFT) {
        log_write(&run->launch.log, LOG_LEVEL_ERROR, "%s",
                  err->message); // the verdict; what could not be kept ends the run
    }
    if (writer_status != STATUS_OK &&
        (status == STATUS_OK || status == STATUS_STOPPED || status == STATUS_DRIFT)) {
        *err = writer_err;
        status = writer_status;
    }
    if (status == STATUS_OK && guard_stop_requested(&run->launch.guard) &&
        !writer_is_complete(&run->writer)) {
        status = error_set(err, STATUS_STOPPED, "stopped by %s; run the same command to resume",
                           guard_signal_name(&run->launch.guard));
    }
    if (status == STATUS_OK && !complete && !writer_is_complete(&run->writer)) { // not by a signal
        status = error_set(err, STATUS_STOPPED,
                           "the problems could not be read to their end; run the same command to resume");
    }
    guard_attach(&run->launch.guard, NULL);
    return status;
}

static int judge_failures(struct run *run, struct error *err) {
    struct runner_summary *summary = run->summary;
    int64_t allowed = run->launch.inputs.job.max_failed;
    if (!summary->totals.finished) {
        return error_set(err, STATUS_INTERNAL,
                         "the run ended well, and the ledger does not say that it is finished");
    }
    run->launch.finished = true;
    if (summary->totals.done == 0 && !run->launch.inputs.job.allow_empty) {
        return error_set(
            err, STATUS_DATA,
            "no problem was done: of %" PRIu64 ", %" PRIu64 " failed and %" PRIu64
            " were skipped (strata status and the ledger name them; problems.allow_empty: true allows it)",
            summary->problems, summary->totals.failed, summary->totals.skipped);
    }
    if (summary->totals.failed > (uint64_t)allowed) {
        return error_set(err, STATUS_DATA,
                         "every problem is accounted for, but %" PRIu64 " of %" PRIu64
                         " failed; problems.max_failed allows %" PRId64
                         " (strata status and the ledger name them)",
                         summary->totals.failed, summary->problems, allowed);
    }
    return STATUS_OK;
}

// Without the figures nobody knows whether the failures are allowed: no success then.
static int sum_up(struct run *run, int status, struct error *err) {
    struct ledger *ledger = run->launch.journal.ledger;
    struct error sum_err;
    int summed = ledger == NULL ? STATUS_OK : ledger_totals(ledger, &run->summary->totals, &sum_err);
    if (ledger != NULL && summed == STATUS_OK) {
        summed = ledger_retry_counts(ledger, &run->summary->failures, &sum_err);
    }
    if (status == STATUS_OK && summed != STATUS_OK) {
        *err = sum_err;
        return summed;
    }
    return status == STATUS_OK ? judge_failures(run, err) : status;
}

// Of the run's sealed batches, as `strata status` and `log` say it too. A word for people: where the ledger
// cannot be asked, that is told elsewhere.
static void tell_fill(struct run *run) {
    struct launch *launch = &run->launch;
    const struct ledger_totals *totals = &run->summary->totals;
    struct fill fill;
    struct error ignored;
    if (launch->limits.tokens == 0 || totals->batches == 0 || !fill_matters(&launch->inputs) ||
        fill_of_ledger(&fill, launch->journal.ledger, launch->limits.tokens, &ignored) != STATUS_OK) {
        return;
    }
    log_write(&launch->log, LOG_LEVEL_INFO,
              "%" PRIu64 " batches sealed: the device computed %" PRIu64 " tokens for %" PRIu64
              " of texts, %.1f %% full",
              totals->batches, fill.device_tokens, totals->tokens, 100 * fill.share);
}

// A convenience: without it the run is complete all the same. HDF5 may be broken then, and must not be asked
// to clean up.
static void write_view(struct run *run) {
    bool written;
    struct error err;
    if (view_write(run->launch.folder.path, run->launch.journal.ledger, &written, &err) != STATUS_OK) {
        run->hdf5_failed = true;
        log_write(&run->launch.log, LOG_LEVEL_WARN, "latents.h5 was not written: %s", err.message);
    } else if (!written && run->writer.position.shards > VIEW_SHARDS) {
        log_write(&run->launch.log, LOG_LEVEL_INFO,
                  "latents.h5 is not written for %" PRIu64
                  " shards, more than the %d it can show: " VIEW_INSTEAD,
                  run->writer.position.shards, VIEW_SHARDS);
    }
}

// Of the set, by the part that is finished last, or by any that is started again when it is missing.
static void write_set_view(struct run *run, bool worked) {
    const struct part_of_set *part = &run->launch.inputs.part;
    bool written;
    char path[PATH_SIZE];
    struct error err;
    if (part->number.count == 0 || !run->launch.finished || run->hdf5_failed) {
        return;
    }
    int status = run_folder_file(path, part->folder, "latents.h5", &err);
    if (status == STATUS_OK && (worked || !file_exists(path))) {
        status = view_write_set(part->folder, &written, &err);
    }
    if (status != STATUS_OK) {
        run->hdf5_failed = true;
        log_write(&run->launch.log, LOG_LEVEL_WARN, "latents.h5 of all parts was not written: %s",
                  err.message);
    }
}

// A convenience too: without it a later retry refuses mended rows.
static void keep_hash(struct run *run) {
    struct error err;
    if (run->launch.finished && run->summary->totals.failed > 0 &&
        retry_keep_hash(&run->launch.inputs, run->launch.journal.ledger, &err) != STATUS_OK) {
        log_write(&run->launch.log, LOG_LEVEL_WARN, "corrected rows could not be retried: %s", err.message);
    }
}

static int run_stages(struct run *run, struct error *err) {
    int status = start_stages(run, err);
    if (status == STATUS_OK) {
        status = compute_all(run, err);
    }
    double computed = clock_seconds();
    status = end_stages(run, status, err);
    run->summary->seal_seconds = clock_seconds() - computed;
    show_progress(run, true);
    if (status == STATUS_OK || status == STATUS_STOPPED) {
        write_view(run);
    }
    feeder_destroy(&run->feeder);
    writer_destroy(&run->writer);
    return status;
}

// Whether the run, finished by this launch, has failed problems that are to be tried again.
static bool retry_is_due(const struct run *run) {
    const struct launch *launch = &run->launch;
    const struct retry_wish *wish = &run->options->retry;
    const struct runner_summary *summary = run->summary;
    return wish->asked && launch->finished && !launch->inputs.retries &&
           (wish->scope == RETRY_ALL ? summary->totals.failed : summary->failures.transient) > 0;
}

static int refuse_retry(const char *why, struct error *err) {
    return error_set(err, STATUS_STOPPED,
                     "stopped by %s before failed problems were retried; run the same command to resume",
                     why);
}

// *more: failed problems are to be tried again, by a launch of its own.
static int run_launch(const struct runner_options *options, struct runner_summary *summary, bool *more,
                      struct error *err) {
    const struct launch_options launch = {.inputs = options->inputs,
                                          .display = options->display,
                                          .retry = options->retry,
                                          .from_copy = options->from_copy};
    struct run run = {.options = options, .summary = summary};
    *summary = (struct runner_summary){0};
    int status = launch_open(&run.launch, &launch, err);
    memcpy(summary->folder, run.launch.folder.path, sizeof summary->folder);
    bool works = status == STATUS_OK && !run.launch.finished;
    if (works) {
        status = run_stages(&run, err);
    }
    summary->problems = run.launch.inputs.survey.totals.problems;
    summary->memory_peak = process_memory_peak();
    status = sum_up(&run, status, err);
    tell_fill(&run);
    summary->retried = run.launch.inputs.retries;
    keep_hash(&run);
    *more = retry_is_due(&run);
    if (*more && (guard_stop_requested(&run.launch.guard) || run.hdf5_failed)) {
        status =
            refuse_retry(run.hdf5_failed ? "an error of HDF5" : guard_signal_name(&run.launch.guard), err);
        *more = false;
    }
    bool writes_view = !*more && (works || status == STATUS_OK);
    int ended = launch_end(&run.launch, status, err);
    *more = *more && ended == status;
    status = ended;
    if (writes_view) { // whoever looks at all parts then sees that this one is finished
        write_set_view(&run, works);
    }
    launch_close(&run.launch, status, err);
    if (*more && guard_stop_requested(&run.launch.guard)) { // while the launch was closed
        *more = false;
        return refuse_retry(guard_signal_name(&run.launch.guard), err);
    }
    return status;
}

// A retry is a launch of its own: its batches have other sizes, and a run that was stopped before it is in
// the same state.
int runner_run(const struct runner_options *options, struct runner_summary *summary, struct error *err) {
    bool more = false;
    int status = run_launch(options, summary, &more, err);
    if (!more) {
        return status;
    }
    const struct runner_summary first = *summary;
    status = run_launch(options, summary, &more, err);
    if (summary->problems == 0) { // it did not come to look at the run
        *summary = first;
    }
    return status;
}
