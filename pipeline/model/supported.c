// Whether a device can compute a model at all, asked before its weights are read.
#include <stdio.h>

#include "model/stage.h"

// The keys of config.json that a size comes from, and the size.
static const char *dimension_keys(const struct model_config *config, enum device_dimension dimension,
                                  size_t *size) {
    switch (dimension) {
    case DEVICE_HIDDEN:
        *size = config->hidden;
        return "'hidden_size'";
    case DEVICE_INTERMEDIATE:
        *size = config->intermediate;
        return "'intermediate_size'";
    case DEVICE_HEADS:
        *size = config->heads;
        return "'num_attention_heads'";
    case DEVICE_KV_HEADS:
        *size = config->kv_heads;
        return "'num_key_value_heads'";
    case DEVICE_HEAD_DIM:
        break;
    }
    *size = config->head_dim;
    return config->derived_head_dim ? "'hidden_size' / 'num_attention_heads' (there is no 'head_dim')"
                                    : "'head_dim'";
}

static void name_device(const struct device *device, char *out, size_t size) {
    struct device_description description;
    device_describe(device, &description);
    snprintf(out, size, "%s (%s)", description.kind, description.name);
}

int model_check_device(const struct model *model, const struct device *device, struct error *err) {
    const struct model_config *config = &model->config;
    const struct device_shape shape = {.heads = {config->heads, config->kv_heads, config->head_dim},
                                       .hidden = config->hidden,
                                       .intermediate = config->intermediate};
    struct device_refusal refusal;
    char name[160];
    size_t size;
    if (device_supports(device, &shape, &refusal)) {
        return STATUS_OK;
    }
    name_device(device, name, sizeof name);
    const char *keys = dimension_keys(config, refusal.dimension, &size);
    return error_set(err, STATUS_DEVICE, "%s of config.json is %zu, and %s computes only %s", keys, size,
                     name, refusal.can);
}

// The products of forward.c's blocks, and the keys that their sizes come from.
static int check_products(const struct model_config *config, struct device *device, size_t tokens,
                          struct error *err) {
    size_t q = config->heads * config->head_dim;
    size_t qkv = q + 2 * config->kv_heads * config->head_dim;
    const struct {
        size_t rows;
        size_t columns;
        bool bias;
        enum device_store store;
        const char *keys;
    } products[] = {
        {qkv, config->hidden, config->attention_bias, DEVICE_STORE,
         "'hidden_size' and heads of 'head_dim' times their numbers"},
        {config->hidden, q, config->output_bias, DEVICE_ADD,
         "'hidden_size' and 'num_attention_heads' times 'head_dim'"},
        {2 * config->intermediate, config->hidden, config->mlp_bias, DEVICE_STORE,
         "'hidden_size' and twice 'intermediate_size'"},
        {config->hidden, config->intermediate, config->mlp_bias, DEVICE_ADD,
         "'hidden_size' and 'intermediate_size'"},
    };
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        int status = device_check_matmul(device, tokens, products[i].rows, products[i].columns,
                                         products[i].bias, products[i].store, err);
        if (status != STATUS_OK) {
            struct error inner = *err;
            return error_set(err, status, "%s of config.json give products that this device lacks: %.900s",
                             products[i].keys, inner.message);
        }
    }
    return STATUS_OK;
}

int model_check_products(struct model *model, const struct model_limits *limits, struct error *err) {
    if (limits->layers[limits->layer_count - 1] == 0) { // embeddings alone: no block is computed
        return STATUS_OK;
    }
    for (size_t i = 0; i < model->stage_count; i++) {
        TRY(check_products(&model->config, model->stages[i].device, limits->tokens, err));
    }
    return STATUS_OK;
}
