#include "problems/json_line.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

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

// jansson stops behind the minus sign.
static bool is_minus_infinity(const json_error_t *problem, const char *text, size_t size) {
    static const char word[] = "-Infinity";
    size_t length = sizeof word - 1;
    size_t at = problem->position > 0 ? (size_t)problem->position - 1 : 0;
    return at <= size && size - at >= length && memcmp(text + at, word, length) == 0;
}

// jansson's words, but for what Python's json.dumps writes and JSON does not have.
static const char *plain_words(const json_error_t *problem, const char *text, size_t size) {
    if (strstr(problem->text, "near 'NaN'") != NULL || strstr(problem->text, "near 'Infinity'") != NULL ||
        is_minus_infinity(problem, text, size)) {
        return "NaN and Infinity are not JSON numbers";
    }
    switch (json_error_code(problem)) {
    case json_error_numeric_overflow:
        return strncmp(problem->text, "too big", 7) == 0 ? "an integer beyond 64 bits"
                                                         : "a number beyond a double's range";
    case json_error_invalid_utf8:
    case json_error_invalid_syntax:
        return strstr(problem->text, "invalid Unicode") != NULL
                   ? "half of a surrogate pair, which is not a character"
                   : problem->text;
    default:
        return problem->text;
    }
}

int json_line_parse(json_t **out, const char *text, size_t size, bool is_first, char what[JSON_LINE_WORDS],
                    struct error *err) {
    json_error_t problem;
    *out = NULL;
    size_t mark = is_first ? mark_size(text, size) : 0;
    json_t *object = json_loadb(text + mark, size - mark,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &problem);
    if (object == NULL && json_lacked_memory(&problem)) {
        return error_set(err, STATUS_INTERNAL, "out of memory for a line of JSON");
    }
    if (object == NULL) {
        snprintf(what, JSON_LINE_WORDS, "column %d: %s", problem.column,
                 plain_words(&problem, text + mark, size - mark));
    } else if (!json_is_object(object)) {
        snprintf(what, JSON_LINE_WORDS, "not a JSON object");
        json_decref(object);
        object = NULL;
    }
    *out = object;
    return STATUS_OK;
}

const char *json_line_shape(const char *text, size_t size) {
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
        return "it begins as one JSON array: `jq -c '.[]' FILE` makes JSON lines of it";
    }
    if (text[at] == '{') {
        return end - at == 1
                   ? "it begins as a JSON object over several lines: `jq -c . FILE` makes JSON lines of it"
                   : NULL;
    }
    bool table = memchr(text + at, ',', end - at) != NULL || memchr(text + at, '\t', end - at) != NULL ||
                 memchr(text + at, ';', end - at) != NULL;
    return table && memchr(text + at, '{', end - at) == NULL && is_text(text + at, end - at)
               ? "it looks like CSV: `sqlite3 problems.db '.import --csv FILE problems'` makes a database of "
                 "it"
               : NULL;
}
