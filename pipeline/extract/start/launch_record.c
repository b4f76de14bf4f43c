// SPDX-License-Identifier: MIT
// What a launch says of itself while it starts: stages and notes.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "start/fill.h"
#include "start/folder_job.h"
#include "start/launch_steps.h"
#include "start/prediction.h"
#include "start/resident.h"

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

int launch_enter_stage(struct launch *launch, const char *stage, struct error *err) {
    TRY(launch_heed_stop(launch, err));
    log_write(&launch->log, LOG_LEVEL_INFO, "%s", stage);
    return journal_stage(&launch->journal, stage, err);
}

void launch_begin_phase(struct launch *launch, enum guard_phase phase, const char *name) {
    guard_phase_begins(&launch->guard, phase, name, launch->inputs.job.load_timeout);
}

// ---- facts ----

// In full, so that it can be found from any working folder.
static int note_path(struct ledger *ledger, const char *key, const char *path, struct error *err) {
    char *real = realpath(path, NULL);
    int status = ledger_set_note(ledger, key, real == NULL ? path : real, err);
    free(real);
    return status;
}

// How fast the run is going to be, which status and log hold against what it takes.
static int note_prediction(struct launch *launch, struct error *err) {
    struct ledger *ledger = launch->journal.ledger;
    struct prediction prediction;
    struct prediction_basis basis = {.inputs = &launch->inputs,
                                     .limits = &launch->limits,
                                     .cost = &launch->watches.lanes[0].cost,
                                     .own_cost = &launch->watches.lanes[0].own_cost,
                                     .partial = launch->has_partial ? launch->partial.batches : 0,
                                     .launch = launch->journal.epoch};
    TRY(ledger_totals(ledger, &basis.sealed, err));
    TRY(prediction_make(&prediction, &basis, err));
    log_write(&launch->log, LOG_LEVEL_INFO,
              "predicted: %.1f tokens/s, %.1f s for %" PRIu64 " tokens, limit %s",
              prediction.tokens_per_second, prediction.seconds, prediction.tokens, prediction.limit);
    return prediction_store(&prediction, ledger, err);
}

// Facts for people and for strata show, status and export; and the job as launched.
int launch_write_notes(struct launch *launch, struct error *err) {
    const struct inputs *inputs = &launch->inputs;
    struct ledger *ledger = launch->journal.ledger;
    const struct device_description *device = &inputs->device;
    char text[64];
    char path[PATH_SIZE];
    TRY(note_path(ledger, FOLDER_JOB_NOTE, inputs->job.folder, err));
    TRY(note_path(ledger, "model.path", inputs_model_path(inputs), err));
    if (inputs->job.adapter_path != NULL) {
        TRY(note_path(ledger, "model.adapter", inputs->job.adapter_path, err));
    }
    TRY(ledger_set_note(ledger, "device.name", device->name, err));
    TRY(ledger_set_note(ledger, "device.path", device->path, err));
    TRY(ledger_set_note(ledger, "device.reason", device->reason, err));
    TRY(ledger_set_note(ledger, RESIDENT_NOTE, launch->residency.data, err));
    if (fill_matters(inputs)) {
        snprintf(text, sizeof text, "%zu", launch->limits.tokens);
        TRY(ledger_set_note(ledger, FILL_NOTE, text, err));
    }
    TRY(note_prediction(launch, err));
    snprintf(text, sizeof text, "%" PRIu64, inputs_planned_bytes(inputs, &inputs->survey));
    TRY(ledger_set_note(ledger, "disk.planned_bytes", text, err));
    TRY(run_folder_file(path, launch->folder.path, "job.yaml", err));
    return file_write_atomic(path, inputs->job.source, inputs->job.source_size, err);
}
