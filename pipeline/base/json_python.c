// SPDX-License-Identifier: MIT
// JSON as Python's json module writes and reads it: NaN, Infinity, integers of any length, a key twice.
//
// jansson reads the second form of a text that it refused at first: outside of strings, a number that JSON or
// 64 bits do not have becomes a value that no getter takes for a number, or a real. So such a number is no
// fault where nobody asks for it, and is refused by its key where somebody does. So with half of a surrogate
// pair in a value. json_mend makes JSON of such a text instead.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"

static bool is_number_byte(char byte) {
    return (byte >= '0' && byte <= '9') || byte == '+' || byte == '-' || byte == '.' || byte == 'e' ||
           byte == 'E';
}

static bool is_word_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '_';
}

// A list in a list: neither a number nor a text, a flag, an object or a list of any of these.
static int append_odd(struct buffer *out, const char *name, struct error *err) {
    return buffer_printf(out, err, "[[\"%s\"]]", name);
}

const char *json_odd_number(const json_t *value) {
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
    const json_t *inner = json_array_size(value) == 1 ? json_array_get(value, 0) : NULL;
    const char *text = json_array_size(inner) == 1 ? json_string_value(json_array_get(inner, 0)) : NULL;
    for (size_t i = 0; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            return names[i];
        }
    }
    return NULL;
}

// Bytes of NaN, Infinity or -Infinity at the start of text, or 0.
static size_t odd_word(const char *text, size_t size, const char **name) {
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t length = strlen(names[i]);
        if (size >= length && memcmp(text, names[i], length) == 0 &&
            (size == length || !is_word_byte(text[length]))) {
            *name = names[i];
            return length;
        }
    }
    return 0;
}

static bool is_whole(const char *text, size_t size) {
    return memchr(text, '.', size) == NULL && memchr(text, 'e', size) == NULL &&
           memchr(text, 'E', size) == NULL;
}

// A number: as it stands, with ".0" where 64 bits do not hold it, or as Infinity where a double does not.
static int append_number(struct buffer *out, const char *text, size_t size, struct error *err) {
    size_t from = out->size;
    TRY(buffer_append(out, text, size, err)); // ended with 0 for strtod
    char *end = NULL;
    double value = strtod(out->data + from, &end);
    if (isinf(value) && end == out->data + out->size) {
        out->size = from;
        return append_odd(out, value < 0 ? "-Infinity" : "Infinity", err);
    }
    errno = 0;
    (void)strtoll(out->data + from, NULL, 10);
    bool whole = is_whole(text, size);
    return whole && errno == ERANGE ? buffer_append(out, ".0", 2, err) : STATUS_OK;
}

static size_t string_end(const char *text, size_t size, size_t at) {
    for (at++; at < size && text[at] != '"'; at++) {
        at += text[at] == '\\';
    }
    return at < size ? at + 1 : size;
}

// The four digits of \uXXXX at `at`, or -1.
static long escape_at(const char *text, size_t end, size_t at) {
    char digits[5] = {0};
    if (at + 6 > end || text[at] != '\\' || text[at + 1] != 'u') {
        return -1;
    }
    memcpy(digits, text + at + 2, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

static bool is_high(long code) {
    return code >= 0xD800 && code <= 0xDBFF;
}

static bool is_low(long code) {
    return code >= 0xDC00 && code <= 0xDFFF;
}

static bool is_key(const char *text, size_t size, size_t end) {
    while (end < size && (text[end] == ' ' || text[end] == '\t' || text[end] == '\r' || text[end] == '\n')) {
        end++;
    }
    return end < size && text[end] == ':';
}

// Puts `instead` in the place of each half of a surrogate pair, and counts them.
static int append_halves(struct buffer *out, const char *text, size_t at, size_t end, const char *instead,
                         uint64_t *count, struct error *err) {
    while (at < end) {
        long code = escape_at(text, end, at);
        bool pair = is_high(code) && is_low(escape_at(text, end, at + 6));
        size_t length = pair ? 12 : code >= 0 ? 6 : text[at] == '\\' && at + 1 < end ? 2 : 1;
        bool half = !pair && (is_high(code) || is_low(code));
        TRY(half ? buffer_append(out, instead, strlen(instead), err)
                 : buffer_append(out, text + at, length, err));
        *count += half;
        at += length;
    }
    return STATUS_OK;
}

static size_t number_end(const char *text, size_t size, size_t at) {
    while (at < size && is_number_byte(text[at])) {
        at++;
    }
    return at;
}

static int rewrite(struct buffer *out, const char *text, size_t size, bool halves, struct error *err) {
    TRY(buffer_reserve(out, size + 1, err));
    size_t at = 0;
    while (at < size) {
        size_t end = at + 1;
        const char *name = NULL;
        size_t word = odd_word(text + at, size - at, &name);
        if (word > 0) {
            end = at + word;
            TRY(append_odd(out, name, err));
        } else if (text[at] == '"') {
            end = string_end(text, size, at);
            uint64_t ignored = 0; // NUL: no getter takes it for a text
            TRY(halves && !is_key(text, size, end)
                    ? append_halves(out, text, at, end, "\\u0000", &ignored, err)
                    : buffer_append(out, text + at, end - at, err));
        } else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
            end = number_end(text, size, at);
            TRY(append_number(out, text + at, end - at, err));
        } else {
            TRY(buffer_append(out, text + at, 1, err));
        }
        at = end;
    }
    return STATUS_OK;
}

static int parse(json_t **out, const char *text, size_t size, const char *name, bool halves,
                 struct error *err) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    struct buffer second = {0};
    json_error_t problem;
    if (size >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        text += 3;
        size -= 3;
    }
    *out = json_loadb(text, size, JSON_ALLOW_NUL, &problem);
    if (*out != NULL) {
        return STATUS_OK;
    }
    if (json_lacked_memory(&problem)) {
        return error_set(err, STATUS_INTERNAL, "%s: out of memory", name);
    }
    int status;
    TRY_TO(done, status = rewrite(&second, text, size, halves, err));
    *out = json_loadb(second.data, second.size, JSON_ALLOW_NUL, &problem);
    if (*out == NULL && json_lacked_memory(&problem)) {
        status = error_set(err, STATUS_INTERNAL, "%s: out of memory", name);
    } else if (*out == NULL) {
        status = error_set(err, STATUS_DATA, "%s: line %d, column %d: %s", name, problem.line, problem.column,
                           problem.text);
    }
done:
    buffer_destroy(&second);
    return status;
}

int json_parse_python(json_t **out, const char *text, size_t size, const char *name, struct error *err) {
    return parse(out, text, size, name, true, err);
}

int json_parse_vocabulary(json_t **out, const char *text, size_t size, const char *name, struct error *err) {
    return parse(out, text, size, name, false, err);
}

// ---- mending: a text that is JSON, with the next best in the place of what JSON does not have ----

static int mend_string(struct buffer *out, const char *text, size_t at, size_t end, bool blank,
                       struct json_mended *mended, struct error *err) {
    size_t from = out->size;
    uint64_t halves = 0;
    TRY(append_halves(out, text, at, end, "\\uFFFD", &halves, err));
    mended->halves += halves;
    if (halves > 0 && blank) {
        out->size = from;
        return buffer_append(out, "null", 4, err);
    }
    return STATUS_OK;
}

// jansson is asked whether it is a number that is too large, or none at all, which stays as it is.
static int mend_number(struct buffer *out, const char *text, size_t size, bool blank,
                       struct json_mended *mended, struct error *err) {
    enum { SURE = 18 }; // digits that 64 bits hold, whatever they are
    json_error_t problem;
    bool whole = is_whole(text, size);
    json_t *value = whole && size <= SURE ? json_null() : json_loadb(text, size, JSON_DECODE_ANY, &problem);
    bool fits = value != NULL;
    json_decref(value);
    if (!fits && json_lacked_memory(&problem)) {
        return error_set(err, STATUS_INTERNAL, "out of memory for a number of JSON");
    }
    if (fits || json_error_code(&problem) != json_error_numeric_overflow) {
        return buffer_append(out, text, size, err);
    }
    mended->not_finite += !whole;
    mended->beyond += whole;
    return blank || !whole ? buffer_append(out, "null", 4, err)
                           : buffer_printf(out, err, "\"%.*s\"", (int)size, text);
}

int json_mend(struct buffer *out, const char *text, size_t size, bool blank, struct json_mended *mended,
              struct error *err) {
    *mended = (struct json_mended){0};
    buffer_clear(out);
    TRY(buffer_reserve(out, size + 1, err));
    size_t end;
    for (size_t at = 0; at < size; at = end) {
        const char *name = NULL;
        size_t word = odd_word(text + at, size - at, &name);
        bool number = word == 0 && (text[at] == '-' || (text[at] >= '0' && text[at] <= '9'));
        bool string = text[at] == '"';
        end = word > 0 ? at + word
              : number ? number_end(text, size, at)
              : string ? string_end(text, size, at)
                       : at + 1;
        uint64_t before = json_mended_count(mended);
        if (word > 0) {
            mended->not_finite += 1;
            TRY(buffer_append(out, "null", 4, err));
        } else if (is_key(text, size, end) || (!number && !string)) {
            TRY(buffer_append(out, text + at, end - at, err));
        } else {
            TRY(string ? mend_string(out, text, at, end, blank, mended, err)
                       : mend_number(out, text + at, end - at, blank, mended, err));
        }
        if (before == 0 && json_mended_count(mended) > 0) {
            mended->first = at;
        }
    }
    return STATUS_OK;
}

uint64_t json_mended_count(const struct json_mended *mended) {
    return mended->halves + mended->not_finite + mended->beyond;
}
