// What a loaded model still needs before its first batch: the way its products are computed, and the proof
// that all of it lies on the device.
#include "model/block.h"
#include "model/state.h"

static int tune_block(struct model *model, size_t block, bool (*goes_on)(void *context), void *context,
                      struct error *err) {
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(&model->config, block, matmuls);
    for (size_t i = 0; i < count; i++) {
        struct block_operands o =
            block_operands(&matmuls[i], &model->state.buffers, &model->weights.blocks[block]);
        if (goes_on != NULL && !goes_on(context)) {
            return error_set(err, STATUS_STOPPED, "tuning was stopped");
        }
        TRY(device_matmul_tune(model->device, o.out, o.in, o.matrix, o.bias, matmuls[i].store, err));
    }
    return STATUS_OK;
}

int model_tune(struct model *model, bool (*goes_on)(void *context), void *context, struct error *err) {
    for (size_t block = 0; block < model->weights.block_count; block++) {
        if (tune_block(model, block, goes_on, context, err) != STATUS_OK) {
            return error_wrap(err, "block %zu", block);
        }
    }
    return STATUS_OK;
}

int model_check_resident(struct model *model, struct model_resident *out, struct error *err) {
    // Copies: a layout lists the pieces through pointers to where they are kept.
    struct model_state state = model->state;
    struct model_weights weights = model->weights;
    struct layout layout = layout_checking(model->device);
    int status;
    TRY_TO(done, status = weights_lay_out(&layout, &weights, &model->config, err));
    TRY_TO(done,
           status = state_lay_out(&layout, &state, weights.block_count, &model->config, &model->limits, err));
done:
    *out = (struct model_resident){.pieces = layout.checked, .bytes = layout.checked_bytes};
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "not resident");
}
