// SPDX-License-Identifier: MIT
#include "model/config_shape.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/names.h"
#include "model/config_space.h"
#include "model/family.h"

static const char *key_or(const char *key, const char *otherwise) {
    return key == NULL ? otherwise : key;
}

static int get_size(const struct values *values, const char *key, int64_t otherwise, int64_t largest,
                    size_t *out, struct error *err) {
    int64_t value = otherwise;
    TRY(values_integer(values, key, 1, largest, &value, err));
    *out = (size_t)value;
    return STATUS_OK;
}

// A size under the family's own name, or under the common one, which transformers takes for it. Where both
// are there they have to agree.
static int get_named(const struct values *values, const char *own, const char *common, int64_t otherwise,
                     int64_t largest, size_t *out, struct error *err) {
    TRY(get_size(values, key_or(own, common), otherwise, largest, out, err));
    if (own == NULL || strcmp(own, common) == 0 || !values_has(values, common)) {
        return STATUS_OK;
    }
    size_t first = *out;
    TRY(get_size(values, common, otherwise, largest, out, err));
    return values_has(values, own) && first != *out
               ? error_set(err, STATUS_DATA, "'%s' is %zu, and '%s' is %zu", own, first, common, *out)
               : STATUS_OK;
}

static bool is_null(const struct values *values, const char *key) {
    return values_kind(values, key) == VALUE_NULL;
}

// ---- sizes ----

static int read_head_dim(const struct values *values, struct model_config *config, struct error *err) {
    int64_t head_dim = config->family->defaults.head_dim;
    if (head_dim != 0 && is_null(values, "head_dim")) {
        return error_set(err, STATUS_DATA, "'head_dim' is null, which %s does not define",
                         config->model_type);
    }
    if (head_dim == 0 && !values_has(values, "head_dim")) {
        if (config->hidden % config->heads != 0) {
            return error_set(err, STATUS_DATA,
                             "'head_dim' is missing and '%s' (%zu) is not a multiple of '%s' (%zu)",
                             key_or(config->family->keys.hidden, "hidden_size"), config->hidden,
                             key_or(config->family->keys.heads, "num_attention_heads"), config->heads);
        }
        head_dim = (int64_t)(config->hidden / config->heads);
        config->derived_head_dim = true;
    }
    TRY(get_size(values, "head_dim", head_dim, LARGEST_HEADS, &config->head_dim, err));
    if (config->head_dim % 2 != 0) {
        return error_set(err, STATUS_DATA, "'head_dim' is %zu; rotary embedding needs an even number",
                         config->head_dim);
    }
    return STATUS_OK;
}

// What an indexer chooses keys from, and how many: it changes nothing where it takes all of them.
static int read_indexer(const struct values *values, struct model_config *config, struct error *err) {
    static const char *const needed[] = {"index_topk", "q_lora_rank"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (is_null(values, needed[i])) {
            return error_set(err, STATUS_DATA, "'%s' is null", needed[i]);
        }
    }
    config->longest_key = "index_topk";
    return get_size(values, "index_topk", 2048, LARGEST_POSITIONS, &config->longest_text, err);
}

static int read_latent(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_latent *row = config->family->latent;
    size_t rotated;
    TRY(config->family->has_indexer ? read_indexer(values, config, err) : STATUS_OK);
    if (!is_null(values, "q_lora_rank")) {
        TRY(get_size(values, "q_lora_rank", row->query, LARGEST_DIMENSION, &config->latent.query, err));
    }
    TRY(get_size(values, "kv_lora_rank", row->key, LARGEST_DIMENSION, &config->latent.key, err));
    TRY(get_size(values, "qk_nope_head_dim", row->unrotated, LARGEST_HEADS, &config->unrotated, err));
    TRY(get_size(values, "qk_rope_head_dim", row->rotated, LARGEST_HEADS, &rotated, err));
    TRY(get_size(values, "v_head_dim", row->value, LARGEST_HEADS, &config->latent.value, err));
    config->head_dim = config->unrotated + rotated;
    size_t named = config->head_dim; // of which Mistral 4 takes a part for rotation
    TRY(config->family->defaults.part == 0
            ? STATUS_OK
            : get_size(values, "head_dim", (int64_t)named, LARGEST_HEADS, &named, err));
    if (named != config->head_dim) {
        return error_set(err, STATUS_DATA, "'head_dim' is %zu, and queries have %zu numbers", named,
                         config->head_dim);
    }
    if (rotated % 2 != 0 || config->head_dim % 2 != 0) {
        return error_set(err, STATUS_DATA,
                         "'qk_rope_head_dim' is %zu and 'qk_nope_head_dim' %zu; both are to be even", rotated,
                         config->unrotated);
    }
    return config->latent.value <= config->head_dim
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'v_head_dim' is %zu, and queries have %zu numbers",
                           config->latent.value, config->head_dim);
}

// Which Python takes for false.
static int refuse_null(const struct values *values, const char *key, struct error *err) {
    return is_null(values, key) ? error_set(err, STATUS_DATA, "'%s' is null", key) : STATUS_OK;
}

// Falcon's: one head of keys, or as many as of queries; in its newer form, so many.
static int read_multi_query(const struct values *values, struct model_config *config, struct error *err) {
    bool is_newer = false;
    bool is_single = true;
    TRY(refuse_null(values, "multi_query", err));
    TRY(values_boolean(values, "multi_query", &is_single, err));
    TRY(values_boolean(values, "new_decoder_architecture", &is_newer, err));
    config->kv_heads = is_single ? 1 : config->heads;
    return is_newer ? get_size(values, "num_kv_heads", (int64_t)config->heads, LARGEST_HEADS,
                               &config->kv_heads, err)
                    : STATUS_OK;
}

static int read_heads(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_defaults *defaults = &config->family->defaults;
    const char *key = key_or(config->family->keys.heads, "num_attention_heads");
    TRY(get_named(values, config->family->keys.heads, "num_attention_heads", defaults->heads, LARGEST_HEADS,
                  &config->heads, err));
    int64_t heads = (int64_t)config->heads;
    int64_t kv_heads =
        defaults->kv_heads == 0 || is_null(values, "num_key_value_heads") ? heads : defaults->kv_heads;
    config->kv_heads = config->heads;
    if (!config->family->ungrouped) {
        TRY(get_size(values, "num_key_value_heads", kv_heads, LARGEST_HEADS, &config->kv_heads, err));
    }
    TRY(config->family->has_multi_query ? read_multi_query(values, config, err) : STATUS_OK);
    if (config->heads % config->kv_heads != 0) {
        return error_set(err, STATUS_DATA, "'%s' (%zu) is not a multiple of '%s' (%zu)", key, config->heads,
                         config->family->has_multi_query ? "num_kv_heads" : "num_key_value_heads",
                         config->kv_heads);
    }
    return config->family->latent != NULL ? read_latent(values, config, err)
                                          : read_head_dim(values, config, err);
}

static int read_epsilon(const struct values *values, struct model_config *config, struct error *err) {
    const char *key = key_or(config->family->keys.epsilon, "rms_norm_eps");
    config->norm_epsilon = config->family->defaults.epsilon;
    if (key[0] == 0) { // it is the class's, whatever keys there are
        return STATUS_OK;
    }
    TRY(values_number(values, key, &config->norm_epsilon, err));
    return config->norm_epsilon >= 0 && config->norm_epsilon < 1
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' is %g, outside 0 to 1", key, config->norm_epsilon);
}

// LFM2's MLP has two thirds of the named width, times a factor and then up to a multiple of a number.
static int round_mlp(const struct values *values, struct model_config *config, struct error *err) {
    bool adjusts = true;
    double factor = 1;
    size_t unit;
    TRY(get_size(values, "block_ff_dim", (int64_t)config->intermediate, LARGEST_DIMENSION,
                 &config->intermediate, err));
    TRY(values_boolean(values, "block_auto_adjust_ff_dim", &adjusts, err));
    TRY(values_number(values, "block_ffn_dim_multiplier", &factor, err));
    TRY(get_size(values, "block_multiple_of", 256, LARGEST_DIMENSION, &unit, err));
    size_t width = 2 * config->intermediate / 3;
    if (!adjusts) {
        return STATUS_OK;
    }
    if (!(factor > 0 && factor * (double)width >= 1 && factor * (double)width <= LARGEST_DIMENSION)) {
        return error_set(err, STATUS_DATA,
                         "'block_ffn_dim_multiplier' is %g, which leaves no MLP, or too wide a one", factor);
    }
    if (!is_null(values, "block_ffn_dim_multiplier")) {
        width = (size_t)(factor * (double)width);
        width = (width + unit - 1) / unit * unit;
    }
    config->intermediate = width;
    return STATUS_OK;
}

int config_read_shape(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_row *row = config->family;
    const struct family_keys *keys = &row->keys;
    const struct family_defaults *defaults = &row->defaults;
    TRY(row->mixers == MIXERS_LONE_BRANCHES
            ? config_count_branches(values, config, &config->layers, err)
            : get_named(values, keys->layers, "num_hidden_layers", defaults->layers, LARGEST_LAYERS,
                        &config->layers, err));
    TRY(get_named(values, keys->hidden, "hidden_size", defaults->hidden, LARGEST_DIMENSION, &config->hidden,
                  err));
    int64_t intermediate = defaults->intermediate == 0 ? 4 * (int64_t)config->hidden : defaults->intermediate;
    TRY(get_size(values, key_or(keys->intermediate, "intermediate_size"), intermediate, LARGEST_DIMENSION,
                 &config->intermediate, err));
    TRY(row->rounds_mlp ? round_mlp(values, config, err) : STATUS_OK);
    TRY(get_size(values, "vocab_size", defaults->vocabulary, LARGEST_DIMENSION, &config->vocabulary, err));
    TRY(get_named(values, keys->positions, "max_position_embeddings", defaults->positions, LARGEST_POSITIONS,
                  &config->max_positions, err));
    if (row->ends) {
        config->longest_text = config->max_positions;
        config->longest_key = key_or(keys->positions, "max_position_embeddings");
    }
    TRY(read_heads(values, config, err));
    return read_epsilon(values, config, err);
}

// ---- what blocks compute ----

static int read_flag(const struct values *values, const struct family_flag *flag, bool *out,
                     struct error *err) {
    *out = flag->always || flag->otherwise;
    return flag->key == NULL ? STATUS_OK : values_boolean(values, flag->key, out, err);
}

static int read_activation(const struct values *values, struct model_config *config, struct error *err) {
    static const struct {
        const char *name;
        enum device_activation activation;
    } known[] = {{"silu", DEVICE_SILU},
                 {"gelu", DEVICE_GELU},
                 {"gelu_pytorch_tanh", DEVICE_GELU_TANH},
                 {"gelu_new", DEVICE_GELU_TANH},
                 {"gelu_fast", DEVICE_GELU_TANH},
                 {"relu", DEVICE_RELU},
                 {"relu2", DEVICE_RELU_SQUARED},
                 {"xielu", DEVICE_XIELU}}; // the last: where the family's files have its numbers
    const size_t all = sizeof known / sizeof known[0];
    const size_t count = config->family->activation == DEVICE_XIELU ? all : all - 1;
    const char *key = key_or(config->family->keys.activation, "hidden_act");
    const char *name = NULL;
    char names[128] = "";
    config->activation = config->family->activation;
    TRY(key[0] == 0 ? STATUS_OK : values_text(values, key, &name, err)); // "": the class has but one
    for (size_t i = 0; i < count; i++) {
        if (name == NULL || strcmp(name, known[i].name) == 0) {
            config->activation = name == NULL ? config->activation : known[i].activation;
            if (config->family->gelu_is_tanh && config->activation == DEVICE_GELU) {
                config->activation = DEVICE_GELU_TANH;
            }
            return STATUS_OK;
        }
        names_append(names, sizeof names, known[i].name, i, count);
    }
    return error_set(err, STATUS_DATA, "'%s' is '%.64s'; supported are %s", key, name, names);
}

// A number from 1e-6 to 1e6, so that nothing computed with it leaves float32.
static int read_scale(const struct values *values, const char *key, double otherwise, double *out,
                      struct error *err) {
    *out = otherwise;
    if (is_null(values, key)) { // which transformers cannot compute with, or takes for something else
        return error_set(err, STATUS_DATA, "'%s' is null", key);
    }
    TRY(values_number(values, key, out, err));
    return *out >= 1e-6 && *out <= 1e6
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' is %g, outside 1e-6 to 1e6", key, *out);
}

// Llama 4: a factor of queries that grows with their place.
static int read_temperature(const struct values *values, struct model_config *config, struct error *err) {
    bool tempers = true;
    double beta;
    size_t step;
    TRY(values_boolean(values, "attn_temperature_tuning", &tempers, err));
    TRY(read_scale(values, "attn_scale", 0.1, &beta, err));
    TRY(get_size(values, "floor_scale", 8192, LARGEST_POSITIONS, &step, err));
    config->query_beta = tempers ? beta : 0;
    config->query_step = tempers ? (double)step : 0;
    return STATUS_OK;
}

// MPT's keys of attention. Zero stands for no limit.
static int read_attention_map(const struct values *values, struct model_config *config, struct error *err) {
    const char *key = config->family->attention_map;
    struct values map = values_member(values, key);
    double limit = 0;
    if (!values_has(values, key)) {
        return STATUS_OK;
    }
    if (values_kind(values, key) != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'%s' is not an object", key);
    }
    TRY(values_number(&map, "clip_qkv", &limit, err));
    TRY(limit == 0 ? STATUS_OK : read_scale(&map, "clip_qkv", 1, &config->qkv_limit, err));
    return values_has(&map, "softmax_scale") ? read_scale(&map, "softmax_scale", 1, &config->score_scale, err)
                                             : STATUS_OK;
}

static int read_scales(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_row *row = config->family;
    if (row->scale_key != NULL) {
        TRY(read_scale(values, row->scale_key, row->scale_default, &config->score_scale, err));
        config->score_scale = row->scale_is_root ? 1 / sqrt(config->score_scale) : config->score_scale;
    }
    if (row->scale_key == NULL) {
        config->score_scale = row->scale_default;
    }
    if (row->scale_has_flags) {
        bool scaled = true;
        TRY(values_boolean(values, "scale_attn_weights", &scaled, err));
        TRY(values_boolean(values, "scale_attn_by_inverse_layer_idx", &config->scale_falls, err));
        config->score_scale = scaled ? 0 : 1;
    }
    if (row->softcap_key != NULL && !is_null(values, row->softcap_key)) {
        TRY(read_scale(values, row->softcap_key, row->softcap_default, &config->softcap, err));
    }
    if (row->qkv_limit_key != NULL && !is_null(values, row->qkv_limit_key) &&
        values_has(values, row->qkv_limit_key)) {
        TRY(read_scale(values, row->qkv_limit_key, 1, &config->qkv_limit, err));
    }
    TRY(row->attention_map == NULL ? STATUS_OK : read_attention_map(values, config, err));
    if (row->embedding_root) {
        config->embedding_scale = sqrt((double)config->hidden);
        config->embedding_rounds = true;
    }
    if (row->embedding_root_key != NULL) {
        bool has_root = false;
        TRY(values_boolean(values, row->embedding_root_key, &has_root, err));
        config->embedding_scale = has_root ? sqrt((double)config->hidden) : 0;
    }
    if (row->embedding_key != NULL) {
        TRY(read_scale(values, row->embedding_key, 1, &config->embedding_scale, err));
    }
    TRY(row->tempers_unrotated ? read_temperature(values, config, err) : STATUS_OK);
    return row->residual_key == NULL ? STATUS_OK
                                     : read_scale(values, row->residual_key, 1, &config->residual_scale, err);
}

// ---- keys that other families have ----

// Where the key of the family's row is this one, it is read.
static bool reads(const struct family_row *row, const char *key) {
    const char *const own[] = {row->scale_key, row->softcap_key, row->embedding_key, row->residual_key,
                               row->qkv_limit_key};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (own[i] != NULL && strcmp(own[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static int refuse_numbers(const struct values *values, const struct model_config *config, struct error *err) {
    const struct {
        const char *key;
        double neutral;
    } keys[] = {{"attn_logit_softcapping", 0}, {"clip_qkv", 0},
                {"attention_multiplier", 1},   {"embedding_multiplier", 1},
                {"residual_multiplier", 1},    {"query_pre_attn_scalar", (double)config->head_dim}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        double value = keys[i].neutral;
        if (reads(config->family, keys[i].key)) {
            continue;
        }
        TRY(values_number(values, keys[i].key, &value, err));
        if (value != keys[i].neutral) {
            return error_set(err, STATUS_DATA, "'%s' is %g, which is not supported in %s", keys[i].key, value,
                             config->model_type);
        }
    }
    return STATUS_OK;
}

static int refuse_experts(const struct values *values, const struct model_config *config, struct error *err) {
    static const char *const keys[] = {"num_experts", "num_local_experts", "n_routed_experts"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && config->family->experts == NULL; i++) {
        int64_t count = 0;
        TRY(values_integer(values, keys[i], 0, INT64_MAX, &count, err));
        if (count > 1) {
            return error_set(err, STATUS_DATA, "'%s' is %lld, and %s has no experts", keys[i],
                             (long long)count, config->model_type);
        }
    }
    return STATUS_OK;
}

// OPT-350m projects its embeddings, and its last hidden state back.
static int read_projection(const struct values *values, struct model_config *config, struct error *err) {
    int64_t width = (int64_t)config->hidden;
    TRY(values_integer(values, "word_embed_proj_dim", 1, LARGEST_DIMENSION, &width, err));
    if (config->family->has_old_norms) {
        config->embedding_width = width == (int64_t)config->hidden ? 0 : (size_t)width;
        return STATUS_OK;
    }
    return width == (int64_t)config->hidden
               ? STATUS_OK
               : error_set(err, STATUS_DATA,
                           "'word_embed_proj_dim' is %lld, and hidden states have %zu numbers",
                           (long long)width, config->hidden);
}

// Whether the family has it, so that it is no matter here.
static bool flag_is_read(const struct family_row *row, const char *key) {
    static const char *const old_norms[] = {"do_layer_norm_before", "layer_norm_elementwise_affine",
                                            "_remove_final_layer_norm"};
    for (size_t i = 0; i < sizeof old_norms / sizeof old_norms[0]; i++) {
        if (row->has_old_norms && strcmp(key, old_norms[i]) == 0) {
            return true;
        }
    }
    if (strcmp(key, "qk_layernorm") == 0) {
        return row->qk_norm_key != NULL && strcmp(row->qk_norm_key, key) == 0;
    }
    if (strcmp(key, "use_qk_norm") == 0) {
        return row->qk_norm_always || (row->qk_norm_key != NULL && strcmp(row->qk_norm_key, key) == 0);
    }
    if (strcmp(key, "use_bidirectional_attention") == 0) {
        return row->full_heads; // it is a word there
    }
    return row->scale_has_flags && strncmp(key, "scale_attn", 10) == 0;
}

static int refuse_flags(const struct values *values, const struct model_config *config, struct error *err) {
    static const struct {
        const char *key;
        bool neutral;
    } keys[] = {{"is_causal", true},
                {"scale_attn_weights", true},
                {"use_bidirectional_attention", false},
                {"use_qk_norm", false},
                {"qk_layernorm", false},
                {"scale_attn_by_inverse_layer_idx", false},
                {"add_cross_attention", false},
                {"alibi", false},
                {"apply_residual_connection_post_layernorm", false},
                {"do_layer_norm_before", true},
                {"layer_norm_elementwise_affine", true},
                {"_remove_final_layer_norm", false}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        bool value = keys[i].neutral;
        if (flag_is_read(config->family, keys[i].key)) {
            continue;
        }
        TRY(values_boolean(values, keys[i].key, &value, err));
        bool is_none = keys[i].neutral && is_null(values, keys[i].key); // which Python takes for false
        if (value != keys[i].neutral || is_none) {
            return error_set(err, STATUS_DATA, "'%s' is %s; only %s is supported in %s", keys[i].key,
                             is_none ? "null"
                             : value ? "true"
                                     : "false",
                             keys[i].neutral ? "true" : "false", config->model_type);
        }
    }
    return STATUS_OK;
}

// Which norms there are, and where.
static int read_norms(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_row *row = config->family;
    bool before = true;
    bool has_weights = true;
    bool has_qk_norm = row->qk_norm_key == NULL || row->qk_norm_otherwise;
    config->norm = row->norm;
    config->norms = row->norms;
    if (row->has_old_norms) {
        TRY(values_boolean(values, "do_layer_norm_before", &before, err));
        TRY(values_boolean(values, "layer_norm_elementwise_affine", &has_weights, err));
        TRY(values_boolean(values, "_remove_final_layer_norm", &config->no_final_norm, err));
    }
    if (!before) {
        config->norms = NORMS_OF_SUM;
        config->no_final_norm = true;
    }
    config->bare_norms = row->bare_norms || !has_weights;
    config->norm_bias = row->norm_bias && !config->bare_norms;
    if (row->qk_norm_key != NULL) {
        TRY(values_boolean(values, row->qk_norm_key, &has_qk_norm, err));
    }
    config->qk_norm = has_qk_norm ? row->qk_norm : QK_NORM_NONE;
    return STATUS_OK;
}

// Falcon's branches: one after the other, or side by side with a norm for both or each.
static int read_branches(const struct values *values, struct model_config *config, struct error *err) {
    static const char key[] = "num_ln_in_parallel_attn";
    bool is_newer = false;
    bool parallel = true;
    TRY(values_boolean(values, "new_decoder_architecture", &is_newer, err));
    TRY(refuse_null(values, "parallel_attn", err));
    TRY(values_boolean(values, "parallel_attn", &parallel, err));
    int64_t norms = is_newer ? 2 : 1;
    TRY(values_integer(values, key, 1, 2, &norms, err));
    if (is_newer && !parallel) {
        return error_set(err, STATUS_DATA, "'parallel_attn' is false, and 'new_decoder_architecture' true");
    }
    if (!is_newer && parallel && norms == 2) {
        return error_set(err, STATUS_DATA, "'%s' is 2, and 'new_decoder_architecture' false", key);
    }
    config->branches = !parallel ? BRANCHES_SERIAL : norms == 2 ? BRANCHES_TWO_NORMS : BRANCHES_ONE_NORM;
    return STATUS_OK;
}

int config_read_computation(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_row *row = config->family;
    bool parallel;
    bool interleaved = row->pairing_key != NULL;
    TRY(refuse_flags(values, config, err));
    TRY(read_projection(values, config, err));
    TRY(refuse_numbers(values, config, err));
    TRY(refuse_experts(values, config, err));
    if (row->zeroes_pad && values_has(values, "pad_token_id")) {
        return error_set(err, STATUS_DATA,
                         "'pad_token_id' is there, whose embedding the class of %s makes zero, which is not "
                         "supported",
                         config->model_type);
    }
    TRY(read_flag(values, &row->qkv_bias, &config->attention_bias, err));
    TRY(read_flag(values, &row->output_bias, &config->output_bias, err));
    TRY(read_flag(values, &row->mlp_bias, &config->mlp_bias, err));
    TRY(read_flag(values, &row->parallel, &parallel, err));
    TRY(read_norms(values, config, err));
    TRY(interleaved ? refuse_null(values, row->pairing_key, err) : STATUS_OK);
    TRY(interleaved ? values_boolean(values, row->pairing_key, &interleaved, err) : STATUS_OK);
    config->branches = parallel ? row->branches : BRANCHES_SERIAL;
    config->value_norm = row->value_norm;
    config->plain_mlp = row->plain_mlp;
    config->has_sinks = row->has_sinks;
    config->query_gates = row->query_gates;
    config->attention_gate = row->attention_gate;
    config->pairing = interleaved ? DEVICE_PAIR_NEIGHBOURS : row->pairing;
    config->rope_rounding = row->rope_rounding;
    config->position_rows = row->learned_positions ? config->max_positions + row->position_offset : 0;
    config->position_offset = row->position_offset;
    config->embedding_norm = row->embedding_norm;
    TRY(row->has_multi_query ? read_branches(values, config, err) : STATUS_OK);
    config->has_slopes = row->has_slopes;
    TRY(read_activation(values, config, err));
    return read_scales(values, config, err);
}

int config_read_count(const struct values *values, const char *key, int64_t otherwise, size_t *out,
                      int64_t most, struct error *err) {
    int64_t value = otherwise;
    TRY(values_integer(values, key, 1, most, &value, err));
    *out = (size_t)value;
    return STATUS_OK;
}
