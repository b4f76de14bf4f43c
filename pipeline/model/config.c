#include "model/config.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/file.h"
#include "base/first_bytes.h"
#include "base/names.h"
#include "model/config_rope.h"
#include "model/footprint.h"
#include "model/gguf_config.h"
#include "model/place.h"
#include "model/values.h"
#include "model/weight_table.h"

// What transformers' configuration classes take when config.json leaves a key out.
struct family_defaults {
    const char *model_type;
    enum model_family family;
    const struct weight_table *weights;
    int64_t intermediate;
    int64_t kv_heads; // 0: as many as heads
    int64_t head_dim; // 0: hidden / heads
    int64_t vocabulary;
    int64_t max_positions;
    int64_t window; // 0: none unless the file says so
};

static const struct family_defaults families[] = {
    {"llama", FAMILY_LLAMA, &weight_table_dense, 11008, 0, 0, 32000, 2048, 0},
    {"mistral", FAMILY_MISTRAL, &weight_table_dense, 14336, 8, 0, 32000, 4096 * 32, 4096},
    {"qwen2", FAMILY_QWEN2, &weight_table_dense, 22016, 32, 0, 151936, 32768, 4096},
    {"qwen3", FAMILY_QWEN3, &weight_table_dense, 22016, 32, 128, 151936, 32768, 4096},
};

enum { FAMILIES = sizeof families / sizeof families[0] };

enum {
    FILE_LIMIT = 4 << 20, // bytes of a config.json: real ones have a few thousand
    LARGEST_DIMENSION = 1 << 24,
    LARGEST_HEADS = 1 << 16,
    LARGEST_LAYERS = 4096,
    LARGEST_POSITIONS = 1 << 30
};

static int get_size(const struct values *values, const char *key, int64_t otherwise, int64_t largest,
                    size_t *out, struct error *err) {
    int64_t value = otherwise;
    TRY(values_integer(values, key, 1, largest, &value, err));
    *out = (size_t)value;
    return STATUS_OK;
}

static bool is_null(const struct values *values, const char *key) {
    return values_kind(values, key) == VALUE_NULL;
}

static int find_family(const struct values *values, struct model_config *config,
                       const struct family_defaults **out, struct error *err) {
    const char *type = NULL;
    TRY(values_text(values, "model_type", &type, err));
    if (type == NULL) {
        return error_set(err, STATUS_DATA, "'model_type' is missing");
    }
    for (size_t i = 0; i < FAMILIES; i++) {
        if (strcmp(type, families[i].model_type) == 0) {
            *out = &families[i];
            config->family = families[i].family;
            config->weights = families[i].weights;
            strcpy(config->model_type, type);
            return STATUS_OK;
        }
    }
    char names[FAMILIES * sizeof config->model_type] = "";
    for (size_t i = 0; i < FAMILIES; i++) {
        names_append(names, sizeof names, families[i].model_type, i, FAMILIES);
    }
    return error_set(err, STATUS_DATA, "'model_type' is '%.64s'; supported are %s", type, names);
}

// Keys that change the computation in ways that are not implemented.
static int refuse_unsupported(const struct values *values, struct error *err) {
    static const char *const objects[] = {"text_config", "vision_config"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        if (values_has(values, objects[i])) {
            return error_set(err, STATUS_DATA, "'%s' is not supported", objects[i]);
        }
    }
    // transformers loads the file that it names in place of model.safetensors.
    if (values_has(values, "transformers_weights")) {
        return error_set(err, STATUS_DATA,
                         "'transformers_weights' names other weights, which is not supported");
    }
    const char *activation = "silu";
    TRY(values_text(values, "hidden_act", &activation, err));
    if (strcmp(activation, "silu") != 0) {
        return error_set(err, STATUS_DATA, "'hidden_act' is '%.64s'; only silu is supported", activation);
    }
    bool causal = true;
    TRY(values_boolean(values, "is_causal", &causal, err));
    return causal ? STATUS_OK
                  : error_set(err, STATUS_DATA, "'is_causal' is false; only causal attention is supported");
}

static int read_heads(const struct values *values, const struct family_defaults *defaults,
                      struct model_config *config, struct error *err) {
    TRY(get_size(values, "num_attention_heads", 32, LARGEST_HEADS, &config->heads, err));
    int64_t heads = (int64_t)config->heads;
    int64_t kv_heads =
        defaults->kv_heads == 0 || is_null(values, "num_key_value_heads") ? heads : defaults->kv_heads;
    TRY(get_size(values, "num_key_value_heads", kv_heads, LARGEST_HEADS, &config->kv_heads, err));
    if (config->heads % config->kv_heads != 0) {
        return error_set(err, STATUS_DATA,
                         "'num_attention_heads' (%zu) is not a multiple of 'num_key_value_heads' (%zu)",
                         config->heads, config->kv_heads);
    }
    if (defaults->head_dim != 0 && is_null(values, "head_dim")) {
        return error_set(err, STATUS_DATA, "'head_dim' is null, which %s does not define",
                         config->model_type);
    }
    int64_t head_dim = defaults->head_dim;
    if (head_dim == 0 && !values_has(values, "head_dim")) {
        if (config->hidden % config->heads != 0) {
            return error_set(err, STATUS_DATA,
                             "'head_dim' is missing and 'hidden_size' (%zu) is not a multiple of "
                             "'num_attention_heads' (%zu)",
                             config->hidden, config->heads);
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

static int read_shape(const struct values *values, const struct family_defaults *defaults,
                      struct model_config *config, struct error *err) {
    TRY(get_size(values, "num_hidden_layers", 32, LARGEST_LAYERS, &config->layers, err));
    TRY(get_size(values, "hidden_size", 4096, LARGEST_DIMENSION, &config->hidden, err));
    TRY(get_size(values, "intermediate_size", defaults->intermediate, LARGEST_DIMENSION,
                 &config->intermediate, err));
    TRY(get_size(values, "vocab_size", defaults->vocabulary, LARGEST_DIMENSION, &config->vocabulary, err));
    TRY(get_size(values, "max_position_embeddings", defaults->max_positions, LARGEST_POSITIONS,
                 &config->max_positions, err));
    TRY(read_heads(values, defaults, config, err));
    config->norm_epsilon = 1e-6;
    TRY(values_number(values, "rms_norm_eps", &config->norm_epsilon, err));
    if (!(config->norm_epsilon >= 0 && config->norm_epsilon < 1)) {
        return error_set(err, STATUS_DATA, "'rms_norm_eps' is %g, outside 0 to 1", config->norm_epsilon);
    }
    return STATUS_OK;
}

static int read_biases(const struct values *values, struct model_config *config, struct error *err) {
    bool bias = false;
    TRY(values_boolean(values, "tie_word_embeddings", &config->tied_embeddings, err));
    if (config->family == FAMILY_LLAMA || config->family == FAMILY_QWEN3) {
        TRY(values_boolean(values, "attention_bias", &bias, err));
    }
    if (config->family == FAMILY_LLAMA) {
        TRY(values_boolean(values, "mlp_bias", &config->mlp_bias, err));
    }
    config->attention_bias = bias || config->family == FAMILY_QWEN2;
    config->output_bias = bias;
    config->qk_norm = config->family == FAMILY_QWEN3;
    return STATUS_OK;
}

// The window itself: Mistral slides unless it says null, Qwen only when use_sliding_window is set, Llama
// never.
static int read_window(const struct values *values, const struct family_defaults *defaults,
                       struct model_config *config, struct error *err) {
    bool slides = config->family == FAMILY_MISTRAL;
    if (config->family == FAMILY_QWEN2 || config->family == FAMILY_QWEN3) {
        TRY(values_boolean(values, "use_sliding_window", &slides, err));
    }
    if (!slides || is_null(values, "sliding_window")) {
        return STATUS_OK;
    }
    TRY(get_size(values, "sliding_window", defaults->window, LARGEST_POSITIONS, &config->window, err));
    if (config->family == FAMILY_MISTRAL) {
        return STATUS_OK;
    }
    int64_t first = 28;
    TRY(values_integer(values, "max_window_layers", 0, LARGEST_LAYERS, &first, err));
    config->first_window_layer = (size_t)first;
    return STATUS_OK;
}

// An explicit list wins for Qwen; elsewhere transformers ignores it, so that a list that disagrees is
// refused.
static int read_layer_types(const struct values *values, struct model_config *config, struct error *err) {
    if (!values_has(values, "layer_types")) {
        return STATUS_OK;
    }
    struct values list = values_member(values, "layer_types");
    if (values_kind(values, "layer_types") != VALUE_LIST || values_count(&list) != config->layers) {
        return error_set(err, STATUS_DATA, "'layer_types' is not a list of %zu names", config->layers);
    }
    bool obeyed = config->family == FAMILY_QWEN2 || config->family == FAMILY_QWEN3;
    for (size_t i = 0; i < config->layers; i++) {
        const char *type = values_text_at(&list, i);
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

static int read_sliding(const struct values *values, const struct family_defaults *defaults,
                        struct model_config *config, struct error *err) {
    void *slides;
    TRY(read_window(values, defaults, config, err));
    TRY(memory_zeroed(&slides, config->layers, 1, err));
    config->layer_slides = slides;
    for (size_t i = 0; i < config->layers; i++) {
        config->layer_slides[i] = config->window > 0 && i >= config->first_window_layer;
    }
    return read_layer_types(values, config, err);
}

static int read_dtype(const struct values *values, struct model_config *config, struct error *err) {
    const char *name = "float32";
    TRY(values_text(values, "torch_dtype", &name, err));
    TRY(values_text(values, "dtype", &name, err));
    if (!dtype_parse(name, &config->checkpoint_dtype)) {
        return error_set(err, STATUS_DATA, "'dtype' is '%.64s'; supported are float32, float16 and bfloat16",
                         name);
    }
    return STATUS_OK;
}

// For messages: one line of printable ASCII, as names of classes are, cut where it is not.
static void copy_name(char *out, size_t size, const char *text) {
    size_t length = 0;
    while (text != NULL && length + 1 < size && text[length] >= 0x20 && text[length] < 0x7F) {
        out[length] = text[length];
        length++;
    }
    out[length] = 0;
}

// NULL where there is no text.
static const char *text_of(const struct values *values, const char *key) {
    const char *text = NULL;
    struct error ignored;
    (void)values_text(values, key, &text, &ignored);
    return text;
}

// The text, or the first one in a list.
static const char *first_text(const struct values *values, const char *key) {
    struct values list = values_member(values, key);
    const char *text = text_of(values, key);
    for (size_t i = 0; i < values_count(&list) && text == NULL; i++) {
        text = values_text_at(&list, i);
    }
    return text;
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
static void read_code(const struct values *values, struct model_config *config) {
    struct values map = values_member(values, "auto_map");
    if (values_kind(values, "auto_map") != VALUE_MAP) {
        copy_name(config->code, sizeof config->code, first_text(values, "auto_map"));
        return;
    }
    for (const char *key = values_next_key(&map, NULL); key != NULL; key = values_next_key(&map, key)) {
        if (config->code[0] == 0 && strcmp(key, "AutoConfig") != 0 && !builds_no_model(key)) {
            copy_name(config->code, sizeof config->code, first_text(&map, key));
        }
    }
    if (config->code[0] == 0) {
        copy_name(config->code, sizeof config->code, first_text(&map, "AutoConfig"));
    }
}

// What changes nothing here and may change what transformers does: whatever is not as expected counts as
// absent.
static void read_remarks(const struct values *values, struct model_config *config) {
    struct values architectures = values_member(values, "architectures");
    copy_name(config->architecture, sizeof config->architecture, values_text_at(&architectures, 0));
    copy_name(config->tokenizer_class, sizeof config->tokenizer_class, text_of(values, "tokenizer_class"));
    read_code(values, config);
}

// Weights packed in a way that is not read: what the same model takes in ways that are.
static int read_packing(const struct values *values, struct model_config *config, struct error *err) {
    char whole[AMOUNT_TEXT];
    char quarter[AMOUNT_TEXT];
    int status = quantization_read(&config->quantization, values, err);
    if (status != STATUS_DATA) {
        return status;
    }
    struct error inner = *err;
    return error_set(err, status,
                     "%.1600s (the model takes %s at 16 bits, which model.quantize: nf4 makes %s)",
                     inner.message, amount_text((double)footprint_of_all(config, MODEL_QUANTIZE_NONE), whole),
                     amount_text((double)footprint_of_all(config, MODEL_QUANTIZE_NF4), quarter));
}

static int read_values(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_defaults *defaults = NULL;
    TRY(find_family(values, config, &defaults, err));
    TRY(refuse_unsupported(values, err));
    read_remarks(values, config);
    TRY(read_shape(values, defaults, config, err));
    TRY(read_biases(values, config, err));
    TRY(read_sliding(values, defaults, config, err));
    TRY(config_read_rope(values, config, err));
    TRY(read_packing(values, config, err));
    return read_dtype(values, config, err);
}

int model_config_parse(struct model_config *config, const char *text, size_t size, const char *name,
                       struct error *err) {
    struct values values;
    *config = (struct model_config){0};
    TRY(values_open_json(&values, text, size, name, err));
    int status = read_values(&values, config, err);
    values_close(&values);
    if (status != STATUS_OK) {
        model_config_destroy(config);
        return error_wrap(err, "%s", name);
    }
    return STATUS_OK;
}

int model_config_read(struct model_config *config, struct buffer *text, const char *model,
                      struct error *err) {
    char path[PATH_SIZE];
    enum model_form form;
    *config = (struct model_config){0};
    TRY(model_form(model, &form, err));
    if (form == MODEL_FORM_GGUF) {
        return gguf_config_read(config, model, err);
    }
    TRY(model_part_path(path, model, MODEL_CONFIG, err));
    TRY(file_read(text, path, FILE_LIMIT, err));
    TRY(first_bytes_check(text->data, text->size, text->size, path, FIRST_BYTES_JSON, err));
    return model_config_parse(config, text->data, text->size, path, err);
}

const char *model_config_holder(const struct model_config *config) {
    return config->holder == CONFIG_GGUF ? "the file's metadata" : model_part_name(MODEL_CONFIG);
}

void model_config_destroy(struct model_config *config) {
    free(config->rope.divisors);
    free(config->layer_slides);
    *config = (struct model_config){0};
}
