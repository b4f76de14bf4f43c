// SPDX-License-Identifier: MIT
// Steps that are given as spans of the rendered text. Each is checked: one that does not fit its text would
// have rows of other tokens than was meant.
#include <string.h>

#include "base/json.h"
#include "text/steps.h"

static const char WHAT[] = "spans";

// One item of the array; role is NULL when it has none.
struct item {
    const char *role;
    int64_t start;
    int64_t end;
};

static int read_bounds(const json_t *json, struct item *item, struct error *err) {
    const json_t *start = json_array_get(json, 0);
    const json_t *end = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_integer(start) || !json_is_integer(end)) {
        return error_set(err, STATUS_DATA, "not [start, end], two whole numbers");
    }
    item->start = json_integer_value(start);
    item->end = json_integer_value(end);
    return STATUS_OK;
}

static int read_item(const json_t *json, struct item *item, struct error *err) {
    *item = (struct item){.start = -1, .end = -1};
    if (json_is_array(json)) {
        return read_bounds(json, item, err);
    }
    if (!json_is_object(json)) {
        return error_set(err, STATUS_DATA, "neither an object with start and end nor [start, end]");
    }
    TRY(json_get_string(json, "role", &item->role, err));
    TRY(json_get_integer(json, "start", 0, UINT32_MAX, &item->start, err));
    TRY(json_get_integer(json, "end", 0, UINT32_MAX, &item->end, err));
    return item->start >= 0 && item->end >= 0 ? STATUS_OK
                                              : error_set(err, STATUS_DATA, "start or end is missing");
}

static bool between_characters(const char *text, size_t size, size_t at) {
    return at == size || ((unsigned char)text[at] & 0xC0) != 0x80;
}

static int check_item(const struct item *item, int64_t before, const char *text, size_t size,
                      struct error *err) {
    if (item->start < 0 || item->end < item->start || (uint64_t)item->end > size) {
        return error_set(err, STATUS_DATA, "bytes %lld to %lld are no span of a text of %zu bytes",
                         (long long)item->start, (long long)item->end, size);
    }
    if (item->start < before) {
        return error_set(err, STATUS_DATA,
                         "it begins at byte %lld, before the end of the one before it (%lld)",
                         (long long)item->start, (long long)before);
    }
    for (int i = 0; i < 2; i++) {
        int64_t at = i == 0 ? item->start : item->end;
        if (!between_characters(text, size, (size_t)at)) {
            return error_set(err, STATUS_DATA, "byte %lld is inside a character (offsets are bytes of UTF-8)",
                             (long long)at);
        }
    }
    return STATUS_OK;
}

static int is_chosen(const struct item *item, char *const *roles, size_t role_count, bool *chosen,
                     struct error *err) {
    *chosen = roles == NULL;
    if (roles != NULL && item->role == NULL) {
        return error_set(err, STATUS_DATA, "it has no role to choose by (problems.steps.roles)");
    }
    for (size_t i = 0; roles != NULL && i < role_count && !*chosen; i++) {
        *chosen = strcmp(item->role, roles[i]) == 0;
    }
    return STATUS_OK;
}

int steps_from_spans(const char *json, size_t size, const char *text, size_t text_size, char *const *roles,
                     size_t role_count, struct span_list *spans, struct buffer *names, struct error *err) {
    json_t *array = NULL;
    int64_t before = 0;
    size_t i = 0;
    int status;
    TRY(json_parse(&array, json, size, WHAT, err));
    if (!json_is_array(array)) {
        json_decref(array);
        return error_set(err, STATUS_DATA, "%s: not a JSON array", WHAT);
    }
    for (i = 0, status = STATUS_OK; i < json_array_size(array); i++) {
        struct item item;
        bool chosen;
        TRY_TO(done, status = read_item(json_array_get(array, i), &item, err));
        TRY_TO(done, status = check_item(&item, before, text, text_size, err));
        TRY_TO(done, status = is_chosen(&item, roles, role_count, &chosen, err));
        before = item.end;
        if (chosen) {
            const char *role = item.role == NULL ? "" : item.role;
            TRY_TO(done, status = span_list_add(spans, (size_t)item.start, (size_t)item.end, err));
            TRY_TO(done, status = buffer_append(names, role, strlen(role) + 1, err));
        }
    }
done:
    json_decref(array);
    return status == STATUS_OK ? status : error_wrap(err, "%s: item %zu", WHAT, i + 1);
}
