// SPDX-License-Identifier: MIT
// Whether a plan fits on a model's devices: on each of them, and the host's memory for all of them together.
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "model/stage.h"

// A device's plan, with what the other devices take of the host's memory as taken beside it.
static int plan_among_others(const struct model *model, const struct model_plan *plan, size_t index,
                             struct device_plan *own, struct error *err) {
    *own = plan->devices[index];
    for (size_t i = 0; i < model->stage_count; i++) {
        size_t bytes;
        if (i == index) {
            continue;
        }
        TRY(device_host_bytes(model->stages[i].device, &plan->devices[i], &bytes, err));
        if (!size_add(own->beside, bytes, &own->beside) ||
            !size_add(own->beside, plan->devices[i].beside, &own->beside)) {
            return error_set(err, STATUS_INTERNAL, "the plans of host memory overflow");
        }
    }
    return STATUS_OK;
}

static int check_device(const struct model *model, const struct model_plan *plan, size_t index,
                        struct error *err) {
    struct device_plan own;
    TRY(plan_among_others(model, plan, index, &own, err));
    return device_check_fits(model->stages[index].device, &own, err);
}

static double gib(size_t bytes) {
    return (double)bytes * 0x1p-30;
}

// What the other devices would take, behind the refusal of one, counted as the refusal counts. Where that one
// has room itself, it is the host that has none for what all need of it together.
static int refuse(const struct model *model, const struct model_plan *plan, size_t index, struct error *err) {
    char text[sizeof err->message];
    bool is_host = device_memory_fits(model->stages[index].device, &plan->devices[index]);
    int length = snprintf(text, sizeof text, "%s%s%s: %s", is_host ? "the host, for " : "",
                          model->stages[index].name, is_host ? " and the others" : "", err->message);
    size_t used = size_min((size_t)length, sizeof text - 1);
    for (size_t i = 0; i < model->stage_count && used < sizeof text - 1; i++) {
        const struct device *device = model->stages[i].device;
        struct device_plan whole;
        if (i == index) {
            continue;
        }
        TRY(device_plan_whole(device, &plan->devices[i], &whole, err));
        bool fits = device_memory_fits(device, &plan->devices[i]);
        length = snprintf(text + used, sizeof text - used,
                          "; %s: weights %.3f GiB | activations %.3f GiB | scratch %.3f GiB, which %s",
                          model->stages[i].name, gib(whole.bytes[DEVICE_WEIGHTS]),
                          gib(whole.bytes[DEVICE_ACTIVATIONS]), gib(whole.bytes[DEVICE_SCRATCH]),
                          fits ? "fit" : "do not fit either");
        used += size_min((size_t)length, sizeof text - 1 - used);
    }
    return error_set(err, STATUS_DEVICE, "%s", text);
}

int model_check_fits(const struct model *model, const struct model_plan *plan, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        int status = check_device(model, plan, i, err);
        if (status != STATUS_OK) {
            return status == STATUS_DEVICE && model->stage_count > 1
                       ? refuse(model, plan, i, err)
                       : stage_named(model, &model->stages[i], status, err);
        }
    }
    return STATUS_OK;
}

int model_plan_whole(const struct model *model, const struct model_plan *plan, struct model_plan *whole,
                     struct error *err) {
    *whole = *plan;
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_plan_whole(model->stages[i].device, &plan->devices[i], &whole->devices[i], err));
    }
    return STATUS_OK;
}

bool model_host_fits(const struct model *model, const struct model_plan *plan) {
    bool fits = true;
    for (size_t i = 0; i < model->stage_count; i++) {
        struct device_plan own;
        struct error ignored;
        fits = fits && (plan_among_others(model, plan, i, &own, &ignored) != STATUS_OK ||
                        device_host_fits(model->stages[i].device, &own));
    }
    return fits;
}
