// What a loaded model still needs before its first batch: the way its products are computed, and the proof
// that all of it lies on the device.
#include "model/state.h"

// The products of a block with the buffers that forward.c gives them.
static int tune_block(struct model *model, const struct block_weights *w, bool (*goes_on)(void *context),
                      void *context, struct error *err) {
    const struct model_state *s = &model->state;
    const struct {
        void *out;
        void *x;
        const struct device_matrix *matrix;
        const void *bias;
        enum device_store store;
    } products[] = {{s->wide, s->normed, &w->qkv, w->qkv_bias, DEVICE_STORE},
                    {s->x, s->inner, &w->output, w->output_bias, DEVICE_ADD},
                    {s->wide, s->normed, &w->gate_up, w->gate_up_bias, DEVICE_STORE},
                    {s->x, s->inner, &w->down, w->down_bias, DEVICE_ADD}};
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        if (goes_on != NULL && !goes_on(context)) {
            return error_set(err, STATUS_STOPPED, "tuning was stopped");
        }
        int status = device_matmul_tune(model->device, products[i].out, products[i].x, products[i].matrix,
                                        products[i].bias, products[i].store, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

int model_tune(struct model *model, bool (*goes_on)(void *context), void *context, struct error *err) {
    for (size_t block = 0; block < model->weights.block_count; block++) {
        int status = tune_block(model, &model->weights.blocks[block], goes_on, context, err);
        if (status != STATUS_OK) {
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
    int status = weights_lay_out(&layout, &weights, &model->config, err);
    if (status == STATUS_OK) {
        status = state_lay_out(&layout, &state, weights.block_count, &model->config, &model->limits, err);
    }
    *out = (struct model_resident){.pieces = layout.checked, .bytes = layout.checked_bytes};
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "not resident");
}
