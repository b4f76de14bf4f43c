// SPDX-License-Identifier: MIT
#include "model/config_experts.h"

#include <stdint.h>
#include <string.h>

#include "model/config_shape.h"
#include "model/config_space.h"
#include "model/family.h"

// The same, which has to be there where the class has no number of its own.
static int need_count(const struct values *values, const char *key, int64_t otherwise, size_t *out,
                      int64_t most, struct error *err) {
    if (otherwise == 0 && !values_has(values, key)) {
        return error_set(err, STATUS_DATA, "'%s' is missing", key);
    }
    return config_read_count(values, key, otherwise, out, most, err);
}

// A number, or a list of one a block, which have to be equal.
static int read_equal(const struct values *values, const char *key, int64_t otherwise,
                      const struct model_config *config, size_t *out, struct error *err) {
    struct values list = values_member(values, key);
    int64_t number = 0;
    if (values_kind(values, key) != VALUE_LIST) {
        return need_count(values, key, otherwise, out, LARGEST_HEADS, err);
    }
    for (size_t i = 0; i < config->layers; i++) {
        int64_t first = number;
        if (!values_integer_at(&list, i, &number) || number < 1 || number > LARGEST_HEADS ||
            (i > 0 && number != first)) {
            return error_set(err, STATUS_DATA, "'%s' is not one number for all of %zu blocks", key,
                             config->layers);
        }
    }
    *out = (size_t)number;
    return STATUS_OK;
}

// How many experts there are, under the family's key or another.
static int read_all(const struct values *values, const struct family_experts *row,
                    struct expert_config *experts, struct error *err) {
    const char *key = row->count_key;
    bool has_other = row->other_count_key != NULL && values_has(values, row->other_count_key);
    size_t first;
    if (has_other && !values_has(values, key)) {
        key = row->other_count_key;
    }
    TRY(need_count(values, key, row->count, &experts->count, LARGEST_HEADS, err));
    first = experts->count;
    TRY(has_other
            ? config_read_count(values, row->other_count_key, row->count, &experts->count, LARGEST_HEADS, err)
            : STATUS_OK);
    return experts->count == first ? STATUS_OK
                                   : error_set(err, STATUS_DATA, "'%s' is %zu, and '%s' is %zu", key, first,
                                               row->other_count_key, experts->count);
}

static const char *chosen_key(const struct family_experts *row) {
    return row->chosen_key == NULL ? "num_experts_per_tok" : row->chosen_key;
}

// To how many of them a token goes.
static int read_chosen(const struct values *values, const struct model_config *config,
                       struct expert_config *experts, struct error *err) {
    const struct family_experts *row = config->family->experts;
    const char *other = row->other_chosen_key;
    bool has_other = other != NULL && values_has(values, other);
    const char *key = has_other && !values_has(values, chosen_key(row)) ? other : chosen_key(row);
    size_t again;
    TRY(read_equal(values, key, row->chosen, config, &experts->chosen, err));
    TRY(read_equal(values, has_other ? other : key, row->chosen, config, &again, err));
    if (again != experts->chosen) {
        return error_set(err, STATUS_DATA, "'%s' is %zu, and '%s' is %zu", key, experts->chosen, other,
                         again);
    }
    if (row->scores == DEVICE_SCORES_IN_TURN && experts->chosen != 2) { // so many whatever the key says
        return error_set(err, STATUS_DATA, "'%s' is %zu; only 2 is supported in %s", key, experts->chosen,
                         config->model_type);
    }
    return experts->chosen <= experts->count ? STATUS_OK
                                             : error_set(err, STATUS_DATA, "'%s' is %zu of %zu experts", key,
                                                         experts->chosen, experts->count);
}

// The MLP beside experts.
static int read_shared(const struct values *values, const struct family_experts *row,
                       struct expert_config *experts, struct error *err) {
    size_t count = 0;
    experts->shared_gate = row->shared_gate;
    if (row->shared_count_key != NULL) {
        int64_t number = row->shared_count;
        if (number == 0 && !row->shared_may_lack && !values_has(values, row->shared_count_key)) {
            return error_set(err, STATUS_DATA, "'%s' is missing", row->shared_count_key);
        }
        TRY(values_integer(values, row->shared_count_key, row->shared_may_lack ? 0 : 1, LARGEST_HEADS,
                           &number, err));
        count = (size_t)number;
        experts->shared_width = count * experts->width; // at most 2^40
        return experts->shared_width <= LARGEST_DIMENSION
                   ? STATUS_OK
                   : error_set(err, STATUS_DATA, "'%s' is %zu, of width %zu", row->shared_count_key, count,
                               experts->width);
    }
    return row->shared_key == NULL ? STATUS_OK
                                   : config_read_count(values, row->shared_key, row->shared_width,
                                                       &experts->shared_width, LARGEST_DIMENSION, err);
}

static int read_latent(const struct values *values, const struct family_experts *row,
                       struct expert_config *experts, struct error *err) {
    return row->latent_key == NULL || !values_has(values, row->latent_key)
               ? STATUS_OK
               : config_read_count(values, row->latent_key, 1, &experts->latent, LARGEST_DIMENSION, err);
}

static int read_expert_sizes(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_experts *row = config->family->experts;
    struct expert_config *experts = &config->experts;
    TRY(read_all(values, row, experts, err));
    TRY(read_chosen(values, config, experts, err));
    TRY(need_count(values, row->width_key, row->width, &experts->width, LARGEST_DIMENSION, err));
    if (row->has_columns && (experts->width == config->hidden || 2 * experts->width == config->hidden)) {
        return error_set(err, STATUS_DATA,
                         "'%s' is %zu and 'hidden_size' %zu: files of %s have columns of experts for rows, "
                         "which these do not tell apart",
                         row->width_key, experts->width, config->hidden, config->model_type);
    }
    double limit = row->limit;
    TRY(row->limit_key == NULL ? STATUS_OK : values_number(values, row->limit_key, &limit, err));
    if (!(limit >= 0 && limit <= 1e6) || (row->limit_key != NULL && limit == 0)) {
        return error_set(err, STATUS_DATA, "'%s' is %g, outside 0 to 1e6", row->limit_key, limit);
    }
    double alpha = 1.702; // of the inner activation
    TRY(row->limit_key == NULL ? STATUS_OK : values_number(values, "swiglu_alpha", &alpha, err));
    if (alpha != 1.702) {
        return error_set(err, STATUS_DATA, "'swiglu_alpha' is %g; only 1.702 is supported", alpha);
    }
    TRY(read_latent(values, row, experts, err));
    experts->limit = (float)limit;
    experts->plain = config->plain_mlp;
    experts->has_bias = row->has_bias;
    return read_shared(values, row, experts, err);
}

// ---- which a token goes to ----

static int read_groups(const struct values *values, const struct family_experts *row,
                       struct expert_config *experts, struct error *err) {
    const char *method = "greedy";
    if (row->groups == GROUPS_BY_METHOD) {
        TRY(values_text(values, "topk_method", &method, err));
        if (strcmp(method, "greedy") != 0 && strcmp(method, "group_limited_greedy") != 0) {
            return error_set(err, STATUS_DATA,
                             "'topk_method' is '%.64s'; supported are greedy and group_limited_greedy",
                             method);
        }
    }
    if (row->groups == GROUPS_NEVER || (row->groups == GROUPS_BY_METHOD && strcmp(method, "greedy") == 0)) {
        return STATUS_OK;
    }
    experts->group_pairs = row->groups == GROUPS_BY_PAIRS;
    TRY(config_read_count(values, "n_group", row->group_count, &experts->groups, LARGEST_HEADS, err));
    TRY(config_read_count(values, "topk_group", row->group_chosen, &experts->chosen_groups, LARGEST_HEADS,
                          err));
    size_t each = experts->count / experts->groups;
    if (experts->groups > DEVICE_EXPERT_GROUPS_MOST || experts->count % experts->groups != 0 ||
        experts->chosen_groups > experts->groups || (experts->group_pairs && each < 2)) {
        return error_set(err, STATUS_DATA, "'n_group' is %zu and 'topk_group' %zu, of %zu experts",
                         experts->groups, experts->chosen_groups, experts->count);
    }
    return experts->chosen <= experts->chosen_groups * each
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' is %zu of %zu experts in 'topk_group'", chosen_key(row),
                           experts->chosen, experts->chosen_groups * each);
}

static int read_bounds(const struct values *values, const struct family_experts *row,
                       struct expert_config *experts, struct error *err) {
    double jitter = row->jitter;
    experts->sum_least = row->sum_least;
    TRY(row->least_key == NULL ? STATUS_OK : values_number(values, row->least_key, &experts->sum_least, err));
    if (!(experts->sum_least >= 0 && experts->sum_least <= 1e6)) {
        return error_set(err, STATUS_DATA, "'%s' is %g, outside 0 to 1e6", row->least_key,
                         experts->sum_least);
    }
    TRY(row->jitter_key == NULL ? STATUS_OK : values_number(values, row->jitter_key, &jitter, err));
    experts->spread = 2 * jitter;
    return jitter >= 0 && jitter <= 1e6
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'%s' is %g, outside 0 to 1e6", row->jitter_key, jitter);
}

static int read_choice(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_experts *row = config->family->experts;
    struct expert_config *experts = &config->experts;
    experts->scores = row->scores;
    experts->rounds_weights = row->rounds_weights;
    experts->normalised = row->normalised_key == NULL || row->normalised;
    experts->wide_router = row->wide_router;
    experts->has_correction = row->has_correction;
    experts->scales_input = row->scales_input;
    if (row->correction_key != NULL) {
        if (values_kind(values, row->correction_key) == VALUE_NULL) { // which Python takes for false
            return error_set(err, STATUS_DATA, "'%s' is null", row->correction_key);
        }
        TRY(values_boolean(values, row->correction_key, &experts->has_correction, err));
    }
    experts->sum_more = row->sum_more;
    experts->beside_mlp = row->beside_mlp;
    experts->rounds_correction = row->rounds_correction;
    TRY(read_bounds(values, row, experts, err));
    experts->scaling = row->scaling_key == NULL ? 1 : row->scaling;
    if (row->normalised_key != NULL && row->normalised_key[0] != 0) {
        if (values_kind(values, row->normalised_key) == VALUE_NULL) { // which some classes take for false
            return error_set(err, STATUS_DATA, "'%s' is null", row->normalised_key);
        }
        TRY(values_boolean(values, row->normalised_key, &experts->normalised, err));
    }
    if (row->scaling_key != NULL) {
        TRY(values_number(values, row->scaling_key, &experts->scaling, err));
        if (!(experts->scaling >= 1e-6 && experts->scaling <= 1e6)) {
            return error_set(err, STATUS_DATA, "'%s' is %g, outside 1e-6 to 1e6", row->scaling_key,
                             experts->scaling);
        }
    }
    return read_groups(values, row, experts, err);
}

// ---- which blocks have them ----

// mlp_only_layers: blocks that have an MLP.
static int read_mlp_layers(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "mlp_only_layers");
    if (values_has(values, "mlp_only_layers") && values_kind(values, "mlp_only_layers") != VALUE_LIST) {
        return error_set(err, STATUS_DATA, "'mlp_only_layers' is not a list");
    }
    for (size_t i = 0; values_has(values, "mlp_only_layers") && i < values_count(&list); i++) {
        int64_t block;
        if (!values_integer_at(&list, i, &block)) {
            return error_set(err, STATUS_DATA, "'mlp_only_layers' entry %zu is not a number", i);
        }
        if (block >= 0 && (size_t)block < config->layers) {
            config->layer_experts[block] = 0;
        }
    }
    return STATUS_OK;
}

// mlp_layer_types: "sparse" where a block has experts, "dense" where it has an MLP.
static int read_layer_kinds(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "mlp_layer_types");
    if (!values_has(values, "mlp_layer_types")) {
        return STATUS_OK;
    }
    if (values_kind(values, "mlp_layer_types") != VALUE_LIST || values_count(&list) != config->layers) {
        return error_set(err, STATUS_DATA, "'mlp_layer_types' is not a list of %zu names", config->layers);
    }
    for (size_t i = 0; i < config->layers; i++) {
        const char *kind = values_text_at(&list, i);
        bool sparse = kind != NULL && strcmp(kind, "sparse") == 0;
        if (!sparse && (kind == NULL || strcmp(kind, "dense") != 0)) {
            return error_set(err, STATUS_DATA,
                             "'mlp_layer_types' entry %zu is '%.64s'; supported are dense and sparse", i,
                             kind == NULL ? "not a text" : kind);
        }
        config->layer_experts[i] = sparse;
    }
    return STATUS_OK;
}

// moe_layers: the numbers of blocks that have experts.
static int read_numbers(const struct values *values, struct model_config *config, struct error *err) {
    struct values list = values_member(values, "moe_layers");
    if (!values_has(values, "moe_layers")) {
        return STATUS_OK;
    }
    if (values_kind(values, "moe_layers") != VALUE_LIST) {
        return error_set(err, STATUS_DATA, "'moe_layers' is not a list");
    }
    memset(config->layer_experts, 0, config->layers);
    for (size_t i = 0; i < values_count(&list); i++) {
        int64_t block;
        if (!values_integer_at(&list, i, &block)) {
            return error_set(err, STATUS_DATA, "'moe_layers' entry %zu is not a number", i);
        }
        if (block >= 0 && (size_t)block < config->layers) { // others are of no block
            config->layer_experts[block] = 1;
        }
    }
    return STATUS_OK;
}

static int has_none(const struct values *values, const struct family_experts *row, bool *none,
                    struct error *err) {
    int64_t count = row->count;
    TRY(values_integer(values, row->count_key, 0, LARGEST_HEADS, &count, err));
    if (values_kind(values, row->count_key) == VALUE_NULL) { // which is more than 0 to no class
        return error_set(err, STATUS_DATA, "'%s' is null", row->count_key);
    }
    *none = count == 0;
    return STATUS_OK;
}

// Which blocks have some.
static int read_which(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_experts *row = config->family->experts;
    int64_t step = 1;
    int64_t dense = row->dense_blocks;
    int64_t end = -1;
    const char *step_key = row->some_blocks ? "decoder_sparse_step" : row->step_key;
    if (step_key != NULL) {
        TRY(values_integer(values, step_key, 1, LARGEST_LAYERS, &step, err));
    }
    TRY(row->end_key == NULL ? STATUS_OK
                             : values_integer(values, row->end_key, -1, LARGEST_LAYERS, &end, err));
    if (row->dense_key != NULL) {
        TRY(values_integer(values, row->dense_key, 0, LARGEST_LAYERS, &dense, err));
    }
    if (config->family->mixers == MIXERS_LONE_BRANCHES) {
        return config_mark_experts(values, config, err);
    }
    for (size_t i = 0; i < config->layers; i++) {
        config->layer_experts[i] =
            (i + 1) % (size_t)step == 0 && i >= (size_t)dense && (end < 0 || i <= (size_t)end);
    }
    TRY(row->listed_blocks ? read_layer_kinds(values, config, err) : STATUS_OK);
    TRY(row->numbered_blocks ? read_numbers(values, config, err) : STATUS_OK);
    return row->some_blocks ? read_mlp_layers(values, config, err) : STATUS_OK;
}

int config_read_experts(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_experts *row = config->family->experts;
    void *flags;
    bool has = row != NULL && row->enabled_key == NULL;
    TRY(row == NULL || has ? STATUS_OK : values_boolean(values, row->enabled_key, &has, err));
    if (!has) {
        return STATUS_OK;
    }
    if (row->may_be_none) {
        bool none = false;
        TRY(has_none(values, row, &none, err));
        if (none) {
            return STATUS_OK;
        }
    }
    TRY(read_expert_sizes(values, config, err));
    TRY(read_choice(values, config, err));
    TRY(memory_zeroed(&flags, config->layers, 1, err));
    config->layer_experts = flags;
    return read_which(values, config, err);
}
