// SPDX-License-Identifier: MIT
// Reading the "pre_tokenizer" block.
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "text/component.h"
#include "text/pretokenizer.h"
#include "text/unicode_tables.h"

// The pattern of ByteLevel with use_regex, as GPT-2 has it.
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static int load_steps(struct pretokenizer *pretokenizer, const json_t *json, int depth, struct error *err);

static int load_sequence(struct pretokenizer *pretokenizer, const json_t *json, int depth,
                         struct error *err) {
    const json_t *list = NULL;
    TRY(component_keys(json, err, "type", "pretokenizers", NULL));
    TRY(component_list(&list, json, "pretokenizers", err));
    for (size_t i = 0; i < json_array_size(list); i++) {
        TRY(load_steps(pretokenizer, json_array_get(list, i), depth + 1, err));
    }
    return STATUS_OK;
}

static int load_behavior(struct pretokenizer_step *step, const json_t *json, const char *behavior,
                         struct error *err) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    TRY(json_get_string(json, "behavior", &behavior, err));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], behavior) == 0) {
            step->behavior = (enum split_behavior)i;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA, "behavior '%.100s' is not supported", behavior);
}

static int load_split(struct pretokenizer_step *step, const json_t *json, struct error *err) {
    TRY(component_keys(json, err, "type", "pattern", "behavior", "invert", NULL));
    TRY(json_get_boolean(json, "invert", &step->invert, err));
    TRY(component_pattern(&step->pattern, json, err));
    return load_behavior(step, json, "", err);
}

static int load_punctuation(struct pretokenizer_step *step, const json_t *json, struct error *err) {
    TRY(component_keys(json, err, "type", "behavior", NULL));
    step->character = unicode_is_punctuation;
    return load_behavior(step, json, "Isolated", err);
}

static int set_prefix(struct pretokenizer_step *step, const char *text, size_t size, struct error *err) {
    int status = memory_text(&step->prefix, text, err);
    step->prefix_size = size;
    return status;
}

static int load_byte_level(struct pretokenizer *pretokenizer, struct pretokenizer_step *step,
                           const json_t *json, struct error *err) {
    bool prefix = false;
    bool regex = true;
    bool trim = false; // of the post-processor only
    TRY(component_keys(json, err, "type", "add_prefix_space", "trim_offsets", "use_regex", NULL));
    TRY(json_get_boolean(json, "add_prefix_space", &prefix, err));
    TRY(json_get_boolean(json, "use_regex", &regex, err));
    TRY(json_get_boolean(json, "trim_offsets", &trim, err));
    pretokenizer->byte_level = true;
    step->behavior = regex ? SPLIT_ISOLATED : SPLIT_NOTHING;
    step->prefix_rule = prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    if (prefix) {
        TRY(set_prefix(step, " ", 1, err));
    }
    return regex ? pattern_compile(&step->pattern, GPT2_PATTERN, err) : STATUS_OK;
}

static int metaspace_prefix(struct pretokenizer_step *step, const json_t *json, struct error *err) {
    const char *scheme = "always";
    bool legacy = true;
    TRY(json_get_string(json, "prepend_scheme", &scheme, err));
    TRY(json_get_boolean(json, "add_prefix_space", &legacy, err));
    static const char *const schemes[] = {"never", "first", "always"}; // in the order of enum prefix_rule
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(scheme, schemes[i]) == 0) {
            step->prefix_rule = (enum prefix_rule)i;
            if (!legacy && step->prefix_rule != PREFIX_NEVER) {
                return error_set(err, STATUS_DATA,
                                 "add_prefix_space and prepend_scheme contradict each other");
            }
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA, "prepend_scheme '%.100s' is not supported", scheme);
}

static int load_metaspace(struct pretokenizer_step *step, const json_t *json, struct error *err) {
    bool split = true;
    uint32_t code = 0;
    TRY(component_keys(json, err, "type", "replacement", "prepend_scheme", "add_prefix_space", "split",
                       "str_rep", NULL));
    TRY(component_text(&step->space, &step->space_size, json, "replacement", err));
    if (step->space_size == 0 || utf8_decode(step->space, step->space_size, &code) != step->space_size) {
        return error_set(err, STATUS_DATA, "replacement is not one character");
    }
    TRY(metaspace_prefix(step, json, err));
    TRY(json_get_boolean(json, "split", &split, err));
    TRY(set_prefix(step, step->space, step->space_size, err));
    step->behavior = split ? SPLIT_MERGED_WITH_NEXT : SPLIT_NOTHING;
    return split ? pattern_literal(&step->pattern, step->space, step->space_size, err) : STATUS_OK;
}

static int load_digits(struct pretokenizer_step *step, const json_t *json, struct error *err) {
    bool individual = false;
    TRY(component_keys(json, err, "type", "individual_digits", NULL));
    TRY(json_get_boolean(json, "individual_digits", &individual, err));
    step->character = unicode_is_numeric;
    step->behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return STATUS_OK;
}

static int load_step(struct pretokenizer *pretokenizer, struct pretokenizer_step *step, const char *type,
                     const json_t *json, struct error *err) {
    if (strcmp(type, "Split") == 0) {
        return load_split(step, json, err);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return load_byte_level(pretokenizer, step, json, err);
    }
    if (strcmp(type, "Metaspace") == 0) {
        return load_metaspace(step, json, err);
    }
    if (strcmp(type, "Digits") == 0) {
        return load_digits(step, json, err);
    }
    if (strcmp(type, "Punctuation") == 0) {
        return load_punctuation(step, json, err);
    }
    return error_set(err, STATUS_DATA, "type '%.100s' is not supported", type);
}

static int load_steps(struct pretokenizer *pretokenizer, const json_t *json, int depth, struct error *err) {
    const char *type = NULL;
    TRY(component_type(&type, json, depth, err));
    if (strcmp(type, "Sequence") == 0) {
        return load_sequence(pretokenizer, json, depth, err);
    }
    if (pretokenizer->count == PRETOKENIZER_STEPS) {
        return error_set(err, STATUS_DATA, "more than %d steps", (int)PRETOKENIZER_STEPS);
    }
    struct pretokenizer_step *step = &pretokenizer->steps[pretokenizer->count++];
    step->spells_bytes = pretokenizer->byte_level;
    pretokenizer->byte_level = false;
    int status = load_step(pretokenizer, step, type, json, err);
    return status == STATUS_OK ? status : error_wrap(err, "%.100s", type);
}

int pretokenizer_load(struct pretokenizer *pretokenizer, const json_t *json, struct error *err) {
    *pretokenizer = (struct pretokenizer){0};
    int status = json == NULL ? STATUS_OK : load_steps(pretokenizer, json, 0, err);
    if (status != STATUS_OK) {
        pretokenizer_destroy(pretokenizer);
        return error_wrap(err, "pre_tokenizer");
    }
    return STATUS_OK;
}

static bool same_text(const char *a, size_t a_size, const char *b, size_t b_size) {
    return (a == NULL) == (b == NULL) && a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

static bool same_step(const struct pretokenizer_step *a, const struct pretokenizer_step *b) {
    return a->spells_bytes == b->spells_bytes &&
           same_text(a->space, a->space_size, b->space, b->space_size) && a->prefix_rule == b->prefix_rule &&
           same_text(a->prefix, a->prefix_size, b->prefix, b->prefix_size) && a->behavior == b->behavior &&
           a->invert == b->invert && pattern_same(a->pattern, b->pattern) && a->character == b->character;
}

bool pretokenizer_same(const struct pretokenizer *a, const struct pretokenizer *b) {
    bool same = a->count == b->count && a->byte_level == b->byte_level;
    for (size_t i = 0; i < a->count && same; i++) {
        same = same_step(&a->steps[i], &b->steps[i]);
    }
    return same;
}

void pretokenizer_destroy(struct pretokenizer *pretokenizer) {
    for (size_t i = 0; i < pretokenizer->count; i++) {
        free(pretokenizer->steps[i].space);
        free(pretokenizer->steps[i].prefix);
        pattern_destroy(pretokenizer->steps[i].pattern);
    }
    *pretokenizer = (struct pretokenizer){0};
}
