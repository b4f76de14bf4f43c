// SPDX-License-Identifier: MIT
#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/memory.h"

bool json_lacked_memory(const json_error_t *problem) {
    return problem->text[0] == 0 || json_error_code(problem) == json_error_out_of_memory;
}

int json_parse(json_t **out, const char *text, size_t size, const char *name, struct error *err) {
    json_error_t problem;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
    if (*out == NULL && json_lacked_memory(&problem)) {
        return error_set(err, STATUS_INTERNAL, "%s: out of memory", name);
    }
    if (*out == NULL) {
        return error_set(err, STATUS_DATA, "%s: line %d, column %d: %s", name, problem.line, problem.column,
                         problem.text);
    }
    return STATUS_OK;
}

int json_parse_file(json_t **out, const char *path, size_t limit, struct error *err) {
    struct buffer text = {0};
    *out = NULL;
    int status;
    TRY_TO(done, status = file_read(&text, path, limit, err));
    TRY_TO(done, status = first_bytes_check(text.data, text.size, text.size, path, FIRST_BYTES_JSON, err));
    TRY_TO(done, status = json_parse_python(out, text.data, text.size, path, err));
done:
    buffer_destroy(&text);
    return status;
}

json_t *json_member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return value == NULL || json_is_null(value) ? NULL : value;
}

static int wrong_type(const json_t *value, const char *key, const char *wanted, struct error *err) {
    const char *odd = json_odd_number(value);
    return odd == NULL ? error_set(err, STATUS_DATA, "'%s' is not %s", key, wanted)
                       : error_set(err, STATUS_DATA, "'%s' is %s, not %s", key, odd, wanted);
}

int json_get_integer(const json_t *object, const char *key, int64_t minimum, int64_t maximum, int64_t *out,
                     struct error *err) {
    json_t *value = json_member(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    int64_t number;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (json_is_real(value) && trunc(json_real_value(value)) == json_real_value(value) &&
               fabs(json_real_value(value)) < 0x1p53) {
        number = (int64_t)json_real_value(value);
    } else if (json_is_real(value) && fabs(json_real_value(value)) >= 0x1p53) {
        return error_set(err, STATUS_DATA, "'%s' is %g, outside %lld to %lld", key, json_real_value(value),
                         (long long)minimum, (long long)maximum);
    } else {
        return wrong_type(value, key, "a whole number", err);
    }
    if (number < minimum || number > maximum) {
        return error_set(err, STATUS_DATA, "'%s' is %lld, outside %lld to %lld", key, (long long)number,
                         (long long)minimum, (long long)maximum);
    }
    *out = number;
    return STATUS_OK;
}

int json_get_number(const json_t *object, const char *key, double *out, struct error *err) {
    json_t *value = json_member(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_number(value)) {
        return wrong_type(value, key, "a number", err);
    }
    *out = json_number_value(value);
    return STATUS_OK;
}

int json_get_boolean(const json_t *object, const char *key, bool *out, struct error *err) {
    json_t *value = json_member(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_boolean(value)) {
        return wrong_type(value, key, "true or false", err);
    }
    *out = json_is_true(value);
    return STATUS_OK;
}

int json_get_string(const json_t *object, const char *key, const char **out, struct error *err) {
    json_t *value = json_member(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        return wrong_type(value, key, "a text without NUL bytes", err);
    }
    *out = json_string_value(value);
    return STATUS_OK;
}

// ---- values to be printed ----

json_t *json_count(uint64_t value) {
    return json_integer((json_int_t)value);
}

json_t *json_count_if(bool known, uint64_t value) {
    return known ? json_count(value) : json_null();
}

json_t *json_real_if(bool known, double value) {
    json_t *real = known ? json_real(value) : NULL;
    return real != NULL ? real : json_null();
}

json_t *json_text_if(bool known, const char *text) {
    json_t *value = known ? json_string(text) : NULL;
    return value != NULL ? value : json_null();
}
