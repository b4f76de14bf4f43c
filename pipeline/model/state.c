#include "model/state.h"

#include <stdlib.h>

#include "base/size.h"
#include "model/rope.h"

enum { TABLE_CHUNK = 1024 }; // rows of the rotary tables filled at a time

int state_check_limits(const struct model_config *config, const struct model_limits *limits,
                       struct error *err) {
    size_t most = INT32_MAX;
    if (limits->tokens == 0 || limits->tokens > most || limits->texts == 0 ||
        limits->texts > limits->tokens || limits->rows == 0 || limits->rows > limits->tokens ||
        limits->longest == 0 || limits->longest > limits->tokens || limits->slots == 0) {
        return error_set(
            err, STATUS_INTERNAL,
            "batch limits do not fit together: %zu tokens, %zu texts, %zu rows, longest text %zu, %zu slots",
            limits->tokens, limits->texts, limits->rows, limits->longest, limits->slots);
    }
    if (limits->layer_count == 0) {
        return error_set(err, STATUS_INTERNAL, "no layer is wanted");
    }
    for (size_t i = 0; i < limits->layer_count; i++) {
        if (limits->layers[i] > config->layers || (i > 0 && limits->layers[i] <= limits->layers[i - 1])) {
            return error_set(err, STATUS_INTERNAL, "layer %zu is out of order or above %zu",
                             limits->layers[i], config->layers);
        }
    }
    return STATUS_OK;
}

int state_prepare_weights(struct model_weights *weights, const struct model_config *config, size_t last,
                          struct error *err) {
    void *block;
    weights->block_count = last;
    weights->has_final_norm = last == config->layers;
    int status = memory_zeroed(&block, size_max(last, 1), sizeof weights->blocks[0], err);
    weights->blocks = status == STATUS_OK ? block : NULL;
    return status;
}

int state_prepare(struct model_state *state, const struct model_config *config,
                  const struct model_limits *limits, struct error *err) {
    void *block;
    int status = memory_zeroed(&block, limits->slots, sizeof state->staged[0], err);
    if (status != STATUS_OK) {
        return status;
    }
    state->staged = block;
    status = memory_zeroed(&block, config->head_dim / 2, sizeof state->frequencies[0], err);
    if (status != STATUS_OK) {
        return status;
    }
    state->frequencies = block;
    size_t pointers;
    if (!size_mul(limits->layer_count, 2 * sizeof(void *), &pointers) ||
        !size_add(pointers, sizeof state->outputs[0], &pointers)) {
        return error_set(err, STATUS_INTERNAL, "too many layers");
    }
    status = memory_zeroed(&block, limits->slots, pointers, err);
    if (status != STATUS_OK) {
        return status;
    }
    // One piece: the slots, then two lists of pointers a slot.
    state->outputs = block;
    void *lists = state->outputs + limits->slots;
    for (size_t slot = 0; slot < limits->slots; slot++) {
        state->outputs[slot].rows = (const void **)lists + 2 * slot * limits->layer_count;
        state->outputs[slot].checks =
            (const struct device_row_check **)(state->outputs[slot].rows + limits->layer_count);
    }
    return STATUS_OK;
}

void state_destroy(struct model_state *state, struct model_weights *weights) {
    free(weights->blocks);
    free(state->frequencies);
    free(state->staged);
    free(state->outputs);
    *weights = (struct model_weights){0};
    *state = (struct model_state){0};
}

static int lay_out_inputs(struct layout *layout, enum device_purpose purpose, struct batch_inputs *inputs,
                          const struct model_limits *limits, struct error *err) {
    int status = layout_take(layout, purpose, limits->tokens, 1, sizeof(int32_t), (void **)&inputs->ids, err);
    if (status == STATUS_OK) {
        status =
            layout_take(layout, purpose, limits->tokens, 1, sizeof(int32_t), (void **)&inputs->rope_row, err);
    }
    if (status == STATUS_OK) {
        status = layout_take(layout, purpose, limits->texts + 1, 1, sizeof(int32_t), (void **)&inputs->starts,
                             err);
    }
    if (status == STATUS_OK) {
        status = layout_take(layout, purpose, limits->rows, 1, sizeof(struct device_span),
                             (void **)&inputs->spans, err);
    }
    return status;
}

static int lay_out_slot(struct layout *layout, struct model_state *state, size_t slot,
                        const struct model_config *config, const struct model_limits *limits,
                        struct error *err) {
    struct batch_inputs *staged = &state->staged[slot];
    size_t half = config->head_dim / 2;
    int status = lay_out_inputs(layout, DEVICE_STAGING, staged, limits, err);
    if (status == STATUS_OK && state->own_rows > 0) {
        status = layout_take(layout, DEVICE_STAGING, state->own_rows, half, sizeof(float),
                             (void **)&staged->own_cosine, err);
        if (status == STATUS_OK) {
            status = layout_take(layout, DEVICE_STAGING, state->own_rows, half, sizeof(float),
                                 (void **)&staged->own_sine, err);
        }
    }
    for (size_t i = 0; i < limits->layer_count && status == STATUS_OK; i++) {
        status = layout_take(layout, DEVICE_STAGING, limits->rows, config->hidden,
                             dtype_size(limits->out_dtype), (void **)&state->outputs[slot].rows[i], err);
        if (status == STATUS_OK) {
            status = layout_take(layout, DEVICE_STAGING, limits->rows, 1, sizeof(struct device_row_check),
                                 (void **)&state->outputs[slot].checks[i], err);
        }
    }
    return status;
}

static int lay_out_rope(struct layout *layout, struct model_state *state, const struct model_config *config,
                        const struct model_limits *limits, struct error *err) {
    bool own = rope_is_own(config, limits->longest);
    size_t half = config->head_dim / 2;
    state->table_rows = own ? config->max_positions : limits->longest;
    state->own_rows = own ? limits->tokens : 0;
    state->table_chunk = size_min(state->table_rows, TABLE_CHUNK);
    size_t rows = state->table_rows + state->own_rows;
    if (rows > INT32_MAX) {
        return error_set(err, STATUS_INTERNAL, "%zu positions are too many", rows);
    }
    int status =
        layout_take(layout, DEVICE_ACTIVATIONS, rows, half, sizeof(float), (void **)&state->cosine, err);
    if (status == STATUS_OK) {
        status =
            layout_take(layout, DEVICE_ACTIVATIONS, rows, half, sizeof(float), (void **)&state->sine, err);
    }
    if (status == STATUS_OK) {
        status = layout_take(layout, DEVICE_STAGING, state->table_chunk, half, sizeof(float),
                             (void **)&state->table_staging, err);
    }
    return status;
}

static int lay_out_activations(struct layout *layout, struct model_state *state,
                               const struct model_config *config, const struct model_limits *limits,
                               struct error *err) {
    TRY(block_lay_out_buffers(layout, &state->buffers, config, limits->tokens, err));
    for (size_t i = 0; i < POOL_BUFFERS; i++) {
        int status = layout_take(layout, DEVICE_ACTIVATIONS, limits->rows, config->hidden,
                                 dtype_size(limits->out_dtype), &state->pooled[i], err);
        if (status == STATUS_OK) {
            status = layout_take(layout, DEVICE_ACTIVATIONS, limits->rows, 1, sizeof(struct device_row_check),
                                 (void **)&state->pool_checks[i], err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return lay_out_inputs(layout, DEVICE_ACTIVATIONS, &state->inputs, limits, err);
}

int state_lay_out(struct layout *layout, struct model_state *state, size_t blocks,
                  const struct model_config *config, const struct model_limits *limits, struct error *err) {
    int status = lay_out_rope(layout, state, config, limits, err);
    if (status == STATUS_OK) {
        status = lay_out_activations(layout, state, config, limits, err);
    }
    if (status == STATUS_OK) {
        status =
            block_lay_out_scratch(layout, &state->attention_scratch, config, blocks, limits->longest, err);
    }
    for (size_t slot = 0; slot < limits->slots && status == STATUS_OK; slot++) {
        status = lay_out_slot(layout, state, slot, config, limits, err);
    }
    return status;
}
