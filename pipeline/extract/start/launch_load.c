// SPDX-License-Identifier: MIT
// The model's weights on the device, and what is left to do with them before the first batch.
#include <inttypes.h>
#include <stdio.h>

#include "start/algorithms.h"
#include "start/fit.h"
#include "start/launch_steps.h"
#include "start/placement.h"
#include "start/resident.h"
#include "start/slices.h"

// ---- reading the model's files ----

// False when the load is to end: the ledger refused its figures, a stop was asked for, or what the survey
// found.
static bool keep_load(struct launch *launch) {
    struct error ignored; // the journal keeps it
    return journal_check(&launch->journal, &ignored) == STATUS_OK &&
           journal_refresh(&launch->journal, &ignored) == STATUS_OK &&
           !guard_stop_requested(&launch->guard) && !launch_survey_refuses(launch);
}

static bool show_load(void *context, uint64_t done, uint64_t all, double seconds) {
    struct launch *launch = context;
    char note[64];
    guard_goes_on(&launch->guard); // also while a file does not come: that is the reader's to judge
    int length = snprintf(note, sizeof note, "%.2f GB/s", seconds > 0 ? (double)done * 1e-9 / seconds : 0.0);
    if (launch->surveyor.running && done < all) {
        snprintf(note + length, sizeof note - (size_t)length, ", %" PRIu64 " problems surveyed",
                 surveyor_problems(&launch->surveyor));
    }
    struct display_state state = {
        .stage = "loading", .done = done, .all = all, .unit = "GB", .unit_size = 1e9, .note = note};
    display_update(&launch->display, &state, done == all);
    journal_loaded(&launch->journal, done, all);
    return keep_load(launch);
}

static void hear_reading(void *context) {
    struct launch *launch = context;
    guard_goes_on(&launch->guard);
}

static struct model_load_options load_options(struct launch *launch) {
    return (struct model_load_options){.timeout_seconds = launch->inputs.job.load_timeout,
                                       .hashes = launch->inputs.job.hash_cache ? MODEL_HASHES_KEPT
                                                                               : MODEL_HASHES_MADE,
                                       .log = &launch->log,
                                       .progress = show_load,
                                       .reads_again = hear_reading,
                                       .context = launch};
}

// What ends the reading of the model's files beside the reader's own errors: a ledger that refuses its
// progress, a stop.
static int end_reading(struct launch *launch, int status, struct error *err) {
    struct error refusal;
    if (journal_check(&launch->journal, &refusal) != STATUS_OK) {
        *err = refusal;
        status = err->status;
    } else if (status == STATUS_STOPPED) {
        error_set(err, status, "stopped by %s while loading the model; run the same command to resume",
                  guard_signal_name(&launch->guard));
    }
    display_end(&launch->display);
    return status;
}

int launch_compare_model(struct launch *launch, struct error *err) {
    const struct model_load_options options = load_options(launch);
    return end_reading(launch, model_fingerprint_files(launch->inputs.model, &options, err), err);
}

static int read_weights(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    const struct model_load_options options = load_options(launch);
    launch->loads = true;
    launch_begin_phase(launch, GUARD_DEVICE, "loading the weights");
    int status = model_load_weights(inputs->model, inputs_blocks(inputs), &options, err);
    guard_batch_ends(&launch->guard);
    return end_reading(launch, status, err);
}

// ---- beside the survey ----

static int look_at_weights(struct launch *launch, struct model_plan *plan, struct error *refusal) {
    struct inputs *inputs = &launch->inputs;
    TRY(launch_check_identity(launch, KNOWN_BEFORE_PROBLEMS, refusal));
    TRY(model_plan_weights(inputs->model, inputs_blocks(inputs), plan, refusal));
    return model_check_fits(inputs->model, plan, refusal);
}

// Weights that do not fit are refused once all is known, with the batches that would fit.
static int may_load(struct launch *launch, struct model_plan *plan, bool *may, struct error *err) {
    struct ledger_totals totals;
    struct error refusal;
    *may = false;
    // Which blocks stay, and on which of several devices, is known once all is.
    if (placement_streams(&launch->inputs) || model_split_of(launch->inputs.model) == MODEL_SPLIT_LAYERS) {
        return STATUS_OK;
    }
    TRY(ledger_totals(launch->journal.ledger, &totals, err));
    if (totals.finished || launch->inputs.retries) {
        return STATUS_OK;
    }
    int status = look_at_weights(launch, plan, &refusal);
    *may = status == STATUS_OK;
    if (status != STATUS_OK && status != STATUS_JOB && status != STATUS_DEVICE) {
        *err = refusal;
        return status;
    }
    return STATUS_OK;
}

static int take_memory(struct launch *launch,
                       int (*reserve)(struct model *, const struct model_plan *, struct error *),
                       const struct model_plan *plan, struct error *err) {
    launch_begin_phase(launch, GUARD_DEVICE, "taking the device's memory");
    int status = reserve(launch->inputs.model, plan, err);
    guard_batch_ends(&launch->guard);
    return status;
}

int launch_load_early(struct launch *launch, struct error *err) {
    struct model_plan plan;
    bool may;
    TRY(may_load(launch, &plan, &may, err));
    if (!may) {
        return STATUS_OK;
    }
    TRY(launch_enter_stage(launch, "loading", err));
    TRY(take_memory(launch, model_reserve_weights, &plan, err));
    return read_weights(launch, err);
}

// ---- the rest ----

int launch_plan_memory(struct launch *launch, struct model_plan *plan, struct error *err) {
    inputs_model_limits(&launch->inputs, &launch->limits);
    return fit_on_device(&launch->inputs, &launch->limits, plan, err);
}

static int make_resident(struct launch *launch, struct model_plan *plan, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    TRY(launch_heed_stop(launch, err));
    TRY(launch->loads ? journal_stage(&launch->journal, "loading", err)
                      : launch_enter_stage(launch, "loading", err));
    TRY(launch_plan_memory(launch, plan, err));
    TRY(take_memory(launch, model_reserve, plan, err));
    if (!launch->loads) {
        TRY(read_weights(launch, err));
    }
    launch_begin_phase(launch, GUARD_DEVICE, "filling the device's tables");
    int status = model_set_limits(inputs->model, &launch->limits, err);
    guard_batch_ends(&launch->guard);
    return status;
}

// The device at work for the first time, under the guard's eyes.
static int try_device(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    launch_begin_phase(launch, GUARD_DEVICE, "choosing how matmuls are computed");
    int status;
    TRY_TO(done, status = algorithms_tune(inputs, launch->journal.ledger, &launch->limits, &launch->guard,
                                          &launch->log, err));
    launch_begin_phase(launch, GUARD_DEVICE, "the first pass through all layers");
    TRY_TO(done, status = model_check(inputs->model, err));
done:
    guard_batch_ends(&launch->guard);
    return status;
}

int launch_compute_head(struct launch *launch, struct error *err) {
    const struct plan_limits *limits = &launch->inputs.limits;
    if (limits->head_tokens == 0) {
        return STATUS_OK;
    }
    TRY(launch_heed_stop(launch, err));
    log_write(&launch->log, LOG_LEVEL_INFO, "computing the head, %zu tokens", limits->head_tokens);
    launch_begin_phase(launch, GUARD_DEVICE, "computing the head");
    int status = model_set_head(launch->inputs.model, limits->head, err);
    guard_batch_ends(&launch->guard);
    return status;
}

// How blocks and long texts are computed, where that is not all at once.
static int tell_ways(struct launch *launch, struct error *err) {
    int (*const describe[])(const struct inputs *inputs, const struct model_limits *limits,
                            struct buffer *text, struct error *err) = {placement_describe, slices_describe};
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof describe / sizeof describe[0] && status == STATUS_OK; i++) {
        struct buffer text = {0};
        status = describe[i](&launch->inputs, &launch->limits, &text, err);
        if (status == STATUS_OK && text.size > 0) {
            log_write(&launch->log, LOG_LEVEL_INFO, "%s", text.data);
        }
        buffer_destroy(&text);
    }
    return status;
}

int launch_load(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct model_plan plan = {0};
    struct model_plan whole = {0};
    const struct device_description *device = &inputs->device;
    char names[INPUTS_DEVICE_NAMES];
    int status = make_resident(launch, &plan, err);
    if (status == STATUS_OK) {
        status = model_plan_whole(inputs->model, &plan, &whole, err);
    }
    if (status == STATUS_OK) {
        status = try_device(launch, err);
    }
    if (status == STATUS_OK) {
        status = resident_check(inputs, &launch->limits, &launch->residency, &launch->log, err);
    }
    if (status == STATUS_OK) {
        status = tell_ways(launch, err);
    }
    log_write(&launch->log, LOG_LEVEL_INFO,
              "device %s, %s, path %s (%s), %d threads; %zu + %zu + %zu + %zu bytes of weights, activations, "
              "scratch, staging",
              inputs->device_count > 1 ? inputs_device_names(inputs, names) : device->kind, device->name,
              device->path, device->reason, device->threads, model_plan_bytes(&whole, DEVICE_WEIGHTS),
              model_plan_bytes(&whole, DEVICE_ACTIVATIONS), model_plan_bytes(&whole, DEVICE_SCRATCH),
              model_plan_bytes(&whole, DEVICE_STAGING));
    return status;
}
