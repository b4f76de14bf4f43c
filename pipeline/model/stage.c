#include "model/stage.h"

#include <stdlib.h>

#include "base/size.h"
#include "model/layout.h"
#include "model/streaming.h"

int stage_share(struct model_weights *weights, const struct model *model, size_t last, size_t index,
                size_t count, struct error *err) {
    void *blocks;
    size_t first = last * index / count;
    size_t end = last * (index + 1) / count;
    size_t streamed = size_min(model_streamed(model, last), end - first);
    TRY(memory_zeroed(&blocks, size_max(end - first, 1), sizeof weights->blocks[0], err));
    *weights = (struct model_weights){
        .blocks = blocks,
        .first_block = first,
        .block_count = end - first,
        .streamed = streamed,
        .slot_count = streamed > 0 ? streaming_slots(model->stages[index].device, streamed) : 0,
        .has_embedding = index == 0,
        .has_final_norm = index + 1 == count && last == model->config.layers,
        .match = &model->match};
    return STATUS_OK;
}

int stage_take_weights(struct stage *stage, const struct model_config *config, struct error *err) {
    struct layout layout = layout_taking(stage->device);
    return weights_lay_out(&layout, &stage->weights, config, err);
}

int stage_take_state(struct stage *stage, const struct model_config *config,
                     const struct model_limits *limits, struct model_output *outputs, struct error *err) {
    struct layout layout = layout_taking(stage->device);
    TRY(state_prepare(&stage->state, config, limits, err));
    TRY(state_lay_out(&layout, &stage->state, &stage->weights, config, limits, outputs, err));
    return state_fill_tables(&stage->state, stage->device, config, err);
}

int stage_check_resident(const struct stage *stage, const struct model *model, struct model_resident *sum,
                         struct error *err) {
    // Copies: a layout lists the pieces through pointers to where they are kept.
    struct model_state state = stage->state;
    struct model_weights weights = stage->weights;
    struct layout layout = layout_checking(stage->device);
    int status;
    TRY_TO(done, status = weights_lay_out(&layout, &weights, &model->config, err));
    status = state_lay_out(&layout, &state, &weights, &model->config, &model->limits, model->outputs, err);
done:
    sum->pieces += layout.checked;
    sum->bytes += layout.checked_bytes;
    return status;
}

void stage_close(struct stage *stage) {
    streaming_close(stage->streaming);
    state_destroy(&stage->state);
    free(stage->weights.blocks);
    device_close(stage->device);
    *stage = (struct stage){0};
}
