#include "model/forward.h"

#include <string.h>

#include "model/rope.h"

// x += attention(norm(x)); the fused projection holds q | k | v of each token.
static int run_attention(const struct pass *pass, const struct block_weights *w, size_t block,
                         struct error *err) {
    struct device *device = pass->model->device;
    const struct model_config *config = &pass->model->config;
    const struct model_state *s = &pass->model->state;
    struct device_attention attention = state_attention(config, block, pass->model->limits.longest);
    float epsilon = (float)config->norm_epsilon;
    size_t tokens = pass->tokens;
    void *qkv = s->wide;       // [tokens, (heads + 2 kv_heads) * head_dim]
    void *attended = s->inner; // [tokens, heads * head_dim]

    TRY(device_rms_norm(device, s->normed, s->x, w->input_norm, epsilon, tokens, config->hidden, err));
    TRY(device_matmul(device, qkv, s->normed, &w->qkv, w->qkv_bias, tokens, DEVICE_STORE, err));
    TRY(device_qk_norm_rope(device, qkv, w->q_norm, w->k_norm, epsilon, s->cosine, s->sine,
                            s->inputs.rope_row, attention.heads, tokens, err));
    TRY(device_attention(device, attended, qkv, &attention, pass->texts, s->attention_scratch, err));
    TRY(device_matmul(device, s->x, attended, &w->output, w->output_bias, tokens, DEVICE_ADD, err));
    return STATUS_OK;
}

// x += down(silu(gate(norm(x))) * up(norm(x)))
static int run_mlp(const struct pass *pass, const struct block_weights *w, struct error *err) {
    struct device *device = pass->model->device;
    const struct model_config *config = &pass->model->config;
    const struct model_state *s = &pass->model->state;
    float epsilon = (float)config->norm_epsilon;
    size_t tokens = pass->tokens;
    void *gate_up = s->wide; // [tokens, 2 * intermediate]
    void *inner = s->inner;  // [tokens, intermediate]

    TRY(device_rms_norm(device, s->normed, s->x, w->post_norm, epsilon, tokens, config->hidden, err));
    TRY(device_matmul(device, gate_up, s->normed, &w->gate_up, w->gate_up_bias, tokens, DEVICE_STORE, err));
    TRY(device_swiglu(device, inner, gate_up, tokens, config->intermediate, err));
    TRY(device_matmul(device, s->x, inner, &w->down, w->down_bias, tokens, DEVICE_ADD, err));
    return STATUS_OK;
}

static int run_block(const struct pass *pass, size_t block, struct error *err) {
    const struct block_weights *weights = &pass->model->weights.blocks[block];
    int status = run_attention(pass, weights, block, err);
    if (status == STATUS_OK) {
        status = run_mlp(pass, weights, err);
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "block %zu", block);
}

int forward_run(const struct pass *pass, hidden_state_taker take, void *context, struct error *err) {
    const struct model *model = pass->model;
    const struct model_config *config = &model->config;
    const struct model_weights *w = &model->weights;
    const struct model_state *s = &model->state;

    TRY(device_embed(model->device, s->x, w->embedding, s->inputs.ids, pass->tokens, config->hidden, err));
    TRY(take(pass, 0, s->x, context, err));
    for (size_t layer = 1; layer <= model->last; layer++) {
        TRY(run_block(pass, layer - 1, err));
        if (layer < config->layers) {
            TRY(take(pass, layer, s->x, context, err));
            continue;
        }
        TRY(device_rms_norm(model->device, s->normed, s->x, w->final_norm, (float)config->norm_epsilon,
                            pass->tokens, config->hidden, err));
        TRY(take(pass, layer, s->normed, context, err));
    }
    return STATUS_OK;
}

// ---- inputs ----

static int check_texts(const struct model *model, const struct model_batch *batch, struct error *err) {
    if (batch->starts[0] != 0 || (size_t)batch->starts[batch->texts] != batch->tokens) {
        return error_set(err, STATUS_INTERNAL, "the texts do not cover the batch");
    }
    for (size_t i = 0; i < batch->texts; i++) {
        int64_t length = (int64_t)batch->starts[i + 1] - batch->starts[i];
        if (length <= 0 || (size_t)length > model->limits.longest) {
            return error_set(err, STATUS_INTERNAL, "text %zu of the batch has %lld tokens, outside 1 to %zu",
                             i, (long long)length, model->limits.longest);
        }
    }
    for (size_t t = 0; t < batch->tokens; t++) {
        if (batch->ids[t] < 0 || (size_t)batch->ids[t] >= model->config.vocabulary) {
            return error_set(err, STATUS_DATA, "token id %d is outside the model's vocabulary of %zu",
                             batch->ids[t], model->config.vocabulary);
        }
    }
    return STATUS_OK;
}

static int check_batch(const struct model *model, const struct model_batch *batch, struct error *err) {
    const struct model_limits *limits = &model->limits;
    if (batch->tokens == 0 || batch->tokens > limits->tokens || batch->texts == 0 ||
        batch->texts > limits->texts || batch->rows == 0 || batch->rows > limits->rows ||
        batch->slot >= limits->slots) {
        return error_set(err, STATUS_INTERNAL,
                         "a batch of %zu tokens, %zu texts and %zu rows in slot %zu is outside the "
                         "limits of %zu, %zu, %zu and %zu",
                         batch->tokens, batch->texts, batch->rows, batch->slot, limits->tokens, limits->texts,
                         limits->rows, limits->slots);
    }
    for (size_t r = 0; r < batch->rows; r++) {
        const struct device_span *span = &batch->spans[r];
        if (span->start < 0 || span->end <= span->start || (size_t)span->end > batch->tokens) {
            return error_set(err, STATUS_INTERNAL, "span %zu [%d, %d) is outside the batch", r, span->start,
                             span->end);
        }
    }
    return check_texts(model, batch, err);
}

// A token's rotary row is its place in its text, or one of the rows its text brings along.
static size_t stage_rope(struct model *model, struct batch_inputs *staged, const struct model_batch *batch) {
    struct model_state *state = &model->state;
    size_t half = model->config.head_dim / 2;
    size_t own = 0;
    for (size_t i = 0; i < batch->texts; i++) {
        size_t first = (size_t)batch->starts[i];
        size_t length = (size_t)batch->starts[i + 1] - first;
        size_t row = 0;
        if (rope_is_own(&model->config, length)) {
            row = state->table_rows + own;
            rope_frequencies(&model->config, length, state->frequencies);
            rope_rows(&model->config, state->frequencies, 0, length, staged->own_cosine + own * half,
                      staged->own_sine + own * half);
            own += length;
        }
        for (size_t t = 0; t < length; t++) {
            staged->rope_row[first + t] = (int32_t)(row + t);
        }
    }
    return own;
}

int forward_begin(struct pass *pass, struct model *model, const struct model_batch *batch,
                  struct error *err) {
    TRY(check_batch(model, batch, err));
    struct device *device = model->device;
    struct model_state *state = &model->state;
    struct batch_inputs *staged = &state->staged[batch->slot];
    const struct batch_inputs *inputs = &state->inputs;
    size_t half = model->config.head_dim / 2;

    memcpy(staged->ids, batch->ids, batch->tokens * sizeof staged->ids[0]);
    memcpy(staged->starts, batch->starts, (batch->texts + 1) * sizeof staged->starts[0]);
    memcpy(staged->spans, batch->spans, batch->rows * sizeof staged->spans[0]);
    size_t own = stage_rope(model, staged, batch);
    size_t own_at = state->table_rows * half;

    TRY(device_upload(device, inputs->ids, staged->ids, batch->tokens * sizeof staged->ids[0], err));
    TRY(device_upload(device, inputs->rope_row, staged->rope_row, batch->tokens * sizeof staged->ids[0],
                      err));
    TRY(device_upload(device, inputs->starts, staged->starts, (batch->texts + 1) * sizeof staged->starts[0],
                      err));
    TRY(device_upload(device, inputs->spans, staged->spans, batch->rows * sizeof staged->spans[0], err));
    if (own > 0) {
        TRY(device_upload(device, state->cosine + own_at, staged->own_cosine, own * half * sizeof(float),
                          err));
        TRY(device_upload(device, state->sine + own_at, staged->own_sine, own * half * sizeof(float), err));
    }
    *pass = (struct pass){.model = model,
                          .texts = {inputs->starts, staged->starts, batch->texts},
                          .tokens = batch->tokens,
                          .rows = batch->rows,
                          .slot = batch->slot};
    return STATUS_OK;
}
