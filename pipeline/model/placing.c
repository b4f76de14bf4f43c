// A model comes to lie on its devices: memory is planned, compared with what is free, reserved and taken, and
// the weights are read into it.
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

static size_t last_of(const struct model_limits *limits) {
    return limits->layers[limits->layer_count - 1];
}

static int plan_weights(const struct model *model, size_t index, size_t last, struct device_plan *plan,
                        struct error *err) {
    struct model_weights weights;
    struct layout layout = layout_planning(model->stages[index].device, plan);
    TRY(stage_share(&weights, model, last, index, model->stage_count, err));
    int status = weights_lay_out(&layout, &weights, &model->config, err);
    if (status == STATUS_OK) {
        status = streaming_plan(model, &weights, model->stages[index].device, plan, err);
    }
    free(weights.blocks);
    return status;
}

int model_plan_weights(const struct model *model, size_t last, struct model_plan *plan, struct error *err) {
    *plan = (struct model_plan){0};
    for (size_t i = 0; i < model->stage_count; i++) {
        plan->devices[i].tokens = 1;
        TRY(plan_weights(model, i, last, &plan->devices[i], err));
    }
    return STATUS_OK;
}

static int plan_state(const struct model *model, size_t index, const struct model_limits *limits,
                      struct model_output *outputs, struct device_plan *plan, struct error *err) {
    struct model_weights weights;
    struct model_state state = {0};
    struct layout layout = layout_planning(model->stages[index].device, plan);
    int status;
    TRY(stage_share(&weights, model, last_of(limits), index, model->stage_count, err));
    TRY_TO(done, status = state_prepare(&state, &model->config, limits, err));
    status = state_lay_out(&layout, &state, &weights, &model->config, limits, outputs, err);
done:
    state_destroy(&state);
    free(weights.blocks);
    return status;
}

int model_plan(const struct model *model, const struct model_limits *limits, struct model_plan *plan,
               struct error *err) {
    struct model_output *outputs;
    int status = STATUS_OK;
    *plan = (struct model_plan){0};
    TRY(state_check_limits(&model->config, limits, err));
    TRY(state_list_outputs(&outputs, limits, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        plan->devices[i].tokens = limits->tokens;
        TRY_TO(done, status = plan_weights(model, i, last_of(limits), &plan->devices[i], err));
        TRY_TO(done, status = plan_state(model, i, limits, outputs, &plan->devices[i], err));
    }
done:
    free(outputs);
    return status;
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

int model_check_fits(const struct model *model, const struct model_plan *plan, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_check_fits(model->stages[i].device, &plan->devices[i], err));
    }
    return STATUS_OK;
}

bool model_host_fits(const struct model *model, const struct model_plan *plan) {
    bool fits = true;
    for (size_t i = 0; i < model->stage_count; i++) {
        fits = device_host_fits(model->stages[i].device, &plan->devices[i]) && fits;
    }
    return fits;
}

// ---- memory and weights ----

int model_reserve_weights(struct model *model, const struct model_plan *plan, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_reserve_weights(model->stages[i].device, &plan->devices[i], err));
    }
    return STATUS_OK;
}

int model_reserve(struct model *model, const struct model_plan *plan, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_reserve(model->stages[i].device, &plan->devices[i], err));
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
        TRY(stage_share(&stage->weights, model, last, i, model->stage_count, err));
        TRY(stage_take_weights(stage, &model->config, err));
    }
    TRY(load_files(model, true, options, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(streaming_open(model, &model->stages[i], options, err));
    }
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
    if (!model->is_loaded || model->layers != NULL || last_of(limits) != model->last) {
        return error_set(err, STATUS_INTERNAL, "%s",
                         model->layers != NULL ? "the model has its limits already"
                                               : "the weights of other blocks are loaded, or none");
    }
    TRY(keep_limits(model, limits, err));
    TRY(state_list_outputs(&model->outputs, limits, err));
    void *passes;
    TRY(memory_zeroed(&passes, state_members(limits), sizeof(struct pass), err));
    model->passes = passes;
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(stage_take_state(&model->stages[i], &model->config, limits, model->outputs, err));
    }
    return STATUS_OK;
}

int model_load(struct model *model, const struct model_limits *limits,
               const struct model_load_options *options, struct error *err) {
    TRY(state_check_limits(&model->config, limits, err));
    TRY(model_load_weights(model, last_of(limits), options, err));
    return model_set_limits(model, limits, err);
}
