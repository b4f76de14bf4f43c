#include "extract/launch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/printable.h"
#include "extract/algorithms.h"
#include "extract/batching.h"
#include "extract/device_choice.h"
#include "extract/fill.h"
#include "extract/fit.h"
#include "extract/folder_job.h"
#include "extract/measure.h"
#include "extract/resident.h"

#define STOP_SECONDS 15.0
#define TOGETHER_SECONDS 3.0
#define HUNG_SECONDS 60.0
#define KEEP_SECONDS 2.0 // between records of a load's progress

// ---- stages that status shows ----

static int heed_stop(const struct launch *launch, struct error *err) {
    return guard_stop_requested(&launch->guard)
               ? error_set(err, STATUS_STOPPED, "stopped by %s before the first batch",
                           guard_signal_name(&launch->guard))
               : STATUS_OK;
}

// What ends the reading of the problems knows of no signal.
static int name_stop(const struct launch *launch, int status, struct error *err) {
    return status == STATUS_STOPPED && guard_stop_requested(&launch->guard) ? heed_stop(launch, err) : status;
}

static int enter_stage(struct launch *launch, const char *stage, struct error *err) {
    if (heed_stop(launch, err) != STATUS_OK) {
        return err->status;
    }
    snprintf(launch->live.stage, sizeof launch->live.stage, "%s", stage);
    launch->live.epoch = launch->epoch;
    launch->live.updated = clock_unix();
    launch->live.memory_bytes = measure_memory();
    log_write(&launch->log, LOG_LEVEL_INFO, "%s", stage);
    return ledger_set_progress(launch->ledger, &launch->live, err);
}

// ---- how it ended ----

static const char *last_stage(const struct launch *launch, int status) {
    switch (status) {
    case STATUS_OK:
        return "finished";
    case STATUS_STOPPED:
        return "stopped";
    case STATUS_DRIFT:
        return "drift";
    default:
        // Too many failed problems end a run that is otherwise complete.
        return launch->finished ? "finished" : "failed";
    }
}

static void record_end(struct launch *launch, int status, const struct error *err) {
    struct error ignored;
    const char *reason = status == STATUS_OK ? "every problem is accounted for" : err->message;
    snprintf(launch->live.stage, sizeof launch->live.stage, "%s", last_stage(launch, status));
    launch->live.epoch = launch->epoch;
    launch->live.updated = clock_unix();
    // An end that cannot be recorded shows as a launch that was killed: the truth is in the shards and
    // commits before it. An error has its own line on the terminal, and needs no second.
    enum log_level level = status == STATUS_OK ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
    if (ledger_set_progress(launch->ledger, &launch->live, &ignored) != STATUS_OK ||
        ledger_launch_end(launch->ledger, error_exit_code(status), reason, &ignored) != STATUS_OK) {
        log_write(&launch->log, level, "the end of this launch was not recorded: %s", ignored.message);
    }
}

// The guard's thread ends the process: a batch is in flight that will not be waited for. Before the first
// batch the main thread may be in the ledger; then this record waits for it or is refused, and the launch
// shows as killed.
static void leave(void *context, const struct writer *writer, int status, const char *reason) {
    struct launch *launch = context;
    struct error err;
    if (launch->epoch == 0) {
        return;
    }
    error_set(&err, status, "%s", reason);
    if (writer != NULL) {
        launch->live = writer->live;
    }
    ledger_hurry(launch->ledger);
    record_end(launch, status, &err);
}

// ---- steps ----

static bool is_stop_asked(void *context) {
    return guard_stop_requested(&((struct launch *)context)->guard);
}

static void say_while_reading(void *context, const char *text) {
    log_write(&((struct launch *)context)->log, LOG_LEVEL_WARN, "%s", text);
}

static void show_reading(void *context, uint64_t rows) {
    struct display_state state = {.stage = "reading", .done = rows, .unit = "problems"};
    display_update(&((struct launch *)context)->display, &state, false);
}

// Signals have waited since the process began; from here on they are heard.
static int hear_signals(struct launch *launch, struct error *err) {
    struct guard_options guard = {.log = &launch->log,
                                  .stop_seconds = STOP_SECONDS,
                                  .together_seconds = TOGETHER_SECONDS,
                                  .hung_seconds = HUNG_SECONDS,
                                  .folder = launch->folder.path,
                                  .leave = leave,
                                  .context = launch};
    int status = log_open(&launch->log, NULL, err);
    launch->log_open = status == STATUS_OK;
    return status == STATUS_OK ? guard_start(&launch->guard, &guard, err) : status;
}

static int open_folder(struct launch *launch, struct error *err) {
    const struct job *job = &launch->inputs.job;
    char path[PATH_SIZE];
    int status = heed_stop(launch, err);
    if (status == STATUS_OK) {
        status = run_folder_open(&launch->folder, job->output, job->force_network_output, err);
    }
    if (status == STATUS_OK) {
        status = run_folder_file(path, launch->folder.path, "run.log", err);
    }
    if (status == STATUS_OK) {
        status = log_add_file(&launch->log, path, err);
    }
    return status == STATUS_OK ? heed_stop(launch, err) : status;
}

static int open_ledger(struct launch *launch, struct error *err) {
    struct recovery_report report;
    bool found = false;
    int status = ledger_open(&launch->ledger, launch->folder.path, err);
    if (status == STATUS_OK) { // what status shows until there is news
        status = ledger_progress(launch->ledger, &launch->live, &found, err);
        launch->live.device = (struct ledger_device){0}; // another launch's, of another moment
    }
    if (status == STATUS_OK) {
        status = ledger_launch(launch->ledger, (int)launch->inputs.job.threads, &launch->epoch, err);
    }
    if (status == STATUS_OK) {
        status = recovery_run(launch->folder.path, launch->ledger, &launch->log, &report, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = ledger_partial(launch->ledger, &launch->partial, &launch->partial_record, &found, err);
    launch->has_partial = status == STATUS_OK && found && report.partial_usable;
    if (status == STATUS_OK && found && !report.partial_usable) {
        log_write(&launch->log, LOG_LEVEL_WARN,
                  "the partial shard %s is missing or damaged: its batches are computed again",
                  launch->partial.name);
        status = ledger_drop_partial(launch->ledger, err);
    }
    return status;
}

// An entry for each line.
static void log_lines(struct log *log, enum log_level level, const struct buffer *lines) {
    const char *at = lines->data == NULL ? "" : lines->data;
    while (*at != 0) {
        int length = (int)strcspn(at, "\n");
        log_write(log, level, "%.*s", length, at);
        at += length + (at[length] == '\n');
    }
}

// Until the rows are known, mended ones may make more of it than the ledger tells.
static int find_retry(struct launch *launch, struct error *err) {
    struct retry *retry = &launch->retry;
    int status = retry_find(retry, launch->ledger, &launch->options->retry, err);
    launch->inputs.retries = retry->list.count > 0 || retry->possible;
    return status;
}

static int accept_mended(struct launch *launch, struct error *err) {
    int status = retry_accept_mended(&launch->retry, &launch->inputs, launch->ledger, err);
    launch->inputs.retries = launch->retry.list.count > 0;
    return status;
}

static int open_inputs(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    int status = inputs_open_problems(inputs, err);
    if (status == STATUS_OK) {
        status = heed_stop(launch, err);
    }
    if (status == STATUS_OK) {
        status = inputs_open_tokenizer(inputs, err);
    }
    if (status == STATUS_OK) {
        status = heed_stop(launch, err);
    }
    if (status == STATUS_OK) {
        status = inputs_open_model(inputs, err);
    }
    if (status == STATUS_OK) {
        status = device_choice_open(inputs, launch->ledger, err);
    }
    log_lines(&launch->log, LOG_LEVEL_INFO, &inputs->notes);
    log_lines(&launch->log, LOG_LEVEL_WARN, &inputs->warnings);
    return status == STATUS_OK ? inputs_bind(inputs, err) : status;
}

static void display_survey(struct launch *launch, uint64_t problems, bool now) {
    struct display_state state = {.stage = "surveying",
                                  .done = problems,
                                  .all = source_rows(launch->inputs.source),
                                  .unit = "problems"};
    display_update(&launch->display, &state, now);
}

static bool show_survey(void *context, uint64_t problems) {
    struct launch *launch = context;
    display_survey(launch, problems, false);
    return !guard_stop_requested(&launch->guard);
}

// The survey of an earlier launch is used again when the rows still have its hash.
static int survey(struct launch *launch, bool *fresh, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    bool found = false;
    *fresh = false;
    int status = enter_stage(launch, "surveying", err);
    if (status == STATUS_OK) {
        status = survey_load(launch->ledger, &inputs->survey, &found, err);
    }
    if (status == STATUS_OK && !found) {
        *fresh = true;
        status = survey_make(&inputs->survey, inputs->source, inputs->preparer, &inputs->limits, NULL,
                             show_survey, launch, err);
        if (status == STATUS_OK) {
            display_survey(launch, inputs->survey.totals.problems, true);
        }
        return status;
    }
    uint64_t problems;
    return status != STATUS_OK
               ? status
               : survey_digest(inputs->source, &problems, inputs->survey.totals.problems_sha256, err);
}

// A wrong template or column fails every problem: better known now than at the end.
static void foretell_failures(struct launch *launch) {
    const struct survey *survey = &launch->inputs.survey;
    int64_t allowed = launch->inputs.job.max_failed;
    struct error err;
    if (inputs_refuse_nothing(&launch->inputs, &err) != STATUS_OK) {
        log_write(&launch->log, LOG_LEVEL_WARN, "%s, so this run will end with exit code %d", err.message,
                  error_exit_code(err.status));
    } else if (survey->failed > (uint64_t)allowed) {
        log_write(&launch->log, LOG_LEVEL_WARN,
                  "%" PRIu64 " of %" PRIu64 " problems cannot be run; problems.max_failed allows %" PRId64
                  ", so this run will end with exit code %d",
                  survey->failed, survey->totals.problems, allowed, error_exit_code(STATUS_DATA));
    }
}

// What may be done when nothing but the rows has changed.
static const char *mending_hint(const struct launch *launch, const struct identity *stored,
                                const struct identity *now, size_t differences) {
    const char *before = identity_get(stored, IDENTITY_PROBLEMS);
    const char *after = identity_get(now, IDENTITY_PROBLEMS);
    if (differences != 1 || before == NULL || after == NULL || strcmp(before, after) == 0) {
        return "";
    }
    return launch->options->retry.asked
               ? " (--retry-failed takes changed rows of failed problems alone, once the run is finished)"
               : " (where only rows of failed problems were mended: --retry-failed)";
}

static int refuse_other_identity(struct launch *launch, const struct identity *stored,
                                 const struct identity *now, struct error *err) {
    struct buffer lines = {0};
    char folder[PATH_SIZE];
    size_t differences = 0;
    int status = identity_compare(stored, now, &lines, &differences, err);
    if (status == STATUS_OK && differences > 0) {
        while (lines.size > 0 && lines.data[lines.size - 1] == '\n') {
            lines.data[--lines.size] = 0;
        }
        status = error_set_lines(err, STATUS_JOB,
                                 "%s holds a run with another identity; resuming it would mix two kinds of "
                                 "latents. Differences:\n%s\n"
                                 "Put the job back as it was, or choose another run.output%s",
                                 printable(folder, sizeof folder, launch->folder.path), lines.data,
                                 mending_hint(launch, stored, now, differences));
    }
    buffer_destroy(&lines);
    return status;
}

// How much of the identity is known: the model's fingerprint takes reading its files, the device's algorithms
// its load. What is not known yet is taken as the run has it.
enum known { KNOWN_BEFORE_FILES, KNOWN_BEFORE_LOAD, KNOWN_ALL };

static int carry(const struct identity *stored, const char *key, struct identity *now, struct error *err) {
    const char *value = identity_get(stored, key);
    return value == NULL ? STATUS_OK : identity_add(now, key, value, err);
}

static int add_later_parts(const struct inputs *inputs, const struct identity *stored, enum known known,
                           struct identity *now, struct error *err) {
    char hex[DIGEST_HEX] = "";
    int status = recorded_carry(stored, now, err);
    if (status == STATUS_OK && known == KNOWN_BEFORE_FILES) {
        status = carry(stored, "model.fingerprint", now, err);
    }
    if (status == STATUS_OK && known < KNOWN_ALL) {
        return carry(stored, IDENTITY_ALGORITHMS, now, err);
    }
    if (status == STATUS_OK) {
        status = algorithms_digest(inputs, hex, err);
    }
    return status != STATUS_OK || hex[0] == 0 ? status : identity_add(now, IDENTITY_ALGORITHMS, hex, err);
}

static int check_identity(struct launch *launch, enum known known, struct identity *now, struct error *err) {
    const char *fingerprint = known == KNOWN_BEFORE_FILES ? NULL : model_fingerprint(launch->inputs.model);
    struct identity stored = {0};
    bool found;
    int status = inputs_identity(&launch->inputs, fingerprint, now, err);
    if (status == STATUS_OK) {
        status = ledger_identity(launch->ledger, &stored, &found, err);
    }
    if (status == STATUS_OK && found && launch->retry.mended) {
        status = identity_replace(&stored, IDENTITY_PROBLEMS, identity_get(now, IDENTITY_PROBLEMS), err);
    }
    if (status == STATUS_OK) {
        status = add_later_parts(&launch->inputs, &stored, known, now, err);
    }
    if (status == STATUS_OK && found) {
        status = refuse_other_identity(launch, &stored, now, err);
    }
    identity_destroy(&stored);
    return status;
}

static int check_disk(struct launch *launch, struct error *err) {
    struct ledger_totals totals;
    uint64_t space;
    int status = ledger_totals(launch->ledger, &totals, err);
    if (status == STATUS_OK) {
        status = file_space(launch->folder.path, &space, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct inputs *inputs = &launch->inputs;
    uint64_t planned = inputs_planned_bytes(inputs, inputs->retries ? &inputs->retry : &inputs->survey);
    uint64_t written = inputs->retries ? 0 : totals.bytes;
    uint64_t left = planned > written ? planned - written : 0;
    double reserve = launch->inputs.job.disk_reserve_gb;
    if ((double)space < (double)left + reserve * 1e9) {
        char texts[3][AMOUNT_TEXT];
        return error_set(err, STATUS_WRITE,
                         "the disk of %s has %s free; the shards still to come need %s and "
                         "run.disk_reserve_gb keeps %s",
                         launch->folder.path, amount_text((double)space, texts[0]),
                         amount_text((double)left, texts[1]), amount_text(reserve * 1e9, texts[2]));
    }
    log_write(&launch->log, LOG_LEVEL_INFO,
              "%" PRIu64 " bytes of shards are planned, %" PRIu64 " bytes are free", planned, space);
    return STATUS_OK;
}

// For status, every two seconds. False when the load is to end: a stop was asked for, or the ledger refused.
static bool keep_load(struct launch *launch) {
    double now = clock_seconds();
    if (now - launch->kept >= KEEP_SECONDS && launch->ledger_status == STATUS_OK) {
        launch->kept = now;
        launch->live.updated = clock_unix();
        launch->live.memory_bytes = measure_memory();
        launch->ledger_status = ledger_set_progress(launch->ledger, &launch->live, &launch->ledger_err);
    }
    return launch->ledger_status == STATUS_OK && !guard_stop_requested(&launch->guard);
}

static bool show_load(void *context, uint64_t done, uint64_t all, double seconds) {
    struct launch *launch = context;
    char note[64];
    snprintf(note, sizeof note, "%.2f GB/s", seconds > 0 ? (double)done * 1e-9 / seconds : 0.0);
    struct display_state state = {
        .stage = "loading", .done = done, .all = all, .unit = "GB", .unit_size = 1e9, .note = note};
    display_update(&launch->display, &state, done == all);
    launch->live.loaded_bytes = done;
    launch->live.load_bytes = all;
    return keep_load(launch);
}

static struct model_load_options load_options(struct launch *launch) {
    return (struct model_load_options){.timeout_seconds = launch->inputs.job.load_timeout,
                                       .log = &launch->log,
                                       .progress = show_load,
                                       .context = launch};
}

// What ends the reading of the model's files beside the reader's own errors: a ledger that refuses its
// progress, a stop.
static int end_reading(struct launch *launch, int status, struct error *err) {
    if (launch->ledger_status != STATUS_OK) {
        *err = launch->ledger_err;
        status = launch->ledger_status;
    } else if (status == STATUS_STOPPED) {
        error_set(err, status, "stopped by %s while loading the model; run the same command to go on",
                  guard_signal_name(&launch->guard));
    }
    display_end(&launch->display);
    return status;
}

static int read_weights(struct launch *launch, struct error *err) {
    const struct inputs *inputs = &launch->inputs;
    const struct model_load_options options = load_options(launch);
    return end_reading(launch, model_load(inputs->model, inputs->device, &launch->limits, &options, err),
                       err);
}

static int load_model(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct device_plan plan = {0};
    struct device_description device;
    int status = enter_stage(launch, "loading", err);
    inputs_model_limits(inputs, &launch->limits);
    if (status == STATUS_OK) {
        status = fit_plan(inputs, &launch->limits, &plan, err);
    }
    if (status == STATUS_OK) {
        status = device_reserve(inputs->device, &plan, err);
    }
    if (status == STATUS_OK) {
        status = read_weights(launch, err);
    }
    guard_start_begins(&launch->guard, launch->epoch, inputs->job.load_timeout);
    if (status == STATUS_OK) {
        status = algorithms_tune(inputs, launch->ledger, &launch->limits, &launch->guard, &launch->log, err);
    }
    if (status == STATUS_OK) {
        status = model_check(inputs->model, err);
    }
    guard_batch_ends(&launch->guard);
    if (status == STATUS_OK) {
        status = resident_check(inputs, &launch->residency, &launch->log, err);
    }
    device_choice_describe(inputs, &device);
    log_write(&launch->log, LOG_LEVEL_INFO,
              "device %s, %s, path %s (%s), %d threads; %zu + %zu + %zu + %zu bytes of weights, activations, "
              "scratch, staging",
              device.kind, device.name, device.path, device.reason, device.threads,
              plan.bytes[DEVICE_WEIGHTS], plan.bytes[DEVICE_ACTIVATIONS], plan.bytes[DEVICE_SCRATCH],
              plan.bytes[DEVICE_STAGING]);
    return status;
}

static int calibrate(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct device_description device;
    char key[320];
    snprintf(launch->live.drift, sizeof launch->live.drift, "calibrating");
    int status = enter_stage(launch, "calibrating", err);
    if (status == STATUS_OK) {
        status = canary_create(&launch->canary, inputs->model, inputs->device, &launch->limits, err);
    }
    device_describe(inputs->device, &device);
    snprintf(key, sizeof key, "%s %s %s, %d threads, %s", device.kind, device.name, device.path,
             device.threads, dtype_name(inputs->job.dtype));
    launch->watch.guard = &launch->guard;
    guard_set_clock(&launch->guard, device_clock, inputs->device);
    guard_start_begins(&launch->guard, launch->epoch, inputs->job.load_timeout);
    if (status == STATUS_OK) {
        status = drift_watch_calibrate(&launch->watch, &launch->canary, launch->ledger, key,
                                       inputs->job.profile, &launch->log, err);
    }
    guard_batch_ends(&launch->guard);
    launch->watch.stops = inputs->job.drift_stop;
    device_seal(inputs->device);
    return status;
}

// In full, so that it can be found from any working folder.
static int note_path(struct ledger *ledger, const char *key, const char *path, struct error *err) {
    char *real = realpath(path, NULL);
    int status = ledger_set_note(ledger, key, real == NULL ? path : real, err);
    free(real);
    return status;
}

// Facts for people and for strata show, status and export; and the job as launched.
static int write_notes(struct launch *launch, struct error *err) {
    const struct inputs *inputs = &launch->inputs;
    struct device_description device;
    char text[64];
    char path[PATH_SIZE];
    device_choice_describe(inputs, &device);
    int status = note_path(launch->ledger, FOLDER_JOB_NOTE, inputs->job.folder, err);
    if (status == STATUS_OK) {
        status = note_path(launch->ledger, "model.path", inputs->job.model_path, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "device.name", device.name, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "device.path", device.path, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "device.reason", device.reason, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, RESIDENT_NOTE, launch->residency.data, err);
    }
    snprintf(text, sizeof text, "%zu", launch->limits.tokens);
    if (status == STATUS_OK && fill_matters(inputs)) {
        status = ledger_set_note(launch->ledger, FILL_NOTE, text, err);
    }
    snprintf(text, sizeof text, "%" PRIu64, inputs_planned_bytes(inputs, &inputs->survey));
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "disk.planned_bytes", text, err);
    }
    if (status == STATUS_OK) {
        status = run_folder_file(path, launch->folder.path, "job.yaml", err);
    }
    return status == STATUS_OK ? file_write_atomic(path, inputs->job.source, inputs->job.source_size, err)
                               : status;
}

// What shards of this launch say they belong to: the run's identity, and every change of the path since.
static int hash_identity(const struct inputs *inputs, struct identity *now, char hash[DIGEST_HEX],
                         struct error *err) {
    struct buffer changes = {0};
    int status = device_trail_text(&inputs->trail, &changes, err);
    if (status == STATUS_OK && changes.size > 0) {
        status = identity_add(now, "device.changes", changes.data, err);
    }
    buffer_destroy(&changes);
    return status == STATUS_OK ? identity_hash(now, hash, err) : status;
}

// The ledger gets its identity once everything is known and checked; a resume must find the same.
static int settle_identity(struct launch *launch, bool fresh, struct error *err) {
    struct identity now = {0};
    struct identity stored = {0};
    char hash[DIGEST_HEX];
    bool found = false;
    int status = check_identity(launch, KNOWN_ALL, &now, err);
    if (status == STATUS_OK) {
        status = device_choice_settle(&launch->inputs, launch->ledger, launch->folder.path,
                                      &launch->has_partial, &launch->log, err);
    }
    if (status == STATUS_OK) {
        status = hash_identity(&launch->inputs, &now, hash, err);
    }
    if (status == STATUS_OK) {
        status = ledger_identity(launch->ledger, &stored, &found, err);
    }
    if (status == STATUS_OK) {
        status =
            recorded_settle(&launch->recorded, &launch->inputs, launch->ledger, found ? &stored : NULL, err);
    }
    if (status == STATUS_OK && !found) {
        status = ledger_begin(launch->ledger, &now, &launch->inputs.survey.totals, err);
    }
    if (status == STATUS_OK) {
        status = algorithms_keep(&launch->inputs, launch->ledger, err);
    }
    if (status == STATUS_OK && fresh) {
        status = survey_store(launch->ledger, &launch->inputs.survey, err);
    }
    if (status == STATUS_OK) {
        layout_make(&launch->layout, &launch->inputs, &launch->recorded, hash);
        log_write(&launch->log, LOG_LEVEL_INFO, "identity %s", hash);
    }
    identity_destroy(&stored);
    identity_destroy(&now);
    return status;
}

// A wrong resume is refused before the load, as far as it is known by then.
static int check_early_identity(struct launch *launch, enum known known, struct error *err) {
    struct identity now = {0};
    int status = check_identity(launch, known, &now, err);
    identity_destroy(&now);
    return status;
}

// A run that is finished needs no more work: a launch that finds it so has done all that there was to do. It
// loads nothing, but its model's files must be those of the run: a success says that they are.
static int is_finished(struct launch *launch, struct error *err) {
    struct ledger_totals totals;
    const struct model_load_options options = load_options(launch);
    int status = ledger_totals(launch->ledger, &totals, err);
    if (status != STATUS_OK || !totals.finished || launch->inputs.retries) {
        return status;
    }
    status = enter_stage(launch, "comparing the model", err);
    if (status == STATUS_OK) {
        status = end_reading(launch, model_fingerprint_files(launch->inputs.model, &options, err), err);
    }
    if (status == STATUS_OK) {
        status = check_early_identity(launch, KNOWN_BEFORE_LOAD, err);
    }
    launch->finished = status == STATUS_OK;
    return launch->finished ? ledger_launch_works(launch->ledger, err) : status;
}

int launch_open(struct launch *launch, const struct runner_options *options, struct error *err) {
    bool fresh = true;
    *launch = (struct launch){.options = options, .folder = {.lock = -1}};
    display_start(&launch->display, options->display);
    int status = hear_signals(launch, err);
    struct inputs_options inputs = options->inputs;
    inputs.watch = (struct watch){
        .stopped = is_stop_asked, .say = say_while_reading, .reading = show_reading, .context = launch};
    if (status == STATUS_OK) {
        status = inputs_read_job(&launch->inputs, &inputs, err);
    }
    if (status == STATUS_OK) {
        status = open_folder(launch, err);
    }
    if (status == STATUS_OK) {
        status = open_ledger(launch, err);
    }
    if (status == STATUS_OK) {
        status = batching_settle(&launch->inputs, launch->ledger, err);
    }
    if (status == STATUS_OK) {
        status = find_retry(launch, err);
    }
    if (status == STATUS_OK) {
        status = name_stop(launch, open_inputs(launch, err), err);
    }
    if (status == STATUS_OK) {
        status = name_stop(launch, survey(launch, &fresh, err), err);
    }
    if (status == STATUS_OK) {
        status = accept_mended(launch, err);
    }
    if (status == STATUS_OK) {
        status = check_early_identity(launch, KNOWN_BEFORE_FILES, err);
    }
    if (status == STATUS_OK) {
        status = is_finished(launch, err);
    }
    if (status != STATUS_OK || launch->finished) {
        return status;
    }
    if (launch->inputs.retries) {
        status = retry_survey(&launch->retry, &launch->inputs, show_survey, launch, err);
    } else {
        foretell_failures(launch);
        status = fill_tell(&launch->inputs, fresh, &launch->log, err);
    }
    if (status == STATUS_OK) {
        status = check_disk(launch, err);
    }
    if (status == STATUS_OK) {
        status = load_model(launch, err);
    }
    if (status == STATUS_OK) {
        status = settle_identity(launch, fresh, err);
    }
    if (status == STATUS_OK) {
        status = calibrate(launch, err);
    }
    if (status == STATUS_OK) { // nothing refuses the launch any more
        status = write_notes(launch, err);
    }
    if (status == STATUS_OK) {
        status = retry_begin(&launch->retry, &launch->inputs, launch->ledger, &launch->log, err);
    }
    return status == STATUS_OK ? ledger_launch_works(launch->ledger, err) : status;
}

// ---- the end ----

void launch_close(struct launch *launch, int status, const struct error *err) {
    display_end(&launch->display);
    if (launch->epoch > 0) {
        record_end(launch, status, err);
    }
    if (launch->log_open) {
        log_write(&launch->log, LOG_LEVEL_INFO, "ended with exit code %d%s%s", error_exit_code(status),
                  status == STATUS_OK ? "" : ": ", status == STATUS_OK ? "" : err->message);
    }
    guard_stop(&launch->guard);
    canary_destroy(&launch->canary);
    inputs_close(&launch->inputs);
    buffer_destroy(&launch->residency);
    retry_destroy(&launch->retry);
    ledger_close(launch->ledger);
    run_folder_close(&launch->folder);
    buffer_destroy(&launch->partial_record);
    recorded_destroy(&launch->recorded);
    if (launch->log_open) {
        log_close(&launch->log);
    }
}
