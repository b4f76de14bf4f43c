// SPDX-License-Identifier: MIT
#include "model/adapter_config.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/first_bytes.h"

enum {
    FILE_LIMIT = 1 << 20, // bytes: real ones have about a thousand
    LARGEST_RANK = 1 << 16,
    LARGEST_LIST = 8192, // entries of a list or map: each is held against each module
};

// ---- keys ----

// Every key of peft's LoraConfig. `why`: it has to be absent, null, false or empty; NULL: it is read, says
// nothing of the merged weights, or only of initialisations that are refused.
static const struct {
    const char *name;
    const char *why;
} keys[] = {
    {"peft_type", NULL},
    {"r", NULL},
    {"lora_alpha", NULL},
    {"use_rslora", NULL},
    {"rank_pattern", NULL},
    {"alpha_pattern", NULL},
    {"target_modules", NULL},
    {"exclude_modules", NULL},
    {"modules_to_save", NULL},
    {"layers_to_transform", NULL},
    {"layers_pattern", NULL},
    {"bias", NULL},
    {"init_lora_weights", NULL},
    {"task_type", NULL},
    {"auto_mapping", NULL},
    {"peft_version", NULL},
    {"base_model_name_or_path", NULL},
    {"revision", NULL},
    {"inference_mode", NULL},
    {"lora_dropout", NULL},
    {"megatron_core", NULL},
    {"loftq_config", NULL},
    {"eva_config", NULL},
    {"corda_config", NULL},
    {"lora_ga_config", NULL},
    {"runtime_config", NULL},
    {"qalora_group_size", NULL},
    {"use_dora", "DoRA scales the columns of the merged weights"},
    {"lora_bias", "the adapter adds to biases"},
    {"fan_in_fan_out", "the weights are transposed"},
    {"use_qalora", "QALoRA pools the inputs"},
    {"use_bdlora", "the matrices are made of blocks"},
    {"target_parameters", "the adapter is for parameters that are no layers"},
    {"trainable_token_indices", "the adapter replaces rows of the embedding"},
    {"layer_replication", "the adapter is for a model whose blocks are repeated"},
    {"alora_invocation_tokens", "the adapter begins within a text"},
    {"arrow_config", "Arrow chooses among adapters for each token"},
    {"kasa_config", "KaSA changes the model's weights too"},
    {"monteclora_config", "MonteCLoRA samples its weights"},
    {"velora_config", "VeLoRA is not known here"},
    {"megatron_config", "Megatron's layers are not known here"},
    {"ensure_weight_tying", "the adapter changes the head together with the embedding"},
};

static bool is_empty(const struct values *values, const char *key) {
    bool is_true = true;
    const char *text = NULL;
    struct values member = values_member(values, key);
    struct error ignored;
    switch (values_kind(values, key)) {
    case VALUE_ABSENT:
    case VALUE_NULL:
        return true;
    case VALUE_LIST:
    case VALUE_MAP:
        return values_count(&member) == 0;
    case VALUE_PLAIN:
        break;
    }
    return (values_boolean(values, key, &is_true, &ignored) == STATUS_OK && !is_true) ||
           (values_text(values, key, &text, &ignored) == STATUS_OK && text != NULL && text[0] == 0);
}

// What an unknown key asks for is not known either.
static int check_key(const struct values *values, const char *key, struct error *err) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(key, keys[i].name) == 0) {
            return keys[i].why == NULL || is_empty(values, key)
                       ? STATUS_OK
                       : error_set(err, STATUS_DATA, "'%s' is set, which is not supported: %s", key,
                                   keys[i].why);
        }
    }
    return is_empty(values, key)
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%.64s' is not known, and may change what the adapter does",
                           key);
}

static int check_keys(const struct values *values, struct error *err) {
    for (const char *key = values_next_key(values, NULL); key != NULL; key = values_next_key(values, key)) {
        TRY(check_key(values, key, err));
    }
    return STATUS_OK;
}

// ---- what is read ----

static int check_words(const struct values *values, struct error *err) {
    const char *type = NULL;
    const char *bias = "none";
    TRY(values_text(values, "peft_type", &type, err));
    if (type == NULL || strcmp(type, "LORA") != 0) {
        return error_set(err, STATUS_DATA, "'peft_type' is '%.64s'; only LORA is supported",
                         type == NULL ? "missing" : type);
    }
    TRY(values_text(values, "bias", &bias, err));
    return strcmp(bias, "none") == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'bias' is '%.64s'; only none is supported", bias);
}

// Others change the model's own weights when the adapter is made: what it holds is for these.
static int check_beginning(const struct values *values, struct error *err) {
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    static const char key[] = "init_lora_weights";
    const char *word = NULL;
    bool ignored;
    struct error other;
    if (values_boolean(values, key, &ignored, &other) == STATUS_OK) {
        return STATUS_OK;
    }
    TRY(values_text(values, key, &word, err));
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (strcmp(word, harmless[i]) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA,
                     "'%s' is '%.64s', which changes the model's own weights: save the adapter again with "
                     "path_initial_model_for_weight_conversion, which makes a plain one of it",
                     key, word);
}

// A list of texts, or nothing. A text too where a regular expression may stand.
static int check_names(const struct values *values, const char *key, bool takes_text, struct error *err) {
    struct values list = values_member(values, key);
    enum value_kind kind = values_kind(values, key);
    size_t count = values_count(&list);
    const char *text = NULL;
    if (kind <= VALUE_NULL) {
        return STATUS_OK;
    }
    if (kind == VALUE_PLAIN && takes_text) {
        return values_text(values, key, &text, err);
    }
    bool good = kind == VALUE_LIST && count <= LARGEST_LIST;
    for (size_t i = 0; i < count && good; i++) {
        good = values_text_at(&list, i) != NULL;
    }
    return good ? STATUS_OK : error_set(err, STATUS_DATA, "'%s' is not a list of names", key);
}

static int check_layers(const struct values *values, struct error *err) {
    static const char key[] = "layers_to_transform";
    struct values list = values_member(values, key);
    size_t count = values_count(&list);
    int64_t number;
    if (values_kind(values, key) != VALUE_LIST) {
        TRY(values_integer(values, key, 0, INT32_MAX, &number, err));
    }
    bool good = count <= LARGEST_LIST;
    for (size_t i = 0; i < count && good; i++) {
        good = values_integer_at(&list, i, &number);
    }
    if (!good) {
        return error_set(err, STATUS_DATA, "'%s' is not a list of numbers of blocks", key);
    }
    const char *pattern = "layers";
    struct values patterns = values_member(values, "layers_pattern");
    if (values_kind(values, "layers_pattern") == VALUE_LIST) {
        pattern = values_count(&patterns) == 0 ? pattern : values_text_at(&patterns, 0);
    } else {
        TRY(values_text(values, "layers_pattern", &pattern, err));
    }
    bool plain = pattern != NULL && (pattern[0] == 0 || strcmp(pattern, "layers") == 0) &&
                 values_count(&patterns) <= 1;
    return plain ? STATUS_OK
                 : error_set(err, STATUS_DATA, "'layers_pattern' is not 'layers', as the blocks are called");
}

// ---- patterns ----

// A name, of which '.' stands for any character as in every regular expression; '^' in front, '$' behind and
// "\." are understood too.
static bool is_plain_pattern(const char *pattern) {
    const char *at = pattern + (pattern[0] == '^');
    for (; *at != 0; at++) {
        bool escaped = at[0] == '\\' && at[1] == '.';
        at += escaped;
        bool last = at[0] == '$' && at[1] == 0;
        if (!escaped && !last && !isalnum((unsigned char)*at) && strchr("._", *at) == NULL) {
            return false;
        }
    }
    return true;
}

static bool same_name(const char *pattern, const char *name) {
    for (; *pattern != 0 && strcmp(pattern, "$") != 0; pattern++, name++) {
        bool any = *pattern == '.';
        pattern += *pattern == '\\';
        if (*name == 0 || (!any && *name != *pattern)) {
            return false;
        }
    }
    return *name == 0;
}

// As re.match of "(.*\.)?(PATTERN)$".
static bool pattern_matches(const char *pattern, const char *module) {
    bool whole = pattern[0] == '^';
    const char *name = module;
    while (!same_name(pattern + whole, name)) {
        name = strchr(name, '.');
        if (name == NULL || whole) {
            return false;
        }
        name++;
    }
    return true;
}

static int check_patterns(const struct values *values, const char *key, struct error *err) {
    struct values map = values_member(values, key);
    if (values_has(values, key) &&
        (values_kind(values, key) != VALUE_MAP || values_count(&map) > LARGEST_LIST)) {
        return error_set(err, STATUS_DATA, "'%s' is not a map of modules to numbers", key);
    }
    for (const char *name = values_next_key(&map, NULL); name != NULL; name = values_next_key(&map, name)) {
        double number = NAN;
        if (!is_plain_pattern(name)) {
            return error_set(err, STATUS_DATA,
                             "'%s' has '%.200s', and regular expressions are not supported there: name the "
                             "modules",
                             key, name);
        }
        if (values_number(&map, name, &number, err) != STATUS_OK || !isfinite(number)) {
            return error_set(err, STATUS_DATA, "'%s' has no finite number for '%.200s'", key, name);
        }
    }
    return STATUS_OK;
}

// The first that matches, in the order of the file; NULL: none does.
static const char *pattern_of(const struct values *map, const char *module) {
    const char *name = values_next_key(map, NULL);
    while (name != NULL && !pattern_matches(name, module)) {
        name = values_next_key(map, name);
    }
    return name;
}

// ---- reading ----

static int check_scale(const struct adapter_config *config, struct error *err) {
    size_t rank;
    float scale;
    TRY(check_patterns(&config->values, "rank_pattern", err));
    TRY(check_patterns(&config->values, "alpha_pattern", err));
    return adapter_config_scale(config, "", &rank, &scale, err);
}

static int check_all(const struct adapter_config *config, struct error *err) {
    const struct values *values = &config->values;
    TRY(check_words(values, err));
    TRY(check_keys(values, err));
    TRY(check_beginning(values, err));
    TRY(check_names(values, "target_modules", true, err));
    TRY(check_names(values, "exclude_modules", true, err));
    TRY(check_names(values, "modules_to_save", false, err));
    TRY(check_layers(values, err));
    return check_scale(config, err);
}

int adapter_config_parse(struct adapter_config *config, const char *text, size_t size, const char *name,
                         struct error *err) {
    TRY(values_open_json(&config->values, text, size, name, err));
    config->is_open = true;
    return check_all(config, err) == STATUS_OK ? STATUS_OK : error_wrap(err, "%s", name);
}

int adapter_config_read(struct adapter_config *config, const char *path, struct error *err) {
    struct buffer *text = &config->text;
    TRY(file_read(text, path, FILE_LIMIT, err));
    TRY(first_bytes_check(text->data, text->size, text->size, path, FIRST_BYTES_JSON, err));
    return adapter_config_parse(config, text->data, text->size, path, err);
}

void adapter_config_destroy(struct adapter_config *config) {
    if (config->is_open) {
        values_close(&config->values);
    }
    buffer_destroy(&config->text);
    *config = (struct adapter_config){0};
}

// ---- questions ----

int adapter_config_scale(const struct adapter_config *config, const char *module, size_t *rank, float *scale,
                         struct error *err) {
    const struct values *values = &config->values;
    const struct values ranks = values_member(values, "rank_pattern");
    const struct values alphas = values_member(values, "alpha_pattern");
    const char *rank_name = pattern_of(&ranks, module);
    const char *alpha_name = pattern_of(&alphas, module);
    int64_t r = 8; // as peft's class has them
    double alpha = 8;
    bool by_root = false;
    TRY(values_integer(rank_name == NULL ? values : &ranks, rank_name == NULL ? "r" : rank_name, 1,
                       LARGEST_RANK, &r, err));
    TRY(values_number(alpha_name == NULL ? values : &alphas, alpha_name == NULL ? "lora_alpha" : alpha_name,
                      &alpha, err));
    TRY(values_boolean(values, "use_rslora", &by_root, err));
    *rank = (size_t)r;
    *scale = (float)(alpha / (by_root ? sqrt((double)r) : (double)r));
    return isfinite(*scale)
               ? STATUS_OK
               : error_set(err, STATUS_DATA,
                           "'lora_alpha' is %g, which makes no finite scale for a rank of %zu", alpha, *rank);
}

bool adapter_config_names(const char *name, const char *module) {
    size_t length = strlen(name);
    size_t whole = strlen(module);
    return length <= whole && strcmp(module + whole - length, name) == 0 &&
           (length == whole || module[whole - length - 1] == '.');
}

static bool is_listed(const struct values *values, const char *key, const char *module) {
    struct values list = values_member(values, key);
    for (size_t i = 0; i < values_count(&list); i++) {
        if (adapter_config_names(values_text_at(&list, i), module)) {
            return true;
        }
    }
    return false;
}

static bool is_left_out(const struct values *values, size_t block) {
    static const char key[] = "layers_to_transform";
    struct values list = values_member(values, key);
    int64_t number = (int64_t)block;
    struct error ignored;
    if (values_kind(values, key) == VALUE_PLAIN) {
        (void)values_integer(values, key, 0, INT32_MAX, &number, &ignored);
        return number != (int64_t)block;
    }
    for (size_t i = 0; i < values_count(&list); i++) {
        if (values_integer_at(&list, i, &number) && number == (int64_t)block) {
            return false;
        }
    }
    return values_count(&list) > 0;
}

enum adapter_target adapter_config_target(const struct adapter_config *config, const char *module,
                                          size_t block) {
    const struct values *values = &config->values;
    const char *text = NULL;
    struct error ignored;
    bool by_list = values_kind(values, "target_modules") == VALUE_LIST;
    (void)values_text(values, "target_modules", &text, &ignored);
    bool by_word = !by_list && text != NULL && strcmp(text, "all-linear") == 0;
    if (!by_list && !by_word) {
        return ADAPTER_MAYBE;
    }
    if (is_listed(values, "exclude_modules", module) ||
        (by_list && (!is_listed(values, "target_modules", module) || is_left_out(values, block)))) {
        return ADAPTER_NO;
    }
    return values_kind(values, "exclude_modules") == VALUE_PLAIN ? ADAPTER_MAYBE : ADAPTER_YES;
}

const char *adapter_config_target_name(const struct adapter_config *config, size_t index) {
    struct values list = values_member(&config->values, "target_modules");
    return values_text_at(&list, index);
}

const char *adapter_config_saved_name(const struct adapter_config *config, size_t index) {
    struct values list = values_member(&config->values, "modules_to_save");
    return values_text_at(&list, index);
}
