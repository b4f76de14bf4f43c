// SPDX-License-Identifier: MIT
#include "model/layer_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/family.h"
#include "model/weight_table.h"
#include "model/weights.h"

static const char pre_norm[] = "pre_norm";

// ---- what the tables call modules ----

// What stands before the names of a checkpoint that transformers saves now: of its class with a head.
static const char *prefix_now(const struct model_config *config) {
    const char *const *prefixes = family_prefixes(config->family);
    for (size_t i = 0; !config->is_nested && prefixes[i] != NULL; i++) {
        if (strcmp(prefixes[i], "model.") == 0) {
            return prefixes[i];
        }
    }
    return prefixes[0];
}

// The name behind one of the family's prefixes: what remains, of the longest one that fits.
static const char *behind_prefix(const struct model_config *config, const char *name) {
    const char *const *prefixes = family_prefixes(config->family);
    const char *rest = name;
    for (size_t i = 0; prefixes[i] != NULL; i++) {
        size_t length = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], length) == 0 && name + length > rest) {
            rest = name + length;
        }
    }
    return rest;
}

// "layers." of "layers.{i}.input_layernorm.weight".
static int block_stem(const struct model_config *config, const char **stem) {
    const struct weight_row *row = config->weights->rows;
    while (!weight_in_block(row)) {
        row++;
    }
    *stem = row->name;
    return (int)(strstr(row->name, "{i}") - row->name);
}

// The module of a weight beside the blocks, without the weight's own word: "norm"; its length, 0 where the
// family has none.
static int module_of(const struct model_config *config, size_t place, const char **name) {
    for (size_t i = 0; i < config->weights->count; i++) {
        const struct weight_row *row = &config->weights->rows[i];
        if (!weight_in_block(row) && row->place == place) {
            *name = row->name;
            return (int)(strrchr(row->name, '.') - row->name);
        }
    }
    *name = "";
    return 0;
}

static int final_norm(const struct model_config *config, const char **name) {
    *name = "";
    return config->no_final_norm ? 0 : module_of(config, offsetof(struct model_weights, final_norm), name);
}

static bool is_name(const char *text, const char *name, int length) {
    return length > 0 && strncmp(text, name, (size_t)length) == 0 && text[length] == 0;
}

// Whether nothing changes what the embedding gives before the first block reads it.
static const char *changes_embedding(const struct model_config *config) {
    return config->embedding_width > 0    ? "a projection comes behind it"
           : config->position_rows > 0    ? "learned positions are added to it"
           : config->embedding_norm       ? "a norm comes behind it"
           : config->embedding_scale != 0 ? "it is multiplied by a scale"
                                          : NULL;
}

// ---- from names ----

static int list_layers(const struct model_config *config, struct buffer *out, struct error *err) {
    const char *stem;
    const char *norm;
    int length = block_stem(config, &stem);
    int norm_length = final_norm(config, &norm);
    const char *prefix = prefix_now(config);
    size_t last = config->layers - 1;
    TRY(buffer_printf(out, err,
                      "the model has hidden states 0 to %zu, pre_norm, blocks %s%.*s0 to %s%.*s%zu "
                      "(blocks.0.hook_resid_post to blocks.%zu.hook_resid_post)",
                      config->layers, prefix, length, stem, prefix, length, stem, last, last));
    return norm_length == 0
               ? STATUS_OK
               : buffer_printf(out, err, " and the final norm %s%.*s", prefix, norm_length, norm);
}

static int refuse_name(const struct model_config *config, const char *name, const char *why,
                       struct error *err) {
    struct buffer list = {0};
    int status = list_layers(config, &list, err);
    if (status == STATUS_OK) {
        status = error_set(err, STATUS_JOB, "'%.160s' %s: %s", name, why, list.data);
    }
    buffer_destroy(&list);
    return status;
}

// A block's number, and what follows it; NULL where there is none.
static const char *read_block(const char *text, unsigned long long *block) {
    char *end;
    bool zeros = text[0] == '0' && text[1] >= '0' && text[1] <= '9';
    if (text[0] < '0' || text[0] > '9' || zeros || strspn(text, "0123456789") > 9) {
        return NULL;
    }
    *block = strtoull(text, &end, 10);
    return end;
}

// Behind block `block`, counted from 0.
static size_t behind_block(const struct model_config *config, size_t block) {
    return block + 1 < config->layers ? block + 1 : config_pre_norm(config);
}

static int find_hook(const struct model_config *config, const char *name, const char *rest, size_t *layer,
                     struct error *err) {
    unsigned long long block;
    const char *hook = read_block(rest, &block);
    if (hook == NULL) {
        return refuse_name(config, name, "names no block", err);
    }
    if (block >= config->layers) {
        return refuse_name(config, name, "does not exist", err);
    }
    if (strcmp(hook, ".hook_resid_pre") == 0) {
        *layer = (size_t)block;
        return STATUS_OK;
    }
    if (strcmp(hook, ".hook_resid_post") == 0) {
        *layer = behind_block(config, (size_t)block);
        return STATUS_OK;
    }
    return refuse_name(
        config, name,
        "is no hook that is kept: of TransformerLens' hooks hook_resid_pre and hook_resid_post are", err);
}

static int find_embedding(const struct model_config *config, const char *name, size_t *layer,
                          struct error *err) {
    const char *why = changes_embedding(config);
    if (why != NULL) {
        return error_set(err, STATUS_JOB,
                         "'%.160s' is not kept by itself: in this model %s. What the first block reads is 0, "
                         "hidden_states[0]",
                         name, why);
    }
    *layer = 0;
    return STATUS_OK;
}

static int find_module(const struct model_config *config, const char *name, size_t *layer,
                       struct error *err) {
    const char *rest = behind_prefix(config, name);
    const char *stem;
    const char *norm;
    const char *embedding;
    unsigned long long block;
    int length = block_stem(config, &stem);
    if (strncmp(rest, stem, (size_t)length) == 0) {
        const char *part = read_block(rest + length, &block);
        if (part != NULL && *part == '.') {
            return refuse_name(config, name, "is a part of a block, of which only the output is kept", err);
        }
        if (part != NULL && *part == 0 && block < config->layers) {
            *layer = behind_block(config, (size_t)block);
            return STATUS_OK;
        }
        return refuse_name(config, name, "does not exist", err);
    }
    int norm_length = final_norm(config, &norm);
    if (is_name(rest, norm, norm_length)) {
        *layer = config->layers;
        return STATUS_OK;
    }
    int embedding_length = module_of(config, offsetof(struct model_weights, embedding), &embedding);
    if (is_name(rest, embedding, embedding_length)) {
        return find_embedding(config, name, layer, err);
    }
    return refuse_name(config, name, "names no hidden state", err);
}

static int find_name(const struct model_config *config, const char *name, size_t *layer, struct error *err) {
    static const char blocks[] = "blocks.";
    if (strcmp(name, pre_norm) == 0) {
        *layer = config_pre_norm(config);
        return STATUS_OK;
    }
    if (strncmp(name, blocks, sizeof blocks - 1) == 0) {
        return find_hook(config, name, name + sizeof blocks - 1, layer, err);
    }
    if (strncmp(name, "ln_final", 8) == 0) {
        return refuse_name(config, name,
                           "is TransformerLens' final norm before its weights, which is not kept; the normed "
                           "state is -1",
                           err);
    }
    return find_module(config, name, layer, err);
}

static int find_index(const struct model_config *config, long long index, size_t *layer, struct error *err) {
    long long states = (long long)config->layers + 1;
    if (index < -states || index >= states) {
        return error_set(err, STATUS_JOB,
                         "layer %lld does not exist: the model has hidden states 0 to %lld, or %lld to -1",
                         index, states - 1, -states);
    }
    *layer = (size_t)(index < 0 ? index + states : index);
    return STATUS_OK;
}

int model_check_layer(const struct model_config *config, size_t layer, struct error *err) {
    return layer <= config_last_state(config) || layer == config_pre_norm(config)
               ? STATUS_OK
               : error_set(err, STATUS_JOB,
                           "hidden_states[%zu] has %zu numbers ('word_embed_proj_dim') and the others %zu, "
                           "which no shard holds together: this model's layers are 0 to %zu, and pre_norm",
                           layer, config->embedding_width, config->hidden, config_last_state(config));
}

static int compare_sizes(const void *left, const void *right) {
    size_t a = *(const size_t *)left;
    size_t b = *(const size_t *)right;
    return (a > b) - (a < b);
}

int model_resolve_layers(const struct model_config *config, const char *const *wanted, size_t count,
                         size_t *out, size_t *out_count, struct error *err) {
    for (size_t i = 0; i < count; i++) {
        char *end;
        long long index = strtoll(wanted[i], &end, 10);
        bool is_index = end != wanted[i] && *end == 0;
        TRY(is_index ? find_index(config, index, &out[i], err) : find_name(config, wanted[i], &out[i], err));
        TRY(model_check_layer(config, out[i], err));
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

// ---- to names ----

void model_layer_module(const struct model_config *config, size_t layer, char out[MODEL_LAYER_NAME]) {
    const char *name;
    int length;
    out[0] = 0;
    if (layer == 0) {
        length = module_of(config, offsetof(struct model_weights, embedding), &name);
        length = changes_embedding(config) == NULL ? length : 0;
    } else if (layer == config->layers) {
        length = final_norm(config, &name);
    } else {
        size_t block = (layer < config->layers ? layer : config->layers) - 1;
        length = block_stem(config, &name);
        snprintf(out, MODEL_LAYER_NAME, "%s%.*s%zu", prefix_now(config), length, name, block);
        return;
    }
    if (length > 0) {
        snprintf(out, MODEL_LAYER_NAME, "%s%.*s", prefix_now(config), length, name);
    }
}

const char *model_layer_label(const struct model_config *config, size_t layer, char out[MODEL_LAYER_LABEL]) {
    if (layer == config_pre_norm(config)) {
        snprintf(out, MODEL_LAYER_LABEL, "%s", pre_norm);
    } else {
        snprintf(out, MODEL_LAYER_LABEL, "hidden_states[%zu]", layer);
    }
    return out;
}

int model_layer_text(const struct model_config *config, size_t layer, struct buffer *out, struct error *err) {
    char label[MODEL_LAYER_LABEL];
    char module[MODEL_LAYER_NAME];
    model_layer_module(config, layer, module);
    TRY(buffer_printf(out, err, "%s", model_layer_label(config, layer, label)));
    if (layer <= config->layers) {
        TRY(buffer_printf(out, err, " of 0..%zu", config->layers));
    }
    if (layer == 0) {
        TRY(buffer_printf(out, err, " = embedding output"));
    } else {
        TRY(buffer_printf(out, err, " = output of block %zu of %zu", config_blocks_for(config, layer),
                          config->layers));
    }
    if (layer >= config->layers && config->no_final_norm) {
        TRY(buffer_printf(out, err, ", no final norm follows"));
    } else if (layer >= config->layers) {
        TRY(buffer_printf(out, err, ", %s the final norm", layer == config->layers ? "after" : "before"));
    }
    return module[0] == 0 ? STATUS_OK : buffer_printf(out, err, " (%s)", module);
}

void model_layer_candidates(const struct model_config *config, const char *name,
                            char out[MODEL_LAYER_CANDIDATES][MODEL_LAYER_NAME]) {
    size_t digit = strcspn(name, "0123456789");
    size_t number = (size_t)strtoull(name + digit, NULL, 10);
    size_t block = number < config->layers ? number : config->layers - 1;
    model_layer_module(config, behind_block(config, block), out[0]);
    model_layer_module(config, config->layers, out[1]);
    snprintf(out[2], MODEL_LAYER_NAME, "blocks.%zu.hook_resid_pre", block);
    snprintf(out[3], MODEL_LAYER_NAME, "blocks.%zu.hook_resid_post", block);
    snprintf(out[4], MODEL_LAYER_NAME, "%s", pre_norm);
}
