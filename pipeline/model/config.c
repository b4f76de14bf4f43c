// SPDX-License-Identifier: MIT
#include "model/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/file.h"
#include "base/first_bytes.h"
#include "model/config_layers.h"
#include "model/config_rope.h"
#include "model/config_shape.h"
#include "model/family.h"
#include "model/footprint.h"
#include "model/gguf_config.h"
#include "model/place.h"
#include "model/values.h"
#include "model/weight_table.h"

enum { FILE_LIMIT = 4 << 20 }; // bytes of a config.json: real ones have a few thousand

static int no_family(const char *type, struct error *err) {
    return error_set(
        err, STATUS_DATA,
        "'model_type' is '%.64s', none of the families that strata computes (`strata help models` "
        "lists them)",
        type);
}

// The text model's row, and its own values: those under text_config where the outer model has other parts.
static int find_family(const struct values *values, struct model_config *config, struct values *text,
                       struct error *err) {
    const char *type = NULL;
    TRY(values_text(values, "model_type", &type, err));
    if (type == NULL) {
        return error_set(err, STATUS_DATA, "'model_type' is missing");
    }
    const struct family_nest *nest = family_nest_find(type);
    *text = *values;
    if (nest != NULL && nest->may_be_flat && values_kind(values, "text_config") == VALUE_ABSENT) {
        type = nest->text_type;
        config->is_nested = true;
    } else if (nest != NULL) {
        if (values_kind(values, "text_config") != VALUE_MAP) {
            return error_set(err, STATUS_DATA, "'text_config' of %s is not an object", type);
        }
        *text = values_member(values, "text_config");
        type = nest->text_type;
        TRY(values_text(text, "model_type", &type, err));
        config->is_nested = true;
    }
    config->family = family_find(type);
    if (config->family == NULL) {
        return no_family(type, err);
    }
    config->weights = family_weights(config->family);
    strcpy(config->model_type, config->family->model_type);
    return STATUS_OK;
}

// Ids that stand for what is seen or heard, where the outer model embeds another in their place.
static int read_places(const struct values *values, const struct values *text, struct model_config *config,
                       struct error *err) {
    static const struct {
        const char *key;
        int64_t otherwise;
    } keys[CONFIG_PLACES] = {
        {"image_token_id", 258880}, {"video_token_id", 258884}, {"audio_token_id", 258881}};
    const char *type = NULL;
    TRY(values_text(values, "model_type", &type, err));
    const struct family_nest *nest = family_nest_find(type);
    if (nest == NULL || !nest->pads_places) {
        return STATUS_OK;
    }
    int64_t pad = 0;
    TRY(values_integer(text, "pad_token_id", 0, (int64_t)config->vocabulary - 1, &pad, err));
    if (values_kind(text, "pad_token_id") == VALUE_NULL) {
        return error_set(err, STATUS_DATA, "'text_config': 'pad_token_id' is null");
    }
    config->pad_id = (int32_t)pad;
    for (size_t i = 0; i < CONFIG_PLACES; i++) {
        int64_t id = keys[i].otherwise;
        if (values_kind(values, keys[i].key) != VALUE_NULL) {
            TRY(values_integer(values, keys[i].key, 0, INT32_MAX, &id, err));
            config->places[config->place_count++] = (int32_t)id;
        }
    }
    return STATUS_OK;
}

// Keys that change the computation in ways that are not implemented.
static int refuse_unsupported(const struct values *values, const struct model_config *config,
                              struct error *err) {
    static const char *const objects[] = {"text_config", "vision_config"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0] && !config->is_nested; i++) {
        if (values_has(values, objects[i])) {
            return error_set(err, STATUS_DATA, "'%s' is not supported", objects[i]);
        }
    }
    // transformers loads the file that it names in place of model.safetensors.
    if (values_has(values, "transformers_weights")) {
        return error_set(err, STATUS_DATA,
                         "'transformers_weights' names other weights, which is not supported");
    }
    return STATUS_OK;
}

static int read_dtype(const struct values *values, struct model_config *config, struct error *err) {
    const char *name = dtype_name(config->checkpoint_dtype); // float32 at first
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

// Whether the output head has a tensor of its own; the outer configuration speaks for both.
static int read_tied(const struct values *values, const struct values *text, struct model_config *config,
                     struct error *err) {
    config->tied_embeddings = config->family->defaults.tied;
    TRY(values_boolean(text, "tie_word_embeddings", &config->tied_embeddings, err));
    if (config->family->keys.tied != NULL && config->family->keys.tied[0] == 0) {
        config->tied_embeddings = false;
        return STATUS_OK;
    }
    if (config->family->keys.tied != NULL) {
        TRY(values_boolean(text, config->family->keys.tied, &config->tied_embeddings, err));
    }
    return config->is_nested ? values_boolean(values, "tie_word_embeddings", &config->tied_embeddings, err)
                             : STATUS_OK;
}

static int read_text(const struct values *text, struct model_config *config, struct error *err) {
    TRY(config_read_shape(text, config, err));
    TRY(config_read_computation(text, config, err));
    TRY(config_read_layers(text, config, err));
    return config_read_rope(text, config, err);
}

static int read_values(const struct values *values, struct model_config *config, struct error *err) {
    struct values text;
    TRY(find_family(values, config, &text, err));
    TRY(refuse_unsupported(values, config, err));
    read_remarks(values, config);
    TRY(read_tied(values, &text, config, err));
    int status = read_text(&text, config, err);
    if (status != STATUS_OK) {
        return config->is_nested ? error_wrap(err, "'text_config'") : status;
    }
    TRY(read_places(values, &text, config, err));
    TRY(read_packing(values, config, err));
    if (config->is_nested) {
        TRY(read_dtype(&text, config, err));
    }
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

size_t config_key_giver(const struct model_config *config, bool slides) {
    for (size_t block = config->layers - config->key_sharers; config->key_sharers > 0 && block > 0; block--) {
        if ((config->layer_slides[block - 1] != 0) == slides) {
            return block - 1;
        }
    }
    return config->layers;
}

enum block_keys config_keys(const struct model_config *config, size_t block) {
    if (config->key_sharers == 0) {
        return KEYS_OWN;
    }
    if (block >= config->layers - config->key_sharers) {
        return KEYS_SHARED;
    }
    return config_key_giver(config, config->layer_slides[block] != 0) == block ? KEYS_KEPT : KEYS_OWN;
}

size_t config_shared_keys(const struct model_config *config, bool slides) {
    size_t giver = config_key_giver(config, slides);
    struct device_heads heads = config_heads(config, giver < config->layers ? giver : 0);
    return giver < config->layers ? 2 * heads.kv_heads * heads.head_dim : 0;
}

size_t config_keys_values(const struct model_config *config) {
    size_t most = 0;
    for (size_t block = 0; block < config->layers; block++) {
        struct device_heads heads = config_heads(config, block);
        size_t numbers = 2 * heads.kv_heads * heads.head_dim;
        most = numbers > most ? numbers : most;
    }
    return most;
}

const char *model_config_holder(const struct model_config *config) {
    return config->holder == CONFIG_GGUF ? "the file's metadata" : model_part_name(MODEL_CONFIG);
}

struct model_config model_config_plain(const struct model_config *config) {
    return (struct model_config){.family = config->family,
                                 .weights = &weight_table_dense,
                                 .layers = config->layers,
                                 .hidden = config->hidden,
                                 .intermediate = config->intermediate,
                                 .heads = config->heads,
                                 .kv_heads = config->kv_heads,
                                 .head_dim = config->head_dim,
                                 .vocabulary = config->vocabulary,
                                 .max_positions = config->max_positions,
                                 .norm_epsilon = config->norm_epsilon,
                                 .rope = {.theta = 10000, .factor = 1, .attention_factor = 1}};
}

int model_config_block(struct model_config *out, const struct model_config *config, size_t block,
                       struct error *err) {
    unsigned char **const flags[] = {&out->layer_slides, &out->layer_experts, &out->layer_mixers,
                                     &out->layer_mlps};
    if (config->full_head_dim > 0 || config->layer_input > 0 || config->key_sharers > 0) {
        return error_set(err, STATUS_INTERNAL, "a block of %s does not stand alone", config->model_type);
    }
    *out = *config;
    out->layers = 1;
    out->rope = (struct rope_config){.theta = 10000, .factor = 1, .attention_factor = 1};
    out->local_rope = (struct rope_config){0};
    out->has_local_rope = false;
    out->query_beta = 0;
    out->query_step = 0;
    out->has_slopes = false;
    out->position_rows = 0;
    out->embedding_norm = false;
    out->layer_ropes = NULL;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        *flags[i] = NULL; // those of `config` are its own
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        void *flag;
        TRY(memory_zeroed(&flag, 1, 1, err));
        *flags[i] = flag;
    }
    out->layer_slides[0] = config->layer_slides[block];
    out->layer_experts[0] = config_has_experts(config, block);
    out->layer_mixers[0] = (unsigned char)config_mixer(config, block);
    out->layer_mlps[0] = config_has_second_branch(config, block);
    return STATUS_OK;
}

void model_config_destroy(struct model_config *config) {
    free(config->rope.divisors);
    free(config->rope.long_divisors);
    free(config->local_rope.divisors);
    free(config->local_rope.long_divisors);
    free(config->layer_slides);
    free(config->layer_ropes);
    free(config->layer_experts);
    free(config->layer_mixers);
    free(config->layer_mlps);
    *config = (struct model_config){0};
}
