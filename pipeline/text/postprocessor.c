// SPDX-License-Identifier: MIT
#include "text/postprocessor.h"

#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "text/aligned.h"
#include "text/component.h"
#include "text/unicode_tables.h"
#include "text/vocabulary.h"

static int load_byte_level(struct postprocessor *postprocessor, const json_t *json, struct error *err) {
    bool prefix = true;
    bool trim = true;
    bool regex = true; // of the pre-tokenizer only
    TRY(component_keys(json, err, "type", "add_prefix_space", "trim_offsets", "use_regex", NULL));
    TRY(json_get_boolean(json, "add_prefix_space", &prefix, err));
    TRY(json_get_boolean(json, "trim_offsets", &trim, err));
    TRY(json_get_boolean(json, "use_regex", &regex, err));
    if (trim && postprocessor->trim_offsets) {
        return error_set(err, STATUS_DATA, "trimming offsets twice is not supported");
    }
    if (trim) {
        postprocessor->trim_offsets = true;
        postprocessor->add_prefix_space = prefix;
    }
    return STATUS_OK;
}

// Appends the ids of a template's special token.
static int add_special(int32_t *ids, size_t *count, const json_t *piece, const json_t *specials,
                       struct error *err) {
    const char *name = NULL;
    int status = json_get_string(piece, "id", &name, err);
    if (status != STATUS_OK || name == NULL) {
        return status != STATUS_OK ? status : error_set(err, STATUS_DATA, "a special token has no id");
    }
    const json_t *list = json_member(json_member(specials, name), "ids");
    if (!json_is_array(list)) {
        return error_set(err, STATUS_DATA, "special token '%.100s' is not in special_tokens", name);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= TOKEN_ID_LIMIT) {
            return error_set(err, STATUS_DATA, "special token '%.100s' has a bad id", name);
        }
        if (*count == TEMPLATE_TOKENS) {
            return error_set(err, STATUS_DATA, "more than %d special tokens", (int)TEMPLATE_TOKENS);
        }
        ids[(*count)++] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

static int load_template(struct postprocessor *postprocessor, const json_t *json, struct error *err) {
    const json_t *single = NULL;
    bool content = false;
    TRY(component_keys(json, err, "type", "single", "pair", "special_tokens", NULL));
    TRY(component_list(&single, json, "single", err));
    if (postprocessor->has_template) {
        return error_set(err, STATUS_DATA, "a second template is not supported");
    }
    postprocessor->has_template = true;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *special = json_member(piece, "SpecialToken");
        const json_t *sequence = json_member(piece, "Sequence");
        const char *which = "";
        if (json_is_object(special)) {
            int32_t *ids = content ? postprocessor->after : postprocessor->before;
            size_t *count = content ? &postprocessor->after_count : &postprocessor->before_count;
            TRY(add_special(ids, count, special, json_member(json, "special_tokens"), err));
            continue;
        }
        if (json_is_object(sequence)) {
            TRY(json_get_string(sequence, "id", &which, err));
        }
        if (strcmp(which, "A") != 0 || content) {
            return error_set(err, STATUS_DATA, "single: part %zu is not supported", i);
        }
        content = true;
    }
    return content ? STATUS_OK : error_set(err, STATUS_DATA, "single has no place for the text");
}

static int load_steps(struct postprocessor *postprocessor, const json_t *json, int depth, struct error *err) {
    const char *type = NULL;
    TRY(component_type(&type, json, depth, err));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = NULL;
        TRY(component_keys(json, err, "type", "processors", NULL));
        TRY(component_list(&list, json, "processors", err));
        for (size_t i = 0; i < json_array_size(list); i++) {
            TRY(load_steps(postprocessor, json_array_get(list, i), depth + 1, err));
        }
        return STATUS_OK;
    }
    int status;
    if (strcmp(type, "ByteLevel") == 0) {
        status = load_byte_level(postprocessor, json, err);
    } else if (strcmp(type, "TemplateProcessing") == 0) {
        status = load_template(postprocessor, json, err);
    } else {
        return error_set(err, STATUS_DATA, "type '%.100s' is not supported", type);
    }
    return status == STATUS_OK ? status : error_wrap(err, "%.100s", type);
}

int postprocessor_load(struct postprocessor *postprocessor, const json_t *json, struct error *err) {
    *postprocessor = (struct postprocessor){0};
    int status = json == NULL ? STATUS_OK : load_steps(postprocessor, json, 0, err);
    return status == STATUS_OK ? status : error_wrap(err, "post_processor");
}

static bool counts_as_space(uint32_t code) {
    return code == 0x120 || unicode_is_space(code); // U+0120 is a space in a byte-level vocabulary
}

static size_t leading_spaces(const char *token, size_t size) {
    size_t count = 0;
    uint32_t code = 0;
    for (size_t at = 0; at < size; count++) {
        at += utf8_decode(token + at, size - at, &code);
        if (!counts_as_space(code)) {
            break;
        }
    }
    return count;
}

static size_t trailing_spaces(const char *token, size_t size) {
    size_t count = 0;
    uint32_t code = 0;
    while (size > 0) {
        size_t start = size - 1;
        while (start > 0 && utf8_is_continuation(token[start])) {
            start--;
        }
        utf8_decode(token + start, size - start, &code);
        if (!counts_as_space(code)) {
            break;
        }
        size = start;
        count++;
    }
    return count;
}

void postprocessor_trim(const struct postprocessor *postprocessor, const char *text, const char *token,
                        size_t token_size, bool first, uint32_t *start, uint32_t *end) {
    size_t leading = leading_spaces(token, token_size);
    size_t trailing = trailing_spaces(token, token_size);
    if (leading == 1 && postprocessor->add_prefix_space && (first || *start == 0)) {
        leading = 0;
    }
    for (; leading > 0 && *start < *end; leading--) {
        *start += (uint32_t)utf8_lead_size(text[*start]);
    }
    uint32_t to = *end;
    for (; trailing > 0 && to > 0; trailing--) {
        do {
            to--;
        } while (to > 0 && utf8_is_continuation(text[to]));
    }
    // Where the text before the end is shorter than the spaces, the library leaves the end alone.
    if (trailing == 0) {
        *end = to > *start ? to : *start;
    }
}
