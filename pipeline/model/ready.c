// What a loaded model still needs before its first batch: the way its products are computed, and the proof
// that all of it lies on the device.
#include "model/stage.h"

// The products of a block with the buffers that forward.c gives them.
static int tune_block(struct stage *stage, const struct block_weights *w, bool (*goes_on)(void *context),
                      void *context, struct error *err) {
    const struct model_state *s = &stage->state;
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
        int status = device_matmul_tune(stage->device, products[i].out, products[i].x, products[i].matrix,
                                        products[i].bias, products[i].store, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

int model_tune(struct model *model, bool (*goes_on)(void *context), void *context, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        struct stage *stage = &model->stages[i];
        for (size_t block = 0; block < stage->weights.block_count; block++) {
            if (tune_block(stage, &stage->weights.blocks[block], goes_on, context, err) != STATUS_OK) {
                return error_wrap(err, "block %zu", stage->weights.first_block + block);
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
