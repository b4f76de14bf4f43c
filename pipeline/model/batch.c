// A batch through a loaded model: wanted hidden states are pooled as they come, and their rows copied to the
// host.
#include "base/random.h"
#include "base/size.h"
#include "kernels/operations.h"
#include "model/forward.h"
#include "model/stage.h"

struct pooling {
    size_t turn; // of the buffers
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
    const struct model_limits *limits = &pass->model->limits;
    const struct model_output *out = &pass->model->outputs[pass->slot];
    size_t row_bytes = pass->model->config.hidden * dtype_size(limits->stored);
    size_t first = (member - pass->first) * state_pool_rows(limits);
    size_t count = size_min(pass->rows - first, state_pool_rows(limits));
    size_t buffer = pooling->turn++ % POOL_BUFFERS;
    void *rows = stage->state.pooled[buffer];
    struct device_row_check *checks = stage->state.pool_checks[buffer];
    unsigned char *to = (unsigned char *)(uintptr_t)out->rows[wanted];
    struct device_row_check *checks_to = (struct device_row_check *)(uintptr_t)out->checks[wanted];
    TRY(device_pool(stage->device, rows, limits->stored, checks, x, stage->state.inputs[member].spans, count,
                    pass->model->config.hidden, err));
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
            return error_wrap(err, "hidden_states[%zu]", layer);
        }
    }
    return STATUS_OK;
}

// One fence for all batches of a sweep: devices remember a few of them only.
static int end_sweep(const struct model *model, const struct model_batch *const *batches, size_t count,
                     struct error *err) {
    for (size_t s = 0; s < model->stage_count; s++) {
        const struct stage *stage = &model->stages[s];
        struct device_fence fence;
        TRY(device_fence(stage->device, &fence, err));
        for (size_t i = 0; i < count; i++) {
            stage->state.fences[batches[i]->slot] = fence;
        }
    }
    return STATUS_OK;
}

int model_sweep(struct model *model, const struct model_batch *const *batches, size_t count,
                struct error *err) {
    struct pooling pooling = {0};
    size_t members = 0;
    if (count == 0) {
        return error_set(err, STATUS_INTERNAL, "a sweep of no batch");
    }
    for (size_t i = 0; i < count; i++) {
        size_t more = model_batch_members(&model->limits, batches[i]->tokens);
        if (more > state_members(&model->limits) - members) {
            return error_set(err, STATUS_INTERNAL,
                             "a sweep of %zu batches is outside the limit of %zu members", count,
                             state_members(&model->limits));
        }
        TRY(forward_begin(&model->passes[members], model, batches[i], members, err));
        members += more;
    }
    TRY(forward_sweep(model->passes, members, pool_layer, &pooling, err));
    return end_sweep(model, batches, count, err);
}

int model_forward(struct model *model, const struct model_batch *batch, struct error *err) {
    return model_sweep(model, &batch, 1, err);
}

int model_wait(struct model *model, size_t slot, struct device_times *times, struct error *err) {
    struct device_times sum = {0};
    for (size_t i = 0; i < model->stage_count; i++) {
        const struct stage *stage = &model->stages[i];
        struct device_times own;
        TRY(device_wait(stage->device, stage->state.fences[slot], &own, err));
        sum.upload_seconds += own.upload_seconds;
        sum.compute_seconds += own.compute_seconds;
        sum.download_seconds += own.download_seconds;
        sum.worked_seconds += own.worked_seconds;
    }
    if (times != NULL) {
        *times = sum;
    }
    return STATUS_OK;
}

void model_outputs(const struct model *model, size_t slot, struct model_output *out) {
    *out = model->outputs[slot];
}

// ---- the pass before the first batch ----

// The mean over all tokens is finite only if each of them is.
static int check_layer(const struct pass *pass, const struct stage *stage, size_t layer, const void *x,
                       void *context, struct error *err) {
    (void)context;
    const struct model *model = pass->model;
    const struct model_state *state = &stage->state;
    struct device_row_check *check = state->staging;
    struct device_row_check *found = state->pool_checks[0];
    struct device_fence fence;
    TRY(device_pool(stage->device, state->pooled[0], model->limits.stored, found, x, state->inputs[0].spans,
                    1, model->config.hidden, err));
    TRY(device_download(stage->device, check, found, sizeof *check, err));
    TRY(device_fence(stage->device, &fence, err));
    TRY(device_wait(stage->device, fence, NULL, err));
    if (check->not_finite > 0) {
        return error_set(err, STATUS_DATA,
                         "hidden_states[%zu] holds %u numbers that are NaN or infinite: the weights are "
                         "broken, or too large for this dtype%s",
                         layer, check->not_finite, model_range_remedy(model));
    }
    return STATUS_OK;
}

int model_check(struct model *model, struct error *err) {
    enum { CHECK_TOKENS = 16 };
    int32_t ids[CHECK_TOKENS];
    size_t tokens = size_min(model->limits.longest, CHECK_TOKENS);
    uint64_t seed = 1;
    for (size_t t = 0; t < tokens; t++) {
        ids[t] = (int32_t)random_below(&seed, model->config.vocabulary);
    }
    int32_t starts[2] = {0, (int32_t)tokens};
    struct device_span span = {0, (int32_t)tokens};
    struct model_batch batch = {
        .ids = ids, .starts = starts, .spans = &span, .tokens = tokens, .texts = 1, .rows = 1};
    struct pass pass;
    TRY(forward_begin(&pass, model, &batch, 0, err));
    return forward_sweep(&pass, 1, check_layer, NULL, err);
}
