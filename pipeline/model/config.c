#include "model/config.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/json.h"
#include "model/config_rope.h"
#include "model/place.h"

// What transformers' configuration classes take when config.json leaves a key out.
struct family_defaults {
    const char *model_type;
    enum model_family family;
    int64_t intermediate;
    int64_t kv_heads; // 0: as many as heads
    int64_t head_dim; // 0: hidden / heads
    int64_t vocabulary;
    int64_t max_positions;
    int64_t window; // 0: none unless the file says so
};

static const struct family_defaults families[] = {
    {"llama", FAMILY_LLAMA, 11008, 0, 0, 32000, 2048, 0},
    {"mistral", FAMILY_MISTRAL, 14336, 8, 0, 32000, 4096 * 32, 4096},
    {"qwen2", FAMILY_QWEN2, 22016, 32, 0, 151936, 32768, 4096},
    {"qwen3", FAMILY_QWEN3, 22016, 32, 128, 151936, 32768, 4096},
};

enum {
    FILE_LIMIT = 4 << 20, // bytes of a config.json: real ones have a few thousand
    LARGEST_DIMENSION = 1 << 24,
    LARGEST_HEADS = 1 << 16,
    LARGEST_LAYERS = 4096,
    LARGEST_POSITIONS = 1 << 30
};

static int get_size(const json_t *json, const char *key, int64_t otherwise, int64_t largest, size_t *out,
                    struct error *err) {
    int64_t value = otherwise;
    int status = json_get_integer(json, key, 1, largest, &value, err);
    if (status == STATUS_OK) {
        *out = (size_t)value;
    }
    return status;
}

static bool is_null(const json_t *json, const char *key) {
    return json_is_null(json_object_get(json, key));
}

static int find_family(const json_t *json, struct model_config *config, const struct family_defaults **out,
                       struct error *err) {
    const char *type = NULL;
    int status = json_get_string(json, "model_type", &type, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (type == NULL) {
        return error_set(err, STATUS_DATA, "'model_type' is missing");
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(type, families[i].model_type) == 0) {
            *out = &families[i];
            config->family = families[i].family;
            strcpy(config->model_type, type);
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA,
                     "'model_type' is '%.64s'; supported are llama, mistral, qwen2 and qwen3", type);
}

// Keys that change the computation in ways that are not implemented.
static int refuse_unsupported(const json_t *json, struct error *err) {
    static const char *const objects[] = {"text_config", "vision_config"};
    static const char *const quantised[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++) {
        if (json_member(json, quantised[i]) != NULL) {
            return error_set(
                err, STATUS_DATA,
                "'%s' is not supported: the checkpoint is quantised; get the model's own weights (bfloat16, "
                "float16 or float32)",
                quantised[i]);
        }
    }
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        if (json_member(json, objects[i]) != NULL) {
            return error_set(err, STATUS_DATA, "'%s' is not supported", objects[i]);
        }
    }
    // transformers loads the file that it names in place of model.safetensors.
    if (json_member(json, "transformers_weights") != NULL) {
        return error_set(err, STATUS_DATA,
                         "'transformers_weights' names other weights, which is not supported");
    }
    const char *activation = "silu";
    int status = json_get_string(json, "hidden_act", &activation, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (strcmp(activation, "silu") != 0) {
        return error_set(err, STATUS_DATA, "'hidden_act' is '%.64s'; only silu is supported", activation);
    }
    bool causal = true;
    status = json_get_boolean(json, "is_causal", &causal, err);
    if (status == STATUS_OK && !causal) {
        return error_set(err, STATUS_DATA, "'is_causal' is false; only causal attention is supported");
    }
    return status;
}

static int read_heads(const json_t *json, const struct family_defaults *defaults, struct model_config *config,
                      struct error *err) {
    int status = get_size(json, "num_attention_heads", 32, LARGEST_HEADS, &config->heads, err);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t heads = (int64_t)config->heads;
    int64_t kv_heads =
        defaults->kv_heads == 0 || is_null(json, "num_key_value_heads") ? heads : defaults->kv_heads;
    status = get_size(json, "num_key_value_heads", kv_heads, LARGEST_HEADS, &config->kv_heads, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (config->heads % config->kv_heads != 0) {
        return error_set(err, STATUS_DATA,
                         "'num_attention_heads' (%zu) is not a multiple of 'num_key_value_heads' (%zu)",
                         config->heads, config->kv_heads);
    }
    if (defaults->head_dim != 0 && is_null(json, "head_dim")) {
        return error_set(err, STATUS_DATA, "'head_dim' is null, which %s does not define",
                         config->model_type);
    }
    int64_t head_dim = defaults->head_dim;
    if (head_dim == 0 && json_member(json, "head_dim") == NULL) {
        if (config->hidden % config->heads != 0) {
            return error_set(err, STATUS_DATA,
                             "'head_dim' is missing and 'hidden_size' (%zu) is not a multiple of "
                             "'num_attention_heads' (%zu)",
                             config->hidden, config->heads);
        }
        head_dim = (int64_t)(config->hidden / config->heads);
        config->derived_head_dim = true;
    }
    status = get_size(json, "head_dim", head_dim, LARGEST_HEADS, &config->head_dim, err);
    if (status == STATUS_OK && config->head_dim % 2 != 0) {
        return error_set(err, STATUS_DATA, "'head_dim' is %zu; rotary embedding needs an even number",
                         config->head_dim);
    }
    return status;
}

static int read_shape(const json_t *json, const struct family_defaults *defaults, struct model_config *config,
                      struct error *err) {
    int status = get_size(json, "num_hidden_layers", 32, LARGEST_LAYERS, &config->layers, err);
    if (status == STATUS_OK) {
        status = get_size(json, "hidden_size", 4096, LARGEST_DIMENSION, &config->hidden, err);
    }
    if (status == STATUS_OK) {
        status = get_size(json, "intermediate_size", defaults->intermediate, LARGEST_DIMENSION,
                          &config->intermediate, err);
    }
    if (status == STATUS_OK) {
        status =
            get_size(json, "vocab_size", defaults->vocabulary, LARGEST_DIMENSION, &config->vocabulary, err);
    }
    if (status == STATUS_OK) {
        status = get_size(json, "max_position_embeddings", defaults->max_positions, LARGEST_POSITIONS,
                          &config->max_positions, err);
    }
    if (status == STATUS_OK) {
        status = read_heads(json, defaults, config, err);
    }
    if (status == STATUS_OK) {
        config->norm_epsilon = 1e-6;
        status = json_get_number(json, "rms_norm_eps", &config->norm_epsilon, err);
    }
    if (status == STATUS_OK && !(config->norm_epsilon >= 0 && config->norm_epsilon < 1)) {
        return error_set(err, STATUS_DATA, "'rms_norm_eps' is %g, outside 0 to 1", config->norm_epsilon);
    }
    return status;
}

static int read_biases(const json_t *json, struct model_config *config, struct error *err) {
    int status = json_get_boolean(json, "tie_word_embeddings", &config->tied_embeddings, err);
    if (status != STATUS_OK) {
        return status;
    }
    bool bias = false;
    if (config->family == FAMILY_LLAMA || config->family == FAMILY_QWEN3) {
        status = json_get_boolean(json, "attention_bias", &bias, err);
    }
    if (status == STATUS_OK && config->family == FAMILY_LLAMA) {
        status = json_get_boolean(json, "mlp_bias", &config->mlp_bias, err);
    }
    config->attention_bias = bias || config->family == FAMILY_QWEN2;
    config->output_bias = bias;
    config->qk_norm = config->family == FAMILY_QWEN3;
    return status;
}

// The window itself: Mistral slides unless it says null, Qwen only when use_sliding_window is set, Llama
// never.
static int read_window(const json_t *json, const struct family_defaults *defaults,
                       struct model_config *config, struct error *err) {
    bool slides = config->family == FAMILY_MISTRAL;
    int status = STATUS_OK;
    if (config->family == FAMILY_QWEN2 || config->family == FAMILY_QWEN3) {
        status = json_get_boolean(json, "use_sliding_window", &slides, err);
    }
    if (status != STATUS_OK || !slides || is_null(json, "sliding_window")) {
        return status;
    }
    status = get_size(json, "sliding_window", defaults->window, LARGEST_POSITIONS, &config->window, err);
    if (status != STATUS_OK || config->family == FAMILY_MISTRAL) {
        return status;
    }
    int64_t first = 28;
    status = json_get_integer(json, "max_window_layers", 0, LARGEST_LAYERS, &first, err);
    config->first_window_layer = (size_t)first;
    return status;
}

// An explicit list wins for Qwen; elsewhere transformers ignores it, so that a list that disagrees is
// refused.
static int read_layer_types(const json_t *json, struct model_config *config, struct error *err) {
    const json_t *list = json_member(json, "layer_types");
    if (list == NULL) {
        return STATUS_OK;
    }
    if (!json_is_array(list) || json_array_size(list) != config->layers) {
        return error_set(err, STATUS_DATA, "'layer_types' is not a list of %zu names", config->layers);
    }
    bool obeyed = config->family == FAMILY_QWEN2 || config->family == FAMILY_QWEN3;
    for (size_t i = 0; i < config->layers; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        bool slides = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (!slides && (type == NULL || strcmp(type, "full_attention") != 0)) {
            return error_set(err, STATUS_DATA,
                             "'layer_types' entry %zu is '%.64s'; supported are full_attention and "
                             "sliding_attention",
                             i, type == NULL ? "not a text" : type);
        }
        if (slides && config->window == 0) {
            return error_set(err, STATUS_DATA,
                             "'layer_types' entry %zu is sliding_attention, but there is no sliding "
                             "window",
                             i);
        }
        if (!obeyed && slides != (config->layer_slides[i] != 0)) {
            return error_set(err, STATUS_DATA, "'layer_types' entry %zu contradicts 'sliding_window' of %s",
                             i, config->model_type);
        }
        config->layer_slides[i] = slides;
    }
    return STATUS_OK;
}

static int read_sliding(const json_t *json, const struct family_defaults *defaults,
                        struct model_config *config, struct error *err) {
    int status = read_window(json, defaults, config, err);
    if (status != STATUS_OK) {
        return status;
    }
    void *slides;
    status = memory_zeroed(&slides, config->layers, 1, err);
    if (status != STATUS_OK) {
        return status;
    }
    config->layer_slides = slides;
    for (size_t i = 0; i < config->layers; i++) {
        config->layer_slides[i] = config->window > 0 && i >= config->first_window_layer;
    }
    return read_layer_types(json, config, err);
}

static int read_dtype(const json_t *json, struct model_config *config, struct error *err) {
    const char *name = "float32";
    int status = json_get_string(json, "torch_dtype", &name, err);
    if (status == STATUS_OK) {
        status = json_get_string(json, "dtype", &name, err);
    }
    if (status == STATUS_OK && !dtype_parse(name, &config->checkpoint_dtype)) {
        return error_set(err, STATUS_DATA, "'dtype' is '%.64s'; supported are float32, float16 and bfloat16",
                         name);
    }
    return status;
}

// For messages: one line of printable ASCII, as names of classes are, cut where it is not.
static void copy_name(char *out, size_t size, const json_t *value) {
    const char *text = json_string_value(value);
    size_t length = 0;
    while (text != NULL && length + 1 < size && text[length] >= 0x20 && text[length] < 0x7F) {
        out[length] = text[length];
        length++;
    }
    out[length] = 0;
}

// A class's name, or the first in a list.
static void copy_code(const json_t *value, struct model_config *config) {
    const json_t *name = value;
    for (size_t i = 0; i < json_array_size(value) && !json_is_string(name); i++) {
        name = json_array_get(value, i);
    }
    copy_name(config->code, sizeof config->code, name);
}

// What builds no model: tokenizers have a warning of their own.
static bool builds_no_model(const char *key) {
    static const char *const names[] = {"AutoTokenizer", "AutoProcessor", "AutoImageProcessor",
                                        "AutoVideoProcessor", "AutoFeatureExtractor"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(key, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

// The class that the folder's own code has for the model, whatever it is for; a configuration's where there
// is no other.
static void read_code(const json_t *map, struct model_config *config) {
    const char *key;
    json_t *value;
    if (!json_is_object(map)) {
        copy_code(map, config);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        if (config->code[0] == 0 && strcmp(key, "AutoConfig") != 0 && !builds_no_model(key)) {
            copy_code(value, config);
        }
    }
    if (config->code[0] == 0) {
        copy_code(json_object_get(map, "AutoConfig"), config);
    }
}

// What changes nothing here and may change what transformers does.
static void read_remarks(const json_t *json, struct model_config *config) {
    const json_int_t most = 64; // more blocks that predict than any model has
    json_int_t predict_layers = json_integer_value(json_member(json, "num_nextn_predict_layers"));
    config->predict_layers = predict_layers > 0 && predict_layers <= most ? (size_t)predict_layers : 0;
    copy_name(config->architecture, sizeof config->architecture,
              json_array_get(json_member(json, "architectures"), 0));
    copy_name(config->tokenizer_class, sizeof config->tokenizer_class, json_member(json, "tokenizer_class"));
    read_code(json_member(json, "auto_map"), config);
}

static int read_object(const json_t *json, struct model_config *config, struct error *err) {
    const struct family_defaults *defaults = NULL;
    if (!json_is_object(json)) {
        return error_set(err, STATUS_DATA, "not a JSON object");
    }
    int status = find_family(json, config, &defaults, err);
    if (status == STATUS_OK) {
        status = refuse_unsupported(json, err);
    }
    if (status == STATUS_OK) {
        read_remarks(json, config);
        status = read_shape(json, defaults, config, err);
    }
    if (status == STATUS_OK) {
        status = read_biases(json, config, err);
    }
    if (status == STATUS_OK) {
        status = read_sliding(json, defaults, config, err);
    }
    if (status == STATUS_OK) {
        status = config_read_rope(json, config, err);
    }
    return status == STATUS_OK ? read_dtype(json, config, err) : status;
}

int model_config_parse(struct model_config *config, const char *text, size_t size, const char *name,
                       struct error *err) {
    *config = (struct model_config){0};
    json_t *json = NULL;
    int status = json_parse_python(&json, text, size, name, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_object(json, config, err);
    json_decref(json);
    if (status != STATUS_OK) {
        model_config_destroy(config);
        return error_wrap(err, "%s", name);
    }
    return STATUS_OK;
}

int model_config_read(struct model_config *config, struct buffer *text, const char *model,
                      struct error *err) {
    char path[PATH_SIZE];
    *config = (struct model_config){0};
    TRY(model_part_path(path, model, MODEL_CONFIG, err));
    TRY(file_read(text, path, FILE_LIMIT, err));
    TRY(first_bytes_check(text->data, text->size, text->size, path, FIRST_BYTES_JSON, err));
    return model_config_parse(config, text->data, text->size, path, err);
}

void model_config_destroy(struct model_config *config) {
    free(config->layer_slides);
    *config = (struct model_config){0};
}
