// SPDX-License-Identifier: MIT
#include "model/head_pass.h"

#include "base/size.h"
#include "model/batch_check.h"

static bool streams(const struct model *model) {
    return model->stages[0].weights.streamed > 0;
}

size_t model_sweep_head(const struct model *model, const struct model_batch *batch) {
    return streams(model) && batch_takes_head(batch) ? model->limits.head : 0;
}

// Side by side every device computes it, so that all of them have the same to do.
int head_begin(struct model *model, const struct lane *lane, const struct model_batch *const *batches,
               size_t count, size_t *passes, struct error *err) {
    size_t head = 0;
    for (size_t i = 0; i < count; i++) {
        if (!model->has_head && batch_takes_head(batches[i])) {
            return error_set(err, STATUS_INTERNAL, "texts go on from a head that is not there");
        }
        head = size_max(head, model_sweep_head(model, batches[i]));
    }
    for (size_t i = 0; i < lane->count && head > 0; i++) {
        const struct pass_place place = {
            .stage = lane->first + i, .stages = 1, .member = state_members(&model->limits)};
        TRY(forward_begin_head(&model->passes[*passes], model, &place, err));
        *passes += model_batch_members(&model->limits, head);
    }
    return STATUS_OK;
}

// A lane's head, computed at once.
static int compute(struct model *model, size_t number, struct error *err) {
    const struct lane lane = lane_of(model, number);
    const struct pass_place place = {.stage = lane.first, .stages = lane.count};
    TRY(forward_begin_head(model->passes, model, &place, err));
    TRY(forward_sweep(model->passes, model_batch_members(&model->limits, model->limits.head), NULL, NULL,
                      err));
    for (size_t i = lane.first; i < lane.first + lane.count; i++) {
        struct stage *stage = &model->stages[i];
        struct device_fence fence;
        TRY(stage_named(model, stage, device_fence(stage->device, &fence, err), err));
        TRY(stage_named(model, stage, device_wait(stage->device, fence, NULL, err), err));
    }
    return STATUS_OK;
}

int model_set_head(struct model *model, const int32_t *ids, struct error *err) {
    const struct model_limits *limits = &model->limits;
    if (limits->head == 0 || model->layers == NULL || model->has_head) {
        return error_set(err, STATUS_INTERNAL, "%s",
                         model->has_head ? "the model has its head already" : "the limits have no head");
    }
    TRY(batch_check_ids(&model->config, ids, limits->head, err));
    forward_stage_ids(&model->config, model->staging.head.ids, ids, limits->head);
    model->has_head = true;
    for (size_t lane = 0; lane < model_lanes(model) && !streams(model); lane++) {
        if (compute(model, lane, err) != STATUS_OK) {
            return error_wrap(err, "the head of %zu tokens", limits->head);
        }
    }
    return STATUS_OK;
}
