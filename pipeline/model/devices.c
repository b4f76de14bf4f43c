// SPDX-License-Identifier: MIT
// The devices of a model as callers see them: in lanes, or as one.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kernels/telemetry.h"
#include "model/stage.h"

static int refuse_unlike(const struct stage *first, const struct stage *other, struct error *err) {
    struct device_description a;
    struct device_description b;
    device_describe(first->device, &a);
    device_describe(other->device, &b);
    if (strcmp(a.identity, b.identity) != 0) {
        return error_set(err, STATUS_DEVICE,
                         "%s is of another kind than %s, and its results may differ in bits: %s, and %s",
                         other->name, first->name, b.identity, a.identity);
    }
    if (device_dtype(first->device) != device_dtype(other->device)) {
        return error_set(err, STATUS_INTERNAL, "%s computes in another dtype than %s", other->name,
                         first->name);
    }
    return STATUS_OK;
}

int model_add_device(struct model *model, struct device *device, const char *name, struct error *err) {
    struct stage stage = {.device = device};
    if (model->is_shared || model->is_begun || model->stage_count == MODEL_DEVICES) {
        return error_set(err, STATUS_INTERNAL, "%s",
                         model->stage_count == MODEL_DEVICES ? "the model has its devices"
                                                             : "the model is already loaded");
    }
    snprintf(stage.name, sizeof stage.name, "%s", name);
    if (model->stage_count > 0) {
        TRY(refuse_unlike(&model->stages[0], &stage, err));
    }
    model->stages[model->stage_count++] = stage;
    snprintf(model->all_names, sizeof model->all_names, "%s to %s", model->stages[0].name, stage.name);
    return STATUS_OK;
}

void model_set_split(struct model *model, enum model_split split) {
    model->split = split;
}

enum model_split model_split_of(const struct model *model) {
    return model->split;
}

size_t model_devices(const struct model *model) {
    return model->stage_count;
}

const char *model_device_name(const struct model *model, size_t index) {
    return model->stages[index].name;
}

// ---- lanes ----

bool stages_chain(const struct model *model) {
    return model->split == MODEL_SPLIT_LAYERS && model->stage_count > 1;
}

struct lane lane_of(const struct model *model, size_t lane) {
    if (stages_chain(model) || model->placement.at != MODEL_WEIGHTS_RESIDENT) {
        return (struct lane){.count = model->stage_count, .is_chain = stages_chain(model)};
    }
    return (struct lane){.first = lane, .count = 1};
}

size_t model_lanes(const struct model *model) {
    return lane_of(model, 0).count > 1 ? 1 : model->stage_count;
}

const char *model_lane_name(const struct model *model, size_t lane) {
    return lane_of(model, lane).count > 1 ? model->all_names : model->stages[lane].name;
}

size_t model_lane_sweeps(const struct model *model) {
    struct device_description device;
    struct lane lane = lane_of(model, 0);
    model_describe(model, &device);
    return !device.queues ? 1 : lane.is_chain ? lane.count + 1 : 2;
}

size_t model_sweep_batches(const struct model *model) {
    struct lane lane = lane_of(model, 0);
    return state_group(&model->limits) * (lane.is_chain ? 1 : lane.count);
}

// ---- what they say ----

// UINT64_MAX: not known, or more than that.
static uint64_t sum_of(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void model_describe(const struct model *model, struct device_description *out) {
    uint64_t memory = 0;
    uint64_t memory_free = 0;
    *out = (struct device_description){0};
    for (size_t i = 0; i < model->stage_count; i++) {
        device_describe(model->stages[i].device, out);
        memory = sum_of(memory, out->memory);
        memory_free = sum_of(memory_free, out->memory_free);
    }
    out->memory = memory;
    out->memory_free = memory_free;
}

void model_describe_device(const struct model *model, size_t index, struct device_description *out) {
    device_describe(model->stages[index].device, out);
}

void model_sample(const struct model *model, size_t number, struct device_sample *out) {
    struct lane lane = lane_of(model, number);
    device_sample_clear(out);
    for (size_t i = lane.first; i < lane.first + lane.count; i++) {
        struct device_sample sample;
        device_sample(model->stages[i].device, &sample);
        if (sample.xid >= out->xid) { // an error of one counts before what the others say
            *out = sample;
        }
    }
}

const char *model_range_remedy(const struct model *model) {
    bool is_short = model->stage_count > 0 && device_dtype(model->stages[0].device) == DTYPE_F16;
    return is_short ? "; float16 ends at 65504, model.dtype: bfloat16 holds larger numbers" : "";
}

double model_clock(const struct model *model) {
    double seconds = -1;
    for (size_t i = 0; i < model->stage_count; i++) {
        double clock = device_clock(model->stages[i].device);
        if (clock >= 0) {
            seconds = seconds < 0 ? clock : seconds + clock;
        }
    }
    return seconds;
}

void model_residency(const struct model *model, size_t index, struct device_residency *out) {
    device_residency(model->stages[index].device, out);
}

void model_seal(struct model *model) {
    for (size_t i = 0; i < model->stage_count; i++) {
        device_seal(model->stages[i].device);
    }
}
