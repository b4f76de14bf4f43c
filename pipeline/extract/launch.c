#include "extract/launch.h"

#include <string.h>

#include "extract/batching.h"
#include "extract/device_choice.h"
#include "extract/launch_steps.h"

#define STOP_SECONDS 15.0
#define TOGETHER_SECONDS 3.0
#define HUNG_SECONDS 60.0

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

// Signals have waited since the process began; from here on they are heard.
static int hear_signals(struct launch *launch, struct error *err) {
    struct guard_options guard = {.log = &launch->log,
                                  .stop_seconds = STOP_SECONDS,
                                  .together_seconds = TOGETHER_SECONDS,
                                  .hung_seconds = HUNG_SECONDS,
                                  .folder = launch->folder.path,
                                  .leave = launch_leave,
                                  .context = launch};
    int status = log_open(&launch->log, NULL, err);
    launch->log_open = status == STATUS_OK;
    return status == STATUS_OK ? guard_start(&launch->guard, &guard, err) : status;
}

static int open_folder(struct launch *launch, struct error *err) {
    const struct job *job = &launch->inputs.job;
    char path[PATH_SIZE];
    int status = launch_heed_stop(launch, err);
    if (status == STATUS_OK) {
        status = run_folder_open(&launch->folder, job->output, job->force_network_output, err);
    }
    if (status == STATUS_OK) {
        status = run_folder_file(path, launch->folder.path, "run.log", err);
    }
    if (status == STATUS_OK) {
        status = log_add_file(&launch->log, path, err);
    }
    return status == STATUS_OK ? launch_heed_stop(launch, err) : status;
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

static int open_inputs(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    unsigned parts = INPUTS_PROBLEMS | INPUTS_TOKENIZER | INPUTS_MODEL | INPUTS_DEVICE | INPUTS_TEMPLATE;
    int status = inputs_open(inputs, parts, launch->ledger, err);
    log_lines(&launch->log, LOG_LEVEL_INFO, &inputs->notes);
    log_lines(&launch->log, LOG_LEVEL_WARN, &inputs->warnings);
    return status;
}

static int calibrate(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct device_description device;
    char key[320];
    snprintf(launch->live.drift, sizeof launch->live.drift, "calibrating");
    int status = launch_enter_stage(launch, "calibrating", err);
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

// ---- the start ----

// Everything that the job names, up to what takes reading all of it.
static int open_all(struct launch *launch, struct error *err) {
    const struct runner_options *options = launch->options;
    struct inputs_options inputs = options->inputs;
    int status = hear_signals(launch, err);
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
    return status == STATUS_OK ? launch_name_stop(launch, open_inputs(launch, err), err) : status;
}

// The problems are surveyed by a thread of their own, and the weights are read meanwhile. What the survey
// finds ends the load, and an error of the load the survey: the first of the two counts.
static int read_all(struct launch *launch, struct error *err) {
    struct error load_err;
    int status = launch_survey_begin(launch, err);
    if (status != STATUS_OK) {
        return status;
    }
    int load_status = launch_load_early(launch, &load_err);
    bool load_failed_first = load_status != STATUS_OK && launch->surveyor.running;
    if (load_failed_first) {
        surveyor_stop(&launch->surveyor);
    }
    status = launch_survey_end(launch, err);
    if (load_failed_first || (load_status != STATUS_OK && status == STATUS_OK)) {
        *err = load_err;
        status = load_status;
    }
    return status;
}

int launch_open(struct launch *launch, const struct runner_options *options, struct error *err) {
    *launch = (struct launch){.options = options, .folder = {.lock = -1}, .fresh = true};
    display_start(&launch->display, options->display);
    int status = open_all(launch, err);
    if (status == STATUS_OK) {
        status = read_all(launch, err);
    }
    if (status == STATUS_OK) {
        status = launch_look_ahead(launch, err);
    }
    if (status != STATUS_OK || launch->finished) {
        return status;
    }
    status = launch_load(launch, err);
    if (status == STATUS_OK) {
        status = launch_settle_identity(launch, err);
    }
    if (status == STATUS_OK) {
        status = calibrate(launch, err);
    }
    if (status == STATUS_OK) { // nothing refuses the launch any more
        status = launch_write_notes(launch, err);
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
        launch_record_end(launch, status, err);
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
