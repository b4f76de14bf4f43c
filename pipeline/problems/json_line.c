// SPDX-License-Identifier: MIT
#include "problems/json_line.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static bool is_blank(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r';
}

static bool is_text(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 0x20 && !is_blank(text[i])) {
            return false;
        }
    }
    return true;
}

bool json_line_blank(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (!is_blank(text[i])) {
            return false;
        }
    }
    return true;
}

static size_t mark_size(const char *text, size_t size) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    return size >= 3 && memcmp(text, byte_order_mark, 3) == 0 ? 3 : 0;
}

static const char *plain_words(const json_error_t *problem) {
    return json_error_code(problem) == json_error_invalid_syntax &&
                   strstr(problem->text, "invalid Unicode") != NULL
               ? "half of a surrogate pair, which is not a character, in a member's name"
               : problem->text;
}

static int parse(json_t **out, const char *text, size_t size, json_error_t *problem, struct error *err) {
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, problem);
    return *out == NULL && json_lacked_memory(problem)
               ? error_set(err, STATUS_INTERNAL, "out of memory for a line of JSON")
               : STATUS_OK;
}

// What is mended makes no id: two that differ could become one.
static int check_id(struct json_line *line, const char *text, size_t size, const char *id,
                    struct error *err) {
    struct buffer blanked = {0};
    struct json_mended ignored;
    json_error_t problem;
    json_t *object = NULL;
    const json_t *value = json_object_get(line->object, id);
    int status;
    TRY_TO(done, status = json_mend(&blanked, text, size, true, &ignored, err));
    TRY_TO(done, status = parse(&object, blanked.data, blanked.size, &problem, err));
    if (!json_is_null(json_object_get(object, id))) {
        goto done;
    }
    // NaN is null by now, and told as any id that is not there.
    if (json_is_string(value)) {
        bool halved = strstr(json_string_value(value), "\xEF\xBF\xBD") != NULL;
        snprintf(line->what, JSON_LINE_WORDS, "'%.100s' is %s", id,
                 halved ? "a text with half of a surrogate pair, which is not a character"
                        : "an integer beyond 64 bits (in quotes, as a text, it may stay)");
        json_decref(line->object);
        line->object = NULL;
    }
done:
    json_decref(object);
    buffer_destroy(&blanked);
    return status;
}

// A second try, of a line that is no JSON as it stands.
static int mend(struct json_line *line, const char *text, size_t size, const char *id, json_error_t *problem,
                struct error *err) {
    struct buffer mended = {0};
    json_error_t second;
    int status;
    TRY_TO(done, status = json_mend(&mended, text, size, false, &line->mended, err));
    if (json_mended_count(&line->mended) == 0) {
        goto done;
    }
    TRY_TO(done, status = parse(&line->object, mended.data, mended.size, &second, err));
    if (line->object == NULL && (size_t)second.position > line->mended.first) {
        second.column = 0; // not the line's own any more
    }
    *problem = second;
    if (line->object != NULL && id != NULL) {
        status = check_id(line, text, size, id, err);
    }
done:
    buffer_destroy(&mended);
    return status;
}

int json_line_parse(struct json_line *out, const char *text, size_t size, bool is_first, const char *id,
                    struct error *err) {
    json_error_t problem;
    *out = (struct json_line){0};
    size_t mark = is_first ? mark_size(text, size) : 0;
    TRY(parse(&out->object, text + mark, size - mark, &problem, err));
    if (out->object == NULL) {
        TRY(mend(out, text + mark, size - mark, id, &problem, err));
    }
    if (out->object == NULL && out->what[0] == 0) {
        size_t used = problem.column == 0
                          ? 0
                          : (size_t)snprintf(out->what, JSON_LINE_WORDS, "column %d: ", problem.column);
        snprintf(out->what + used, JSON_LINE_WORDS - used, "%s", plain_words(&problem));
    } else if (out->object != NULL && !json_is_object(out->object)) {
        snprintf(out->what, JSON_LINE_WORDS, "not a JSON object");
        json_decref(out->object);
        out->object = NULL;
    }
    return STATUS_OK;
}

const char *json_line_shape(const char *text, size_t size, const char **advice) {
    size_t at = mark_size(text, size);
    size_t end = size;
    while (at < size && is_blank(text[at])) {
        at++;
    }
    while (end > at && is_blank(text[end - 1])) {
        end--;
    }
    if (at == end) {
        return NULL;
    }
    if (text[at] == '[') {
        *advice = "`jq -c '.[]' FILE` makes JSON lines of it";
        return "one JSON array";
    }
    if (text[at] == '{') {
        *advice = "`jq -c . FILE` makes JSON lines of it";
        return end - at == 1 ? "a JSON object over several lines" : NULL;
    }
    bool table = memchr(text + at, ',', end - at) != NULL || memchr(text + at, '\t', end - at) != NULL ||
                 memchr(text + at, ';', end - at) != NULL;
    *advice = "`sqlite3 problems.db '.import --csv FILE problems'` makes a database of it";
    return table && memchr(text + at, '{', end - at) == NULL && is_text(text + at, end - at) ? "CSV" : NULL;
}
