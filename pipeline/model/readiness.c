// SPDX-License-Identifier: MIT
// Whether a model can be computed on its devices: what they support, asked before its weights are read, and
// what a loaded model still needs before its first batch, the way its matmuls are computed and the proof
// that all of it lies on the device.
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "kernels/operations.h"
#include "model/block.h"
#include "model/stage.h"
#include "model/streaming.h"

// ---- before its weights are read ----

static size_t mlp_width(const struct model_config *config, size_t block) {
    return size_max(config->intermediate, config_mlp_width(config, block));
}

// The keys of config.json that a size of a block comes from, and the size.
static const char *dimension_keys(const struct model_config *config, size_t block,
                                  enum device_dimension dimension, size_t *size) {
    switch (dimension) {
    case DEVICE_HIDDEN:
        *size = config->hidden;
        return "'hidden_size'";
    case DEVICE_INTERMEDIATE:
        *size = mlp_width(config, block);
        return "'intermediate_size'";
    case DEVICE_HEADS:
        *size = config->heads;
        return "'num_attention_heads'";
    case DEVICE_KV_HEADS:
        *size = config_heads(config, block).kv_heads;
        return *size == config->kv_heads ? "'num_key_value_heads'" : "'num_global_key_value_heads'";
    case DEVICE_EXPERTS:
        *size = config->experts.count;
        return "the number of experts";
    case DEVICE_EXPERT_WIDTH:
        *size = config->experts.width;
        return "the width of experts";
    case DEVICE_KEY_DIM:
        *size = config->delta_net.key_dim;
        return "'linear_key_head_dim'";
    case DEVICE_VALUE_DIM:
        *size = config->delta_net.value_dim;
        return "'linear_value_head_dim'";
    case DEVICE_HEAD_DIM:
        break;
    }
    *size = config_heads(config, block).head_dim;
    if (*size != config->head_dim) {
        return "'global_head_dim'";
    }
    if (config->latent.key > 0) {
        return "'qk_nope_head_dim' and 'qk_rope_head_dim'";
    }
    return config->derived_head_dim ? "'hidden_size' / 'num_attention_heads' (there is no 'head_dim')"
                                    : "'head_dim'";
}

static void name_device(const struct device *device, char *out, size_t size) {
    struct device_description description;
    device_describe(device, &description);
    snprintf(out, size, "%s (%s)", description.kind, description.name);
}

// With `hidden` numbers a token, as blocks have, or experts with a latent.
static int check_shape(const struct model_config *config, size_t block, size_t hidden,
                       const struct device *device, struct error *err) {
    const struct device_shape shape = {.heads = config_heads(config, block),
                                       .hidden = hidden,
                                       .intermediate = mlp_width(config, block),
                                       .experts = config->experts.count,
                                       .expert_width = config->experts.width,
                                       .key_dim = config->delta_net.key_dim,
                                       .value_dim = config->delta_net.value_dim};
    struct device_refusal refusal;
    char name[160];
    size_t size;
    if (device_supports(device, &shape, &refusal)) {
        return STATUS_OK;
    }
    name_device(device, name, sizeof name);
    const char *keys = dimension_keys(config, block, refusal.dimension, &size);
    if (refusal.dimension == DEVICE_HIDDEN && hidden != config->hidden) {
        keys = "'moe_latent_size'";
        size = hidden;
    }
    return error_set(err, STATUS_DEVICE, "%s of %s is %zu, and %s supports only %s", keys,
                     model_config_holder(config), size, name, refusal.can);
}

int model_config_check(const struct model_config *config, const struct device *device, struct error *err) {
    for (size_t block = 0; block < config->layers; block++) {
        TRY(check_shape(config, block, config->hidden, device, err));
        if (config_has_experts(config, block) && config->experts.latent > 0) {
            TRY(check_shape(config, block, config->experts.latent, device, err));
        }
    }
    return STATUS_OK;
}

int model_check_device(const struct model *model, const struct device *device, struct error *err) {
    return model_config_check(&model->config, device, err);
}

static bool same_matmul(const struct block_matmul *a, const struct block_matmul *b) {
    return a->rows == b->rows && a->columns == b->columns && a->has_bias == b->has_bias &&
           a->store == b->store;
}

// Asking takes a GPU a moment, and most blocks have the matmuls of one before.
static bool was_checked(const struct block_matmul *matmul, const struct model_config *config, size_t block) {
    for (size_t earlier = block; earlier-- > 0;) {
        struct block_matmul before[BLOCK_MATMULS_MOST];
        size_t count = block_matmuls(config, earlier, before);
        for (size_t i = 0; i < count; i++) {
            if (same_matmul(matmul, &before[i])) {
                return true;
            }
        }
    }
    return false;
}

static int refuse_matmul(const struct model_config *config, const char *keys, int status, struct error *err) {
    struct error inner = *err;
    return error_set(err, status, "%s of %s give matmuls that this device does not support: %.900s", keys,
                     model_config_holder(config), inner.message);
}

// Of what blocks have of a token of their own, before all of them.
static int check_layer_inputs(const struct model_config *config, struct device *device, size_t tokens,
                              struct error *err) {
    size_t rows = config_layer_inputs(config);
    int status = rows == 0
                     ? STATUS_OK
                     : device_check_matmul(device, tokens, rows, config->hidden, false, DEVICE_STORE, err);
    return status == STATUS_OK
               ? STATUS_OK
               : refuse_matmul(config, "'hidden_size' and 'hidden_size_per_layer_input'", status, err);
}

static int check_matmuls(const struct model_config *config, size_t block, struct device *device,
                         size_t tokens, struct error *err) {
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, block, matmuls);
    for (size_t i = 0; i < count; i++) {
        const struct block_matmul *m = &matmuls[i];
        if (was_checked(m, config, block)) {
            continue;
        }
        int status = device_check_matmul(device, tokens, m->rows, m->columns, m->has_bias, m->store, err);
        if (status != STATUS_OK) {
            return refuse_matmul(config, m->keys, status, err);
        }
    }
    return STATUS_OK;
}

// Of all blocks that are computed: which stage takes which is not asked, since the devices are of one kind.
int model_check_matmuls(struct model *model, const struct model_limits *limits, struct error *err) {
    const struct model_config *config = &model->config;
    size_t blocks = model_blocks_wanted(config, limits); // 0: embeddings alone
    for (size_t i = 0; i < model->stage_count; i++) {
        if (config->embedding_width > 0) {
            TRY(device_check_matmul(model->stages[i].device, limits->tokens, config->hidden,
                                    config->embedding_width, false, DEVICE_STORE, err));
        }
        TRY(check_layer_inputs(&model->config, model->stages[i].device, limits->tokens, err));
        for (size_t block = 0; block < blocks; block++) {
            TRY(check_matmuls(&model->config, block, model->stages[i].device, limits->tokens, err));
        }
    }
    return STATUS_OK;
}

// ---- before its first batch ----

static bool matmuls_were_checked(const struct model_config *config, size_t block,
                                 const struct block_matmul *matmuls, size_t count) {
    bool checked = true;
    for (size_t i = 0; i < count; i++) {
        checked = checked && was_checked(&matmuls[i], config, block);
    }
    return checked;
}

struct tuning {
    struct model *model;
    bool (*goes_on)(void *context);
    void *context;
};

static int tune_block(const struct tuning *tuning, struct stage *stage, size_t block, struct error *err) {
    const struct model_config *config = &tuning->model->config;
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, block, matmuls);
    if (weights_is_streamed(&stage->weights, block)) {
        if (matmuls_were_checked(config, block, matmuls, count)) {
            return STATUS_OK; // its weights need not come for that
        }
        TRY(streaming_bring(tuning->model, block, err));
    }
    const struct block_weights *weights = &stage->weights.blocks[block - stage->weights.first_block];
    for (size_t i = 0; i < count; i++) {
        struct block_operands o = block_operands(&matmuls[i], &stage->state.buffers, weights);
        if (tuning->goes_on != NULL && !tuning->goes_on(tuning->context)) {
            return error_set(err, STATUS_STOPPED, "tuning was stopped");
        }
        TRY(device_matmul_tune(stage->device, o.out, o.in, o.matrix, o.bias, matmuls[i].store, err));
    }
    return STATUS_OK;
}

static int tune_stage(const struct tuning *tuning, struct stage *stage, struct error *err) {
    const struct model_weights *w = &stage->weights;
    const struct block_buffers *b = &stage->state.buffers;
    if (w->has_embedding && tuning->model->config.embedding_width > 0) {
        TRY(device_matmul_tune(stage->device, b->x, b->normed, &w->project_in, NULL, DEVICE_STORE, err));
    }
    if (w->has_embedding && tuning->model->config.layer_input > 0) {
        TRY(device_matmul_tune(stage->device, stage->state.layer_inputs, b->x, &w->layer_projection, NULL,
                               DEVICE_STORE, err));
    }
    for (size_t block = w->first_block; block < w->first_block + w->block_count; block++) {
        if (tune_block(tuning, stage, block, err) != STATUS_OK) {
            return error_wrap(err, "block %zu", block);
        }
    }
    return STATUS_OK;
}

static int list_algorithms(const struct stage *stage, struct buffer *text, struct error *err) {
    TRY(device_algorithms(stage->device, text, err));
    return buffer_printf(text, err, "%s", ""); // ends it where there are none
}

// The part of a line that names the shape: up to the algorithm.
static size_t shape_of(const char *line) {
    const char *name = strstr(line, " id=");
    size_t length = strcspn(line, "\n");
    return name == NULL || (size_t)(name - line) > length ? length : (size_t)(name - line);
}

// Adds the lines whose shapes are not there. False in *same: one of them names another algorithm for a shape
// that is.
static int join_algorithms(struct buffer *all, const char *more, bool *same, struct error *err) {
    for (const char *line = more; *line != 0; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n") + 1;
        size_t shape = shape_of(line);
        const char *found = all->data;
        while (*found != 0 && (shape_of(found) != shape || memcmp(found, line, shape) != 0)) {
            found += strcspn(found, "\n") + 1;
        }
        *same = *same && (*found == 0 || strncmp(found, line, length) == 0);
        if (*found == 0) {
            TRY(buffer_append(all, line, length, err));
            TRY(buffer_printf(all, err, "%s", ""));
        }
    }
    return STATUS_OK;
}

// One of the same kind does as those before it do, or it is not: blocks may differ in their matmuls' shapes,
// so that a stage of a chain has some that those before it have not.
static int tune_as_others(const struct tuning *tuning, struct stage *stage, struct buffer *text,
                          struct error *err) {
    struct buffer own = {0};
    bool same = true;
    int status;
    TRY_TO(done, status = device_set_algorithms(stage->device, text->data, true, err));
    TRY_TO(done, status = tune_stage(tuning, stage, err));
    TRY_TO(done, status = list_algorithms(stage, &own, err));
    TRY_TO(done, status = join_algorithms(text, own.data, &same, err));
    if (!same) {
        status = error_set(err, STATUS_DEVICE, "its matmuls are not computed as those of %s",
                           tuning->model->stages[0].name);
    }
done:
    buffer_destroy(&own);
    return status;
}

int model_tune(struct model *model, bool (*goes_on)(void *context), void *context, struct error *err) {
    const struct tuning tuning = {.model = model, .goes_on = goes_on, .context = context};
    struct buffer text = {0};
    int status;
    TRY_TO(done,
           status = stage_named(model, &model->stages[0], tune_stage(&tuning, &model->stages[0], err), err));
    TRY_TO(done, status = list_algorithms(&model->stages[0], &text, err));
    for (size_t i = 1; i < model->stage_count; i++) {
        struct stage *stage = &model->stages[i];
        TRY_TO(done, status = stage_named(model, stage, tune_as_others(&tuning, stage, &text, err), err));
    }
done:
    buffer_destroy(&text);
    return status;
}

// model_tune has all stages do alike.
int model_algorithms(const struct model *model, struct buffer *text, struct error *err) {
    struct buffer all = {0};
    struct buffer own = {0};
    int status = STATUS_OK;
    for (size_t i = 0; i < model->stage_count; i++) {
        bool same = true;
        buffer_clear(&own);
        TRY_TO(done, status = list_algorithms(&model->stages[i], i == 0 ? &all : &own, err));
        TRY_TO(done, status = i == 0 ? STATUS_OK : join_algorithms(&all, own.data, &same, err));
    }
    status = model->stage_count == 0 ? STATUS_OK : buffer_printf(text, err, "%s", (const char *)all.data);
done:
    buffer_destroy(&own);
    buffer_destroy(&all);
    return status;
}

int model_set_algorithms(struct model *model, const char *text, bool binding, struct error *err) {
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(device_set_algorithms(model->stages[i].device, text, binding, err));
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
