// SPDX-License-Identifier: MIT
#include "model/beside.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "model/family.h"
#include "model/weight_table.h"

static bool ends_with(const char *text, size_t length, const char *end) {
    size_t wanted = strlen(end);
    return length >= wanted && memcmp(text + length - wanted, end, wanted) == 0;
}

// Computed anew from config.json, whatever a file says: rotary tables, and masks of GPT-2's time.
static bool is_buffer(const char *name) {
    static const char *const ends[] = {"rotary_emb.inv_freq",
                                       "rotary_emb.original_inv_freq",
                                       "rotary_emb.cos_cached",
                                       "rotary_emb.sin_cached",
                                       ".attn.bias",
                                       ".attn.masked_bias",
                                       ".attention.bias",
                                       ".attention.masked_bias"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (ends_with(name, strlen(name), ends[i])) {
            return true;
        }
    }
    return false;
}

// What reads the last hidden states: lm_head, v_head, value_head, reward_head, medusa_head and the like by
// their ending, others by name.
static bool is_head(const char *name, size_t length) {
    static const char *const names[] = {"score",      "scores",           "classifier",
                                        "qa_outputs", "regression_layer", "reward_transform_matrix",
                                        "gating",     "embed_out"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == length && memcmp(name, names[i], length) == 0) {
            return true;
        }
    }
    return ends_with(name, length, "head") || ends_with(name, length, "heads");
}

// Multi-token prediction: blocks of its own that start from the last hidden states.
static bool is_predictor(const char *name, size_t length) {
    static const char *const names[] = {"mtp",           "mtp_layers", "mtp_block",
                                        "mtp_emb_norms", "mtp_heads",  "nextn"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == length && memcmp(name, names[i], length) == 0) {
            return true;
        }
    }
    return false;
}

// What comes before a block's number in the names of the family's weights, behind their prefix: "layers.".
static size_t block_stem(const struct model_config *config, const char **stem) {
    const struct weight_row *row = config->weights->rows;
    while (!weight_in_block(row)) {
        row++;
    }
    *stem = row->name;
    return (size_t)(strstr(row->name, "{i}") - row->name);
}

// What follows "layers.7." in a name, and the 7; NULL where it is no weight of a block.
static const char *in_block(const char *name, const struct model_config *config, unsigned long long *block) {
    const char *const *prefixes = family_prefixes(config->family);
    const char *stem;
    size_t length = block_stem(config, &stem);
    for (size_t i = 0; prefixes[i] != NULL; i++) {
        size_t prefix = strlen(prefixes[i]);
        const char *number = name + prefix + length;
        char *end;
        if (strncmp(name, prefixes[i], prefix) == 0 && strncmp(name + prefix, stem, length) == 0 &&
            *number >= '0' && *number <= '9') {
            *block = strtoull(number, &end, 10);
            return *end == '.' ? end + 1 : NULL;
        }
    }
    return NULL;
}

bool beside_later_block(const char *name, const struct model_config *config) {
    unsigned long long block;
    return config->holder == CONFIG_JSON && in_block(name, config, &block) != NULL && block >= config->layers;
}

// What a block that takes keys and values from another would make its own of.
static bool is_unused_key(const char *name, const struct model_config *config) {
    static const char *const parts[] = {"self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm.",
                                        "self_attn.v_norm."};
    unsigned long long block;
    const char *rest = in_block(name, config, &block);
    if (rest == NULL || block >= config->layers || config_keys(config, (size_t)block) != KEYS_SHARED) {
        return false;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strncmp(rest, parts[i], strlen(parts[i])) == 0) {
            return true;
        }
    }
    return false;
}

// What chooses keys where there are more than any text has here.
static bool is_indexer(const char *name, const struct model_config *config) {
    static const char part[] = "self_attn.indexer.";
    unsigned long long block;
    const char *rest = in_block(name, config, &block);
    return config->family != NULL && config->family->has_indexer && rest != NULL &&
           strncmp(rest, part, sizeof part - 1) == 0;
}

// What sees and hears in a model whose text part is read.
static bool is_tower(const char *name) {
    static const char *const parts[] = {
        "visual",      "vision_tower", "vision_model",   "multi_modal_projector",
        "audio_tower", "embed_vision", "embed_audio",    "vision_embed_tokens",
        "vision_proj", "merger",       "vision_embedder"};
    for (const char *part = name; part != NULL;
         part = strchr(part, '.') == NULL ? NULL : strchr(part, '.') + 1) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            size_t length = strlen(parts[i]);
            if (strncmp(part, parts[i], length) == 0 && part[length] == '.') {
                return true;
            }
        }
    }
    return false;
}

bool beside_tensor(const char *name, const struct model_config *config) {
    static const char prefix[] = "model.";
    bool prefixed = strncmp(name, prefix, sizeof prefix - 1) == 0;
    if (is_buffer(name) || beside_later_block(name, config) || is_unused_key(name, config) ||
        is_indexer(name, config)) {
        return true;
    }
    if (config->is_nested && is_tower(name)) {
        return true;
    }
    if (config->embedding_width > 0 && strstr(name, ".project_out.") != NULL) {
        return true; // of the last state, which no run holds
    }
    static const char text[] = "language_model."; // a head may lie within the text part
    if (config->is_nested && strncmp(name, text, sizeof text - 1) == 0) {
        name += sizeof text - 1;
        prefixed = strncmp(name, prefix, sizeof prefix - 1) == 0;
    }
    size_t length = strcspn(name, ".");
    if (is_head(name, length) || is_predictor(name, length)) {
        return true;
    }
    const char *inner = name + sizeof prefix - 1;
    return prefixed && is_predictor(inner, strcspn(inner, "."));
}
