// SPDX-License-Identifier: MIT
#include "model/gguf_metadata.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/gguf_internal.h"

enum { TYPES = GGUF_FLOAT64 + 1, LONGEST_KEY = 65535, LENGTH_BYTES = 8, NAMED = 200 };

static const struct {
    const char *name;
    size_t bytes; // of one; 0: it depends
} types[TYPES] = {
    [GGUF_UINT8] = {"uint8", 1},   [GGUF_INT8] = {"int8", 1},       [GGUF_UINT16] = {"uint16", 2},
    [GGUF_INT16] = {"int16", 2},   [GGUF_UINT32] = {"uint32", 4},   [GGUF_INT32] = {"int32", 4},
    [GGUF_UINT64] = {"uint64", 8}, [GGUF_INT64] = {"int64", 8},     [GGUF_FLOAT32] = {"float32", 4},
    [GGUF_BOOL] = {"bool", 1},     [GGUF_FLOAT64] = {"float64", 8}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0},
};

// ---- parsing ----

static int take_type(struct gguf_cursor *cursor, enum gguf_type *out, struct error *err) {
    uint32_t type;
    TRY(gguf_take_u32(cursor, "a type", &type, err));
    if (type >= TYPES) {
        return error_set(err, STATUS_DATA, "type %u is unknown", type);
    }
    *out = (enum gguf_type)type;
    return STATUS_OK;
}

// Where each text begins. Memory for that is taken once the lengths of all of them could be at hand.
static int take_texts(struct gguf_cursor *cursor, struct gguf_value *value, struct error *err) {
    struct gguf_cursor ahead = *cursor;
    const unsigned char *start;
    void *texts;
    TRY(gguf_take(&ahead, value->count * LENGTH_BYTES, value->list ? "an array of texts" : "a text", &start,
                  err));
    TRY(memory_zeroed(&texts, size_max(value->count, 1), sizeof value->texts[0], err));
    value->texts = texts;
    value->bytes = start;
    size_t first = cursor->at;
    for (size_t i = 0; i < value->count; i++) {
        const char *text;
        size_t length;
        value->texts[i] = cursor->at - first;
        if (gguf_take_text(cursor, GGUF_HEADER, "a text", &text, &length, err) != STATUS_OK) {
            return value->list ? error_wrap(err, "element %zu", i) : err->status;
        }
    }
    return STATUS_OK;
}

static int take_numbers(struct gguf_cursor *cursor, struct gguf_value *value, struct error *err) {
    size_t bytes = types[value->type].bytes;
    TRY(gguf_take(cursor, value->count * bytes, value->list ? "an array" : "a value", &value->bytes, err));
    for (size_t i = 0; value->type == GGUF_BOOL && i < value->count; i++) {
        if (value->bytes[i] > 1) {
            return error_set(err, STATUS_DATA, "%d is neither true nor false", value->bytes[i]);
        }
    }
    return STATUS_OK;
}

static int take_value(struct gguf_cursor *cursor, struct gguf_value *value, struct error *err) {
    TRY(take_type(cursor, &value->type, err));
    value->count = 1;
    if (value->type == GGUF_ARRAY) {
        uint64_t count;
        value->list = true;
        TRY(take_type(cursor, &value->type, err));
        if (value->type == GGUF_ARRAY) {
            return error_set(err, STATUS_DATA, "an array of arrays, which no key has a use for");
        }
        TRY(gguf_take_u64(cursor, "an array's length", &count, err));
        size_t each = value->type == GGUF_STRING ? LENGTH_BYTES : types[value->type].bytes;
        TRY(gguf_check_count(cursor, count, each, "elements", err));
        value->count = (size_t)count;
    }
    return value->type == GGUF_STRING ? take_texts(cursor, value, err) : take_numbers(cursor, value, err);
}

static int compare_texts(const char *a, size_t a_length, const char *b, size_t b_length) {
    int order = memcmp(a, b, size_min(a_length, b_length));
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_keys(const void *left, const void *right) {
    const struct gguf_value *a = left;
    const struct gguf_value *b = right;
    return compare_texts(a->key, a->key_length, b->key, b->key_length);
}

static int named_length(const struct gguf_value *value) {
    return (int)size_min(value->key_length, NAMED);
}

static int order_keys(struct gguf_metadata *metadata, struct error *err) {
    if (metadata->count > 0) {
        qsort(metadata->values, metadata->count, sizeof metadata->values[0], compare_keys);
    }
    for (size_t i = 1; i < metadata->count; i++) {
        const struct gguf_value *value = &metadata->values[i];
        if (compare_keys(value - 1, value) == 0) {
            return error_set(err, STATUS_DATA, "key '%.*s' is there twice", named_length(value), value->key);
        }
    }
    return STATUS_OK;
}

int gguf_take_values(struct gguf_cursor *cursor, struct gguf_metadata *metadata, size_t count,
                     struct error *err) {
    void *values;
    TRY(memory_zeroed(&values, size_max(count, 1), sizeof metadata->values[0], err));
    metadata->values = values;
    for (size_t i = 0; i < count; i++) {
        struct gguf_value *value = &metadata->values[metadata->count++];
        TRY(gguf_take_text(cursor, LONGEST_KEY, "a key", &value->key, &value->key_length, err));
        if (value->key_length == 0) {
            return error_set(err, STATUS_DATA, "key number %zu is empty", i);
        }
        if (take_value(cursor, value, err) != STATUS_OK) {
            return error_wrap(err, "key '%.*s'", named_length(value), value->key);
        }
    }
    return order_keys(metadata, err);
}

void gguf_metadata_destroy(struct gguf_metadata *metadata) {
    for (size_t i = 0; i < metadata->count; i++) {
        free(metadata->values[i].texts);
    }
    free(metadata->values);
    buffer_destroy(&metadata->bytes);
    *metadata = (struct gguf_metadata){0};
}

// ---- asking ----

static int compare_to_key(const void *key, const void *value) {
    const struct gguf_value *other = value;
    return compare_texts(key, strlen(key), other->key, other->key_length);
}

const struct gguf_value *gguf_metadata_find(const struct gguf_metadata *metadata, const char *key) {
    return metadata->count == 0
               ? NULL
               : bsearch(key, metadata->values, metadata->count, sizeof metadata->values[0], compare_to_key);
}

bool gguf_value_text(const struct gguf_value *value, size_t index, const char **out, size_t *length) {
    uint64_t size;
    if (value->type != GGUF_STRING || index >= value->count) {
        return false;
    }
    const unsigned char *at = value->bytes + value->texts[index];
    memcpy(&size, at, sizeof size);
    *length = (size_t)size;
    *out = (const char *)at + sizeof size;
    return true;
}

#define READ(type)                                                                                           \
    type number;                                                                                             \
    memcpy(&number, value->bytes + index * sizeof number, sizeof number)

// clang-format off
bool gguf_value_integer(const struct gguf_value *value, size_t index, int64_t *out) {
    if (index >= value->count) {
        return false;
    }
    switch (value->type) {
    case GGUF_BOOL:
    case GGUF_UINT8: { READ(uint8_t); *out = number; return true; }
    case GGUF_INT8: { READ(int8_t); *out = number; return true; }
    case GGUF_UINT16: { READ(uint16_t); *out = number; return true; }
    case GGUF_INT16: { READ(int16_t); *out = number; return true; }
    case GGUF_UINT32: { READ(uint32_t); *out = number; return true; }
    case GGUF_INT32: { READ(int32_t); *out = number; return true; }
    case GGUF_INT64: { READ(int64_t); *out = number; return true; }
    case GGUF_UINT64: {
        READ(uint64_t);
        *out = number <= INT64_MAX ? (int64_t)number : *out;
        return number <= INT64_MAX;
    }
    default: return false;
    }
}

bool gguf_value_number(const struct gguf_value *value, size_t index, double *out) {
    int64_t whole;
    if (index >= value->count) {
        return false;
    }
    switch (value->type) {
    case GGUF_FLOAT32: { READ(float); *out = (double)number; return true; }
    case GGUF_FLOAT64: { READ(double); *out = number; return true; }
    case GGUF_UINT64: { READ(uint64_t); *out = (double)number; return true; }
    case GGUF_BOOL: return false;
    default: break;
    }
    if (!gguf_value_integer(value, index, &whole)) {
        return false;
    }
    *out = (double)whole;
    return true;
}
// clang-format on

const char *gguf_value_type(const struct gguf_value *value, char out[GGUF_TYPE_TEXT]) {
    snprintf(out, GGUF_TYPE_TEXT, "%s%s", value->list ? "an array of " : "", types[value->type].name);
    return out;
}
