// What a launch says of itself while it starts and when it ends: stages, notes, the end.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "extract/device_choice.h"
#include "extract/fill.h"
#include "extract/folder_job.h"
#include "extract/launch_steps.h"
#include "extract/measure.h"
#include "extract/resident.h"

// ---- stages that status shows ----

int launch_heed_stop(const struct launch *launch, struct error *err) {
    return guard_stop_requested(&launch->guard)
               ? error_set(err, STATUS_STOPPED, "stopped by %s before the first batch",
                           guard_signal_name(&launch->guard))
               : STATUS_OK;
}

int launch_name_stop(const struct launch *launch, int status, struct error *err) {
    return status == STATUS_STOPPED && guard_stop_requested(&launch->guard) ? launch_heed_stop(launch, err)
                                                                            : status;
}

int launch_show_stage(struct launch *launch, const char *stage, struct error *err) {
    snprintf(launch->live.stage, sizeof launch->live.stage, "%s", stage);
    launch->live.epoch = launch->epoch;
    launch->live.updated = clock_unix();
    launch->live.memory_bytes = measure_memory();
    return ledger_set_progress(launch->ledger, &launch->live, err);
}

int launch_enter_stage(struct launch *launch, const char *stage, struct error *err) {
    if (launch_heed_stop(launch, err) != STATUS_OK) {
        return err->status;
    }
    log_write(&launch->log, LOG_LEVEL_INFO, "%s", stage);
    return launch_show_stage(launch, stage, err);
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

void launch_record_end(struct launch *launch, int status, const struct error *err) {
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
void launch_leave(void *context, const struct writer *writer, int status, const char *reason) {
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
    launch_record_end(launch, status, &err);
}

// ---- facts ----

// In full, so that it can be found from any working folder.
static int note_path(struct ledger *ledger, const char *key, const char *path, struct error *err) {
    char *real = realpath(path, NULL);
    int status = ledger_set_note(ledger, key, real == NULL ? path : real, err);
    free(real);
    return status;
}

// Facts for people and for strata show, status and export; and the job as launched.
int launch_write_notes(struct launch *launch, struct error *err) {
    const struct inputs *inputs = &launch->inputs;
    const struct device_description *device = &inputs->device;
    char text[64];
    char path[PATH_SIZE];
    int status = note_path(launch->ledger, FOLDER_JOB_NOTE, inputs->job.folder, err);
    if (status == STATUS_OK) {
        status = note_path(launch->ledger, "model.path", inputs->job.model_path, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "device.name", device->name, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "device.path", device->path, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(launch->ledger, "device.reason", device->reason, err);
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
