// The devices of a model as callers see them: as one.
#include <stdint.h>

#include "kernels/telemetry.h"
#include "model/stage.h"

int model_add_device(struct model *model, struct device *device, struct error *err) {
    if (model->is_begun || model->stage_count == MODEL_DEVICES) {
        return error_set(err, STATUS_INTERNAL, "%s",
                         model->is_begun ? "the model is already loaded" : "the model has its devices");
    }
    model->stages[model->stage_count++].device = device;
    return STATUS_OK;
}

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

void model_sample(const struct model *model, struct device_sample *out) {
    device_sample_clear(out);
    for (size_t i = 0; i < model->stage_count; i++) {
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

void model_residency(const struct model *model, struct device_residency *out) {
    *out = (struct device_residency){0};
    for (size_t i = 0; i < model->stage_count; i++) {
        struct device_residency one;
        device_residency(model->stages[i].device, &one);
        for (int purpose = 0; purpose < DEVICE_PURPOSES; purpose++) {
            out->planned[purpose] += one.planned[purpose];
            out->taken[purpose] += one.taken[purpose];
        }
        out->process_bytes = sum_of(out->process_bytes, one.process_bytes);
    }
}

int model_algorithms(const struct model *model, struct buffer *text, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_algorithms(model->stages[i].device, text, err));
    }
    return STATUS_OK;
}

int model_set_algorithms(struct model *model, const char *text, bool binding, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_set_algorithms(model->stages[i].device, text, binding, err));
    }
    return STATUS_OK;
}

void model_seal(struct model *model) {
    for (size_t i = 0; i < model->stage_count; i++) {
        device_seal(model->stages[i].device);
    }
}
