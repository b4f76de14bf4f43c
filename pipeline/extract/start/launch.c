// SPDX-License-Identifier: MIT
#include "start/launch.h"

#include <inttypes.h>
#include <string.h>

#include "start/batching.h"
#include "start/launch_steps.h"

#define STOP_SECONDS 15.0
#define TOGETHER_SECONDS 3.0
#define HUNG_SECONDS 60.0
#define PHASE_SECONDS 30.0 // a busy machine's phases may take that without a word

// ---- what is there ----

// Also for the survey's thread.
static bool is_stop_asked(void *context) {
    const struct launch *launch = context;
    return guard_stop_requested(&launch->guard) || surveyor_is_stopped(&launch->surveyor);
}

static void say_while_reading(void *context, const char *text) {
    log_write(&((struct launch *)context)->log, LOG_LEVEL_WARN, "%s", text);
}

static void show_reading(void *context, uint64_t rows) {
    struct display_state state = {.stage = "reading", .done = rows, .unit = "problems"};
    display_update(&((struct launch *)context)->display, &state, false);
}

static void begin_opening(void *context, const char *name, bool reads_files) {
    struct launch *launch = context;
    launch_begin_phase(launch, reads_files ? GUARD_FILES : GUARD_DEVICE, name);
}

static void end_opening(void *context) {
    guard_batch_ends(&((struct launch *)context)->guard);
}

// When the guard ends the process, as launch_end does.
static void carry_at_last(void *context) {
    struct launch *launch = context;
    struct error err;
    if (ledger_apart_end(&launch->apart, &err) != STATUS_OK) {
        log_write(&launch->log, LOG_LEVEL_WARN, "%s", err.message);
    }
}

// Signals have waited since the process began; from here on they are heard.
static int hear_signals(struct launch *launch, struct error *err) {
    struct guard_options guard = {.log = &launch->log,
                                  .stop_seconds = STOP_SECONDS,
                                  .together_seconds = TOGETHER_SECONDS,
                                  .hung_seconds = HUNG_SECONDS,
                                  .phase_seconds = PHASE_SECONDS,
                                  .folder = launch->folder.path,
                                  .journal = &launch->journal};
    journal_start(&launch->journal, &launch->log);
    TRY(log_open(&launch->log, NULL, err));
    launch->log_open = true;
    return guard_start(&launch->guard, &guard, err);
}

static int open_folder(struct launch *launch, struct error *err) {
    const struct job *job = &launch->inputs.job;
    char path[PATH_SIZE];
    TRY(launch_heed_stop(launch, err));
    TRY(run_folder_open(&launch->folder, job->output, job->ledger, job->force_network_output, err));
    TRY(run_folder_file(path, launch->folder.path, "run.log", err));
    TRY(log_add_file(&launch->log, path, err));
    return launch_heed_stop(launch, err);
}

// A launch whose ledger is left behind is part of the run's history.
static int tell_lost(struct launch *launch, struct error *err) {
    char text[LEDGER_PLACE_HOST + 160];
    const struct ledger_apart *apart = &launch->apart;
    if (apart->again == 0) {
        return STATUS_OK;
    }
    snprintf(text, sizeof text,
             "launch %" PRIu64 " on %s was left behind (--from-copy); at most %" PRIu64
             " shards that it sealed are computed again",
             apart->found.launch, apart->found.host, apart->again);
    journal_event(&launch->journal, LOG_LEVEL_WARN, "ledger", text);
    return journal_check(&launch->journal, err);
}

static int open_ledger(struct launch *launch, struct error *err) {
    struct recovery_report report;
    bool found = false;
    TRY(ledger_apart_begin(&launch->apart, &launch->folder, launch->options->from_copy, &launch->log, err));
    TRY(journal_open(&launch->journal, launch->folder.ledger, (int)launch->inputs.job.threads, err));
    TRY(ledger_apart_announce(&launch->apart, launch->journal.epoch, err));
    if (launch->folder.apart) {
        guard_set_farewell(&launch->guard, carry_at_last, launch);
    }
    TRY(tell_lost(launch, err));
    struct ledger *ledger = launch->journal.ledger;
    TRY(recovery_run(&launch->folder, ledger, &launch->log, &report, err));
    TRY(ledger_partial(ledger, &launch->partial, &launch->partial_record, &found, err));
    launch->has_partial = found && report.partial_usable;
    if (found && !report.partial_usable) {
        log_write(&launch->log, LOG_LEVEL_WARN,
                  "the partial shard %s is missing or damaged: its batches are computed again",
                  launch->partial.name);
        return ledger_drop_partial(ledger, err);
    }
    return STATUS_OK;
}

// An entry for each line.
static void log_lines(struct log *log, enum log_level level, const char *lines) {
    const char *at = lines == NULL ? "" : lines;
    while (*at != 0) {
        int length = (int)strcspn(at, "\n");
        log_write(log, level, "%.*s", length, at);
        at += length + (at[length] == '\n');
    }
}

// Until the rows are known, mended ones may make more of it than the ledger tells.
static int find_retry(struct launch *launch, struct error *err) {
    struct retry *retry = &launch->retry;
    int status = retry_find(retry, launch->journal.ledger, &launch->options->retry, err);
    launch->inputs.retries = retry->list.count > 0 || retry->possible;
    return status;
}

static int open_inputs(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    unsigned parts = INPUTS_PROBLEMS | INPUTS_TOKENIZER | INPUTS_MODEL | INPUTS_DEVICE | INPUTS_TEMPLATE;
    int status = inputs_open(inputs, parts, launch->journal.ledger, err);
    log_lines(&launch->log, LOG_LEVEL_INFO, inputs->notes.data);
    log_lines(&launch->log, LOG_LEVEL_WARN, inputs->warnings.data);
    return status;
}

static int calibrate(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    const struct device_description *device = &inputs->device;
    char key[320];
    journal_calibrates(&launch->journal);
    TRY(launch_enter_stage(launch, "calibrating", err));
    snprintf(key, sizeof key, "%s %s %s, %d threads, %s", device->kind, device->name, device->path,
             device->threads, dtype_name(inputs->job.dtype));
    const struct drift_watches_options watches = {.model = inputs->model,
                                                  .limits = &launch->limits,
                                                  .guard = &launch->guard,
                                                  .journal = &launch->journal,
                                                  .device = key,
                                                  .profile = inputs->job.profile,
                                                  .log = &launch->log,
                                                  .stops = inputs->job.drift_stop};
    guard_set_clock(&launch->guard, model_clock, inputs->model);
    launch_begin_phase(launch, GUARD_DEVICE, "calibrating");
    int status = drift_watches_calibrate(&launch->watches, &watches, err);
    guard_batch_ends(&launch->guard);
    model_seal(inputs->model);
    return status;
}

// ---- the start ----

// Everything that the job names, up to what takes reading all of it.
static int open_all(struct launch *launch, struct error *err) {
    struct inputs_options inputs = launch->options->inputs;
    inputs.watch = (struct watch){
        .stopped = is_stop_asked, .say = say_while_reading, .reading = show_reading, .context = launch};
    inputs.phases = (struct inputs_phases){.begin = begin_opening, .end = end_opening, .context = launch};
    TRY(hear_signals(launch, err));
    TRY(inputs_read_job(&launch->inputs, &inputs, err));
    if (launch->inputs.job.ledger != NULL) {
        TRY(run_folder_check_ledger(launch->inputs.job.output, launch->inputs.job.ledger, err));
    }
    TRY(launch_part_begin(launch, err));
    TRY(open_folder(launch, err));
    TRY(open_ledger(launch, err));
    TRY(batching_settle(&launch->inputs, launch->journal.ledger, err));
    TRY(find_retry(launch, err));
    TRY(launch_name_stop(launch, open_inputs(launch, err), err));
    return launch_part_check(launch, err);
}

// The problems are surveyed by a thread of their own, and the weights are read meanwhile. What the survey
// finds ends the load, and an error of the load the survey: the first of the two counts.
static int read_all(struct launch *launch, struct error *err) {
    struct error load_err;
    TRY(launch_survey_begin(launch, err));
    int load_status = launch_load_early(launch, &load_err);
    bool load_failed_first = load_status != STATUS_OK && launch->surveyor.running;
    if (load_failed_first) {
        surveyor_stop(&launch->surveyor);
    }
    int status = launch_survey_end(launch, err);
    if (load_failed_first || (load_status != STATUS_OK && status == STATUS_OK)) {
        *err = load_err;
        status = load_status;
    }
    return status;
}

int launch_open(struct launch *launch, const struct launch_options *options, struct error *err) {
    *launch = (struct launch){.options = options, .folder = {.lock = -1, .output_lock = -1}, .fresh = true};
    display_start(&launch->display, options->display);
    TRY(open_all(launch, err));
    TRY(read_all(launch, err));
    TRY(launch_look_ahead(launch, err));
    if (launch->finished) {
        return STATUS_OK;
    }
    TRY(launch_load(launch, err));
    TRY(launch_settle_identity(launch, err));
    TRY(launch_compute_head(launch, err));
    TRY(calibrate(launch, err));
    // Nothing refuses the launch any more.
    TRY(launch_write_notes(launch, err));
    TRY(retry_begin(&launch->retry, &launch->inputs, &launch->journal, err));
    TRY(ledger_launch_works(launch->journal.ledger, err));
    return ledger_apart_refresh(&launch->apart, true, err);
}

// ---- the end ----

static void log_end(struct launch *launch, int status, const struct error *err) {
    if (status == STATUS_OK) {
        log_write(&launch->log, LOG_LEVEL_INFO, "ended with exit code 0");
        return;
    }
    size_t first = error_first_line(err);
    log_write(&launch->log, LOG_LEVEL_INFO, "ended with exit code %d: %.*s", error_exit_code(status),
              (int)first, err->message);
    log_lines(&launch->log, LOG_LEVEL_INFO, err->message + first + (err->message[first] == '\n'));
}

// A good end is none while the run directory lacks what is in the ledger; another end has its own reason.
static int carry_ledger(struct launch *launch, int status, struct error *err) {
    struct error copy_err;
    int copied = ledger_apart_end(&launch->apart, &copy_err);
    if (copied == STATUS_OK) {
        return status;
    }
    if (status == STATUS_OK || status == STATUS_STOPPED) {
        *err = copy_err;
        return copied;
    }
    log_write(&launch->log, LOG_LEVEL_INFO, "%s", copy_err.message);
    return status;
}

// The guard lives on: the server that the ledger is carried to may hang.
int launch_end(struct launch *launch, int status, struct error *err) {
    display_end(&launch->display);
    journal_end(&launch->journal, status, launch->finished, err);
    guard_closes(&launch->guard);
    journal_close(&launch->journal);
    return carry_ledger(launch, status, err);
}

void launch_close(struct launch *launch, int status, const struct error *err) {
    guard_stop(&launch->guard);
    drift_watches_destroy(&launch->watches);
    inputs_close(&launch->inputs);
    buffer_destroy(&launch->residency);
    retry_destroy(&launch->retry);
    if (launch->log_open) {
        log_end(launch, status, err);
    }
    run_folder_close(&launch->folder);
    buffer_destroy(&launch->partial_record);
    recorded_destroy(&launch->recorded);
    if (launch->log_open) {
        log_close(&launch->log);
    }
}
