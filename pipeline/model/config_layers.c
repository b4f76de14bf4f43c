// SPDX-License-Identifier: MIT
#include "model/config_layers.h"

#include <stdint.h>
#include <string.h>

#include "model/config_experts.h"
#include "model/config_full.h"
#include "model/config_shape.h"
#include "model/config_space.h"
#include "model/family.h"

static int flags_of(const struct model_config *config, unsigned char **out, struct error *err) {
    void *flags;
    TRY(memory_zeroed(&flags, config->layers, 1, err));
    *out = flags;
    return STATUS_OK;
}

// ---- windows ----

static int read_size(const struct values *values, struct model_config *config, struct error *err) {
    int64_t window = config->family->defaults.window;
    const char *key = config->family->keys.window == NULL ? "sliding_window" : config->family->keys.window;
    if (values_kind(values, key) == VALUE_NULL) {
        return STATUS_OK;
    }
    TRY(values_integer(values, key, 1, LARGEST_POSITIONS, &window, err));
    *(config->family->windows == WINDOWS_CHUNKED ? &config->chunk : &config->window) = (size_t)window;
    return STATUS_OK;
}

// The window itself, and the first block that has it by the older keys.
static int read_window(const struct values *values, struct model_config *config, struct error *err) {
    enum family_windows windows = config->family->windows;
    bool used = windows == WINDOWS_ALL || windows == WINDOWS_BY_TYPE || windows == WINDOWS_LISTED ||
                windows == WINDOWS_CHUNKED || windows == WINDOWS_FROM_LAYER;
    if (windows != WINDOWS_NEVER && !used) {
        TRY(values_boolean(values, "use_sliding_window", &used, err));
    }
    if (!used) {
        return STATUS_OK;
    }
    TRY(read_size(values, config, err));
    if ((windows != WINDOWS_IF_USED && windows != WINDOWS_IN_TURN && windows != WINDOWS_FROM_LAYER) ||
        config->window == 0) {
        return STATUS_OK;
    }
    int64_t first = config->family->window_layers == 0 ? 28 : config->family->window_layers;
    TRY(values_integer(values, "max_window_layers", 0, LARGEST_LAYERS, &first, err));
    config->first_window_layer = (size_t)first;
    return STATUS_OK;
}

// Each so many blocks one sees all keys.
static int read_pattern(const struct values *values, const struct model_config *config, int64_t *every,
                        struct error *err) {
    static const char *const keys[] = {"sliding_window_pattern", "_sliding_window_pattern"};
    const char *own = config->family->every_key;
    *every = (int64_t)config->family->full_every;
    if (own != NULL) {
        return own[0] == 0 || values_has(values, "layer_types")
                   ? STATUS_OK
                   : values_integer(values, own, 1, LARGEST_LAYERS, every, err);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!values_has(values, "layer_types") && !config->family->full_heads) { // which wins; has none
            TRY(values_integer(values, keys[i], 1, LARGEST_LAYERS, every, err));
        }
    }
    return STATUS_OK;
}

static bool list_is_obeyed(const struct model_config *config) {
    enum family_windows windows = config->family->windows;
    return windows == WINDOWS_IF_USED || windows == WINDOWS_IN_TURN || windows == WINDOWS_BY_TYPE ||
           windows == WINDOWS_FROM_LAYER || windows == WINDOWS_WITHOUT_ROPE || windows == WINDOWS_CHUNKED;
}

static bool has_reach(const struct model_config *config) {
    return config->window > 0 || config->chunk > 0;
}

// An explicit list wins where the family has one; elsewhere transformers ignores it, so that a list that
// disagrees is refused.
static int read_layer_types(const struct values *values, struct model_config *config, struct error *err) {
    if (!values_has(values, "layer_types")) {
        return STATUS_OK;
    }
    struct values list = values_member(values, "layer_types");
    const char *local =
        config->family->windows == WINDOWS_CHUNKED ? "chunked_attention" : "sliding_attention";
    if (values_kind(values, "layer_types") != VALUE_LIST || values_count(&list) != config->layers) {
        return error_set(err, STATUS_DATA, "'layer_types' is not a list of %zu names", config->layers);
    }
    for (size_t i = 0; i < config->layers; i++) {
        const char *type = values_text_at(&list, i);
        if (config->family->has_indexer && type != NULL && strcmp(type, "indexed_attention") == 0) {
            continue;
        }
        bool slides = type != NULL && strcmp(type, local) == 0;
        if (!slides && (type == NULL || strcmp(type, "full_attention") != 0)) {
            return error_set(err, STATUS_DATA,
                             "'layer_types' entry %zu is '%.64s'; supported are full_attention and %s", i,
                             type == NULL ? "not a text" : type, local);
        }
        if (slides && !has_reach(config)) {
            return error_set(err, STATUS_DATA, "'layer_types' entry %zu is %s, but there is no %s", i, local,
                             config->family->windows == WINDOWS_CHUNKED ? "'attention_chunk_size'"
                                                                        : "sliding window");
        }
        if (!list_is_obeyed(config) && slides != (config->layer_slides[i] != 0)) {
            return error_set(err, STATUS_DATA, "'layer_types' entry %zu contradicts 'sliding_window' of %s",
                             i, config->model_type);
        }
        config->layer_slides[i] = slides;
    }
    return STATUS_OK;
}

static int wrong_attention_types(const struct model_config *config, struct error *err) {
    return error_set(
        err, STATUS_DATA,
        "'attention_types' is not a list of [names, times] that gives global or local to %zu blocks",
        config->layers);
}

// Names that are repeated so many times, from block *next on.
static int repeat_names(const struct values *names, int64_t times, size_t *next, struct model_config *config,
                        struct error *err) {
    for (int64_t turn = 0; turn < times && *next < config->layers; turn++) {
        for (size_t i = 0; i < values_count(names); i++) {
            const char *type = values_text_at(names, i);
            bool is_local = type != NULL && strcmp(type, "local") == 0;
            if (*next >= config->layers || (!is_local && (type == NULL || strcmp(type, "global") != 0))) {
                return wrong_attention_types(config, err);
            }
            config->layer_slides[(*next)++] = is_local && config->window > 0;
        }
    }
    return STATUS_OK;
}

// GPT-Neo: [[["global", "local"], 12]], and so where it is absent.
static int read_attention_types(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "attention_types");
    struct values names = values_member(values, "attention_layers");
    size_t next = 0;
    if (values_has(values, "attention_layers")) { // which wins
        TRY(repeat_names(&names, values_count(&names) > 0, &next, config, err));
        return next == config->layers ? STATUS_OK : wrong_attention_types(config, err);
    }
    if (!values_has(values, "attention_types")) {
        for (size_t i = 0; i < config->layers; i++) {
            config->layer_slides[i] = i % 2 == 1 && config->window > 0;
        }
        return STATUS_OK;
    }
    for (size_t i = 0; i < values_count(&list); i++) {
        struct values pair = values_element(&list, i);
        struct values repeated = values_element(&pair, 0);
        int64_t times;
        if (!values_integer_at(&pair, 1, &times) || values_count(&repeated) == 0) {
            return wrong_attention_types(config, err);
        }
        TRY(repeat_names(&repeated, times, &next, config, err));
    }
    return next == config->layers ? STATUS_OK : wrong_attention_types(config, err);
}

// ---- what mixes tokens ----

static int read_delta_net(const struct values *values, struct model_config *config, struct error *err) {
    struct device_delta_net *net = &config->delta_net;
    const struct {
        const char *key;
        int64_t otherwise;
        int64_t most;
        size_t *out;
    } sizes[] = {{"linear_num_key_heads", 16, LARGEST_HEADS, &net->key_heads},
                 {"linear_num_value_heads", 32, LARGEST_HEADS, &net->value_heads},
                 {"linear_key_head_dim", 128, LARGEST_HEADS, &net->key_dim},
                 {"linear_value_head_dim", 128, LARGEST_HEADS, &net->value_dim},
                 {"linear_conv_kernel_dim", 4, 64, &net->taps}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        TRY(config_read_count(values, sizes[i].key, sizes[i].otherwise, sizes[i].out, sizes[i].most, err));
    }
    if (net->value_heads % net->key_heads != 0) {
        return error_set(err, STATUS_DATA,
                         "'linear_num_value_heads' (%zu) is not a multiple of 'linear_num_key_heads' (%zu)",
                         net->value_heads, net->key_heads);
    }
    if (device_delta_net_width(net) > LARGEST_DIMENSION) {
        return error_set(err, STATUS_DATA, "linear attention has rows of %zu numbers, more than %d",
                         device_delta_net_width(net), LARGEST_DIMENSION);
    }
    return config->activation == DEVICE_SILU // of the convolution too
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'hidden_act' of %s is not silu, which is not supported",
                           config->model_type);
}

// Of LFM2: all blocks but those in full_attn_idxs, which are all where it is absent.
static int read_full_blocks(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "full_attn_idxs");
    bool listed = values_has(values, "full_attn_idxs");
    if (listed && values_kind(values, "full_attn_idxs") != VALUE_LIST) {
        return error_set(err, STATUS_DATA, "'full_attn_idxs' is not a list");
    }
    for (size_t i = 0; i < config->layers && listed; i++) {
        config->layer_mixers[i] = MIXER_CONVOLUTION;
    }
    for (size_t i = 0; i < values_count(&list) && listed; i++) {
        int64_t block = -1;
        if (!values_integer_at(&list, i, &block)) {
            return error_set(err, STATUS_DATA, "'full_attn_idxs' entry %zu is not a number", i);
        }
        if (block >= 0 && (size_t)block < config->layers) { // others are of no block
            config->layer_mixers[block] = MIXER_ATTENTION;
        }
    }
    return STATUS_OK;
}

static int read_convolutions(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "layer_types");
    config->convolution.width = config->hidden;
    TRY(config_read_count(values, "conv_L_cache", 3, &config->convolution.taps, DEVICE_TAPS_MOST, err));
    TRY(values_boolean(values, "conv_bias", &config->convolution_bias, err));
    TRY(flags_of(config, &config->layer_mixers, err));
    if (!values_has(values, "layer_types") && config->family->mixers == MIXERS_CONVOLUTION) {
        return read_full_blocks(values, config, err);
    }
    if (values_kind(values, "layer_types") != VALUE_LIST || values_count(&list) != config->layers) {
        return error_set(err, STATUS_DATA, "'layer_types' is not a list of %zu names", config->layers);
    }
    for (size_t i = 0; i < config->layers; i++) {
        const char *type = values_text_at(&list, i);
        bool attends = type != NULL && strcmp(type, "full_attention") == 0;
        if (!attends && (type == NULL || strcmp(type, "conv") != 0)) {
            return error_set(err, STATUS_DATA,
                             "'layer_types' entry %zu is '%.64s'; supported are full_attention and conv", i,
                             type == NULL ? "not a text" : type);
        }
        config->layer_mixers[i] = attends ? MIXER_ATTENTION : MIXER_CONVOLUTION;
    }
    return STATUS_OK;
}

// Which blocks have a delta net.
static int read_delta_nets(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "layer_types");
    bool listed = values_has(values, "layer_types");
    int64_t every = (int64_t)config->family->full_every;
    TRY(read_delta_net(values, config, err));
    TRY(flags_of(config, &config->layer_mixers, err));
    TRY(listed ? STATUS_OK
               : values_integer(values, "full_attention_interval", 1, LARGEST_LAYERS, &every, err));
    if (listed &&
        (values_kind(values, "layer_types") != VALUE_LIST || values_count(&list) != config->layers)) {
        return error_set(err, STATUS_DATA, "'layer_types' is not a list of %zu names", config->layers);
    }
    for (size_t i = 0; i < config->layers; i++) {
        bool attends = (i + 1) % (size_t)every == 0;
        const char *type = listed ? values_text_at(&list, i) : "";
        if (listed) {
            attends = type != NULL && strcmp(type, "full_attention") == 0;
        }
        if (listed && !attends && (type == NULL || strcmp(type, "linear_attention") != 0)) {
            return error_set(err, STATUS_DATA,
                             "'layer_types' entry %zu is '%.64s'; supported are full_attention and "
                             "linear_attention",
                             i, type == NULL ? "not a text" : type);
        }
        config->layer_mixers[i] = attends ? MIXER_ATTENTION : MIXER_DELTA_NET;
    }
    return STATUS_OK;
}

static int read_mixers(const struct values *values, struct model_config *config, struct error *err) {
    switch (config->family->mixers) {
    case MIXERS_DELTA_NET:
        return read_delta_nets(values, config, err);
    case MIXERS_CONVOLUTION:
    case MIXERS_LISTED:
        return read_convolutions(values, config, err);
    case MIXERS_STATE_SPACE:
    case MIXERS_LONE_BRANCHES:
        return config_read_spaces(values, config, err);
    case MIXERS_ATTENTION:
        break;
    }
    return STATUS_OK;
}

static int read_sliding(const struct values *values, struct model_config *config, struct error *err) {
    enum family_windows windows = config->family->windows;
    int64_t every = 0;
    TRY(read_window(values, config, err));
    TRY(flags_of(config, &config->layer_slides, err));
    if (windows == WINDOWS_BY_TYPE) {
        TRY(read_pattern(values, config, &every, err));
    }
    for (size_t i = 0; i < config->layers; i++) {
        bool slides = i >= config->first_window_layer;
        slides = windows == WINDOWS_IN_TURN ? !slides && i % 2 == 0 : slides;
        slides = windows == WINDOWS_BY_TYPE ? (i + (config->family->full_first ? 0 : 1)) % (size_t)every != 0
                                            : slides;
        slides = windows == WINDOWS_WITHOUT_ROPE ? config->layer_ropes[i] == BLOCK_ROPE_NONE : slides;
        slides = windows == WINDOWS_CHUNKED ? config->layer_ropes[i] != BLOCK_ROPE_NONE : slides;
        config->layer_slides[i] = has_reach(config) && slides;
    }
    if (config->layer_mixers != NULL) {
        return STATUS_OK; // which layer_types is of
    }
    TRY(windows == WINDOWS_LISTED ? read_attention_types(values, config, err)
                                  : read_layer_types(values, config, err));
    if (config->family->full_heads) {
        config->layer_slides[config->layers - 1] = 0; // whatever is said of it
    }
    return STATUS_OK;
}

// ---- rotation ----

static int read_no_rope(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "no_rope_layers");
    bool listed = values_has(values, "no_rope_layers");
    int64_t interval = 4;
    TRY(values_integer(values, "no_rope_layer_interval", 1, LARGEST_LAYERS, &interval, err));
    if (listed && config->family->ropes == ROPES_LISTED_IF_ANY &&
        values_kind(values, "no_rope_layers") == VALUE_LIST && values_count(&list) == 0) {
        listed = false;
    }
    if (listed &&
        (values_kind(values, "no_rope_layers") != VALUE_LIST || values_count(&list) != config->layers)) {
        return error_set(err, STATUS_DATA, "'no_rope_layers' is not a list of %zu numbers", config->layers);
    }
    for (size_t i = 0; i < config->layers; i++) {
        int64_t rotates = (i + 1) % (size_t)interval != 0;
        if (listed && !values_integer_at(&list, i, &rotates)) {
            return error_set(err, STATUS_DATA, "'no_rope_layers' entry %zu is not a number", i);
        }
        config->layer_ropes[i] = rotates ? BLOCK_ROPE_MAIN : BLOCK_ROPE_NONE;
    }
    return STATUS_OK;
}

static int read_named_rope(const struct values *values, struct model_config *config, struct error *err) {
    const char *name = NULL;
    TRY(values_text(values, "position_embedding_type", &name, err));
    bool rotates = name != NULL && strcmp(name, "rope") == 0;
    for (size_t i = 0; i < config->layers; i++) {
        config->layer_ropes[i] = rotates ? BLOCK_ROPE_MAIN : BLOCK_ROPE_NONE;
    }
    return STATUS_OK;
}

// Once windows are known.
static void choose_ropes(struct model_config *config) {
    enum family_ropes ropes = config->family->ropes;
    bool any = config->window > 0;
    for (size_t i = 0; i < config->layers; i++) {
        bool slides = config->layer_slides[i] != 0;
        if (ropes == ROPES_NONE || (ropes == ROPES_WINDOWS_ONLY && !slides) ||
            (ropes == ROPES_WINDOWS_IF_ANY && any && !slides)) {
            config->layer_ropes[i] = BLOCK_ROPE_NONE;
        } else if ((ropes == ROPES_LOCAL || ropes == ROPES_UNSCALED_WINDOWS || ropes == ROPES_BY_TYPE) &&
                   slides) {
            config->layer_ropes[i] = BLOCK_ROPE_LOCAL;
        }
    }
}

static bool lists_ropes(const struct model_config *config) {
    return config->family->ropes == ROPES_LISTED || config->family->ropes == ROPES_LISTED_IF_ANY;
}

static int refuse_no_rope(const struct values *values, const struct model_config *config, struct error *err) {
    return !lists_ropes(config) && values_has(values, "no_rope_layers")
               ? error_set(err, STATUS_DATA, "'no_rope_layers' is not supported in %s", config->model_type)
               : STATUS_OK;
}

int config_read_layers(const struct values *values, struct model_config *config, struct error *err) {
    TRY(refuse_no_rope(values, config, err));
    TRY(flags_of(config, &config->layer_ropes, err));
    if (lists_ropes(config)) {
        TRY(read_no_rope(values, config, err));
    }
    if (config->family->ropes == ROPES_IF_NAMED) {
        TRY(read_named_rope(values, config, err));
    }
    TRY(read_mixers(values, config, err));
    TRY(read_sliding(values, config, err));
    choose_ropes(config);
    TRY(config->family->full_heads ? config_read_full(values, config, err) : STATUS_OK);
    return config_read_experts(values, config, err);
}
