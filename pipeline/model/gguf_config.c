// SPDX-License-Identifier: MIT
#include "model/gguf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/names.h"

enum { KEY_SIZE = 96, NAME_SIZE = 64 };

static const char *const architectures[] = {"llama", "qwen2", "qwen3"};

enum { ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

struct translation {
    struct buffer *out;
    const struct gguf_metadata *metadata;
    const struct tensors *tensors;
    const char *architecture;
};

// ---- asking the metadata ----

static const struct gguf_value *find(const struct translation *from, const char *name, char key[KEY_SIZE]) {
    snprintf(key, KEY_SIZE, "%s.%s", from->architecture, name);
    return gguf_metadata_find(from->metadata, key);
}

static int wrong_type(const char *key, const struct gguf_value *value, const char *wanted,
                      struct error *err) {
    char type[GGUF_TYPE_TEXT];
    return error_set(err, STATUS_DATA, "'%s' is %s, not %s", key, gguf_value_type(value, type), wanted);
}

// A whole number from 0 on, or one a block, all equal. *out stays where the key is absent.
static int get_integer(const struct translation *from, const char *name, int64_t *out, struct error *err) {
    char key[KEY_SIZE];
    const struct gguf_value *value = find(from, name, key);
    int64_t first = 0;
    for (size_t i = 0; value != NULL && i < value->count; i++) {
        int64_t number;
        if (value->type == GGUF_BOOL || !gguf_value_integer(value, i, &number)) {
            return wrong_type(key, value, "a whole number", err);
        }
        if (number < 0) {
            return error_set(err, STATUS_DATA, "'%s' is negative", key);
        }
        if (i > 0 && number != first) {
            return error_set(err, STATUS_DATA,
                             "'%s' differs by block (%lld, then %lld), which is not supported", key,
                             (long long)first, (long long)number);
        }
        first = number;
    }
    if (value != NULL && value->count == 0) {
        return error_set(err, STATUS_DATA, "'%s' is empty", key);
    }
    *out = value == NULL ? *out : first;
    return STATUS_OK;
}

static int get_number(const struct translation *from, const char *name, double *out, struct error *err) {
    char key[KEY_SIZE];
    const struct gguf_value *value = find(from, name, key);
    double number = 0;
    if (value == NULL) {
        return STATUS_OK;
    }
    if (value->list || !gguf_value_number(value, 0, &number)) {
        return wrong_type(key, value, "a number", err);
    }
    if (!isfinite(number)) {
        return error_set(err, STATUS_DATA, "'%s' is not finite", key);
    }
    *out = number;
    return STATUS_OK;
}

// The text of a key as it is, in a buffer of a size that all known words fit in.
static int get_text(const struct gguf_metadata *metadata, const char *key, char out[NAME_SIZE],
                    struct error *err) {
    const struct gguf_value *value = gguf_metadata_find(metadata, key);
    const char *text;
    size_t length;
    if (value == NULL) {
        return STATUS_OK;
    }
    if (value->list || !gguf_value_text(value, 0, &text, &length)) {
        return wrong_type(key, value, "a text", err);
    }
    snprintf(out, NAME_SIZE, "%.*s", (int)(length < NAME_SIZE ? length : NAME_SIZE), text);
    return STATUS_OK;
}

static int require(const struct translation *from, const char *name, int64_t *out, struct error *err) {
    *out = -1;
    TRY(get_integer(from, name, out, err));
    return *out >= 0 ? STATUS_OK
                     : error_set(err, STATUS_DATA, "'%s.%s' is missing", from->architecture, name);
}

static bool has_tensor(const struct translation *from, const char *name) {
    return tensors_find(from->tensors, name) != NULL;
}

// ---- what is refused ----

static int find_architecture(struct translation *from, struct error *err) {
    char name[NAME_SIZE] = "";
    char names[NAME_SIZE] = "";
    TRY(get_text(from->metadata, "general.architecture", name, err));
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        if (strcmp(name, architectures[i]) == 0) {
            from->architecture = architectures[i];
            return STATUS_OK;
        }
        names_append(names, sizeof names, architectures[i], i, ARCHITECTURES);
    }
    return name[0] == 0
               ? error_set(err, STATUS_DATA, "'general.architecture' is missing")
               : error_set(err, STATUS_DATA, "'general.architecture' is '%s'; supported are %s", name, names);
}

static int check_general(const struct translation *from, struct error *err) {
    char type[NAME_SIZE] = "model";
    const struct gguf_value *version = gguf_metadata_find(from->metadata, "general.quantization_version");
    int64_t number = 2;
    TRY(get_text(from->metadata, "general.type", type, err));
    if (strcmp(type, "model") != 0) {
        return error_set(err, STATUS_DATA, "'general.type' is '%s', not 'model'%s", type,
                         strcmp(type, "adapter") == 0 ? ": merge the adapter into its model first" : "");
    }
    if (version != NULL && (version->list || !gguf_value_integer(version, 0, &number) || number != 2)) {
        return error_set(err, STATUS_DATA,
                         "'general.quantization_version' is not 2, the only one that is supported: quantise "
                         "the model anew");
    }
    return STATUS_OK;
}

// Keys that change the computation in ways that are not implemented, unless they have one of these values.
static int refuse_unsupported(const struct translation *from, struct error *err) {
    static const struct {
        const char *name;
        double neutral[2];
    } keys[] = {
        {"expert_count", {0, 0}},
        {"nextn_predict_layers", {0, 0}},
        {"attention.scale", {0, 0}},
        {"attention.output_scale", {0, 1}},
        {"attention.temperature_scale", {0, 0}},
        {"attention.clamp_kqv", {0, 0}},
        {"attention.max_alibi_bias", {0, 0}},
        {"attention.shared_kv_layers", {0, 0}},
        {"attn_logit_softcapping", {0, 0}},
        {"residual_scale", {0, 1}},
        {"embedding_scale", {0, 1}},
        {"rope.scaling.alpha", {0, 1}},
        {"rope.scaling.yarn_ext_factor", {-1, 1}},
        {"rope.scaling.yarn_attn_factor", {1, 1}},
    };
    static const char *const flags[] = {"attention.causal", "use_parallel_residual"};
    static const int64_t wanted[] = {1, 0};
    static const char *const absent[] = {"attention.sliding_window_pattern", "rope.dimension_sections"};
    char key[KEY_SIZE];
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        double number = keys[i].neutral[0];
        TRY(get_number(from, keys[i].name, &number, err));
        if (number != keys[i].neutral[0] && number != keys[i].neutral[1]) {
            return error_set(err, STATUS_DATA, "'%s.%s' is %g, which is not supported", from->architecture,
                             keys[i].name, number);
        }
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const struct gguf_value *value = find(from, flags[i], key);
        int64_t flag = wanted[i];
        if (value != NULL && (value->list || !gguf_value_integer(value, 0, &flag) || flag != wanted[i])) {
            return error_set(err, STATUS_DATA, "'%s' is not %s, which is not supported", key,
                             wanted[i] == 1 ? "true" : "false");
        }
    }
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        if (find(from, absent[i], key) != NULL) {
            return error_set(err, STATUS_DATA, "'%s' is not supported", key);
        }
    }
    return STATUS_OK;
}

// ---- the keys of config.json ----

static int put_integer(const struct translation *to, const char *key, int64_t value, struct error *err) {
    return buffer_printf(to->out, err, ",\n \"%s\": %lld", key, (long long)value);
}

static int put_flag(const struct translation *to, const char *key, bool value, struct error *err) {
    return buffer_printf(to->out, err, ",\n \"%s\": %s", key, value ? "true" : "false");
}

// All 17 digits: the same double comes out again.
static int put_number(const struct translation *to, const char *key, double value, struct error *err) {
    return buffer_printf(to->out, err, ",\n \"%s\": %.17g", key, value);
}

static int copy_integer(const struct translation *both, const char *name, const char *key,
                        struct error *err) {
    int64_t value;
    TRY(require(both, name, &value, err));
    return put_integer(both, key, value, err);
}

static int put_heads(const struct translation *both, struct error *err) {
    int64_t heads;
    int64_t hidden;
    TRY(require(both, "attention.head_count", &heads, err));
    TRY(require(both, "embedding_length", &hidden, err));
    int64_t kv_heads = heads;
    int64_t keys = heads > 0 ? hidden / heads : 0;
    TRY(get_integer(both, "attention.head_count_kv", &kv_heads, err));
    TRY(get_integer(both, "attention.key_length", &keys, err));
    int64_t values = keys;
    int64_t rotated = keys;
    TRY(get_integer(both, "attention.value_length", &values, err));
    TRY(get_integer(both, "rope.dimension_count", &rotated, err));
    if (values != keys) {
        return error_set(err, STATUS_DATA,
                         "'%s.attention.value_length' is %lld and the heads' keys have %lld numbers: only "
                         "equal ones are supported",
                         both->architecture, (long long)values, (long long)keys);
    }
    if (rotated != keys) {
        return error_set(err, STATUS_DATA,
                         "'%s.rope.dimension_count' is %lld of the heads' %lld: rotation of a part is not "
                         "supported",
                         both->architecture, (long long)rotated, (long long)keys);
    }
    TRY(put_integer(both, "num_attention_heads", heads, err));
    TRY(put_integer(both, "num_key_value_heads", kv_heads, err));
    return put_integer(both, "head_dim", keys, err);
}

// What the tensors say better than any key: the vocabulary, and which of them there are.
static int put_tensors(const struct translation *both, struct error *err) {
    const struct tensor *embedding = tensors_find(both->tensors, "model.embed_tokens.weight");
    if (embedding == NULL || embedding->rank != 2) {
        return error_set(err, STATUS_DATA, "there is no tensor 'token_embd.weight' of two dimensions");
    }
    TRY(put_integer(both, "vocab_size", (int64_t)embedding->shape[0], err));
    TRY(put_flag(both, "tie_word_embeddings", !has_tensor(both, "lm_head.weight"), err));
    if (strcmp(both->architecture, "qwen2") != 0) { // which has biases, and no key for them
        TRY(put_flag(both, "attention_bias", has_tensor(both, "model.layers.0.self_attn.q_proj.bias"), err));
    }
    return put_flag(both, "mlp_bias", has_tensor(both, "model.layers.0.mlp.up_proj.bias"), err);
}

// The window; and what transformers calls the model: its llama never slides, its mistral is the same else.
static int put_type(const struct translation *both, struct error *err) {
    int64_t window = 0;
    TRY(get_integer(both, "attention.sliding_window", &window, err));
    bool llama = strcmp(both->architecture, "llama") == 0;
    TRY(buffer_printf(both->out, err, "{\"model_type\": \"%s\"",
                      llama && window > 0 ? "mistral" : both->architecture));
    if (window == 0) {
        return STATUS_OK;
    }
    TRY(put_integer(both, "sliding_window", window, err));
    return llama ? STATUS_OK
                 : buffer_printf(both->out, err,
                                 ",\n \"use_sliding_window\": true,\n \"max_window_layers\": 0");
}

static int put_yarn(const struct translation *both, struct error *err) {
    static const struct {
        const char *name;
        const char *key;
    } numbers[] = {{"rope.scaling.yarn_beta_fast", "beta_fast"},
                   {"rope.scaling.yarn_beta_slow", "beta_slow"}};
    int64_t original;
    double all = 0;
    TRY(require(both, "context_length", &original, err));
    TRY(get_integer(both, "rope.scaling.original_context_length", &original, err));
    TRY(buffer_printf(both->out, err, ", \"original_max_position_embeddings\": %lld", (long long)original));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double number = -1;
        TRY(get_number(both, numbers[i].name, &number, err));
        if (number != -1) {
            TRY(buffer_printf(both->out, err, ", \"%s\": %.17g", numbers[i].key, number));
        }
    }
    TRY(get_number(both, "rope.scaling.yarn_log_multiplier", &all, err));
    return all == 0 ? STATUS_OK
                    : buffer_printf(both->out, err, ", \"mscale\": 1.0, \"mscale_all_dim\": %.17g", all);
}

// A factor without a type is a linear one, of 0 as of 1 none; old files call it rope.scale_linear.
static int put_rope(const struct translation *both, struct error *err) {
    char key[KEY_SIZE];
    char type[NAME_SIZE] = "linear";
    double theta = 10000;
    double factor = 0;
    TRY(get_number(both, "rope.freq_base", &theta, err));
    TRY(put_number(both, "rope_theta", theta, err));
    TRY(get_number(both, "rope.scale_linear", &factor, err));
    TRY(get_number(both, "rope.scaling.factor", &factor, err));
    (void)find(both, "rope.scaling.type", key);
    TRY(get_text(both->metadata, key, type, err));
    bool yarn = strcmp(type, "yarn") == 0;
    bool none = strcmp(type, "none") == 0;
    if (!yarn && !none && strcmp(type, "linear") != 0) {
        return error_set(err, STATUS_DATA, "'%s' is '%s'; supported are none, linear and yarn", key, type);
    }
    if (none || factor == 0 || factor == 1) {
        return STATUS_OK;
    }
    TRY(buffer_printf(both->out, err, ",\n \"rope_scaling\": {\"rope_type\": \"%s\", \"factor\": %.17g", type,
                      factor));
    if (yarn) {
        TRY(put_yarn(both, err));
    }
    return buffer_printf(both->out, err, "}");
}

static int put_epsilon(const struct translation *both, struct error *err) {
    double epsilon = -1;
    TRY(get_number(both, "attention.layer_norm_rms_epsilon", &epsilon, err));
    if (epsilon == -1) {
        return error_set(err, STATUS_DATA, "'%s.attention.layer_norm_rms_epsilon' is missing",
                         both->architecture);
    }
    return put_number(both, "rms_norm_eps", epsilon, err);
}

int gguf_config_text(struct buffer *out, const struct gguf_model *model, struct error *err) {
    struct translation both = {out, &model->metadata, &model->checkpoint.tensors, NULL};
    TRY(find_architecture(&both, err));
    TRY(check_general(&both, err));
    TRY(refuse_unsupported(&both, err));
    TRY(put_type(&both, err));
    TRY(copy_integer(&both, "block_count", "num_hidden_layers", err));
    TRY(copy_integer(&both, "embedding_length", "hidden_size", err));
    TRY(copy_integer(&both, "feed_forward_length", "intermediate_size", err));
    TRY(copy_integer(&both, "context_length", "max_position_embeddings", err));
    TRY(put_heads(&both, err));
    TRY(put_epsilon(&both, err));
    TRY(put_tensors(&both, err));
    TRY(put_rope(&both, err));
    return buffer_printf(out, err, "}\n");
}

// ---- what config.json has no key for ----

// By which frequencies are divided, as llama.cpp does: a file of Llama 3.1 has them in place of its scaling.
static int read_rope_factors(struct model_config *config, const struct gguf_model *model, struct error *err) {
    const struct tensor *tensor = &model->rope_factors;
    size_t count = config->head_dim / 2;
    void *factors;
    if (tensor->name == NULL) {
        return STATUS_OK;
    }
    if (strcmp(tensor->type->name, "F32") != 0 || tensor->rank != 1 || tensor->shape[0] != count) {
        char shape[TENSOR_SHAPE_TEXT];
        tensor_shape_text(tensor->shape, tensor->rank, shape);
        return error_set(err, STATUS_DATA, "tensor '%s' is %s %s, not F32 [%zu]", tensor->name,
                         tensor->type->name, shape, count);
    }
    const struct checkpoint_file *file = &model->checkpoint.files[tensor->file];
    TRY(memory_zeroed(&factors, count, sizeof config->rope.divisors[0], err));
    config->rope.divisors = factors;
    TRY(file_read_at(file->descriptor, factors, count * sizeof(float), tensor->begin, file->path, err));
    for (size_t i = 0; i < count; i++) {
        float factor = config->rope.divisors[i];
        if (!(factor >= 1e-6F && factor <= 1e6F)) {
            return error_set(err, STATUS_DATA, "tensor '%s' holds %g, outside 1e-6 to 1e6", tensor->name,
                             (double)factor);
        }
    }
    return STATUS_OK;
}

static int read_attention_factor(struct model_config *config, const struct gguf_model *model,
                                 struct error *err) {
    struct translation from = {.metadata = &model->metadata};
    double factor = 1;
    TRY(find_architecture(&from, err));
    TRY(get_number(&from, "rope.scaling.attn_factor", &factor, err));
    if (!(factor >= 1e-6 && factor <= 1e6)) {
        return error_set(err, STATUS_DATA, "'%s.rope.scaling.attn_factor' is %g, outside 1e-6 to 1e6",
                         from.architecture, factor);
    }
    config->rope.attention_factor *= factor;
    return STATUS_OK;
}

static int parse(struct model_config *config, const struct gguf_model *model, struct buffer *text,
                 struct error *err) {
    TRY(gguf_config_text(text, model, err));
    TRY(model_config_parse(config, text->data, text->size, "the metadata as config.json has it", err));
    config->holder = CONFIG_GGUF;
    TRY(read_rope_factors(config, model, err));
    return read_attention_factor(config, model, err);
}

int gguf_config_read(struct model_config *config, const char *path, struct error *err) {
    struct gguf_model model;
    struct buffer text = {0};
    *config = (struct model_config){0};
    TRY(gguf_open(&model, path, err));
    int status = parse(config, &model, &text, err);
    buffer_destroy(&text);
    gguf_close(&model);
    if (status != STATUS_OK) {
        model_config_destroy(config);
        return error_wrap(err, "%s", path);
    }
    return STATUS_OK;
}
