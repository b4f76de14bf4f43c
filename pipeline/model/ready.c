// What a loaded model still needs before its first batch: the way its matmuls are computed, and the proof
// that all of it lies on the device.
#include "model/block.h"
#include "model/stage.h"

static int tune_block(struct stage *stage, const struct model_config *config, size_t block,
                      bool (*goes_on)(void *context), void *context, struct error *err) {
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, block, matmuls);
    const struct block_weights *weights = &stage->weights.blocks[block - stage->weights.first_block];
    for (size_t i = 0; i < count; i++) {
        struct block_operands o = block_operands(&matmuls[i], &stage->state.buffers, weights);
        if (goes_on != NULL && !goes_on(context)) {
            return error_set(err, STATUS_STOPPED, "tuning was stopped");
        }
        TRY(device_matmul_tune(stage->device, o.out, o.in, o.matrix, o.bias, matmuls[i].store, err));
    }
    return STATUS_OK;
}

int model_tune(struct model *model, bool (*goes_on)(void *context), void *context, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        struct stage *stage = &model->stages[i];
        const struct model_weights *w = &stage->weights;
        for (size_t block = w->first_block; block < w->first_block + w->block_count; block++) {
            if (tune_block(stage, &model->config, block, goes_on, context, err) != STATUS_OK) {
                return error_wrap(err, "block %zu", block);
            }
        }
    }
    return STATUS_OK;
}

int model_check_resident(const struct model *model, struct model_resident *out, struct error *err) {
    *out = (struct model_resident){0};
    for (size_t i = 0; i < model->stage_count; i++) {
        if (stage_check_resident(&model->stages[i], model, out, err) != STATUS_OK) {
            return error_wrap(err, "not resident");
        }
    }
    return STATUS_OK;
}
