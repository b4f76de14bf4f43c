// SPDX-License-Identifier: MIT
#include "model/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "model/rope.h"

enum {
    TABLE_CHUNK = 1024, // rows of the rotary tables filled at a time
    SLICE_STARTS = 4,   // staged of a text in slices: [0, tokens) of a whole slice and of the last
};

// ---- limits ----

size_t state_group(const struct model_limits *limits) {
    return size_max(limits->group, 1);
}

size_t state_members(const struct model_limits *limits) {
    return limits->members > 0 ? limits->members : state_group(limits);
}

bool state_has_slices(const struct model_limits *limits) {
    return model_longest_own(limits) > limits->tokens;
}

// Of texts that go on from others a batch may have more rows than tokens.
size_t state_pool_rows(const struct model_limits *limits) {
    return limits->longest_own > 0 ? limits->rows : size_min(limits->rows, limits->tokens);
}

// Tokens of the largest batch.
static size_t most_tokens(const struct model_limits *limits) {
    return size_max(limits->tokens, model_longest_own(limits));
}

size_t model_batch_members(const struct model_limits *limits, size_t tokens) {
    return tokens <= limits->tokens ? 1 : (tokens - 1) / limits->tokens + 1;
}

bool model_limits_slice(struct model_limits *limits) {
    if (!state_has_slices(limits)) {
        return true;
    }
    if (limits->tokens < DEVICE_SLICE) {
        return false;
    }
    limits->tokens = limits->tokens / DEVICE_SLICE * DEVICE_SLICE;
    limits->texts = size_min(limits->texts, limits->tokens);
    limits->members = size_max(state_members(limits), model_batch_members(limits, model_longest_own(limits)));
    return true;
}

static int check_slices(const struct model_limits *limits, struct error *err) {
    if (limits->tokens % DEVICE_SLICE != 0) {
        return error_set(err, STATUS_INTERNAL,
                         "texts of %zu tokens run in slices of a multiple of %d tokens, not of %zu",
                         model_longest_own(limits), DEVICE_SLICE, limits->tokens);
    }
    size_t needed = model_batch_members(limits, model_longest_own(limits));
    if (needed > state_members(limits)) {
        return error_set(err, STATUS_INTERNAL,
                         "texts of %zu tokens run in %zu slices, for which %zu residual streams do not do",
                         model_longest_own(limits), needed, state_members(limits));
    }
    return STATUS_OK;
}

int state_check_limits(const struct model_config *config, const struct model_limits *limits,
                       struct error *err) {
    size_t most = INT32_MAX;
    if (limits->tokens == 0 || limits->tokens > most || limits->texts == 0 ||
        limits->texts > limits->tokens || limits->rows == 0 ||
        (limits->longest_own == 0 && limits->rows > most_tokens(limits)) || limits->longest == 0 ||
        limits->longest > most || limits->slots == 0 || state_group(limits) > limits->slots ||
        state_group(limits) > state_members(limits)) {
        return error_set(
            err, STATUS_INTERNAL,
            "batch limits do not fit together: %zu tokens, %zu texts, %zu rows, longest text %zu, "
            "%zu slots, %zu batches a sweep, %zu residual streams",
            limits->tokens, limits->texts, limits->rows, limits->longest, limits->slots, state_group(limits),
            state_members(limits));
    }
    if (state_has_slices(limits)) {
        TRY(check_slices(limits, err));
    }
    if (limits->head > 0) {
        TRY(head_check_limits(config, limits, err));
    }
    if (limits->layer_count == 0) {
        return error_set(err, STATUS_INTERNAL, "no layer is wanted");
    }
    for (size_t i = 0; i < limits->layer_count; i++) {
        if (limits->layers[i] > config_pre_norm(config) ||
            (i > 0 && limits->layers[i] <= limits->layers[i - 1])) {
            return error_set(err, STATUS_INTERNAL, "layer %zu is out of order or above %zu",
                             limits->layers[i], config_pre_norm(config));
        }
    }
    return STATUS_OK;
}

int state_prepare(struct model_state *state, const struct model_weights *weights,
                  const struct model_limits *limits, bool is_chain, struct error *err) {
    void *block;
    state->turns = is_chain ? RESIDUAL_TURNS : 1;
    state->members = state_members(limits) + head_own_members(weights, limits);
    TRY(memory_zeroed(&block, state->members, sizeof state->inputs[0], err));
    state->inputs = block;
    TRY(memory_zeroed(&block, state->members, state->turns * sizeof state->residuals[0], err));
    state->residuals = block;
    return limits->head > 0 ? head_prepare(&state->head, weights, limits, err) : STATUS_OK;
}

// Texts of a batch that may go on from others.
static size_t state_origins(const struct model_limits *limits) {
    return limits->longest_own > 0 ? limits->texts : 0;
}

// The lists of all slots' outputs, empty: one piece of memory.
static int list_outputs(struct model_output **out, const struct model_limits *limits, struct error *err) {
    void *block;
    size_t bytes;
    if (!size_mul(limits->layer_count, 2 * sizeof(void *), &bytes) ||
        !size_add(bytes, sizeof **out, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "too many layers");
    }
    TRY(memory_zeroed(&block, limits->slots, bytes, err));
    struct model_output *outputs = block; // the slots, then two lists of pointers a slot
    void *next = outputs + limits->slots;
    for (size_t slot = 0; slot < limits->slots; slot++) {
        outputs[slot].rows = next;
        next = outputs[slot].rows + limits->layer_count;
        outputs[slot].checks = next;
        next = outputs[slot].checks + limits->layer_count;
    }
    *out = outputs;
    return STATUS_OK;
}

int staging_prepare(struct model_staging *staging, const struct model_config *config,
                    const struct model_limits *limits, struct error *err) {
    void *block;
    TRY(memory_zeroed(&block, limits->slots, sizeof staging->inputs[0], err));
    staging->inputs = block;
    TRY(memory_zeroed(&block, config_rotated_most(config) / 2, sizeof staging->frequencies[0], err));
    staging->frequencies = block;
    return list_outputs(&staging->outputs, limits, err);
}

void state_destroy(struct model_state *state) {
    head_destroy(&state->head);
    free(state->residuals);
    free(state->inputs);
    *state = (struct model_state){0};
}

void staging_destroy(struct model_staging *staging) {
    free(staging->outputs);
    free(staging->frequencies);
    free(staging->inputs);
    *staging = (struct model_staging){0};
}

// tokens, starts, origins, rows: as many as there is room for.
static int lay_out_inputs(struct layout *layout, enum device_purpose purpose, struct batch_inputs *inputs,
                          size_t tokens, size_t starts, size_t origins, size_t rows, struct error *err) {
    TRY(layout_take(layout, purpose, tokens, 1, sizeof(int32_t), &inputs->ids, err));
    TRY(layout_take(layout, purpose, tokens, 1, sizeof(int32_t), &inputs->rope_row, err));
    TRY(layout_take(layout, purpose, starts, 1, sizeof(int32_t), &inputs->starts, err));
    if (origins > 0) {
        TRY(layout_take(layout, purpose, origins, 1, sizeof(struct device_origin), &inputs->origins, err));
    }
    return layout_take(layout, purpose, rows, 1, sizeof(struct device_span), &inputs->spans, err);
}

static int lay_out_output(struct layout *layout, struct model_output *output,
                          const struct model_config *config, const struct model_limits *limits,
                          struct error *err) {
    for (size_t i = 0; i < limits->layer_count; i++) {
        TRY(layout_take(layout, DEVICE_STAGING, limits->rows, config->hidden, dtype_size(limits->stored),
                        &output->rows[i], err));
        TRY(layout_take(layout, DEVICE_STAGING, limits->rows, 1, sizeof(struct device_row_check),
                        &output->checks[i], err));
    }
    return STATUS_OK;
}

static int lay_out_staged(struct layout *layout, struct batch_inputs *staged, bool own, size_t half,
                          const struct model_limits *limits, struct error *err) {
    size_t tokens = most_tokens(limits);
    size_t starts = size_max(limits->texts + 1, state_has_slices(limits) ? SLICE_STARTS : 0);
    TRY(lay_out_inputs(layout, DEVICE_STAGING, staged, tokens, starts, state_origins(limits), limits->rows,
                       err));
    if (own) {
        TRY(layout_take(layout, DEVICE_STAGING, tokens, half, sizeof(float), &staged->own_cosine, err));
        TRY(layout_take(layout, DEVICE_STAGING, tokens, half, sizeof(float), &staged->own_sine, err));
    }
    return STATUS_OK;
}

// Rows of the rotary tables that are filled at load, and that each batch may bring along.
static size_t table_rows(const struct model_config *config, const struct model_limits *limits) {
    return size_min(rope_common_positions(config), limits->longest);
}

static size_t own_rows(const struct model_config *config, const struct model_limits *limits) {
    return rope_is_own(config, limits->longest) ? limits->tokens : 0;
}

static int lay_out_rope(struct layout *layout, struct model_state *state, const struct model_config *config,
                        const struct model_limits *limits, struct error *err) {
    size_t half = config_rope_rotated(config, &config->rope) / 2;
    size_t local_half = config_rope_rotated(config, &config->local_rope) / 2;
    size_t rows;
    state->table_rows = table_rows(config, limits);
    state->own_rows = own_rows(config, limits);
    if (!size_mul(state_members(limits), state->own_rows, &rows) ||
        !size_add(rows, state->table_rows, &rows) || rows > INT32_MAX) {
        return error_set(err, STATUS_INTERNAL, "%zu positions for each of %zu batches are too many",
                         state->own_rows, state_members(limits));
    }
    TRY(layout_take(layout, DEVICE_ACTIVATIONS, rows, half, sizeof(float), &state->cosine, err));
    TRY(layout_take(layout, DEVICE_ACTIVATIONS, rows, half, sizeof(float), &state->sine, err));
    rows = state->table_rows;
    if (config->has_local_rope) {
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, rows, local_half, sizeof(float), &state->local_cosine,
                        err));
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, rows, local_half, sizeof(float), &state->local_sine,
                        err));
    }
    if (config->query_beta > 0) {
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, rows, 1, sizeof(float), &state->query_scale, err));
    }
    return config->has_slopes
               ? layout_take(layout, DEVICE_ACTIVATIONS, config->heads, 1, sizeof(float), &state->slopes, err)
               : STATUS_OK;
}

// The residual streams beyond those that lie behind x.
static int lay_out_residuals(struct layout *layout, struct model_state *state, size_t behind,
                             const struct model_config *config, const struct model_limits *limits,
                             struct error *err) {
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    unsigned char *x = state->buffers.x;
    for (size_t i = 0; i < behind && x != NULL; i++) {
        state->residuals[i] = x + i * limits->tokens * config->hidden * width;
    }
    for (size_t i = behind; i < state->turns * state->members; i++) {
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, limits->tokens, config->hidden, width,
                        &state->residuals[i], err));
    }
    return STATUS_OK;
}

// What lies beside the residual streams, as often: keys and values for later blocks, and blocks' own inputs.
static int lay_out_beside(struct layout *layout, struct model_state *state, const struct model_config *config,
                          const struct model_limits *limits, struct error *err) {
    const struct {
        size_t columns;
        void **out;
    } pieces[] = {{config_shared_keys(config, false), &state->shared[0]},
                  {config_shared_keys(config, true), &state->shared[1]},
                  {config_layer_inputs(config), &state->layer_inputs}};
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    size_t rows;
    if (!size_mul(state->turns * state->members, limits->tokens, &rows)) {
        return error_set(err, STATUS_INTERNAL, "numbers of %zu batches are too many", state->members);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        if (pieces[i].columns > 0) {
            TRY(layout_take(layout, DEVICE_ACTIVATIONS, rows, pieces[i].columns, width, pieces[i].out, err));
        }
    }
    return STATUS_OK;
}

static int lay_out_activations(struct layout *layout, struct model_state *state,
                               const struct model_config *config, const struct model_limits *limits,
                               struct error *err) {
    bool slices = state_has_slices(limits);
    size_t behind = slices ? state->turns * state->members : 1;
    TRY(block_lay_out_buffers(layout, &state->buffers, config, limits->tokens, behind, err));
    for (size_t i = 0; i < POOL_BUFFERS; i++) {
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, state_pool_rows(limits), config->hidden,
                        dtype_size(limits->stored), &state->pooled[i], err));
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, state_pool_rows(limits), 1,
                        sizeof(struct device_row_check), &state->pool_checks[i], err));
    }
    for (size_t i = 0; i < state->members; i++) {
        bool is_head = i >= state_members(limits);
        TRY(lay_out_inputs(layout, DEVICE_ACTIVATIONS, &state->inputs[i], limits->tokens,
                           is_head ? 2 : limits->texts + 1, is_head ? 0 : state_origins(limits),
                           is_head ? 0 : state_pool_rows(limits), err));
    }
    if (slices) {
        size_t bytes;
        if (!block_kept_bytes(config, model_longest_own(limits), dtype_size(device_dtype(layout->shapes_for)),
                              &bytes)) {
            return error_set(err, STATUS_INTERNAL, "keys and values of %zu tokens are too many",
                             model_longest_own(limits));
        }
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, bytes, 1, 1, &state->kept, err));
    }
    TRY(lay_out_beside(layout, state, config, limits, err));
    return lay_out_residuals(layout, state, behind, config, limits, err);
}

int state_lay_out(struct layout *layout, struct model_state *state, const struct model_weights *weights,
                  const struct model_config *config, const struct model_limits *limits, struct error *err) {
    TRY(lay_out_rope(layout, state, config, limits, err));
    TRY(lay_out_activations(layout, state, config, limits, err));
    if (limits->head > 0) {
        TRY(head_lay_out(layout, &state->head, weights, config, limits, err));
    }
    return block_lay_out_scratch(layout, &state->scratch, config, weights->first_block, weights->block_count,
                                 limits->tokens, limits->longest, err);
}

int staging_lay_out(struct layout *layout, struct model_staging *staging, const struct model_config *config,
                    const struct model_limits *limits, struct error *err) {
    size_t half = config_rotated_most(config) / 2;
    size_t columns = size_max(half, sizeof(struct device_row_check) / sizeof(float));
    staging->table_chunk = size_min(table_rows(config, limits), TABLE_CHUNK);
    TRY(layout_take(layout, DEVICE_STAGING, staging->table_chunk, columns, sizeof(float), &staging->rows,
                    err));
    for (size_t slot = 0; slot < limits->slots; slot++) {
        TRY(lay_out_staged(layout, &staging->inputs[slot], own_rows(config, limits) > 0, half, limits, err));
        TRY(lay_out_output(layout, &staging->outputs[slot], config, limits, err));
    }
    return limits->head == 0 ? STATUS_OK
                             : lay_out_inputs(layout, DEVICE_STAGING, &staging->head, limits->head,
                                              SLICE_STARTS, 0, 0, err);
}

// ---- rotary tables ----

// A table is filled through staging memory, which may be used again only when the copy is done.
static int upload_rows(const struct model_staging *staging, struct device *device, float *table, size_t row,
                       size_t count, size_t half, struct error *err) {
    struct device_fence fence;
    TRY(device_upload(device, table + row * half, staging->rows, count * half * sizeof(float), err));
    TRY(device_fence(device, &fence, err));
    return device_wait(device, fence, NULL, err);
}

static int fill_table(const struct model_state *state, const struct model_staging *staging,
                      struct device *device, const struct model_config *config,
                      const struct rope_config *rope, float *cosine, float *sine, struct error *err) {
    size_t half = config_rope_rotated(config, rope) / 2;
    int status = STATUS_OK;
    void *block;
    TRY(memory_zeroed(&block, half * staging->table_chunk, sizeof(float), err));
    float *sines = block; // [table_chunk, half] kept while the cosines are uploaded
    rope_frequencies(config, rope, state->table_rows, staging->frequencies);
    for (size_t row = 0; row < state->table_rows; row += staging->table_chunk) {
        size_t count = size_min(staging->table_chunk, state->table_rows - row);
        rope_rows(config, rope, staging->frequencies, row, count, staging->rows, sines);
        TRY_TO(done, status = upload_rows(staging, device, cosine, row, count, half, err));
        memcpy(staging->rows, sines, count * half * sizeof(float));
        TRY_TO(done, status = upload_rows(staging, device, sine, row, count, half, err));
    }
done:
    free(block);
    return status;
}

static int fill_query_scale(const struct model_state *state, const struct model_staging *staging,
                            struct device *device, const struct model_config *config, struct error *err) {
    float *scales = staging->rows;
    for (size_t row = 0; row < state->table_rows; row += staging->table_chunk) {
        size_t count = size_min(staging->table_chunk, state->table_rows - row);
        for (size_t i = 0; i < count; i++) {
            scales[i] = rope_query_scale(config, row + i);
        }
        TRY(upload_rows(staging, device, state->query_scale, row, count, 1, err));
    }
    return STATUS_OK;
}

static int fill_slopes(const struct model_state *state, const struct model_staging *staging,
                       struct device *device, const struct model_config *config, struct error *err) {
    float *slopes = staging->rows;
    size_t chunk = size_max(staging->table_chunk, 1);
    for (size_t head = 0; head < config->heads; head += chunk) {
        size_t count = size_min(chunk, config->heads - head);
        for (size_t i = 0; i < count; i++) {
            slopes[i] = rope_slope(config->heads, head + i);
        }
        TRY(upload_rows(staging, device, state->slopes, head, count, 1, err));
    }
    return STATUS_OK;
}

int state_fill_tables(const struct model_state *state, const struct model_staging *staging,
                      struct device *device, const struct model_config *config, struct error *err) {
    TRY(fill_table(state, staging, device, config, &config->rope, state->cosine, state->sine, err));
    if (config->has_local_rope) {
        TRY(fill_table(state, staging, device, config, &config->local_rope, state->local_cosine,
                       state->local_sine, err));
    }
    if (config->query_beta > 0) {
        TRY(fill_query_scale(state, staging, device, config, err));
    }
    return config->has_slopes ? fill_slopes(state, staging, device, config, err) : STATUS_OK;
}
