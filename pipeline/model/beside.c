#include "model/beside.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static bool ends_with(const char *text, size_t length, const char *end) {
    size_t wanted = strlen(end);
    return length >= wanted && memcmp(text + length - wanted, end, wanted) == 0;
}

// Computed anew from config.json, whatever a file says.
static bool is_rotary_buffer(const char *name) {
    static const char *const ends[] = {"rotary_emb.inv_freq", "rotary_emb.original_inv_freq",
                                       "rotary_emb.cos_cached", "rotary_emb.sin_cached"};
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
                                        "gating"};
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

bool beside_later_block(const char *name, const struct model_config *config) {
    static const char *const starts[] = {"model.layers.", "layers."};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0] && config->holder == CONFIG_JSON; i++) {
        size_t length = strlen(starts[i]);
        char *end;
        if (strncmp(name, starts[i], length) == 0 && name[length] >= '0' && name[length] <= '9') {
            unsigned long long number = strtoull(name + length, &end, 10);
            return *end == '.' && number >= config->layers;
        }
    }
    return false;
}

bool beside_tensor(const char *name, const struct model_config *config) {
    static const char prefix[] = "model.";
    bool prefixed = strncmp(name, prefix, sizeof prefix - 1) == 0;
    if (is_rotary_buffer(name) || beside_later_block(name, config)) {
        return true;
    }
    size_t length = strcspn(name, ".");
    if (is_head(name, length) || is_predictor(name, length)) {
        return true;
    }
    const char *inner = name + sizeof prefix - 1;
    return prefixed && is_predictor(inner, strcspn(inner, "."));
}
