#include "model/config_rope.h"

#include <math.h>
#include <string.h>

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

static int get_positive(const json_t *json, const char *key, double *out, struct error *err) {
    int status = json_get_number(json, key, out, err);
    return status == STATUS_OK ? check_range(key, *out, largest, err) : status;
}

static int require_positive(const json_t *json, const char *key, double *out, struct error *err) {
    if (json_member(json, key) == NULL) {
        return error_set(err, STATUS_DATA, "'%s' is missing", key);
    }
    return get_positive(json, key, out, err);
}

// rope_type, or `type` as old files call it; "default" is plain rotation.
static int read_kind(const json_t *json, enum rope_kind *kind, struct error *err) {
    static const struct {
        const char *name;
        enum rope_kind kind;
    } kinds[] = {{"default", ROPE_PLAIN},
                 {"linear", ROPE_LINEAR},
                 {"dynamic", ROPE_DYNAMIC},
                 {"llama3", ROPE_LLAMA3},
                 {"yarn", ROPE_YARN}};
    const char *name = "default";
    int status = json_get_string(json, "type", &name, err);
    if (status == STATUS_OK) {
        status = json_get_string(json, "rope_type", &name, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            *kind = kinds[i].kind;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA,
                     "'rope_type' is '%.64s'; supported are default, linear, dynamic, llama3 and yarn", name);
}

static int refuse_partial(const json_t *json, struct error *err) {
    double part = 1;
    int status = json_get_number(json, "partial_rotary_factor", &part, err);
    if (status == STATUS_OK && part != 1) {
        return error_set(err, STATUS_DATA, "'partial_rotary_factor' is %g; only 1 is supported", part);
    }
    return status;
}

// A key beside the object wins over the one inside it, as in transformers.
static int read_original(const json_t *json, const json_t *top, struct model_config *config,
                         struct error *err) {
    config->rope.original_positions = (double)config->max_positions;
    int status =
        get_positive(json, "original_max_position_embeddings", &config->rope.original_positions, err);
    if (status == STATUS_OK) {
        status = get_positive(top, "original_max_position_embeddings", &config->rope.original_positions, err);
    }
    return status;
}

static int read_llama3(const json_t *json, struct rope_config *rope, struct error *err) {
    int status = require_positive(json, "low_freq_factor", &rope->low_freq_factor, err);
    if (status == STATUS_OK) {
        status = require_positive(json, "high_freq_factor", &rope->high_freq_factor, err);
    }
    if (status == STATUS_OK && !(rope->high_freq_factor > rope->low_freq_factor)) {
        return error_set(err, STATUS_DATA, "'high_freq_factor' (%g) is not above 'low_freq_factor' (%g)",
                         rope->high_freq_factor, rope->low_freq_factor);
    }
    return status;
}

static double yarn_mscale(double scale, double mscale) {
    return scale <= 1 ? 1 : 0.1 * mscale * log(scale) + 1;
}

// Zero stands for the default, as Python's `or` has it.
static int get_or(const json_t *json, const char *key, double otherwise, double *out, struct error *err) {
    *out = 0;
    int status = json_get_number(json, key, out, err);
    if (status == STATUS_OK && *out == 0) {
        *out = otherwise;
    }
    return status == STATUS_OK ? check_range(key, *out, largest, err) : status;
}

static int read_yarn(const json_t *json, struct rope_config *rope, struct error *err) {
    if (!(rope->theta > 1)) {
        return error_set(err, STATUS_DATA, "'rope_theta' is %g; yarn needs more than 1", rope->theta);
    }
    int status = get_or(json, "beta_fast", 32, &rope->beta_fast, err);
    if (status == STATUS_OK) {
        status = get_or(json, "beta_slow", 1, &rope->beta_slow, err);
    }
    double mscale = 0;
    double mscale_all = 0;
    double attention = 0;
    if (status == STATUS_OK) {
        status = json_get_number(json, "mscale", &mscale, err);
    }
    if (status == STATUS_OK) {
        status = json_get_number(json, "mscale_all_dim", &mscale_all, err);
    }
    if (status == STATUS_OK) {
        status = json_get_number(json, "attention_factor", &attention, err);
    }
    rope->truncate = !json_is_null(json_object_get(json, "truncate"));
    if (status == STATUS_OK) {
        status = json_get_boolean(json, "truncate", &rope->truncate, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (json_member(json, "attention_factor") != NULL) {
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

static int read_scaling(const json_t *json, const json_t *top, struct model_config *config,
                        struct error *err) {
    struct rope_config *rope = &config->rope;
    int status = read_original(json, top, config, err);
    if (status != STATUS_OK) {
        return status;
    }
    // For yarn an explicit null means the ratio of the lengths; a missing key is an error in transformers.
    if (rope->kind == ROPE_YARN && json_is_null(json_object_get(json, "factor"))) {
        rope->factor = (double)config->max_positions / rope->original_positions;
    } else {
        status = require_positive(json, "factor", &rope->factor, err);
    }
    if (status == STATUS_OK) {
        status = check_range("factor", rope->factor, largest_factor, err);
    }
    if (status == STATUS_OK && rope->kind == ROPE_DYNAMIC && config->head_dim == 2) {
        return error_set(err, STATUS_DATA, "'rope_type' dynamic is not defined for 'head_dim' 2");
    }
    // Below 1 the base of the dynamic power may turn negative.
    if (status == STATUS_OK && rope->kind == ROPE_DYNAMIC && rope->factor < 1) {
        return error_set(err, STATUS_DATA, "'factor' is %g; dynamic scaling needs at least 1", rope->factor);
    }
    if (status == STATUS_OK && rope->kind == ROPE_LLAMA3) {
        status = read_llama3(json, rope, err);
    }
    if (status == STATUS_OK && rope->kind == ROPE_YARN) {
        status = read_yarn(json, rope, err);
    }
    return status;
}

int config_read_rope(const json_t *json, struct model_config *config, struct error *err) {
    struct rope_config *rope = &config->rope;
    *rope = (struct rope_config){.theta = 10000, .factor = 1, .attention_factor = 1};
    rope->original_positions = (double)config->max_positions;
    int status = refuse_partial(json, err);
    if (status == STATUS_OK) {
        status = get_positive(json, "rope_theta", &rope->theta, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    // A non-empty rope_scaling wins over rope_parameters.
    const char *key = "rope_scaling";
    const json_t *scaling = json_member(json, key);
    if (scaling == NULL || (json_is_object(scaling) && json_object_size(scaling) == 0)) {
        key = "rope_parameters";
        scaling = json_member(json, key);
    }
    if (scaling == NULL) {
        return STATUS_OK;
    }
    if (!json_is_object(scaling)) {
        return error_set(err, STATUS_DATA, "'%s' is not an object", key);
    }
    if (json_object_get(scaling, "full_attention") != NULL ||
        json_object_get(scaling, "sliding_attention") != NULL) {
        return error_set(err, STATUS_DATA, "'%s' differs by layer type, which is not supported", key);
    }
    status = read_kind(scaling, &rope->kind, err);
    if (status == STATUS_OK) {
        status = refuse_partial(scaling, err);
    }
    if (status == STATUS_OK) {
        status = get_positive(scaling, "rope_theta", &rope->theta, err);
    }
    if (status == STATUS_OK && rope->kind != ROPE_PLAIN) {
        status = read_scaling(scaling, json, config, err);
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "'%s'", key);
}
