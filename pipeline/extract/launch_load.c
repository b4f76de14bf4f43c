// The model's weights on the device, and what is left to do with them before the first batch.
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "extract/algorithms.h"
#include "extract/device_choice.h"
#include "extract/fit.h"
#include "extract/launch_steps.h"
#include "extract/measure.h"
#include "extract/resident.h"

#define KEEP_SECONDS 2.0 // between records of a load's progress

// ---- reading the model's files ----

// For status, every two seconds. False when the load is to end: a stop was asked for, the ledger refused,
// or what the survey found.
static bool keep_load(struct launch *launch) {
    double now = clock_seconds();
    if (now - launch->kept >= KEEP_SECONDS && launch->ledger_status == STATUS_OK) {
        launch->kept = now;
        launch->live.updated = clock_unix();
        launch->live.memory_bytes = measure_memory();
        launch->ledger_status = ledger_set_progress(launch->ledger, &launch->live, &launch->ledger_err);
    }
    return launch->ledger_status == STATUS_OK && !guard_stop_requested(&launch->guard) &&
           !launch_survey_refuses(launch);
}

static bool show_load(void *context, uint64_t done, uint64_t all, double seconds) {
    struct launch *launch = context;
    char note[64];
    int length = snprintf(note, sizeof note, "%.2f GB/s", seconds > 0 ? (double)done * 1e-9 / seconds : 0.0);
    if (launch->surveyor.running && done < all) {
        snprintf(note + length, sizeof note - (size_t)length, ", %" PRIu64 " problems surveyed",
                 surveyor_problems(&launch->surveyor));
    }
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

int launch_compare_model(struct launch *launch, struct error *err) {
    const struct model_load_options options = load_options(launch);
    return end_reading(launch, model_fingerprint_files(launch->inputs.model, &options, err), err);
}

static size_t last_layer(const struct inputs *inputs) {
    return inputs->layers[inputs->layer_count - 1];
}

static int read_weights(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    const struct model_load_options options = load_options(launch);
    launch->loads = true;
    return end_reading(
        launch, model_load_weights(inputs->model, inputs->device, last_layer(inputs), &options, err), err);
}

// ---- beside the survey ----

// Weights that do not fit are refused once all is known, with the batches that would fit.
static int may_load(struct launch *launch, struct device_plan *plan, bool *may, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct ledger_totals totals;
    struct error refusal;
    *may = false;
    *plan = (struct device_plan){.tokens = 1};
    int status = ledger_totals(launch->ledger, &totals, err);
    if (status != STATUS_OK || totals.finished || inputs->retries) {
        return status;
    }
    status = launch_check_identity(launch, KNOWN_BEFORE_PROBLEMS, &refusal);
    if (status == STATUS_OK) {
        status = model_plan_weights(inputs->model, inputs->device, last_layer(inputs), plan, &refusal);
    }
    if (status == STATUS_OK) {
        status = device_check_fits(inputs->device, plan, &refusal);
    }
    *may = status == STATUS_OK;
    if (status != STATUS_OK && status != STATUS_JOB && status != STATUS_DEVICE) {
        *err = refusal;
        return status;
    }
    return STATUS_OK;
}

int launch_load_early(struct launch *launch, struct error *err) {
    struct device_plan plan;
    bool may;
    int status = may_load(launch, &plan, &may, err);
    if (status != STATUS_OK || !may) {
        return status;
    }
    status = launch_enter_stage(launch, "loading", err);
    if (status == STATUS_OK) {
        status = device_reserve_weights(launch->inputs.device, &plan, err);
    }
    return status == STATUS_OK ? read_weights(launch, err) : status;
}

// ---- the rest ----

int launch_plan_memory(struct launch *launch, struct device_plan *plan, struct error *err) {
    *plan = (struct device_plan){0};
    inputs_model_limits(&launch->inputs, &launch->limits);
    return fit_on_device(&launch->inputs, &launch->limits, plan, err);
}

static int make_resident(struct launch *launch, struct device_plan *plan, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    int status = launch_heed_stop(launch, err);
    if (status == STATUS_OK) {
        status = launch->loads ? launch_show_stage(launch, "loading", err)
                               : launch_enter_stage(launch, "loading", err);
    }
    if (status == STATUS_OK) {
        status = launch_plan_memory(launch, plan, err);
    }
    if (status == STATUS_OK) {
        status = device_reserve(inputs->device, plan, err);
    }
    if (status == STATUS_OK && !launch->loads) {
        status = read_weights(launch, err);
    }
    return status == STATUS_OK ? model_set_limits(inputs->model, &launch->limits, err) : status;
}

int launch_load(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct device_plan plan = {0};
    struct device_description device;
    int status = make_resident(launch, &plan, err);
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
