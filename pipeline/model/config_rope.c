// SPDX-License-Identifier: MIT
#include "model/config_rope.h"

#include <math.h>
#include <string.h>

#include "base/names.h"
#include "model/family.h"

// Bounds that keep every frequency finite in float32; published models stay below 1e8.
static const double smallest = 1e-6;
static const double largest = 1e12;
static const double largest_factor = 1e6; // of scaling and attention

static int check_range(const char *key, double value, double most, struct error *err) {
    if (!(value >= smallest && value <= most)) {
        return error_set(err, STATUS_DATA, "'%s' is %g, outside %g to %g", key, value, smallest, most);
    }
    return STATUS_OK;
}

static int get_positive(const struct values *values, const char *key, double *out, struct error *err) {
    TRY(values_number(values, key, out, err));
    return check_range(key, *out, largest, err);
}

static int require_positive(const struct values *values, const char *key, double *out, struct error *err) {
    if (!values_has(values, key)) {
        return error_set(err, STATUS_DATA, "'%s' is missing", key);
    }
    return get_positive(values, key, out, err);
}

// rope_type, or `type` as old files call it; "default" is plain rotation.
static int read_kind(const struct values *values, const struct model_config *config, enum rope_kind *kind,
                     struct error *err) {
    static const struct {
        const char *name;
        enum rope_kind kind;
    } kinds[] = {{"default", ROPE_PLAIN}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
                 {"llama3", ROPE_LLAMA3}, {"yarn", ROPE_YARN},     {"longrope", ROPE_LONG}};
    const size_t count = sizeof kinds / sizeof kinds[0];
    const char *name = "default";
    TRY(values_text(values, "type", &name, err));
    TRY(values_text(values, "rope_type", &name, err));
    // Phi-3's files call longrope by its older names; of texts alone all three axes of "mrope" are equal.
    if (config->family->old_long_names && (strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0)) {
        name = "longrope";
    }
    if (config->is_nested && strcmp(name, "mrope") == 0) {
        name = "default";
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, kinds[i].name) == 0 &&
            (!config->family->one_long || kinds[i].kind == ROPE_LONG || kinds[i].kind == ROPE_PLAIN)) {
            *kind = kinds[i].kind;
            return STATUS_OK;
        }
    }
    char names[256] = "";
    for (size_t i = 0; i < count; i++) {
        names_append(names, sizeof names, kinds[i].name, i, count);
    }
    return error_set(err, STATUS_DATA, "'rope_type' is '%.64s'; supported are %s", name, names);
}

// The part of a head that turns, where the family has such a key; elsewhere it is refused unless it is 1.
static int read_part(const struct values *values, double *part, const struct model_config *config,
                     struct error *err) {
    double found = *part;
    if (config->family->defaults.part != 0 && values_kind(values, "partial_rotary_factor") == VALUE_NULL) {
        return error_set(err, STATUS_DATA,
                         "'partial_rotary_factor' is null"); // by class it is all or refused
    }
    TRY(values_number(values, "partial_rotary_factor", &found, err));
    if (config->family->defaults.part == 0 && found != 1) {
        return error_set(err, STATUS_DATA, "'partial_rotary_factor' is %g; only 1 is supported", found);
    }
    *part = found;
    return STATUS_OK;
}

static int set_part(struct model_config *config, double part, struct error *err) {
    double own = config->family->defaults.part;
    if (config->latent.key > 0) { // whose keys say it
        return own == 0 || part == own || (size_t)((double)config->head_dim * part) == config_rotated(config)
                   ? STATUS_OK
                   : error_set(err, STATUS_DATA, "'partial_rotary_factor' is %g, and %zu of %zu numbers turn",
                               part, config_rotated(config), config->head_dim);
    }
    size_t rotated = part > 0 && part <= 1 ? (size_t)((double)config->head_dim * part) : 0;
    if (rotated == 0 || rotated % 2 != 0) {
        return error_set(err, STATUS_DATA,
                         "'partial_rotary_factor' is %g, of which 'head_dim' (%zu) has no even number", part,
                         config->head_dim);
    }
    config->unrotated = config->head_dim - rotated;
    return STATUS_OK;
}

// A key beside the object wins over the one inside it, as in transformers.
static int read_original(const struct values *values, const struct values *top,
                         const struct model_config *config, struct rope_config *rope, struct error *err) {
    double *positions = &rope->original_positions;
    *positions = (double)config->max_positions;
    TRY(get_positive(values, "original_max_position_embeddings", positions, err));
    return get_positive(top, "original_max_position_embeddings", positions, err);
}

static int read_llama3(const struct values *values, struct rope_config *rope, struct error *err) {
    TRY(require_positive(values, "low_freq_factor", &rope->low_freq_factor, err));
    TRY(require_positive(values, "high_freq_factor", &rope->high_freq_factor, err));
    if (!(rope->high_freq_factor >= rope->low_freq_factor)) {
        return error_set(err, STATUS_DATA, "'high_freq_factor' (%g) is below 'low_freq_factor' (%g)",
                         rope->high_freq_factor, rope->low_freq_factor);
    }
    return STATUS_OK;
}

static double yarn_mscale(double scale, double mscale) {
    return scale <= 1 ? 1 : 0.1 * mscale * log(scale) + 1;
}

// Zero stands for the default, as Python's `or` has it.
static int get_or(const struct values *values, const char *key, double otherwise, double *out,
                  struct error *err) {
    *out = 0;
    TRY(values_number(values, key, out, err));
    *out = *out == 0 ? otherwise : *out;
    return check_range(key, *out, largest, err);
}

static int read_yarn(const struct values *values, struct rope_config *rope, struct error *err) {
    if (!(rope->theta > 1)) {
        return error_set(err, STATUS_DATA, "'rope_theta' is %g; yarn needs more than 1", rope->theta);
    }
    double mscale = 0;
    double mscale_all = 0;
    double attention = 0;
    TRY(get_or(values, "beta_fast", 32, &rope->beta_fast, err));
    TRY(get_or(values, "beta_slow", 1, &rope->beta_slow, err));
    TRY(values_number(values, "mscale", &mscale, err));
    TRY(values_number(values, "mscale_all_dim", &mscale_all, err));
    TRY(values_number(values, "attention_factor", &attention, err));
    rope->truncate = values_kind(values, "truncate") != VALUE_NULL;
    TRY(values_boolean(values, "truncate", &rope->truncate, err));
    if (values_has(values, "attention_factor")) {
        rope->attention_factor = attention;
    } else if (mscale != 0 && mscale_all != 0) {
        rope->attention_factor = yarn_mscale(rope->factor, mscale) / yarn_mscale(rope->factor, mscale_all);
    } else {
        rope->attention_factor = yarn_mscale(rope->factor, 1);
    }
    if (!(fabs(rope->attention_factor) <= largest_factor)) {
        return error_set(err, STATUS_DATA, "the attention factor of yarn is %g, outside +-%g",
                         rope->attention_factor, largest_factor);
    }
    return STATUS_OK;
}

static int read_divisors(const struct values *values, const char *key, size_t count, float **out,
                         struct error *err) {
    struct values list = values_member(values, key);
    void *divisors;
    if (values_kind(values, key) != VALUE_LIST || values_count(&list) != count) {
        return error_set(err, STATUS_DATA, "'%s' is not a list of %zu numbers", key, count);
    }
    TRY(memory_zeroed(&divisors, count, sizeof(float), err));
    *out = divisors;
    for (size_t i = 0; i < count; i++) {
        double number = 0;
        if (!values_number_at(&list, i, &number) || !(number >= smallest && number <= largest_factor)) {
            return error_set(err, STATUS_DATA, "'%s' entry %zu is no number from %g to %g", key, i, smallest,
                             largest_factor);
        }
        (*out)[i] = (float)number;
    }
    return STATUS_OK;
}

// PhiMoE's multiplies cosines and sines with one of two numbers by the length of the text.
static int read_one_mscale(const struct values *values, struct rope_config *rope, struct error *err) {
    double short_one = 0;
    double long_one = 0;
    TRY(require_positive(values, "short_mscale", &short_one, err));
    TRY(require_positive(values, "long_mscale", &long_one, err));
    rope->attention_factor = short_one;
    return short_one == long_one ? check_range("short_mscale", short_one, largest_factor, err)
                                 : error_set(err, STATUS_DATA,
                                             "'short_mscale' is %g and 'long_mscale' %g; only equal ones are "
                                             "supported",
                                             short_one, long_one);
}

static int read_long(const struct values *values, const struct model_config *config, struct rope_config *rope,
                     struct error *err) {
    size_t count = config_rotated(config) / 2;
    double attention = rope->factor <= 1 ? 1 : sqrt(1 + log(rope->factor) / log(rope->original_positions));
    TRY(read_divisors(values, "short_factor", count, &rope->divisors, err));
    TRY(read_divisors(values, config->family->one_long ? "short_factor" : "long_factor", count,
                      &rope->long_divisors, err));
    if (config->family->one_long) {
        return read_one_mscale(values, rope, err);
    }
    TRY(values_number(values, "attention_factor", &attention, err));
    if (!(fabs(attention) <= largest_factor)) {
        return error_set(err, STATUS_DATA, "the attention factor of longrope is %g, outside +-%g", attention,
                         largest_factor);
    }
    rope->attention_factor = attention;
    return STATUS_OK;
}

// For yarn an explicit null means the ratio of the lengths (a missing key is an error in transformers), for
// longrope a missing one too.
static bool factor_is_ratio(const struct values *values, enum rope_kind kind) {
    return kind == ROPE_LONG ? !values_has(values, "factor")
                             : kind == ROPE_YARN && values_kind(values, "factor") == VALUE_NULL;
}

static int read_scaling(const struct values *values, const struct values *top,
                        const struct model_config *config, struct rope_config *rope, struct error *err) {
    TRY(read_original(values, top, config, rope, err));
    if (factor_is_ratio(values, rope->kind)) {
        rope->factor = (double)config->max_positions / rope->original_positions;
    } else {
        TRY(require_positive(values, "factor", &rope->factor, err));
    }
    TRY(check_range("factor", rope->factor, largest_factor, err));
    if (rope->kind == ROPE_DYNAMIC && config_rotated(config) == 2) {
        return error_set(err, STATUS_DATA, "'rope_type' dynamic is not defined for 'head_dim' 2");
    }
    // Below 1 the base of the dynamic power may turn negative.
    if (rope->kind == ROPE_DYNAMIC && rope->factor < 1) {
        return error_set(err, STATUS_DATA, "'factor' is %g; dynamic scaling needs at least 1", rope->factor);
    }
    switch (rope->kind) {
    case ROPE_LLAMA3:
        return read_llama3(values, rope, err);
    case ROPE_YARN:
        return read_yarn(values, rope, err);
    case ROPE_LONG:
        return read_long(values, config, rope, err);
    case ROPE_PLAIN:
    case ROPE_LINEAR:
    case ROPE_DYNAMIC:
        break;
    }
    return STATUS_OK;
}

// HunYuan's: a base that is stretched once and for all.
static int stretch(const struct values *scaling, const struct model_config *config, struct rope_config *rope,
                   struct error *err) {
    double alpha = 1;
    double rotated = (double)config_rotated(config);
    TRY(get_positive(scaling, "alpha", &alpha, err));
    rope->kind = ROPE_PLAIN;
    rope->theta *= pow(alpha, rotated / (rotated - 2));
    return check_range("rope_theta", rope->theta, largest, err);
}

// Of latent attention any scaling may change the scores' scale.
static int scale_latent(const struct values *scaling, const struct rope_config *rope,
                        struct model_config *config, struct error *err) {
    double mscale = 0;
    TRY(values_number(scaling, "mscale_all_dim", &mscale, err));
    if (mscale == 0) {
        return STATUS_OK;
    }
    mscale = yarn_mscale(rope->factor, mscale);
    config->score_scale = mscale * mscale / sqrt((double)config->head_dim);
    return check_range("mscale_all_dim", config->score_scale, largest_factor, err);
}

// What the map of a scaling says; `top` is what it lies in.
static int read_map(const struct values *scaling, const struct values *top, struct model_config *config,
                    struct rope_config *rope, double *part, struct error *err) {
    TRY(read_kind(scaling, config, &rope->kind, err));
    TRY(read_part(scaling, part, config, err));
    TRY(set_part(config, *part, err));
    TRY(get_positive(scaling, "rope_theta", &rope->theta, err));
    const char *beta = config->family->query_beta_key;
    if (beta != NULL) {
        TRY(require_positive(scaling, beta, &config->query_beta, err));
        TRY(require_positive(scaling, "original_max_position_embeddings", &rope->original_positions, err));
    }
    bool has_alpha = values_has(scaling, "alpha");
    if (has_alpha &&
        (rope->kind != ROPE_DYNAMIC || !config->family->stretches_base || config_rotated(config) == 2)) {
        return error_set(err, STATUS_DATA, "'alpha' is not supported here");
    }
    if (has_alpha) {
        return stretch(scaling, config, rope, err);
    }
    if (rope->kind == ROPE_PLAIN) {
        return STATUS_OK;
    }
    TRY(read_scaling(scaling, top, config, rope, err));
    return config->latent.key > 0 ? scale_latent(scaling, rope, config, err) : STATUS_OK;
}

// ---- where it lies ----

// A non-empty rope_scaling wins over rope_parameters. NULL: neither is there.
static const char *find_map(const struct values *values, struct values *map) {
    *map = values_member(values, "rope_scaling");
    if (values_has(values, "rope_scaling") &&
        (values_kind(values, "rope_scaling") != VALUE_MAP || values_count(map) > 0)) {
        return "rope_scaling";
    }
    *map = values_member(values, "rope_parameters");
    return values_has(values, "rope_parameters") ? "rope_parameters" : NULL;
}

static bool by_layer_type(const struct values *map) {
    return values_kind(map, "full_attention") != VALUE_ABSENT ||
           values_kind(map, "sliding_attention") != VALUE_ABSENT;
}

// The map of one layer type inside `map`; where it is absent or null nothing changes.
static int read_type(const struct values *map, const char *type, const struct values *top,
                     struct model_config *config, struct rope_config *rope, double *part, struct error *err) {
    if (!values_has(map, type)) {
        return STATUS_OK;
    }
    if (values_kind(map, type) != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'%s' is not an object", type);
    }
    struct values inner = values_member(map, type);
    int status = read_map(&inner, top, config, rope, part, err);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "'%s'", type);
}

// Rows that a text brings along lie behind the common ones, where no other table has any.
static int refuse_own_rows(const struct model_config *config, struct error *err) {
    bool own = config->rope.kind == ROPE_DYNAMIC || config->rope.kind == ROPE_LONG;
    bool local = config->local_rope.kind == ROPE_DYNAMIC || config->local_rope.kind == ROPE_LONG;
    return (own && (config->has_local_rope || config->query_beta > 0)) || (local && config->has_local_rope)
               ? error_set(err, STATUS_DATA,
                           "'rope_type' depends on the length of the text, which is not "
                           "supported in %s",
                           config->model_type)
               : STATUS_OK;
}

// Gemma 3 and OLMo 3: rope_scaling is added to a map whose 'rope_type' is there already, so that 'type' is
// not looked at.
static int read_full_scaling(const struct values *values, const char *key, const struct values *map,
                             struct model_config *config, double *part, struct error *err) {
    if (strcmp(key, "rope_scaling") != 0 || values_has(values, "rope_parameters")) {
        return error_set(err, STATUS_DATA, "'%s' does not say what layer types it is for", key);
    }
    return values_has(map, "rope_type") || !values_has(map, "type")
               ? read_map(map, values, config, &config->rope, part, err)
               : STATUS_OK;
}

static int read_found(const struct values *values, const char *key, const struct values *map,
                      struct model_config *config, double *part, struct error *err) {
    if (values_kind(values, key) != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'%s' is not an object", key);
    }
    if (!by_layer_type(map)) {
        return config->has_local_rope ? read_full_scaling(values, key, map, config, part, err)
                                      : read_map(map, values, config, &config->rope, part, err);
    }
    if (!config->has_local_rope) {
        return error_set(err, STATUS_DATA, "'%s' differs by layer type, which is not supported", key);
    }
    TRY(read_type(map, "full_attention", values, config, &config->rope, part, err));
    return read_type(map, "sliding_attention", values, config, &config->local_rope, part, err);
}

// What lies beside the map.
static int read_beside(const struct values *values, struct model_config *config, double *part,
                       struct error *err) {
    const struct family_row *row = config->family;
    struct rope_config *rope = &config->rope;
    if (row->old_rope_keys) {
        TRY(values_number(values, "rotary_pct", part, err));
        TRY(get_positive(values, "rotary_emb_base", &rope->theta, err));
    } else if (!row->part_inside) {
        int64_t turned = (int64_t)config->head_dim;
        TRY(row->rotary_part ? values_integer(values, "rotary_dim", 1, INT32_MAX, &turned, err) : STATUS_OK);
        *part = turned == (int64_t)config->head_dim ? *part : (double)turned / (double)config->head_dim;
        TRY(read_part(values, part, config, err));
    }
    return get_positive(values, "rope_theta", &rope->theta, err);
}

// A fixed table, of so many numbers of a head (GPT-J).
static int read_rotary_dim(const struct values *values, struct model_config *config, struct error *err) {
    int64_t turned = (int64_t)config->family->rotary_dim;
    if (values_kind(values, "rotary_dim") == VALUE_NULL) {
        return error_set(err, STATUS_DATA, "'rotary_dim' is null");
    }
    TRY(values_integer(values, "rotary_dim", 2, (int64_t)config->head_dim, &turned, err));
    return set_part(config, (double)turned / (double)config->head_dim, err);
}

// ---- a map for each kind of block (Gemma 4) ----

// Of the whole head the first part turns, as fast as it would if all of it did.
static int read_proportional(const struct values *map, const struct values *top, struct rope_config *rope,
                             struct error *err) {
    double part = 1;
    TRY(values_number(top, "partial_rotary_factor", &part, err));
    TRY(values_number(map, "partial_rotary_factor", &part, err));
    if (!(part >= 0 && part <= 1)) {
        return error_set(err, STATUS_DATA, "'partial_rotary_factor' is %g, outside 0 to 1", part);
    }
    rope->still = rope->rotated / 2 - (size_t)(part * (double)rope->rotated / 2);
    TRY(get_positive(map, "factor", &rope->factor, err));
    rope->kind = rope->factor == 1 ? ROPE_PLAIN : ROPE_LINEAR;
    return check_range("factor", rope->factor, largest_factor, err);
}

static int read_own(const struct values *map, const struct values *top, struct rope_config *rope,
                    struct error *err) {
    const char *name = "default";
    bool beside = !values_has(map, "rope_theta") && values_has(top, "rope_theta");
    TRY(values_text(map, "type", &name, err));
    TRY(values_text(map, "rope_type", &name, err));
    TRY(require_positive(beside ? top : map, "rope_theta", &rope->theta, err));
    if (strcmp(name, "proportional") == 0) {
        return read_proportional(map, top, rope, err);
    }
    return strcmp(name, "default") == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'rope_type' is '%.64s'; supported are default and proportional",
                           name);
}

static int read_own_type(const struct values *maps, const char *type, const struct values *top,
                         struct rope_config *rope, struct error *err) {
    struct values map = values_member(maps, type);
    if (values_kind(maps, type) != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'%s' is not an object", type);
    }
    int status = read_own(&map, top, rope, err);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "'%s'", type);
}

static int read_by_type(const struct values *values, struct model_config *config, struct error *err) {
    struct values maps = values_member(values, "rope_parameters");
    bool slides = false; // the last block never does
    for (size_t i = 0; i < config->layers; i++) {
        slides = slides || config->layer_slides[i] != 0;
    }
    config->rope.rotated = config->full_head_dim == 0 ? config->head_dim : config->full_head_dim;
    config->has_local_rope = slides;
    config->local_rope = config->rope;
    config->local_rope.rotated = config->head_dim;
    if (values_has(values, "rope_scaling")) {
        return error_set(err, STATUS_DATA, "'rope_scaling' is not supported in %s", config->model_type);
    }
    if (!values_has(values, "rope_parameters")) {
        config->local_rope.theta = 10000;
        config->rope.theta = 1000000;
        config->rope.still = config->rope.rotated / 2 - config->rope.rotated / 8; // a quarter turns
        return STATUS_OK;
    }
    int status = read_own_type(&maps, "full_attention", values, &config->rope, err);
    if (status == STATUS_OK && slides) {
        status = read_own_type(&maps, "sliding_attention", values, &config->local_rope, err);
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "'rope_parameters'");
}

int config_read_rope(const struct values *values, struct model_config *config, struct error *err) {
    const struct family_row *row = config->family;
    struct rope_config *rope = &config->rope;
    struct values map;
    double part = row->defaults.part == 0 ? 1 : row->defaults.part;
    *rope = (struct rope_config){
        .theta = row->defaults.theta, .factor = 1, .attention_factor = 1, .turns_back = row->turns_back};
    rope->original_positions = (double)config->max_positions;
    bool never = row->ropes == ROPES_IF_NAMED && config_block_rope(config, 0) == BLOCK_ROPE_NONE;
    if (row->ropes == ROPES_NONE || never) {
        return STATUS_OK; // whatever keys of rotation there are
    }
    if (row->rotary_dim > 0) {
        return read_rotary_dim(values, config, err);
    }
    if (row->ropes == ROPES_BY_TYPE) {
        return read_by_type(values, config, err);
    }
    TRY(read_beside(values, config, &part, err));
    TRY(set_part(config, part, err));
    config->has_local_rope = row->ropes == ROPES_LOCAL || row->ropes == ROPES_UNSCALED_WINDOWS;
    config->local_rope = *rope;
    config->local_rope.theta = row->defaults.theta; // which the key does not change, as in transformers
    if (row->ropes == ROPES_LOCAL) {
        config->local_rope.theta = 10000;
        TRY(get_positive(values, "rope_local_base_freq", &config->local_rope.theta, err));
    }
    const char *key = find_map(values, &map);
    if (key == NULL) {
        return row->needs_scaling
                   ? error_set(err, STATUS_DATA, "neither 'rope_scaling' nor 'rope_parameters' is there")
                   : STATUS_OK;
    }
    int status = read_found(values, key, &map, config, &part, err);
    return status == STATUS_OK ? refuse_own_rows(config, err) : error_wrap(err, "'%s'", key);
}
