// SPDX-License-Identifier: MIT
#include "model/stage.h"

#include <stdlib.h>

#include "base/size.h"
#include "model/layout.h"
#include "model/streaming.h"

int stage_named(const struct model *model, const struct stage *stage, int status, struct error *err) {
    return status == STATUS_OK || model->stage_count == 1 ? status : error_wrap(err, "%s", stage->name);
}

// ---- memory ----

int stage_share(struct model_weights *weights, const struct model *model, size_t last,
                const size_t *first_block, size_t index, struct error *err) {
    bool is_chain = stages_chain(model);
    bool is_last = !is_chain || index + 1 == model->stage_count;
    size_t first = is_chain ? first_block[index] : 0;
    size_t end = is_chain ? first_block[index + 1] : last;
    size_t streamed = is_chain ? 0 : model_streamed(model, last);
    void *blocks;
    TRY(memory_zeroed(&blocks, size_max(end - first, 1), sizeof weights->blocks[0], err));
    *weights = (struct model_weights){
        .blocks = blocks,
        .first_block = first,
        .block_count = end - first,
        .streamed = streamed,
        .slot_count = streamed > 0 ? streaming_slots(model->stages[index].device, streamed) : 0,
        .has_embedding = !is_chain || index == 0,
        .has_final_norm = is_last && last == model->config.layers,
        .match = &model->match};
    return STATUS_OK;
}

int stage_plan_weights(const struct model *model, size_t index, size_t last, const size_t *first_block,
                       struct device_plan *plan, struct error *err) {
    struct model_weights weights;
    struct layout layout = layout_planning(model->stages[index].device, plan);
    TRY(stage_share(&weights, model, last, first_block, index, err));
    int status = weights_lay_out(&layout, &weights, &model->config, err);
    if (status == STATUS_OK && index == 0) {
        status = streaming_plan(model, &weights, plan, err);
    }
    free(weights.blocks);
    return status;
}

int stage_plan_state(const struct model *model, size_t index, const struct model_limits *limits,
                     const size_t *first_block, struct device_plan *plan, struct error *err) {
    struct model_weights weights;
    struct model_state state = {0};
    struct model_staging staging = {0};
    struct layout layout = layout_planning(model->stages[index].device, plan);
    size_t last = model_blocks_wanted(&model->config, limits);
    int status;
    TRY(stage_share(&weights, model, last, first_block, index, err));
    TRY_TO(done, status = state_prepare(&state, &weights, limits, stages_chain(model), err));
    TRY_TO(done, status = state_lay_out(&layout, &state, &weights, &model->config, limits, err));
    if (index == 0) {
        TRY_TO(done, status = staging_prepare(&staging, &model->config, limits, err));
        status = staging_lay_out(&layout, &staging, &model->config, limits, err);
    }
done:
    staging_destroy(&staging);
    state_destroy(&state);
    free(weights.blocks);
    return status;
}

int stage_take_weights(struct stage *stage, const struct model_config *config, struct error *err) {
    struct layout layout = layout_taking(stage->device);
    return weights_lay_out(&layout, &stage->weights, config, err);
}

int stage_take_state(struct stage *stage, const struct model *model, struct error *err) {
    struct layout layout = layout_taking(stage->device);
    TRY(state_prepare(&stage->state, &stage->weights, &model->limits, stages_chain(model), err));
    TRY(state_lay_out(&layout, &stage->state, &stage->weights, &model->config, &model->limits, err));
    return state_fill_tables(&stage->state, &model->staging, stage->device, &model->config, err);
}

int stage_check_resident(const struct stage *stage, const struct model *model, struct model_resident *sum,
                         struct error *err) {
    // Copies: a layout lists the pieces through pointers to where they are kept.
    struct model_state state = stage->state;
    struct model_weights weights = stage->weights;
    struct layout layout = layout_checking(stage->device);
    int status;
    TRY_TO(done, status = weights_lay_out(&layout, &weights, &model->config, err));
    status = state_lay_out(&layout, &state, &weights, &model->config, &model->limits, err);
done:
    sum->pieces += layout.checked;
    sum->bytes += layout.checked_bytes;
    return stage_named(model, stage, status, err);
}

void stage_close(struct stage *stage) {
    state_destroy(&stage->state);
    free(stage->weights.blocks);
    device_close(stage->device);
    *stage = (struct stage){0};
}
