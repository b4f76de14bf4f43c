// SPDX-License-Identifier: MIT
#include "text/component.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"

int component_type(const char **type, const json_t *json, int depth, struct error *err) {
    *type = NULL;
    if (depth > COMPONENT_DEPTH) {
        return error_set(err, STATUS_DATA, "nested more than %d deep", (int)COMPONENT_DEPTH);
    }
    if (!json_is_object(json)) {
        return error_set(err, STATUS_DATA, "not an object");
    }
    TRY(json_get_string(json, "type", type, err));
    if (*type == NULL) {
        return error_set(err, STATUS_DATA, "type is missing");
    }
    return STATUS_OK;
}

int component_keys(const json_t *json, struct error *err, ...) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        va_list names;
        va_start(names, err);
        bool known = false;
        for (const char *name = va_arg(names, const char *); name != NULL && !known;
             name = va_arg(names, const char *)) {
            known = strcmp(name, key) == 0;
        }
        va_end(names);
        if (!known) {
            return error_set(err, STATUS_DATA, "key '%.100s' is not supported", key);
        }
    }
    return STATUS_OK;
}

int component_list(const json_t **list, const json_t *json, const char *key, struct error *err) {
    *list = json_member(json, key);
    return json_is_array(*list) ? STATUS_OK : error_set(err, STATUS_DATA, "%s is not a list", key);
}

int component_text(char **out, size_t *size, const json_t *json, const char *key, struct error *err) {
    const json_t *value = json_member(json, key);
    if (!json_is_string(value)) {
        return error_set(err, STATUS_DATA, "%s is not a text", key);
    }
    void *copy = NULL;
    *size = json_string_length(value);
    TRY(memory_zeroed(&copy, *size + 1, 1, err));
    memcpy(copy, json_string_value(value), *size);
    *out = copy;
    return STATUS_OK;
}

int component_pattern(struct pattern **out, const json_t *json, struct error *err) {
    const json_t *pattern = json_member(json, "pattern");
    const json_t *text = json_member(pattern, "String");
    const json_t *regex = json_member(pattern, "Regex");
    if (!json_is_object(pattern) || json_object_size(pattern) != 1 ||
        (!json_is_string(text) && !json_is_string(regex))) {
        return error_set(err, STATUS_DATA, "pattern is neither {\"String\": ...} nor {\"Regex\": ...}");
    }
    if (text != NULL) {
        return pattern_literal(out, json_string_value(text), json_string_length(text), err);
    }
    if (strlen(json_string_value(regex)) != json_string_length(regex)) {
        return error_set(err, STATUS_DATA, "pattern holds a NUL");
    }
    return pattern_compile(out, json_string_value(regex), err);
}
