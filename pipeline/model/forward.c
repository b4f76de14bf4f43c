#include "model/forward.h"

#include <string.h>

#include "kernels/operations.h"
#include "model/block.h"
#include "model/rope.h"
#include "model/streaming.h"

static struct block_pass block_pass_of(const struct pass *pass, const struct stage *stage) {
    const struct model *model = pass->model;
    const struct model_state *state = &stage->state;
    const struct batch_inputs *inputs = &state->inputs[pass->member];
    struct block_buffers buffers = state->buffers;
    buffers.x = state->residuals[pass->member];
    return (struct block_pass){.device = stage->device,
                               .config = &model->config,
                               .buffers = buffers,
                               .attention_scratch = state->attention_scratch,
                               .cosine = state->cosine,
                               .sine = state->sine,
                               .rope_row = inputs->rope_row,
                               .texts = {.starts = inputs->starts,
                                         .host_starts = state->staged[pass->slot].starts,
                                         .count = pass->texts},
                               .tokens = pass->tokens,
                               .longest = model->limits.longest};
}

// The residual stream at the start of a stage: the first makes it of the ids. A second one needs it handed
// over from the first's device, which does not exist yet.
static int begin_stage(const struct pass *pass, const struct stage *stage, hidden_state_taker take,
                       void *context, struct error *err) {
    void *x = stage->state.residuals[pass->member];
    if (!stage->weights.has_embedding) {
        return error_set(err, STATUS_INTERNAL, "a stage has no residual stream to begin with");
    }
    TRY(device_embed(stage->device, x, stage->weights.embedding, stage->state.inputs[pass->member].ids,
                     pass->tokens, pass->model->config.hidden, err));
    return take(pass, stage, 0, x, context, err);
}

// One block, its weights being there.
static int run_block(const struct pass *pass, const struct stage *stage, size_t i, hidden_state_taker take,
                     void *context, struct error *err) {
    const struct model_config *config = &pass->model->config;
    const struct model_weights *w = &stage->weights;
    const struct block_pass block = block_pass_of(pass, stage);
    const struct block_buffers *b = &block.buffers;
    size_t layer = w->first_block + i + 1;
    TRY(block_run(&block, &w->blocks[i], layer - 1, err));
    if (layer < config->layers) {
        return take(pass, stage, layer, b->x, context, err);
    }
    TRY(device_rms_norm(stage->device, b->normed, b->x, w->final_norm, (float)config->norm_epsilon,
                        pass->tokens, config->hidden, err));
    return take(pass, stage, layer, b->normed, context, err);
}

static int run_stage(const struct pass *passes, size_t count, struct stage *stage, hidden_state_taker take,
                     void *context, struct error *err) {
    for (size_t p = 0; p < count; p++) {
        TRY(begin_stage(&passes[p], stage, take, context, err));
    }
    for (size_t i = 0; i < stage->weights.block_count; i++) {
        TRY(streaming_bring(stage, i, err));
        for (size_t p = 0; p < count; p++) {
            TRY(run_block(&passes[p], stage, i, take, context, err));
        }
        TRY(streaming_ahead(stage, i, err));
    }
    return STATUS_OK;
}

int forward_sweep(const struct pass *passes, size_t count, hidden_state_taker take, void *context,
                  struct error *err) {
    struct model *model = passes[0].model;
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(run_stage(passes, count, &model->stages[i], take, context, err));
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

// A token's rotary row is its place in its text, or one of the rows its text brings along: the batch's begin
// with row `own_at` of the tables.
static size_t stage_rope(const struct model_config *config, const struct model_state *state,
                         struct batch_inputs *staged, const struct model_batch *batch, size_t own_at) {
    size_t half = config->head_dim / 2;
    size_t own = 0;
    for (size_t i = 0; i < batch->texts; i++) {
        size_t first = (size_t)batch->starts[i];
        size_t length = (size_t)batch->starts[i + 1] - first;
        size_t row = 0;
        if (rope_is_own(config, length)) {
            row = own_at + own;
            rope_frequencies(config, length, state->frequencies);
            rope_rows(config, state->frequencies, 0, length, staged->own_cosine + own * half,
                      staged->own_sine + own * half);
            own += length;
        }
        for (size_t t = 0; t < length; t++) {
            staged->rope_row[first + t] = (int32_t)(row + t);
        }
    }
    return own;
}

static int upload_inputs(const struct stage *stage, const struct model_config *config,
                         const struct model_batch *batch, size_t member, struct error *err) {
    struct device *device = stage->device;
    const struct model_state *state = &stage->state;
    struct batch_inputs *staged = &state->staged[batch->slot];
    const struct batch_inputs *inputs = &state->inputs[member];
    size_t half = config->head_dim / 2;

    memcpy(staged->ids, batch->ids, batch->tokens * sizeof staged->ids[0]);
    memcpy(staged->starts, batch->starts, (batch->texts + 1) * sizeof staged->starts[0]);
    memcpy(staged->spans, batch->spans, batch->rows * sizeof staged->spans[0]);
    size_t own_row = state->table_rows + member * state->own_rows;
    size_t own = stage_rope(config, state, staged, batch, own_row);
    size_t own_at = own_row * half;

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
    return STATUS_OK;
}

int forward_begin(struct pass *pass, struct model *model, const struct model_batch *batch, size_t member,
                  struct error *err) {
    TRY(check_batch(model, batch, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(upload_inputs(&model->stages[i], &model->config, batch, member, err));
    }
    *pass = (struct pass){.model = model,
                          .tokens = batch->tokens,
                          .texts = batch->texts,
                          .rows = batch->rows,
                          .slot = batch->slot,
                          .member = member};
    return STATUS_OK;
}
