// SPDX-License-Identifier: MIT
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "kernels/operations.h"
#include "model/batch_check.h"
#include "model/block.h"
#include "model/rope.h"
#include "model/streaming.h"

void *forward_residual(const struct pass *pass, const struct stage *stage, size_t member) {
    return stage->state.residuals[pass->place.turn * stage->state.members + member];
}

// Where a member has its own of what lies beside the residual streams, rows of so many bytes.
static void *beside(const struct pass *pass, const struct stage *stage, void *rows, size_t member,
                    size_t bytes) {
    size_t row = (pass->place.turn * stage->state.members + member) * pass->model->limits.tokens;
    return bytes == 0 ? NULL : (unsigned char *)rows + row * bytes;
}

// Keys and values that are kept for later blocks, from a member's first token on.
static void *shared_of(const struct pass *pass, const struct stage *stage, size_t member, bool slides) {
    size_t bytes = config_shared_keys(&pass->model->config, slides) * dtype_size(device_dtype(stage->device));
    return beside(pass, stage, stage->state.shared[slides], member, bytes);
}

// Of the pass's own member.
static void *layer_inputs_of(const struct pass *pass, const struct stage *stage) {
    size_t bytes = config_layer_inputs(&pass->model->config) * dtype_size(device_dtype(stage->device));
    return beside(pass, stage, stage->state.layer_inputs, pass->place.member, bytes);
}

// Where the starts of a pass stand among those that its batch staged.
static size_t starts_at(const struct pass *pass) {
    return pass->is_slice && pass->is_last ? 2 : 0; // the last slice's behind those of a whole one
}

static struct batch_inputs *staged_of(const struct pass *pass) {
    struct model_staging *staging = &pass->model->staging;
    return pass->is_head ? &staging->head : &staging->inputs[pass->slot];
}

struct device_texts forward_texts(const struct pass *pass, const struct stage *stage, const void *head) {
    const struct batch_inputs *inputs = &stage->state.inputs[pass->place.member];
    const struct batch_inputs *staged = staged_of(pass);
    size_t first = pass->goes_on && pass->is_slice ? (size_t)staged->origins[0].before : 0;
    return (struct device_texts){.starts = inputs->starts,
                                 .host_starts = staged->starts + starts_at(pass),
                                 .count = pass->texts,
                                 .kept = pass->is_slice ? stage->state.kept : NULL,
                                 .before = first + pass->before,
                                 .origins = pass->goes_on ? inputs->origins : NULL,
                                 .host_origins = pass->goes_on ? staged->origins : NULL,
                                 .head = pass->has_head ? head : NULL,
                                 .head_tokens = pass->has_head ? pass->model->limits.head : 0};
}

static struct block_pass block_pass_of(const struct pass *pass, const struct stage *stage, size_t number) {
    const struct model *model = pass->model;
    const struct model_state *state = &stage->state;
    bool takes_head = pass->is_head || pass->has_head;
    void *head = takes_head ? head_of_block(&state->head, &stage->weights, &model->config, number) : NULL;
    const struct batch_inputs *inputs = &state->inputs[pass->place.member];
    struct block_buffers buffers = state->buffers;
    buffers.x = forward_residual(pass, stage, pass->place.member);
    return (struct block_pass){
        .device = stage->device,
        .config = &model->config,
        .buffers = buffers,
        .scratch = state->scratch,
        .cosine = state->cosine,
        .sine = state->sine,
        .local_cosine = state->local_cosine,
        .local_sine = state->local_sine,
        .query_scale = state->query_scale,
        .slopes = state->slopes,
        .rope_row = inputs->rope_row,
        .texts = forward_texts(pass, stage, head),
        .layer_inputs = layer_inputs_of(pass, stage),
        .shared = {shared_of(pass, stage, pass->first, false), shared_of(pass, stage, pass->first, true)},
        .kept = state->kept,
        .head = head,
        .head_expanded = state->head.expanded,
        .keeping = model->limits.keeping,
        .makes_head = pass->is_head,
        .tokens = pass->tokens,
        .longest = model->limits.longest};
}

// The same of what blocks have of their own, and of keys and values that those of this stage or a later one
// take from a block before it.
static int hand_beside_over(const struct pass *pass, const struct stage *before, const struct stage *stage,
                            const struct device_fence *last, struct error *err) {
    const struct model_config *config = &pass->model->config;
    size_t member = pass->place.member;
    size_t width = pass->tokens * dtype_size(device_dtype(stage->device));
    if (config->layer_input > 0) {
        TRY(device_transfer(stage->device, layer_inputs_of(pass, stage), before->device,
                            layer_inputs_of(pass, before), config_layer_inputs(config) * width, last, err));
    }
    for (int slides = 0; slides < 2; slides++) {
        size_t bytes = config_shared_keys(config, slides) * width;
        if (bytes == 0 || config_key_giver(config, slides) >= stage->weights.first_block) {
            continue;
        }
        TRY(device_transfer(stage->device, shared_of(pass, stage, member, slides), before->device,
                            shared_of(pass, before, member, slides), bytes, last, err));
        if (pass->is_head && pass->is_last) { // all of it is there
            bytes = head_giver_bytes(config, &pass->model->limits, slides,
                                     dtype_size(device_dtype(stage->device)));
            TRY(device_transfer(stage->device, stage->state.head.givers[slides], before->device,
                                before->state.head.givers[slides], bytes, last, err));
        }
    }
    return STATUS_OK;
}

// From the stage before, as soon as what was computed here in its place is over.
static int hand_over(const struct pass *pass, const struct stage *before, const struct stage *stage,
                     struct error *err) {
    const struct device_fence *last = &stage->state.turned[pass->place.turn];
    size_t member = pass->place.member;
    size_t bytes = pass->tokens * pass->model->config.hidden * dtype_size(device_dtype(stage->device));
    last = last->number > 0 ? last : NULL;
    TRY(device_transfer(stage->device, forward_residual(pass, stage, member), before->device,
                        forward_residual(pass, before, member), bytes, last, err));
    return hand_beside_over(pass, before, stage, last, err);
}

// Keeps a hidden state of the head where it is wanted, for spans that lie in it. x [tokens, hidden].
static int keep_rows(const struct pass *pass, const struct stage *stage, size_t layer, const void *x,
                     struct error *err) {
    const struct model_limits *limits = &pass->model->limits;
    size_t hidden = pass->model->config.hidden;
    size_t i = 0;
    while (i < limits->layer_count && limits->layers[i] != layer) {
        i++;
    }
    if (i == limits->layer_count || stage->state.head.rows[i] == NULL) {
        return STATUS_OK;
    }
    const struct device_columns all = {.in_stride = hidden, .stride = hidden, .count = 1, .width = hidden};
    size_t first = pass->before * hidden * dtype_size(device_dtype(stage->device));
    return device_copy_columns(stage->device, (unsigned char *)stage->state.head.rows[i] + first, x, &all,
                               pass->tokens, err);
}

// Gives the residual stream of the batch that the pass completes.
static int take_batch(const struct pass *pass, const struct stage *stage, size_t layer,
                      hidden_state_taker take, void *context, struct error *err) {
    if (pass->is_head) {
        return keep_rows(pass, stage, layer, forward_residual(pass, stage, pass->place.member), err);
    }
    return pass->is_last ? take(pass, stage, layer, forward_residual(pass, stage, pass->first), context, err)
                         : STATUS_OK;
}

// What embeddings are multiplied with, as the family rounds it.
static float rounded_scale(const struct pass *pass, const struct stage *stage, double scale) {
    bool rounds = pass->model->config.embedding_rounds;
    return rounds ? dtype_rounded((float)scale, device_dtype(stage->device)) : (float)scale;
}

static float embedding_scale(const struct pass *pass, const struct stage *stage) {
    const struct model_config *config = &pass->model->config;
    return config->embedding_scale == 0 ? 1 : rounded_scale(pass, stage, config->embedding_scale);
}

// What each block has of a token of its own: its part of a projection of hidden_states[0], normalised, and of
// a row of a table. transformers multiplies the projection with hidden^-1/2, for which the norm's epsilon
// stands, and the sum with 2^-1/2 (add_input of block.c).
static int make_layer_inputs(const struct pass *pass, const struct stage *stage, const void *x,
                             struct error *err) {
    const struct model_config *config = &pass->model->config;
    const struct model_weights *w = &stage->weights;
    void *out = layer_inputs_of(pass, stage);
    size_t all = config_layer_inputs(config);
    struct device_groups groups = {.stride = all, .count = config->layers, .width = config->layer_input};
    struct device_norm norm = {.kind = config->norm,
                               .epsilon = (float)(config->norm_epsilon * (double)config->hidden),
                               .weight = w->layer_norm};
    if (config->layer_input == 0) {
        return STATUS_OK;
    }
    TRY(device_matmul(stage->device, out, x, &w->layer_projection, NULL, pass->tokens, DEVICE_STORE, err));
    TRY(device_norm_groups(stage->device, out, &groups, &norm, pass->tokens, err));
    return device_embed(stage->device, out, w->layer_embedding, stage->state.inputs[pass->place.member].ids,
                        rounded_scale(pass, stage, sqrt((double)config->layer_input)), DEVICE_ADD,
                        pass->tokens, all, err);
}

// hidden_states[0] of the ids, and of places in the text where the model has learned these.
static int embed(const struct pass *pass, const struct stage *stage, void *x, struct error *err) {
    const struct model_config *config = &pass->model->config;
    const struct batch_inputs *inputs = &stage->state.inputs[pass->place.member];
    void *rows = config->embedding_width == 0 ? x : stage->state.buffers.normed;
    TRY(device_embed(stage->device, rows, stage->weights.embedding, inputs->ids, embedding_scale(pass, stage),
                     DEVICE_STORE, pass->tokens, weight_dimension(config, 0, DIM_EMBEDDING), err));
    if (config->embedding_width > 0) {
        TRY(device_matmul(stage->device, x, rows, &stage->weights.project_in, NULL, pass->tokens,
                          DEVICE_STORE, err));
    }
    if (config->position_rows > 0) {
        size_t first = config->position_offset * config->hidden * dtype_size(device_dtype(stage->device));
        TRY(device_embed(stage->device, x, (const unsigned char *)stage->weights.positions + first,
                         inputs->rope_row, 1, DEVICE_ADD, pass->tokens, config->hidden, err));
    }
    if (!config->embedding_norm) {
        return STATUS_OK;
    }
    const struct block_pass block = block_pass_of(pass, stage, 0);
    return block_norm(&block, x, stage->weights.embedding_norm, stage->weights.embedding_norm_bias, err);
}

// The residual stream at the start of a stage: the first makes it of the ids.
static int begin_stage(const struct pass *pass, const struct stage *stage, hidden_state_taker take,
                       void *context, struct error *err) {
    if (!stage->weights.has_embedding) {
        return hand_over(pass, stage - 1, stage, err);
    }
    TRY(embed(pass, stage, forward_residual(pass, stage, pass->place.member), err));
    TRY(make_layer_inputs(pass, stage, forward_residual(pass, stage, pass->place.member), err));
    return take_batch(pass, stage, 0, take, context, err);
}

// The last hidden state. Slices are normalised in the residual stream, which nothing reads any more once the
// last of them is there.
static int take_last(const struct pass *pass, const struct stage *stage, hidden_state_taker take,
                     void *context, struct error *err) {
    const struct model_config *config = &pass->model->config;
    const struct model_weights *w = &stage->weights;
    struct block_pass block = block_pass_of(pass, stage, config->layers - 1);
    if (config->no_final_norm) {
        return take_batch(pass, stage, config->layers, take, context, err);
    }
    if (!pass->is_slice || pass->is_head) {
        TRY(block_norm(&block, block.buffers.normed, w->final_norm, w->final_norm_bias, err));
        return pass->is_head ? keep_rows(pass, stage, config->layers, block.buffers.normed, err)
                             : take(pass, stage, config->layers, block.buffers.normed, context, err);
    }
    for (size_t member = pass->first; pass->is_last && member <= pass->place.member; member++) {
        block.buffers.x = forward_residual(pass, stage, member);
        block.tokens = member < pass->place.member ? pass->model->limits.tokens : pass->tokens;
        TRY(block_norm(&block, block.buffers.x, w->final_norm, w->final_norm_bias, err));
    }
    return take_batch(pass, stage, config->layers, take, context, err);
}

// One block, its weights being there.
static int run_block(const struct pass *pass, const struct stage *stage, size_t i, hidden_state_taker take,
                     void *context, struct error *err) {
    const struct model_config *config = &pass->model->config;
    const struct model_weights *w = &stage->weights;
    size_t layer = w->first_block + i + 1;
    const struct block_pass block = block_pass_of(pass, stage, layer - 1);
    TRY(block_run(&block, &w->blocks[i], layer - 1, err));
    if (layer < config->layers) {
        return take_batch(pass, stage, layer, take, context, err);
    }
    TRY(take_batch(pass, stage, config_pre_norm(config), take, context, err));
    return take_last(pass, stage, take, context, err);
}

// The stages that are number `turn` of the passes' own.
static int run_stages(const struct pass *passes, size_t count, size_t turn, hidden_state_taker take,
                      void *context, struct error *err) {
    struct model *model = passes[0].model;
    const struct model_weights *weights = &model->stages[passes[0].place.stage + turn].weights;
    for (size_t p = 0; p < count; p++) {
        const struct stage *stage = &model->stages[passes[p].place.stage + turn];
        TRY(stage_named(model, stage, begin_stage(&passes[p], stage, take, context, err), err));
    }
    for (size_t i = 0; i < weights->block_count; i++) {
        TRY(streaming_bring(model, weights->first_block + i, err));
        for (size_t p = 0; p < count; p++) {
            const struct stage *stage = &model->stages[passes[p].place.stage + turn];
            TRY(stage_named(model, stage, run_block(&passes[p], stage, i, take, context, err), err));
        }
        TRY(streaming_ahead(model, weights->first_block + i, err));
    }
    return STATUS_OK;
}

int forward_sweep(const struct pass *passes, size_t count, hidden_state_taker take, void *context,
                  struct error *err) {
    for (size_t turn = 0; turn < passes[0].place.stages; turn++) {
        TRY(run_stages(passes, count, turn, take, context, err));
    }
    return STATUS_OK;
}

// ---- inputs ----

// A token's rotary row is its place in its text, or one of the rows its text brings along: the batch's begin
// with row `own_at` of the tables.
static size_t stage_rope(const struct model *model, struct batch_inputs *staged,
                         const struct model_batch *batch, size_t own_at) {
    const struct model_config *config = &model->config;
    float *frequencies = model->staging.frequencies;
    size_t half = config_rotated(config) / 2;
    size_t own = 0;
    for (size_t i = 0; i < batch->texts; i++) {
        size_t first = (size_t)batch->starts[i];
        size_t length = (size_t)batch->starts[i + 1] - first;
        size_t row = batch_before(batch, i);
        if (row == 0 && rope_is_own(config, length)) {
            row = own_at + own;
            rope_frequencies(config, &config->rope, length, frequencies);
            rope_rows(config, &config->rope, frequencies, 0, length, staged->own_cosine + own * half,
                      staged->own_sine + own * half);
            own += length;
        }
        for (size_t t = 0; t < length; t++) {
            staged->rope_row[first + t] = (int32_t)(row + t);
        }
    }
    return own;
}

// What its member has of the batch's inputs, from the staging copies.
static int upload_member(const struct pass *pass, const struct stage *stage, const struct model_batch *batch,
                         struct error *err) {
    struct device *device = stage->device;
    const struct batch_inputs *staged = staged_of(pass);
    const struct batch_inputs *inputs = &stage->state.inputs[pass->place.member];
    size_t most = state_pool_rows(&pass->model->limits);
    size_t row = (pass->place.member - pass->first) * most;
    size_t rows = row < batch->rows ? size_min(batch->rows - row, most) : 0;
    TRY(device_upload(device, inputs->ids, staged->ids + pass->before, pass->tokens * sizeof staged->ids[0],
                      err));
    TRY(device_upload(device, inputs->rope_row, staged->rope_row + pass->before,
                      pass->tokens * sizeof staged->ids[0], err));
    TRY(device_upload(device, inputs->starts, staged->starts + starts_at(pass),
                      (pass->texts + 1) * sizeof staged->starts[0], err));
    if (pass->goes_on) {
        TRY(device_upload(device, inputs->origins, staged->origins, pass->texts * sizeof staged->origins[0],
                          err));
    }
    return rows == 0 ? STATUS_OK
                     : device_upload(device, inputs->spans, staged->spans + row,
                                     rows * sizeof staged->spans[0], err);
}

// Of the batch's rotary rows, `own` begin with row `own_row` of the tables.
static int upload_inputs(const struct pass *passes, size_t count, const struct stage *stage,
                         const struct model_batch *batch, size_t own_row, size_t own, struct error *err) {
    const struct model_state *state = &stage->state;
    const struct batch_inputs *staged = &passes->model->staging.inputs[batch->slot];
    size_t half = config_rotated(&passes->model->config) / 2;
    for (size_t i = 0; i < count; i++) {
        TRY(upload_member(&passes[i], stage, batch, err));
    }
    if (own > 0) {
        TRY(device_upload(stage->device, state->cosine + own_row * half, staged->own_cosine,
                          own * half * sizeof(float), err));
        TRY(device_upload(stage->device, state->sine + own_row * half, staged->own_sine,
                          own * half * sizeof(float), err));
    }
    return STATUS_OK;
}

static void stage_starts(struct batch_inputs *staged, const struct model_batch *batch,
                         const struct pass *last) {
    memcpy(staged->starts, batch->starts, (batch->texts + 1) * sizeof staged->starts[0]);
    if (last->is_slice) {
        staged->starts[1] = (int32_t)last->model->limits.tokens;
        staged->starts[2] = 0;
        staged->starts[3] = (int32_t)last->tokens;
    }
}

void forward_stage_ids(const struct model_config *config, int32_t *out, const int32_t *ids, size_t tokens) {
    memcpy(out, ids, tokens * sizeof out[0]);
    for (size_t i = 0; i < config->place_count; i++) {
        for (size_t t = 0; t < tokens; t++) {
            out[t] = ids[t] == config->places[i] ? config->pad_id : out[t];
        }
    }
}

// Once for all stages that the batch goes through: rows of the tables are the same on all.
static int stage_inputs(const struct pass *passes, size_t count, const struct model_batch *batch,
                        struct error *err) {
    struct model *model = passes->model;
    const struct pass_place *place = &passes->place;
    const struct model_state *state = &model->stages[place->stage].state;
    struct batch_inputs *staged = &model->staging.inputs[batch->slot];
    forward_stage_ids(&model->config, staged->ids, batch->ids, batch->tokens);
    memcpy(staged->spans, batch->spans, batch->rows * sizeof staged->spans[0]);
    if (batch->origins != NULL) {
        memcpy(staged->origins, batch->origins, batch->texts * sizeof staged->origins[0]);
    }
    stage_starts(staged, batch, &passes[count - 1]);
    size_t own_row = state->table_rows + place->member * state->own_rows;
    size_t own = stage_rope(model, staged, batch, own_row);
    for (size_t i = place->stage; i < place->stage + place->stages; i++) {
        const struct stage *stage = &model->stages[i];
        int status = upload_inputs(passes, count, stage, batch, own_row, own, err);
        TRY(stage_named(model, stage, status, err));
    }
    return STATUS_OK;
}

// The passes of a batch of so many tokens, one, or one for each of its slices; `sample` has what they have in
// common.
static size_t list_passes(struct pass *passes, const struct pass *sample, size_t tokens, size_t rows) {
    size_t slice = sample->model->limits.tokens;
    size_t count = model_batch_members(&sample->model->limits, tokens);
    for (size_t i = 0; i < count; i++) {
        passes[i] = *sample;
        passes[i].tokens = size_min(slice, tokens - i * slice);
        passes[i].is_last = i + 1 == count;
        passes[i].rows = passes[i].is_last ? rows : 0;
        passes[i].first = sample->place.member;
        passes[i].is_slice = count > 1;
        passes[i].before = i * slice;
        passes[i].place.member += i;
    }
    return count;
}

int forward_begin(struct pass *passes, struct model *model, const struct model_batch *batch,
                  const struct pass_place *place, struct error *err) {
    TRY(batch_check(model, batch, err));
    struct pass sample = {.model = model,
                          .texts = batch->texts,
                          .slot = batch->slot,
                          .place = *place,
                          .has_head = batch_takes_head(batch)};
    for (size_t i = 0; i < batch->texts; i++) {
        sample.goes_on = sample.goes_on || batch_before(batch, i) > 0;
    }
    size_t count = list_passes(passes, &sample, batch->tokens, batch->rows);
    return stage_inputs(passes, count, batch, err);
}

int forward_begin_head(struct pass *passes, struct model *model, const struct pass_place *place,
                       struct error *err) {
    struct batch_inputs *staged = &model->staging.head;
    struct pass sample = {.model = model, .texts = 1, .place = *place, .is_head = true};
    size_t head = model->limits.head;
    size_t count = list_passes(passes, &sample, head, 0);
    int32_t starts[2] = {0, (int32_t)head};
    const struct model_batch batch = {.starts = starts, .tokens = head, .texts = 1};
    for (size_t t = 0; t < head; t++) {
        staged->rope_row[t] = (int32_t)t;
    }
    stage_starts(staged, &batch, &passes[count - 1]);
    for (size_t i = place->stage; i < place->stage + place->stages; i++) {
        const struct stage *stage = &model->stages[i];
        TRY(stage_named(model, stage, upload_inputs(passes, count, stage, &batch, 0, 0, err), err));
    }
    return STATUS_OK;
}
