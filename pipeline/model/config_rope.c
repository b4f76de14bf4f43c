#include "model/config_rope.h"

#include <math.h>
#include <string.h>

#include "base/names.h"

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
static int read_kind(const struct values *values, enum rope_kind *kind, struct error *err) {
    static const struct {
        const char *name;
        enum rope_kind kind;
    } kinds[] = {{"default", ROPE_PLAIN},
                 {"linear", ROPE_LINEAR},
                 {"dynamic", ROPE_DYNAMIC},
                 {"llama3", ROPE_LLAMA3},
                 {"yarn", ROPE_YARN}};
    const size_t count = sizeof kinds / sizeof kinds[0];
    const char *name = "default";
    TRY(values_text(values, "type", &name, err));
    TRY(values_text(values, "rope_type", &name, err));
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, kinds[i].name) == 0) {
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

static int refuse_partial(const struct values *values, struct error *err) {
    double part = 1;
    TRY(values_number(values, "partial_rotary_factor", &part, err));
    return part == 1
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'partial_rotary_factor' is %g; only 1 is supported", part);
}

// A key beside the object wins over the one inside it, as in transformers.
static int read_original(const struct values *values, const struct values *top, struct model_config *config,
                         struct error *err) {
    double *positions = &config->rope.original_positions;
    *positions = (double)config->max_positions;
    TRY(get_positive(values, "original_max_position_embeddings", positions, err));
    return get_positive(top, "original_max_position_embeddings", positions, err);
}

static int read_llama3(const struct values *values, struct rope_config *rope, struct error *err) {
    TRY(require_positive(values, "low_freq_factor", &rope->low_freq_factor, err));
    TRY(require_positive(values, "high_freq_factor", &rope->high_freq_factor, err));
    if (!(rope->high_freq_factor > rope->low_freq_factor)) {
        return error_set(err, STATUS_DATA, "'high_freq_factor' (%g) is not above 'low_freq_factor' (%g)",
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

static int read_scaling(const struct values *values, const struct values *top, struct model_config *config,
                        struct error *err) {
    struct rope_config *rope = &config->rope;
    TRY(read_original(values, top, config, err));
    // For yarn an explicit null means the ratio of the lengths; a missing key is an error in transformers.
    if (rope->kind == ROPE_YARN && values_kind(values, "factor") == VALUE_NULL) {
        rope->factor = (double)config->max_positions / rope->original_positions;
    } else {
        TRY(require_positive(values, "factor", &rope->factor, err));
    }
    TRY(check_range("factor", rope->factor, largest_factor, err));
    if (rope->kind == ROPE_DYNAMIC && config->head_dim == 2) {
        return error_set(err, STATUS_DATA, "'rope_type' dynamic is not defined for 'head_dim' 2");
    }
    // Below 1 the base of the dynamic power may turn negative.
    if (rope->kind == ROPE_DYNAMIC && rope->factor < 1) {
        return error_set(err, STATUS_DATA, "'factor' is %g; dynamic scaling needs at least 1", rope->factor);
    }
    if (rope->kind == ROPE_LLAMA3) {
        return read_llama3(values, rope, err);
    }
    return rope->kind == ROPE_YARN ? read_yarn(values, rope, err) : STATUS_OK;
}

// What the map of a scaling says; `top` is what it lies in.
static int read_map(const struct values *scaling, const struct values *top, struct model_config *config,
                    struct error *err) {
    struct rope_config *rope = &config->rope;
    TRY(read_kind(scaling, &rope->kind, err));
    TRY(refuse_partial(scaling, err));
    TRY(get_positive(scaling, "rope_theta", &rope->theta, err));
    return rope->kind == ROPE_PLAIN ? STATUS_OK : read_scaling(scaling, top, config, err);
}

int config_read_rope(const struct values *values, struct model_config *config, struct error *err) {
    struct rope_config *rope = &config->rope;
    *rope = (struct rope_config){.theta = 10000, .factor = 1, .attention_factor = 1};
    rope->original_positions = (double)config->max_positions;
    TRY(refuse_partial(values, err));
    TRY(get_positive(values, "rope_theta", &rope->theta, err));
    // A non-empty rope_scaling wins over rope_parameters.
    const char *key = "rope_scaling";
    struct values scaling = values_member(values, key);
    if (!values_has(values, key) || (values_kind(values, key) == VALUE_MAP && values_count(&scaling) == 0)) {
        key = "rope_parameters";
        scaling = values_member(values, key);
    }
    if (!values_has(values, key)) {
        return STATUS_OK;
    }
    if (values_kind(values, key) != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "'%s' is not an object", key);
    }
    if (values_kind(&scaling, "full_attention") != VALUE_ABSENT ||
        values_kind(&scaling, "sliding_attention") != VALUE_ABSENT) {
        return error_set(err, STATUS_DATA, "'%s' differs by layer type, which is not supported", key);
    }
    int status = read_map(&scaling, values, config, err);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "'%s'", key);
}
