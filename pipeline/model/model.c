#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/first_bytes.h"
#include "base/random.h"
#include "base/size.h"
#include "model/block.h"
#include "model/forward.h"
#include "model/state.h"

static int read_config(struct model *model, const char *folder, struct error *err) {
    char path[PATH_SIZE];
    int status = path_join(path, sizeof path, folder, "config.json", err);
    if (status == STATUS_OK) {
        status = file_read(&model->config_text, path, MODEL_CONFIG_LIMIT, err);
    }
    if (status == STATUS_OK) {
        status = first_bytes_check(model->config_text.data, model->config_text.size, model->config_text.size,
                                   path, FIRST_BYTES_JSON, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    return model_config_parse(&model->config, model->config_text.data, model->config_text.size, path, err);
}

// Names what lies beside the blocks, the first few of it.
static int note_beside(struct model *model, struct error *err) {
    enum { SHOWN = 6 };
    struct checkpoint *checkpoint = &model->checkpoint;
    size_t count = 0;
    int status = STATUS_OK;
    for (size_t i = 0; i < checkpoint->entry_count && status == STATUS_OK; i++) {
        if (model->uses[i].row == WEIGHT_IGNORED && count++ < SHOWN) {
            status = buffer_printf(&checkpoint->notes, err, "%s%.200s",
                                   count == 1 ? "tensors that no hidden state needs are not loaded: " : ", ",
                                   checkpoint->entries[i].tensor->name);
        }
    }
    if (status == STATUS_OK && count > SHOWN) {
        status = buffer_printf(&checkpoint->notes, err, " and %zu more", count - SHOWN);
    }
    return status == STATUS_OK && count > 0 ? buffer_printf(&checkpoint->notes, err, "\n") : status;
}

int model_open(struct model **out, const char *folder, struct error *err) {
    void *block;
    *out = NULL;
    int status = memory_zeroed(&block, 1, sizeof **out, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct model *model = block;
    status = read_config(model, folder, err);
    if (status == STATUS_OK) {
        status = checkpoint_open(&model->checkpoint, folder, &model->config, err);
    }
    if (status == STATUS_OK) {
        status = weights_match(&model->uses, &model->config, &model->checkpoint, err);
        if (status != STATUS_OK) {
            error_wrap(err, "%s", folder);
        }
    }
    if (status == STATUS_OK) {
        status = note_beside(model, err);
    }
    if (status != STATUS_OK) {
        model_close(model);
        return status;
    }
    *out = model;
    return STATUS_OK;
}

void model_close(struct model *model) {
    if (model == NULL) {
        return;
    }
    state_destroy(&model->state, &model->weights);
    free(model->layers);
    free(model->uses);
    buffer_destroy(&model->config_text);
    model_config_destroy(&model->config);
    checkpoint_close(&model->checkpoint);
    free(model);
}

const struct model_config *model_config_of(const struct model *model) {
    return &model->config;
}

uint64_t model_parameters(const struct model *model) {
    size_t unused;
    bool head =
        !model->config.tied_embeddings && checkpoint_find(&model->checkpoint, "lm_head.weight", &unused);
    return weights_count(&model->config, head);
}

uint64_t model_file_bytes(const struct model *model) {
    return checkpoint_bytes(&model->checkpoint);
}

const char *model_notes(const struct model *model) {
    return model->checkpoint.notes.data == NULL ? "" : model->checkpoint.notes.data;
}

const char *model_fingerprint(const struct model *model) {
    return model->fingerprint;
}

int model_fingerprint_files(struct model *model, const struct model_load_options *options,
                            struct error *err) {
    static const struct model_load_options none;
    return load_files(model, false, options == NULL ? &none : options, err);
}

static int compare_sizes(const void *left, const void *right) {
    size_t a = *(const size_t *)left;
    size_t b = *(const size_t *)right;
    return (a > b) - (a < b);
}

int model_resolve_layers(const struct model_config *config, const int64_t *wanted, size_t count, size_t *out,
                         size_t *out_count, struct error *err) {
    int64_t states = (int64_t)config->layers + 1;
    for (size_t i = 0; i < count; i++) {
        if (wanted[i] < -states || wanted[i] >= states) {
            return error_set(
                err, STATUS_JOB,
                "layer %lld does not exist: the model has hidden states 0 to %lld, or %lld to -1",
                (long long)wanted[i], (long long)states - 1, (long long)-states);
        }
        out[i] = (size_t)(wanted[i] < 0 ? wanted[i] + states : wanted[i]);
    }
    qsort(out, count, sizeof out[0], compare_sizes);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || out[kept - 1] != out[i]) {
            out[kept++] = out[i];
        }
    }
    *out_count = kept;
    return STATUS_OK;
}

static int plan_weights(const struct model *model, struct layout *layout, size_t last, struct error *err) {
    struct model_weights weights = {0};
    int status = state_prepare_weights(&weights, &model->config, last, err);
    if (status == STATUS_OK) {
        status = weights_lay_out(layout, &weights, &model->config, err);
    }
    free(weights.blocks);
    return status;
}

int model_plan_weights(const struct model *model, const struct device *device, size_t last,
                       struct device_plan *plan, struct error *err) {
    struct layout layout = layout_planning(device, plan);
    return plan_weights(model, &layout, last, err);
}

int model_plan(const struct model *model, const struct device *device, const struct model_limits *limits,
               struct device_plan *plan, struct error *err) {
    struct model_state state = {0};
    struct model_weights none = {0};
    struct layout layout = layout_planning(device, plan);
    int status = state_check_limits(&model->config, limits, err);
    size_t last = status == STATUS_OK ? limits->layers[limits->layer_count - 1] : 0;
    if (status == STATUS_OK) {
        status = plan_weights(model, &layout, last, err);
    }
    if (status == STATUS_OK) {
        status = state_prepare(&state, &model->config, limits, err);
    }
    if (status == STATUS_OK) {
        status = state_lay_out(&layout, &state, last, &model->config, limits, err);
    }
    plan->tokens = limits->tokens;
    state_destroy(&state, &none);
    return status;
}

static int keep_limits(struct model *model, const struct model_limits *limits, struct error *err) {
    void *layers;
    int status = memory_zeroed(&layers, limits->layer_count, sizeof limits->layers[0], err);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(layers, limits->layers, limits->layer_count * sizeof limits->layers[0]);
    model->layers = layers;
    model->limits = *limits;
    model->limits.layers = model->layers;
    return STATUS_OK;
}

int model_load_weights(struct model *model, struct device *device, size_t last,
                       const struct model_load_options *options, struct error *err) {
    if (model->device != NULL) {
        return error_set(err, STATUS_INTERNAL, "the model is already loaded");
    }
    struct layout layout = layout_taking(device);
    model->device = device;
    model->last = last;
    int status = state_prepare_weights(&model->weights, &model->config, last, err);
    if (status == STATUS_OK) {
        status = weights_lay_out(&layout, &model->weights, &model->config, err);
    }
    if (status == STATUS_OK) {
        status = load_files(model, true, options, err);
    }
    model->is_loaded = status == STATUS_OK;
    return status;
}

int model_set_limits(struct model *model, const struct model_limits *limits, struct error *err) {
    int status = state_check_limits(&model->config, limits, err);
    if (status == STATUS_OK && (!model->is_loaded || model->layers != NULL ||
                                limits->layers[limits->layer_count - 1] != model->last)) {
        status = error_set(err, STATUS_INTERNAL, "%s",
                           model->layers != NULL ? "the model has its limits already"
                                                 : "the weights of other blocks are loaded, or none");
    }
    if (status == STATUS_OK) {
        status = keep_limits(model, limits, err);
    }
    if (status == STATUS_OK) {
        status = state_prepare(&model->state, &model->config, limits, err);
    }
    struct layout layout = layout_taking(model->device);
    if (status == STATUS_OK) {
        status = state_lay_out(&layout, &model->state, model->last, &model->config, limits, err);
    }
    return status == STATUS_OK ? load_rope_tables(model, err) : status;
}

int model_load(struct model *model, struct device *device, const struct model_limits *limits,
               const struct model_load_options *options, struct error *err) {
    int status = state_check_limits(&model->config, limits, err);
    if (status == STATUS_OK) {
        status = model_load_weights(model, device, limits->layers[limits->layer_count - 1], options, err);
    }
    return status == STATUS_OK ? model_set_limits(model, limits, err) : status;
}

// ---- a batch ----

struct pooling {
    size_t next; // of the wanted layers
};

// Pools a wanted hidden state and copies it to the slot; two buffers in turn keep the copy beside the next
// blocks.
static int pool_layer(const struct pass *pass, size_t layer, const void *x, void *context,
                      struct error *err) {
    struct pooling *pooling = context;
    struct model *model = pass->model;
    const struct model_limits *limits = &model->limits;
    if (pooling->next == limits->layer_count || limits->layers[pooling->next] != layer) {
        return STATUS_OK;
    }
    size_t wanted = pooling->next++;
    void *rows = model->state.pooled[wanted % POOL_BUFFERS];
    struct device_row_check *checks = model->state.pool_checks[wanted % POOL_BUFFERS];
    const struct slot_outputs *out = &model->state.outputs[pass->slot];
    int status = device_pool(model->device, rows, limits->out_dtype, checks, x, model->state.inputs.spans,
                             pass->rows, model->config.hidden, err);
    if (status == STATUS_OK) {
        status = device_download(model->device, (void *)(uintptr_t)out->rows[wanted], rows,
                                 pass->rows * model->config.hidden * dtype_size(limits->out_dtype), err);
    }
    if (status == STATUS_OK) {
        status = device_download(model->device, (void *)(uintptr_t)out->checks[wanted], checks,
                                 pass->rows * sizeof checks[0], err);
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "hidden_states[%zu]", layer);
}

int model_forward(struct model *model, const struct model_batch *batch, struct device_mark *mark,
                  struct error *err) {
    struct pass pass;
    struct pooling pooling = {0};
    int status = forward_begin(&pass, model, batch, err);
    if (status == STATUS_OK) {
        status = forward_run(&pass, pool_layer, &pooling, err);
    }
    return status == STATUS_OK ? device_mark(model->device, mark, err) : status;
}

void model_outputs(const struct model *model, size_t slot, struct model_output *out) {
    const struct slot_outputs *outputs = &model->state.outputs[slot];
    *out = (struct model_output){.rows = outputs->rows, .checks = outputs->checks};
}

// The mean over all tokens is finite only if each of them is.
static int check_layer(const struct pass *pass, size_t layer, const void *x, void *context,
                       struct error *err) {
    struct model *model = pass->model;
    struct device_row_check *check = context; // staging memory
    struct device_row_check *found = model->state.pool_checks[0];
    struct device_mark mark;
    int status = device_pool(model->device, model->state.pooled[0], model->limits.out_dtype, found, x,
                             model->state.inputs.spans, 1, model->config.hidden, err);
    if (status == STATUS_OK) {
        status = device_download(model->device, check, found, sizeof *check, err);
    }
    if (status == STATUS_OK) {
        status = device_mark(model->device, &mark, err);
    }
    if (status == STATUS_OK) {
        status = device_wait(model->device, mark, NULL, err);
    }
    if (status == STATUS_OK && check->not_finite > 0) {
        return error_set(err, STATUS_DATA,
                         "hidden_states[%zu] holds %u numbers that are NaN or infinite: the weights are "
                         "broken, or too large for this dtype",
                         layer, check->not_finite);
    }
    return status;
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
    int status = forward_begin(&pass, model, &batch, err);
    if (status == STATUS_OK) {
        void *check = (void *)(uintptr_t)model->state.outputs[0].checks[0];
        status = forward_run(&pass, check_layer, check, err);
    }
    return status;
}

double model_flops(const struct model *model, size_t blocks, size_t tokens, double squared_lengths) {
    double sum = 0;
    for (size_t block = 0; block < blocks; block++) {
        sum += block_flops(&model->config, block, tokens, squared_lengths);
    }
    return sum;
}
