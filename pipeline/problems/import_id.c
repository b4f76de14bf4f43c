// SPDX-License-Identifier: MIT
#include "problems/import_id.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "problems/json_line.h"
#include "problems/lines.h"
#include "problems/table.h"

static const char *const usual[] = {
    "problem_id", "id",   "idx", "index", "task_id", "question_id", "example_id", "sample_id", "problem_idx",
    "unique_id",  "uuid", "uid", "guid",  "qid",     "_id",         "key",        "name"};
enum { USUAL = sizeof usual / sizeof usual[0] };

static bool can_be_id(const json_t *value) {
    return json_is_integer(value) || (json_is_string(value) && json_string_length(value) > 0);
}

// The object's own spelling of a name, or NULL.
static const char *member_named(const json_t *object, const char *name) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (strcasecmp(key, name) == 0 && can_be_id(value)) {
            return key;
        }
    }
    return NULL;
}

bool import_id_candidate(char out[IMPORT_ID], const json_t *object, size_t place) {
    for (size_t i = 0; i < USUAL; i++) {
        const char *key = member_named(object, usual[i]);
        if (key != NULL && place-- == 0) {
            snprintf(out, IMPORT_ID, "%s", key);
            return true;
        }
    }
    return false;
}

// Puts the id alone into a table that SQLite keeps for itself, on disk if need be.
static int look_at_line(struct table *table, const char *id, const struct buffer *line, bool first,
                        bool *fits, struct error *err) {
    struct json_line parsed;
    int status = json_line_parse(&parsed, line->data, line->size, first, id, err);
    if (status != STATUS_OK || parsed.object == NULL) {
        json_decref(parsed.object);
        return status;
    }
    json_t *value = json_object_get(parsed.object, id);
    json_t *alone = value == NULL ? NULL : json_pack("{s:O}", id, value);
    if (alone == NULL) {
        *fits = false;
    } else {
        status = table_insert(table, alone, fits, parsed.what, sizeof parsed.what, err);
    }
    json_decref(alone);
    json_decref(parsed.object);
    return status;
}

int import_id_fits(const char *path, const char *id, bool *fits, struct error *err) {
    static const char temporary[] = "";
    struct lines *lines = NULL;
    struct table *table = NULL;
    struct buffer line = {0};
    bool found = true;
    *fits = true;
    int status;
    TRY_TO(done, status = lines_open(&lines, path, err));
    TRY_TO(done, status = table_open(&table, temporary, true, "ids", id, false, NULL, err));
    while (found && *fits) {
        TRY_TO(done, status = lines_next(lines, &line, &found, err));
        if (found && !json_line_blank(line.data, line.size)) {
            TRY_TO(done, status = look_at_line(table, id, &line, lines_number(lines) == 1, fits, err));
        }
    }
done:
    buffer_destroy(&line);
    table_close(table);
    lines_close(lines);
    return status;
}

int import_id_ask(const char *path, const json_t *object, const char *tried, struct error *err) {
    enum { SHOWN = 600 };
    struct buffer names = {0};
    const char *key;
    json_t *value;
    int status;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (names.size < SHOWN) {
            TRY_TO(done, status = buffer_printf(&names, err, "%s%.100s", names.size == 0 ? "" : ", ", key));
        }
    }
    if (tried[0] != 0) {
        status = error_set(
            err, STATUS_DATA,
            "%s: there is no 'problem_id', and '%s' is not in every line and unique: name the member that is "
            "with --id, or leave the lines at fault out with --id '%s' --skip-broken; the first line has %s",
            path, tried, tried, names.size == 0 ? "none" : names.data);
    } else {
        status = error_set(
            err, STATUS_DATA,
            "%s: there is no 'problem_id' nor another usual name of an id: name the member that is in every "
            "line and unique with --id; the first line has %s",
            path, names.size == 0 ? "none" : names.data);
    }
done:
    buffer_destroy(&names);
    return status;
}
