// SPDX-License-Identifier: MIT
#include "model/quant_state.h"

#include <math.h>
#include <string.h>

#include "base/json.h"

static int get_text(const json_t *json, const char *key, const char *wanted, struct error *err) {
    const char *text = NULL;
    TRY(json_get_string(json, key, &text, err));
    if (text == NULL || strcmp(text, wanted) != 0) {
        return error_set(err, STATUS_DATA, "'%s' is '%.32s', not '%s'", key, text == NULL ? "" : text,
                         wanted);
    }
    return STATUS_OK;
}

// How many numbers share a scale: what bitsandbytes can make.
static int get_run(const json_t *json, const char *key, size_t *out, struct error *err) {
    enum { SHORTEST = 32, LONGEST = 4096 };
    int64_t run = 0;
    TRY(json_get_integer(json, key, SHORTEST, LONGEST, &run, err));
    if (run == 0) {
        return error_set(err, STATUS_DATA, "'%s' is missing", key);
    }
    if ((run & (run - 1)) != 0) {
        return error_set(err, STATUS_DATA, "'%s' is %d, not a power of two from %d to %d", key, (int)run,
                         SHORTEST, LONGEST);
    }
    *out = (size_t)run;
    return STATUS_OK;
}

static int get_shape(const json_t *json, struct quant_state *out, struct error *err) {
    const json_t *shape = json_object_get(json, "shape");
    const json_t *rows = json_array_get(shape, 0);
    const json_t *columns = json_array_get(shape, 1);
    if (json_array_size(shape) != 2 || !json_is_integer(rows) || !json_is_integer(columns) ||
        json_integer_value(rows) <= 0 || json_integer_value(columns) <= 0) {
        return error_set(err, STATUS_DATA, "'shape' is not a list of two sizes");
    }
    out->rows = (size_t)json_integer_value(rows);
    out->columns = (size_t)json_integer_value(columns);
    return STATUS_OK;
}

// Scales that are codes themselves ("double quantization").
static int get_nested(const json_t *json, struct weight_lookups *out, struct error *err) {
    double offset = NAN;
    if (json_member(json, "nested_blocksize") == NULL) {
        return STATUS_OK;
    }
    out->is_nested = true;
    TRY(get_run(json, "nested_blocksize", &out->nested, err));
    TRY(get_text(json, "nested_dtype", "float32", err));
    TRY(json_get_number(json, "nested_offset", &offset, err));
    out->offset = (float)offset;
    return isfinite(out->offset)
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "'nested_offset' is missing or no float32 number");
}

static int read_state(struct quant_state *out, const json_t *json, const char *type, struct error *err) {
    if (!json_is_object(json)) {
        return error_set(err, STATUS_DATA, "not a JSON object");
    }
    // "dtype" is the type that the matrix had: no number is rounded to it when it is multiplied.
    TRY(get_text(json, "quant_type", type, err));
    TRY(get_run(json, "blocksize", &out->lookups.run, err));
    TRY(get_shape(json, out, err));
    return get_nested(json, &out->lookups, err);
}

int quant_state_parse(struct quant_state *out, const char *text, size_t size, const char *type,
                      struct error *err) {
    json_t *json = NULL;
    *out = (struct quant_state){0};
    TRY(json_parse_python(&json, text, size, "quant_state", err));
    int status = read_state(out, json, type, err);
    json_decref(json);
    return status;
}
