// SPDX-License-Identifier: MIT
#include "model/config_space.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model/config_shape.h"
#include "model/family.h"

// ---- the list of blocks ----

enum branch_kind { BRANCH_SPACE, BRANCH_ATTENTION, BRANCH_MLP, BRANCH_EXPERTS };

struct block_list {
    const char *key;
    struct values names;
    const char *pattern; // a letter a block; NULL: there are names
    size_t count;        // 0: there is no list
};

static const char *const default_branches[] = {"linear_attention", "moe", "full_attention", "mlp"};

static const struct {
    const char *name;
    const char *old_name; // NULL: there is none
    char letter;          // of a pattern
} kinds[] = {[BRANCH_SPACE] = {"linear_attention", "mamba", 'M'},
             [BRANCH_ATTENTION] = {"full_attention", "attention", '*'},
             [BRANCH_MLP] = {"mlp", NULL, '-'},
             [BRANCH_EXPERTS] = {"moe", NULL, 'E'}};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

// Of two names of one list transformers takes the second, where it is there at all; null there is refused by
// its classes.
static int find_list(const struct values *values, const struct model_config *config, struct block_list *out,
                     struct error *err) {
    const struct family_space *row = config->family->space;
    const char *keys[] = {row->list_key, row->list_alias};
    *out = (struct block_list){.key = row->list_key};
    for (size_t i = 0; i < 2; i++) {
        enum value_kind kind = values_kind(values, keys[i]);
        if (kind != VALUE_ABSENT && kind != VALUE_LIST && (i == 1 || kind != VALUE_NULL)) {
            return error_set(err, STATUS_DATA, "'%s' is not a list of names", keys[i]);
        }
        if (kind == VALUE_LIST) {
            out->key = keys[i];
            out->names = values_member(values, keys[i]);
            out->count = values_count(&out->names);
            if (out->count == 0) {
                return error_set(err, STATUS_DATA, "'%s' is empty", keys[i]);
            }
        }
    }
    if (out->count > 0 || row->pattern_key == NULL || values_kind(values, row->pattern_key) == VALUE_ABSENT) {
        return STATUS_OK;
    }
    TRY(values_text(values, row->pattern_key, &out->pattern, err));
    out->key = row->pattern_key;
    out->count = out->pattern == NULL ? 0 : strlen(out->pattern);
    return out->count > 0 ? STATUS_OK
                          : error_set(err, STATUS_DATA, "'%s' is null or empty", row->pattern_key);
}

static int kind_at(const struct model_config *config, const struct block_list *list, size_t block,
                   enum branch_kind *out, struct error *err) {
    bool lone = config->family->mixers == MIXERS_LONE_BRANCHES;
    size_t supported = lone ? KINDS : BRANCH_MLP; // in blocks with two branches the second is always an MLP
    const char *name = list->pattern != NULL ? NULL
                       : list->count > 0     ? values_text_at(&list->names, block)
                       : lone                ? default_branches[block]
                                             : kinds[BRANCH_SPACE].name;
    for (size_t i = 0; i < supported; i++) {
        if (list->pattern != NULL
                ? list->pattern[block] == kinds[i].letter
                : name != NULL && (strcmp(name, kinds[i].name) == 0 ||
                                   (kinds[i].old_name != NULL && strcmp(name, kinds[i].old_name) == 0))) {
            *out = (enum branch_kind)i;
            return STATUS_OK;
        }
    }
    if (list->pattern != NULL) {
        return error_set(err, STATUS_DATA, "'%s' has a letter at %zu that is none of M, *, - and E",
                         list->key, block);
    }
    return error_set(err, STATUS_DATA, "'%s' entry %zu is '%.64s'; supported are linear_attention, %s",
                     list->key, block, name == NULL ? "not a text" : name,
                     lone ? "full_attention, mlp and moe" : "and full_attention");
}

int config_count_branches(const struct values *values, const struct model_config *config, size_t *out,
                          struct error *err) {
    struct block_list list;
    TRY(find_list(values, config, &list, err));
    *out = list.count > 0 ? list.count : sizeof default_branches / sizeof default_branches[0];
    return *out <= LARGEST_LAYERS ? STATUS_OK
                                  : error_set(err, STATUS_DATA, "'%s' is of %zu blocks, more than %d",
                                              list.key, *out, LARGEST_LAYERS);
}

// Bamba: all blocks have a state space but those in the list.
static int read_indices(const struct values *values, struct model_config *config, struct error *err) {
    const char *key = config->family->space->indices_key;
    struct values list = values_member(values, key);
    void *flags;
    if (values_has(values, key) && values_kind(values, key) != VALUE_LIST) {
        return error_set(err, STATUS_DATA, "'%s' is not a list", key);
    }
    TRY(memory_zeroed(&flags, config->layers, 1, err));
    config->layer_mixers = flags;
    for (size_t i = 0; i < config->layers; i++) {
        config->layer_mixers[i] = MIXER_STATE_SPACE;
    }
    for (size_t i = 0; values_has(values, key) && i < values_count(&list); i++) {
        int64_t block;
        if (!values_integer_at(&list, i, &block)) {
            return error_set(err, STATUS_DATA, "'%s' entry %zu is not a number", key, i);
        }
        if (block >= 0 && (size_t)block < config->layers) { // others are of no block
            config->layer_mixers[block] = MIXER_ATTENTION;
        }
    }
    return STATUS_OK;
}

// Lists that the class has no place for.
static int refuse_lists(const struct values *values, const struct model_config *config, struct error *err) {
    static const char *const keys[] = {"layer_types", "layers_block_type"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (values_kind(values, keys[i]) != VALUE_ABSENT) {
            return error_set(err, STATUS_DATA, "'%s' is not supported in %s", keys[i], config->model_type);
        }
    }
    return STATUS_OK;
}

static int read_kinds(const struct values *values, struct model_config *config, struct error *err) {
    struct block_list list;
    bool lone = config->family->mixers == MIXERS_LONE_BRANCHES;
    void *flags;
    TRY(find_list(values, config, &list, err));
    if (list.count > 0 && list.count != config->layers) {
        return error_set(err, STATUS_DATA, "'%s' is not a list of %zu names", list.key, config->layers);
    }
    TRY(memory_zeroed(&flags, config->layers, 1, err));
    config->layer_mixers = flags;
    TRY(lone ? memory_zeroed(&flags, config->layers, 1, err) : STATUS_OK);
    config->layer_mlps = lone ? flags : NULL;
    for (size_t i = 0; i < config->layers; i++) {
        enum branch_kind kind;
        TRY(kind_at(config, &list, i, &kind, err));
        config->layer_mixers[i] = kind == BRANCH_SPACE       ? MIXER_STATE_SPACE
                                  : kind == BRANCH_ATTENTION ? MIXER_ATTENTION
                                                             : MIXER_NONE;
        if (lone) {
            config->layer_mlps[i] = config->layer_mixers[i] == MIXER_NONE;
        }
    }
    return STATUS_OK;
}

int config_mark_experts(const struct values *values, struct model_config *config, struct error *err) {
    struct block_list list;
    bool any = false;
    TRY(find_list(values, config, &list, err));
    for (size_t i = 0; i < config->layers; i++) {
        enum branch_kind kind;
        TRY(kind_at(config, &list, i, &kind, err));
        config->layer_experts[i] = kind == BRANCH_EXPERTS;
        any = any || kind == BRANCH_EXPERTS;
    }
    if (!any) {
        config->experts = (struct expert_config){0};
    }
    return STATUS_OK;
}

// ---- sizes ----

// Null is what transformers' classes refuse, or take for something else than the default.
static int refuse_null(const struct values *values, const char *key, struct error *err) {
    return key != NULL && values_kind(values, key) == VALUE_NULL
               ? error_set(err, STATUS_DATA, "'%s' is null", key)
               : STATUS_OK;
}

static int read_size(const struct values *values, const struct family_size *size, int64_t most, size_t *out,
                     struct error *err) {
    int64_t value = size->otherwise;
    TRY(refuse_null(values, size->key, err));
    TRY(refuse_null(values, size->old_key, err));
    TRY(values_integer(values, size->key, 1, most, &value, err));
    if (size->old_key != NULL) { // which wins
        TRY(values_integer(values, size->old_key, 1, most, &value, err));
    }
    *out = (size_t)value;
    return STATUS_OK;
}

static int read_flag(const struct values *values, const char *key, const char *old_key, bool *out,
                     struct error *err) {
    TRY(refuse_null(values, key, err));
    TRY(refuse_null(values, old_key, err));
    TRY(values_boolean(values, key, out, err));
    return old_key == NULL ? STATUS_OK : values_boolean(values, old_key, out, err);
}

// A number of a list, which may be Infinity, as Python writes it or as transformers does.
static bool limit_at(const struct values *list, size_t index, double *out) {
    struct values odd = values_element(list, index);
    struct values inner = odd;
    const char *text = NULL;
    struct error ignored;
    if (values_number_at(list, index, out)) {
        return true;
    }
    if (odd.node == NULL) {
        return false;
    }
    if (values_text(&odd, "__float__", &text, &ignored) != STATUS_OK || text == NULL) {
        inner = values_element(&odd, 0);
        text = inner.node == NULL ? NULL : values_text_at(&inner, 0);
    }
    *out = INFINITY;
    return text != NULL && strcmp(text, "Infinity") == 0;
}

// What steps are cut to.
static int read_limits(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_space *row = config->family->space;
    double least = row->step_least;
    double most = INFINITY;
    TRY(refuse_null(values, row->least_key, err));
    TRY(refuse_null(values, row->old_least_key, err));
    TRY(refuse_null(values, row->limits_key, err));
    if (row->least_key != NULL) {
        TRY(values_number(values, row->least_key, &least, err));
        TRY(values_number(values, row->old_least_key, &least, err)); // which wins
    }
    if (row->limits_key != NULL && values_has(values, row->limits_key)) {
        struct values list = values_member(values, row->limits_key);
        if (values_kind(values, row->limits_key) != VALUE_LIST || values_count(&list) != 2 ||
            !limit_at(&list, 0, &least) || !limit_at(&list, 1, &most)) {
            return error_set(err, STATUS_DATA, "'%s' is not a list of two numbers", row->limits_key);
        }
    }
    config->state_space.step_least = (float)least;
    config->state_space.step_most = (float)most;
    return least >= 0 && least <= most && least <= 1e6
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' gives steps from %g to %g",
                           row->limits_key == NULL ? row->least_key : row->limits_key, least, most);
}

// Where heads are divided among mamba_expand times the residual stream's numbers.
static int read_expanded(const struct values *values, const struct model_config *config,
                         struct device_state_space *space, struct error *err) {
    const struct family_space *row = config->family->space;
    size_t expand;
    const char *word = NULL;
    struct error ignored;
    TRY(read_size(values, &row->expand, 1024, &expand, err));
    size_t width = expand * config->hidden;
    if (width % space->heads != 0) {
        return error_set(err, STATUS_DATA, "'%s' (%zu) does not divide '%s' times 'hidden_size' (%zu)",
                         row->heads.key, space->heads, row->expand.key, width);
    }
    space->head_dim = width / space->heads;
    if (values_kind(values, row->head_dim.key) == VALUE_PLAIN &&
        values_text(values, row->head_dim.key, &word, &ignored) == STATUS_OK && word != NULL &&
        strcmp(word, "auto") == 0) {
        return STATUS_OK;
    }
    struct family_size size = {row->head_dim.key, NULL, (int64_t)space->head_dim};
    TRY(read_size(values, &size, LARGEST_HEADS, &space->head_dim, err));
    return space->head_dim * space->heads == width
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' times '%s' is %zu, and '%s' times 'hidden_size' is %zu",
                           row->heads.key, row->head_dim.key, space->head_dim * space->heads, row->expand.key,
                           width);
}

// The activation of the convolution, which is the block's where no key is its own.
static int check_activation(const struct values *values, const struct model_config *config,
                            struct error *err) {
    const struct family_space *row = config->family->space;
    const char *name = "silu";
    if (row->activation_key == NULL) {
        return config->activation == DEVICE_SILU
                   ? STATUS_OK
                   : error_set(err, STATUS_DATA, "'hidden_act' of %s is not silu, which is not supported",
                               config->model_type);
    }
    TRY(refuse_null(values, row->activation_key, err));
    TRY(values_text(values, row->activation_key, &name, err));
    return strcmp(name, "silu") == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' is '%.64s'; supported is silu", row->activation_key, name);
}

static int read_space(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_space *row = config->family->space;
    struct device_state_space *space = &config->state_space;
    TRY(read_size(values, &row->heads, LARGEST_HEADS, &space->heads, err));
    TRY(row->expand.key != NULL ? read_expanded(values, config, space, err)
                                : read_size(values, &row->head_dim, LARGEST_HEADS, &space->head_dim, err));
    TRY(read_size(values, &row->groups, LARGEST_HEADS, &space->groups, err));
    TRY(read_size(values, &row->state, LARGEST_HEADS, &space->state, err));
    TRY(read_size(values, &row->taps, DEVICE_TAPS_MOST, &space->taps, err));
    space->norm_groups = space->groups;
    if (space->heads % space->groups != 0) {
        return error_set(err, STATUS_DATA, "'%s' (%zu) is not a multiple of '%s' (%zu)", row->heads.key,
                         space->heads, row->groups.key, space->groups);
    }
    if (device_state_space_width(space) > LARGEST_DIMENSION) {
        return error_set(err, STATUS_DATA, "a state space has rows of %zu numbers, more than %d",
                         device_state_space_width(space), LARGEST_DIMENSION);
    }
    config->state_space_mixed_bias = true;
    TRY(read_flag(values, row->bias_key, NULL, &config->state_space_bias, err));
    TRY(read_flag(values, row->mixed_bias_key, row->old_mixed_bias_key, &config->state_space_mixed_bias,
                  err));
    TRY(read_limits(values, config, err));
    return check_activation(values, config, err);
}

int config_read_spaces(const struct values *values, struct model_config *config, struct error *err) {
    bool any = false;
    if (config->family->space->indices_key != NULL) {
        TRY(refuse_lists(values, config, err));
        TRY(read_indices(values, config, err));
    } else {
        TRY(read_kinds(values, config, err));
    }
    for (size_t i = 0; i < config->layers; i++) {
        any = any || config->layer_mixers[i] == MIXER_STATE_SPACE;
    }
    TRY(read_space(values, config, err));
    if (!any) { // sizes of nothing, which no device has to be able to compute
        config->state_space = (struct device_state_space){0};
    }
    return STATUS_OK;
}
