// SPDX-License-Identifier: MIT
// A batch through a loaded model: wanted hidden states are pooled as they come, and their rows copied to the
// host.
#include "base/random.h"
#include "base/size.h"
#include "kernels/operations.h"
#include "model/forward.h"
#include "model/head_pass.h"
#include "model/layer_names.h"
#include "model/stage.h"

struct pooling {
    size_t turns[MODEL_DEVICES]; // of each stage's buffers
};

// Which of the wanted layers this is; their count where it is none.
static size_t find_wanted(const struct model_limits *limits, size_t layer) {
    size_t i = 0;
    while (i < limits->layer_count && limits->layers[i] != layer) {
        i++;
    }
    return i;
}

// Pools some of a batch's rows, those whose spans the member has, and copies them to the slot; two buffers in
// turn keep the copy beside the next operations.
static int pool_rows(const struct pass *pass, const struct stage *stage, size_t wanted, const void *x,
                     size_t member, struct pooling *pooling, struct error *err) {
    const struct device_texts texts =
        forward_texts(pass, stage, stage->state.head.rows == NULL ? NULL : stage->state.head.rows[wanted]);
    const struct model_limits *limits = &pass->model->limits;
    const struct model_output *out = &pass->model->staging.outputs[pass->slot];
    size_t row_bytes = pass->model->config.hidden * dtype_size(limits->stored);
    size_t first = (member - pass->first) * state_pool_rows(limits);
    size_t count = size_min(pass->rows - first, state_pool_rows(limits));
    size_t buffer = pooling->turns[stage - pass->model->stages]++ % POOL_BUFFERS;
    void *rows = stage->state.pooled[buffer];
    struct device_row_check *checks = stage->state.pool_checks[buffer];
    unsigned char *to = (unsigned char *)(uintptr_t)out->rows[wanted];
    struct device_row_check *checks_to = (struct device_row_check *)(uintptr_t)out->checks[wanted];
    TRY(device_pool(stage->device, rows, limits->stored, checks, x, stage->state.inputs[member].spans,
                    pass->goes_on ? &texts : NULL, count, pass->model->config.hidden, err));
    TRY(device_download(stage->device, to + first * row_bytes, rows, count * row_bytes, err));
    return device_download(stage->device, checks_to + first, checks, count * sizeof checks[0], err);
}

// Pools a hidden state if it is wanted.
static int pool_layer(const struct pass *pass, const struct stage *stage, size_t layer, const void *x,
                      void *context, struct error *err) {
    const struct model_limits *limits = &pass->model->limits;
    size_t wanted = find_wanted(limits, layer);
    if (wanted == limits->layer_count) {
        return STATUS_OK;
    }
    size_t most = state_pool_rows(limits);
    for (size_t i = 0; i * most < pass->rows; i++) {
        if (pool_rows(pass, stage, wanted, x, pass->first + i, context, err) != STATUS_OK) {
            char label[MODEL_LAYER_LABEL];
            return error_wrap(err, "%s", model_layer_label(&pass->model->config, layer, label));
        }
    }
    return STATUS_OK;
}

// One fence for all batches of a sweep: devices remember a few of them only.
static int end_sweep(struct model *model, size_t number, const struct model_batch *const *batches,
                     size_t count, struct error *err) {
    const struct lane lane = lane_of(model, number);
    for (size_t s = lane.first; s < lane.first + lane.count; s++) {
        struct stage *stage = &model->stages[s];
        struct device_fence fence;
        TRY(stage_named(model, stage, device_fence(stage->device, &fence, err), err));
        stage->state.turned[model->turn] = fence;
        for (size_t i = 0; i < count; i++) {
            model->ends[batches[i]->slot].lane = number;
            model->ends[batches[i]->slot].fences[s] = fence;
        }
    }
    return STATUS_OK;
}

size_t model_sweep_turn(size_t devices, const size_t used[MODEL_DEVICES]) {
    size_t to = 0;
    for (size_t i = 1; i < devices; i++) {
        to = used[i] < used[to] ? i : to;
    }
    return to;
}

// The place of the next batch of a sweep whose devices have so many members each. A chain takes each batch
// through all of its stages; others share the batches out. False: there is none.
static bool take_place(const struct model *model, const struct lane *lane, const struct model_batch *batch,
                       size_t used[MODEL_DEVICES], struct pass_place *place) {
    size_t more = model_batch_members(&model->limits, batch->tokens);
    size_t to = model_sweep_turn(lane->is_chain ? 1 : lane->count, used);
    *place = (struct pass_place){.stage = lane->first + to,
                                 .stages = lane->is_chain ? lane->count : 1,
                                 .member = used[to],
                                 .turn = model->turn};
    used[to] += more;
    return used[to] <= state_members(&model->limits);
}

// The head first, on each device that has a batch of whose texts some go on from it; where it was computed
// before, nothing. Then the batches, in passes that `passes` gets.
static int begin_sweep(struct model *model, const struct lane *lane, const struct model_batch *const *batches,
                       size_t count, size_t *passes, struct error *err) {
    size_t used[MODEL_DEVICES] = {0};
    TRY(head_begin(model, lane, batches, count, passes, err));
    for (size_t i = 0; i < count; i++) {
        struct pass_place place;
        (void)take_place(model, lane, batches[i], used, &place);
        TRY(forward_begin(&model->passes[*passes], model, batches[i], &place, err));
        *passes += model_batch_members(&model->limits, batches[i]->tokens);
    }
    return STATUS_OK;
}

bool model_sweep_holds(const struct model *model, const struct model_batch *const *batches, size_t count) {
    const struct lane lane = lane_of(model, 0); // all are alike
    size_t used[MODEL_DEVICES] = {0};
    struct pass_place place;
    bool holds = true;
    for (size_t i = 0; i < count && holds; i++) {
        holds = take_place(model, &lane, batches[i], used, &place);
    }
    return holds;
}

static int check_sweep(const struct model *model, size_t lane, const struct model_batch *const *batches,
                       size_t count, struct error *err) {
    if (lane >= model_lanes(model)) {
        return error_set(err, STATUS_INTERNAL, "there is no lane %zu", lane);
    }
    if (count == 0) {
        return error_set(err, STATUS_INTERNAL, "a sweep of no batch");
    }
    return model_sweep_holds(model, batches, count)
               ? STATUS_OK
               : error_set(err, STATUS_INTERNAL, "a sweep of %zu batches is outside the limit of %zu members",
                           count, state_members(&model->limits));
}

int model_sweep(struct model *model, size_t number, const struct model_batch *const *batches, size_t count,
                struct error *err) {
    const struct lane lane = lane_of(model, number);
    struct pooling pooling = {0};
    size_t passes = 0;
    TRY(check_sweep(model, number, batches, count, err));
    model->turn = lane.is_chain ? (model->turn + 1) % RESIDUAL_TURNS : 0;
    TRY(begin_sweep(model, &lane, batches, count, &passes, err));
    TRY(forward_sweep(model->passes, passes, pool_layer, &pooling, err));
    return end_sweep(model, number, batches, count, err);
}

int model_forward(struct model *model, const struct model_batch *batch, struct error *err) {
    return model_sweep(model, 0, &batch, 1, err);
}

// Devices that do not queue compute one after another.
static void add_times(struct device_times *sum, const struct device_times *own, bool queues) {
    if (!queues) {
        sum->upload_seconds += own->upload_seconds;
        sum->compute_seconds += own->compute_seconds;
        sum->download_seconds += own->download_seconds;
        sum->worked_seconds += own->worked_seconds;
    } else if (own->compute_seconds >= sum->compute_seconds) {
        *sum = *own;
    }
}

int model_wait(struct model *model, size_t slot, struct device_times *times, struct error *err) {
    const struct sweep_end *end = &model->ends[slot];
    const struct lane lane = lane_of(model, end->lane);
    bool queues = model_lane_sweeps(model) > 1;
    struct device_times sum = {0};
    for (size_t i = lane.first; i < lane.first + lane.count; i++) {
        const struct stage *stage = &model->stages[i];
        struct device_times own;
        TRY(stage_named(model, stage, device_wait(stage->device, end->fences[i], &own, err), err));
        add_times(&sum, &own, queues);
    }
    if (times != NULL) {
        *times = sum;
    }
    return STATUS_OK;
}

int model_reached(struct model *model, size_t slot, bool *reached, struct error *err) {
    const struct sweep_end *end = &model->ends[slot];
    const struct lane lane = lane_of(model, end->lane);
    *reached = true;
    for (size_t i = lane.first; i < lane.first + lane.count && *reached; i++) {
        const struct stage *stage = &model->stages[i];
        TRY(stage_named(model, stage, device_reached(stage->device, end->fences[i], reached, err), err));
    }
    return STATUS_OK;
}

void model_outputs(const struct model *model, size_t slot, struct model_output *out) {
    *out = model->staging.outputs[slot];
}

// ---- the pass before the first batch ----

// The mean over all tokens is finite only if each of them is.
static int check_layer(const struct pass *pass, const struct stage *stage, size_t layer, const void *x,
                       void *context, struct error *err) {
    (void)context;
    const struct model *model = pass->model;
    const struct model_state *state = &stage->state;
    struct device_row_check *check = model->staging.rows;
    struct device_row_check *found = state->pool_checks[0];
    struct device_fence fence;
    char label[MODEL_LAYER_LABEL];
    if (layer == config_pre_norm(&model->config) &&
        find_wanted(&model->limits, layer) == model->limits.layer_count) {
        return STATUS_OK; // the norm of it is looked at next
    }
    TRY(device_pool(stage->device, state->pooled[0], model->limits.stored, found, x, state->inputs[0].spans,
                    NULL, 1, model->config.hidden, err));
    TRY(device_download(stage->device, check, found, sizeof *check, err));
    TRY(device_fence(stage->device, &fence, err));
    TRY(device_wait(stage->device, fence, NULL, err));
    if (check->not_finite > 0) {
        return error_set(err, STATUS_DATA,
                         "%s holds %u numbers that are NaN or infinite: the weights are "
                         "broken, or too large for this dtype%s",
                         model_layer_label(&model->config, layer, label), check->not_finite,
                         model_range_remedy(model));
    }
    return STATUS_OK;
}

int model_check(struct model *model, struct error *err) {
    enum { CHECK_TOKENS = 16 };
    int32_t ids[CHECK_TOKENS];
    size_t tokens = size_min(model_longest_own(&model->limits), CHECK_TOKENS);
    uint64_t seed = 1;
    for (size_t t = 0; t < tokens; t++) {
        ids[t] = (int32_t)random_below(&seed, model->config.vocabulary);
    }
    int32_t starts[2] = {0, (int32_t)tokens};
    struct device_span span = {0, (int32_t)tokens};
    struct model_batch batch = {
        .ids = ids, .starts = starts, .spans = &span, .tokens = tokens, .texts = 1, .rows = 1};
    struct pass_place place = {.stages = lane_of(model, 0).is_chain ? model->stage_count : 1};
    for (; place.stage < model->stage_count; place.stage += place.stages) {
        struct pass pass;
        TRY(forward_begin(&pass, model, &batch, &place, err));
        TRY(forward_sweep(&pass, 1, check_layer, NULL, err));
    }
    return STATUS_OK;
}
