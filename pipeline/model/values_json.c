// SPDX-License-Identifier: MIT
// The values of a JSON document.
#include "base/json.h"
#include "model/values.h"

static int get_integer(const void *map, const char *key, int64_t minimum, int64_t maximum, int64_t *out,
                       struct error *err) {
    return json_get_integer(map, key, minimum, maximum, out, err);
}

static int get_number(const void *map, const char *key, double *out, struct error *err) {
    return json_get_number(map, key, out, err);
}

static int get_boolean(const void *map, const char *key, bool *out, struct error *err) {
    return json_get_boolean(map, key, out, err);
}

static int get_text(const void *map, const char *key, const char **out, struct error *err) {
    return json_get_string(map, key, out, err);
}

static enum value_kind get_kind(const void *map, const char *key) {
    const json_t *value = json_object_get(map, key);
    return value == NULL           ? VALUE_ABSENT
           : json_is_null(value)   ? VALUE_NULL
           : json_is_array(value)  ? VALUE_LIST
           : json_is_object(value) ? VALUE_MAP
                                   : VALUE_PLAIN;
}

static void *get_member(const void *map, const char *key) {
    json_t *value = json_object_get(map, key);
    return json_is_array(value) || json_is_object(value) ? value : NULL;
}

static size_t get_count(const void *list_or_map) {
    return json_is_array((const json_t *)list_or_map) ? json_array_size(list_or_map)
                                                      : json_object_size(list_or_map);
}

static void *get_element(const void *list, size_t index) {
    json_t *entry = json_array_get(list, index);
    return json_is_array(entry) || json_is_object(entry) ? entry : NULL;
}

static const char *get_text_at(const void *list, size_t index) {
    return json_string_value(json_array_get(list, index));
}

static bool get_integer_at(const void *list, size_t index, int64_t *out) {
    const json_t *entry = json_array_get(list, index);
    if (!json_is_integer(entry)) {
        return false;
    }
    *out = json_integer_value(entry);
    return true;
}

static bool get_number_at(const void *list, size_t index, double *out) {
    const json_t *entry = json_array_get(list, index);
    if (!json_is_number(entry)) {
        return false;
    }
    *out = json_number_value(entry);
    return true;
}

static const char *next_key(void *map, const char *key) {
    void *at = key == NULL ? json_object_iter(map) : json_object_iter_next(map, json_object_key_to_iter(key));
    return at == NULL ? NULL : json_object_iter_key(at);
}

static void release(void *node) {
    json_decref(node);
}

static const struct values_holder json_holder = {
    .integer = get_integer,
    .number = get_number,
    .boolean = get_boolean,
    .text = get_text,
    .kind = get_kind,
    .member = get_member,
    .count = get_count,
    .element = get_element,
    .text_at = get_text_at,
    .integer_at = get_integer_at,
    .number_at = get_number_at,
    .next_key = next_key,
    .close = release,
};

int values_open_json(struct values *out, const char *text, size_t size, const char *name, struct error *err) {
    json_t *json = NULL;
    *out = (struct values){.holder = &json_holder};
    TRY(json_parse_python(&json, text, size, name, err));
    if (!json_is_object(json)) {
        json_decref(json);
        return error_set(err, STATUS_DATA, "%s: not a JSON object", name);
    }
    out->node = json;
    return STATUS_OK;
}
