// SPDX-License-Identifier: MIT
#include "model/config_full.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model/config_shape.h"
#include "model/family.h"

static int read_size(const struct values *values, const char *key, size_t *out, struct error *err) {
    int64_t value = (int64_t)*out;
    TRY(values_integer(values, key, 1, LARGEST_HEADS, &value, err));
    *out = (size_t)value;
    return STATUS_OK;
}

// ---- heads ----

static int check_heads(const struct model_config *config, struct error *err) {
    if (config->full_head_dim % 2 != 0) {
        return error_set(err, STATUS_DATA, "heads of %zu numbers; rotary embedding needs an even number",
                         config->full_head_dim);
    }
    if (config->heads % config->full_kv_heads != 0) {
        return error_set(err, STATUS_DATA,
                         "'num_attention_heads' (%zu) is not a multiple of the %zu heads of keys",
                         config->heads, config->full_kv_heads);
    }
    return STATUS_OK;
}

// What a file as it is published says: one size for all of them.
static int read_global(const struct values *values, struct model_config *config, struct error *err) {
    if (values_kind(values, "global_head_dim") == VALUE_NULL) {
        return error_set(err, STATUS_DATA, "'global_head_dim' is null");
    }
    config->full_head_dim = 512;
    TRY(read_size(values, "global_head_dim", &config->full_head_dim, err));
    // Which the class takes only where values are keys.
    return config->full_values_are_keys
               ? read_size(values, "num_global_key_value_heads", &config->full_kv_heads, err)
               : STATUS_OK;
}

static int check_override(const struct values *override, struct error *err) {
    for (const char *key = values_next_key(override, NULL); key != NULL;
         key = values_next_key(override, key)) {
        if (strcmp(key, "head_dim") != 0 && strcmp(key, "num_key_value_heads") != 0) {
            return error_set(err, STATUS_DATA, "'%.64s' differs from block to block, which is not supported",
                             key);
        }
    }
    return STATUS_OK;
}

static int read_block(const struct values *blocks, size_t block, struct model_config *config, bool first,
                      struct error *err) {
    char key[24];
    size_t head_dim = config->head_dim;
    size_t kv_heads = config->kv_heads;
    snprintf(key, sizeof key, "%zu", block);
    struct values override = values_member(blocks, key);
    if (values_kind(blocks, key) == VALUE_MAP) {
        TRY(check_override(&override, err));
        TRY(read_size(&override, "head_dim", &head_dim, err));
        TRY(read_size(&override, "num_key_value_heads", &kv_heads, err));
    }
    if (config->layer_slides[block] != 0) {
        return head_dim == config->head_dim && kv_heads == config->kv_heads
                   ? STATUS_OK
                   : error_set(err, STATUS_DATA, "block %zu has a window and heads of its own", block);
    }
    if (!first && (head_dim != config->full_head_dim || kv_heads != config->full_kv_heads)) {
        return error_set(err, STATUS_DATA, "blocks without a window differ in their heads");
    }
    config->full_head_dim = head_dim;
    config->full_kv_heads = kv_heads;
    return STATUS_OK;
}

// What transformers writes in its place: the sizes of each block that has its own.
static int read_blocks(const struct values *values, struct model_config *config, struct error *err) {
    struct values blocks = values_member(values, "per_layer_config");
    bool first = true;
    if (values_kind(values, "per_layer_config") != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'per_layer_config' is not an object");
    }
    for (size_t block = 0; block < config->layers; block++) {
        if (read_block(&blocks, block, config, first, err) != STATUS_OK) {
            return error_wrap(err, "'per_layer_config'");
        }
        first = first && config->layer_slides[block] != 0;
    }
    return STATUS_OK;
}

// ---- keys and values of other blocks ----

static int read_sharing(const struct values *values, struct model_config *config, struct error *err) {
    static const char key[] = "num_kv_shared_layers";
    int64_t sharers = 0;
    TRY(values_integer(values, key, 0, (int64_t)config->layers - 1, &sharers, err));
    config->key_sharers = (size_t)sharers;
    TRY(values_boolean(values, "use_double_wide_mlp", &config->double_mlp, err));
    for (size_t block = config->layers - config->key_sharers; block < config->layers; block++) {
        if (config_key_giver(config, config->layer_slides[block] != 0) == config->layers) {
            return error_set(err, STATUS_DATA,
                             "'%s' is %zu: block %zu has no keys and values to take, and none of its own",
                             key, config->key_sharers, block);
        }
    }
    return STATUS_OK;
}

// ---- what is not computed ----

static int refuse(const struct values *values, const struct model_config *config, struct error *err) {
    const char *direction = "vision"; // which text alone does not see
    TRY(values_text(values, "use_bidirectional_attention", &direction, err));
    if (strcmp(direction, "vision") != 0) {
        return error_set(err, STATUS_DATA,
                         "'use_bidirectional_attention' is %.64s, which is not supported in %s", direction,
                         config->model_type);
    }
    return config->window == 0 ? error_set(err, STATUS_DATA, "'sliding_window' is null") : STATUS_OK;
}

// ---- what each block has of a token beside the residual stream ----

static int read_layer_inputs(const struct values *values, struct model_config *config, struct error *err) {
    int64_t numbers = 256;
    int64_t vocabulary = 262144;
    TRY(values_integer(values, "hidden_size_per_layer_input", 0, LARGEST_HEADS, &numbers, err));
    TRY(values_integer(values, "vocab_size_per_layer_input", 1, LARGEST_DIMENSION, &vocabulary, err));
    config->layer_input = (size_t)numbers;
    config->layer_vocabulary = (size_t)vocabulary;
    return numbers == 0 || config->layer_vocabulary >= config->vocabulary
               ? STATUS_OK
               : error_set(err, STATUS_DATA,
                           "'vocab_size_per_layer_input' is %zu, and ids go up to 'vocab_size' (%zu)",
                           config->layer_vocabulary, config->vocabulary);
}

int config_read_full(const struct values *values, struct model_config *config, struct error *err) {
    TRY(refuse(values, config, err));
    TRY(values_boolean(values, "attention_k_eq_v", &config->full_values_are_keys, err));
    TRY(read_sharing(values, config, err));
    TRY(config->family->layer_inputs ? read_layer_inputs(values, config, err) : STATUS_OK);
    if (config->attention_bias && (config->full_values_are_keys || config->key_sharers > 0)) {
        return error_set(err, STATUS_DATA, "'attention_bias' is not supported beside '%s'",
                         config->full_values_are_keys ? "attention_k_eq_v" : "num_kv_shared_layers");
    }
    config->full_kv_heads = config->kv_heads;
    TRY(values_has(values, "per_layer_config") ? read_blocks(values, config, err)
                                               : read_global(values, config, err));
    return check_heads(config, err);
}
