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

// Pools a wanted hidden state and copies it to the slot; two buffers in turn keep the copy beside the next
// operations.
static int pool_layer(const struct pass *pass, const struct stage *stage, size_t layer, const void *x,
                      void *context, struct error *err) {
    struct pooling *pooling = context;
    const struct model_limits *limits = &pass->model->limits;
    size_t wanted = find_wanted(limits, layer);
    if (wanted == limits->layer_count) {
        return STATUS_OK;
    }
    size_t hidden = pass->model->config.hidden;
    size_t buffer = pooling->turn++ % POOL_BUFFERS;
    void *rows = stage->state.pooled[buffer];
    struct device_row_check *checks = stage->state.pool_checks[buffer];
    const struct model_output *out = &pass->model->outputs[pass->slot];
    int status;
    TRY_TO(done, status = device_pool(stage->device, rows, limits->stored, checks, x,
                                      stage->state.inputs[pass->member].spans, pass->rows, hidden, err));
    TRY_TO(done, status = device_download(stage->device, (void *)(uintptr_t)out->rows[wanted], rows,
                                          pass->rows * hidden * dtype_size(limits->stored), err));
    status = device_download(stage->device, (void *)(uintptr_t)out->checks[wanted], checks,
                             pass->rows * sizeof checks[0], err);
done:
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "hidden_states[%zu]", layer);
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
    if (count == 0 || count > state_group(&model->limits)) {
        return error_set(err, STATUS_INTERNAL, "a sweep of %zu batches is outside the limit of %zu", count,
                         state_group(&model->limits));
    }
    for (size_t i = 0; i < count; i++) {
        TRY(forward_begin(&model->passes[i], model, batches[i], i, err));
    }
    TRY(forward_sweep(model->passes, count, pool_layer, &pooling, err));
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
