// SPDX-License-Identifier: MIT
// A model comes to lie on its devices: memory is planned, reserved and taken, and the weights are read into
// it.
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/forward.h"
#include "model/layout.h"
#include "model/quantise.h"
#include "model/stage.h"
#include "model/streaming.h"

// ---- plans ----

void model_set_placement(struct model *model, const struct model_placement *placement) {
    model->placement = *placement;
}

enum model_weights_at model_placed_at(const struct model *model) {
    return model->placement.at;
}

size_t model_streamed(const struct model *model, size_t last) {
    const struct model_placement *placement = &model->placement;
    return placement->at == MODEL_WEIGHTS_RESIDENT || placement->resident >= last
               ? 0
               : last - placement->resident;
}

int model_plan_weights(const struct model *model, size_t last, struct model_plan *plan, struct error *err) {
    *plan = (struct model_plan){0};
    TRY(shares_choose(model, last, NULL, plan->first_block, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        plan->devices[i].tokens = 1;
        TRY(stage_plan_weights(model, i, last, plan->first_block, &plan->devices[i], err));
    }
    return STATUS_OK;
}

int model_plan(const struct model *model, const struct model_limits *limits, struct model_plan *plan,
               struct error *err) {
    *plan = (struct model_plan){0};
    TRY(state_check_limits(&model->config, limits, err));
    TRY(shares_choose(model, model_blocks_wanted(&model->config, limits), limits, plan->first_block, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        plan->devices[i].tokens = limits->tokens;
        TRY(stage_plan_weights(model, i, model_blocks_wanted(&model->config, limits), plan->first_block,
                               &plan->devices[i], err));
        TRY(stage_plan_state(model, i, limits, plan->first_block, &plan->devices[i], err));
    }
    return STATUS_OK;
}

int model_plan_quantised(const struct model *model, const struct model_limits *limits,
                         enum model_quantize how, struct model_plan *plan, struct error *err) {
    void *bound;
    int status;
    struct model quantised = *model; // with formats of its own
    TRY(memory_zeroed(&bound, model->match.count, sizeof *model->match.bound, err));
    memcpy(bound, model->match.bound, model->match.count * sizeof *model->match.bound);
    quantised.match.bound = bound;
    TRY_TO(done, status = quantise_matrices(&quantised.match, how, model_is_packed(model), err));
    status = model_plan(&quantised, limits, plan, err);
done:
    free(bound);
    return status;
}

int model_plan_kept(const struct model *model, const struct model_limits *limits, struct model_plan *plan,
                    struct error *err) {
    struct model kept = *model;
    kept.match.expands = false;
    return model_plan(&kept, limits, plan, err);
}

size_t model_plan_bytes(const struct model_plan *plan, enum device_purpose purpose) {
    size_t bytes = 0;
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        const struct device_plan *device = &plan->devices[i];
        bytes += device->bytes[purpose] + (purpose == DEVICE_SCRATCH ? device->expansion : 0);
    }
    return bytes;
}

struct model_plan model_plan_part(const struct model_plan *plan, bool weights, bool batch) {
    struct model_plan part = {0};
    memcpy(part.first_block, plan->first_block, sizeof part.first_block);
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        const size_t *bytes = plan->devices[i].bytes;
        part.devices[i] =
            (struct device_plan){.bytes = {[DEVICE_WEIGHTS] = weights ? bytes[DEVICE_WEIGHTS] : 0,
                                           [DEVICE_ACTIVATIONS] = batch ? bytes[DEVICE_ACTIVATIONS] : 0,
                                           [DEVICE_SCRATCH] = batch ? bytes[DEVICE_SCRATCH] : 0},
                                 .expansion = batch ? plan->devices[i].expansion : 0,
                                 .tokens = plan->devices[i].tokens,
                                 .beside = weights ? plan->devices[i].beside : 0};
    }
    return part;
}

// ---- memory and weights ----

// The weights are loaded as they were planned.
static void keep_shares(struct model *model, const struct model_plan *plan) {
    memcpy(model->first_block, plan->first_block, sizeof model->first_block);
    model->is_shared = true;
}

int model_reserve_weights(struct model *model, const struct model_plan *plan, struct error *err) {
    keep_shares(model, plan);
    for (size_t i = 0; i < model->stage_count; i++) {
        const struct stage *stage = &model->stages[i];
        int status = device_reserve_weights(stage->device, &plan->devices[i], err);
        TRY(stage_named(model, stage, status, err));
    }
    return STATUS_OK;
}

int model_reserve(struct model *model, const struct model_plan *plan, struct error *err) {
    keep_shares(model, plan);
    for (size_t i = 0; i < model->stage_count; i++) {
        const struct stage *stage = &model->stages[i];
        TRY(stage_named(model, stage, device_reserve(stage->device, &plan->devices[i], err), err));
    }
    return STATUS_OK;
}

int model_load_weights(struct model *model, size_t last, const struct model_load_options *options,
                       struct error *err) {
    if (model->is_begun || model->stage_count == 0) {
        return error_set(err, STATUS_INTERNAL, "%s",
                         model->is_begun ? "the model is already loaded" : "the model has no device");
    }
    model->is_begun = true;
    model->last = last;
    for (size_t i = 0; i < model->stage_count; i++) {
        struct stage *stage = &model->stages[i];
        TRY(stage_share(&stage->weights, model, last, model->first_block, i, err));
        TRY(stage_named(model, stage, stage_take_weights(stage, &model->config, err), err));
    }
    TRY(load_files(model, true, options, err));
    TRY(streaming_open(model, options, err));
    model->is_loaded = true;
    return STATUS_OK;
}

static int keep_limits(struct model *model, const struct model_limits *limits, struct error *err) {
    void *layers;
    TRY(memory_zeroed(&layers, limits->layer_count, sizeof limits->layers[0], err));
    memcpy(layers, limits->layers, limits->layer_count * sizeof limits->layers[0]);
    model->layers = layers;
    model->limits = *limits;
    model->limits.layers = model->layers;
    return STATUS_OK;
}

int model_set_limits(struct model *model, const struct model_limits *limits, struct error *err) {
    TRY(state_check_limits(&model->config, limits, err));
    if (!model->is_loaded || model->layers != NULL ||
        model_blocks_wanted(&model->config, limits) != model->last) {
        return error_set(err, STATUS_INTERNAL, "%s",
                         model->layers != NULL ? "the model has its limits already"
                                               : "the weights of other blocks are loaded, or none");
    }
    TRY(keep_limits(model, limits, err));
    void *block;
    struct layout layout = layout_taking(model->stages[0].device);
    size_t members =
        state_members(limits) + (limits->head > 0 ? model_batch_members(limits, limits->head) : 0);
    TRY(memory_zeroed(&block, members * model->stage_count, sizeof model->passes[0], err));
    model->passes = block;
    TRY(memory_zeroed(&block, limits->slots, sizeof model->ends[0], err));
    model->ends = block;
    TRY(staging_prepare(&model->staging, &model->config, &model->limits, err));
    TRY(staging_lay_out(&layout, &model->staging, &model->config, &model->limits, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        struct stage *stage = &model->stages[i];
        TRY(stage_named(model, stage, stage_take_state(stage, model, err), err));
    }
    return STATUS_OK;
}

int model_load(struct model *model, const struct model_limits *limits,
               const struct model_load_options *options, struct error *err) {
    TRY(state_check_limits(&model->config, limits, err));
    TRY(model_load_weights(model, model_blocks_wanted(&model->config, limits), options, err));
    return model_set_limits(model, limits, err);
}
