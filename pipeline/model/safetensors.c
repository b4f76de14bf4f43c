// SPDX-License-Identifier: MIT
#include "model/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "kernels/weight_format.h"

static const struct tensor_type types[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"U8", 8},   {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"I16", 16},        {"U16", 16}, {"F16", 16},
    {"BF16", 16},   {"I32", 32},    {"U32", 32},        {"F32", 32},        {"C64", 64}, {"F64", 64},
    {"I64", 64},    {"U64", 64},    {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8},
};

enum { LENGTH_BYTES = 8, DEEPEST = 4, VALUES_PER_TENSOR = 24 };

// One look at the bytes before the JSON parser gets them: nesting and the number of values are bounded, so
// that a hostile header cannot make it take memory or stack out of proportion.
static int bound_header(const unsigned char *text, size_t size, struct error *err) {
    size_t depth = 0;
    size_t values = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = text[i];
        if (quoted) {
            i += byte == '\\';
            quoted = byte != '"';
        } else if (byte == '"') {
            quoted = true;
        } else if (byte == '{' || byte == '[') {
            depth++;
            values++;
        } else if (byte == '}' || byte == ']') {
            depth -= depth > 0;
        } else if (byte == ',') {
            values++;
        }
        if (depth > DEEPEST) {
            return error_set(err, STATUS_DATA, "header is nested more than %d deep", DEEPEST);
        }
        if (values > (size_t)SAFETENSORS_TENSORS * VALUES_PER_TENSOR) {
            return error_set(err, STATUS_DATA, "header holds too many values");
        }
    }
    return STATUS_OK;
}

// Of a file of fewer bytes the others count as zero.
static uint64_t header_length(const unsigned char *bytes, size_t size) {
    uint64_t length = 0;
    for (size_t i = 0; i < size; i++) {
        length |= (uint64_t)bytes[i] << (8 * i);
    }
    return length;
}

static int find_header(const unsigned char *bytes, size_t size, size_t *length, struct error *err) {
    if (size < LENGTH_BYTES) {
        return error_set(err, STATUS_DATA, "file of %zu bytes is too short for a header", size);
    }
    uint64_t wanted = header_length(bytes, LENGTH_BYTES);
    if (wanted > SAFETENSORS_HEADER) {
        return error_set(err, STATUS_DATA, "header of %llu bytes is longer than the limit of %d",
                         (unsigned long long)wanted, SAFETENSORS_HEADER);
    }
    if (wanted > size - LENGTH_BYTES) {
        return error_set(err, STATUS_DATA,
                         "header of %llu bytes does not fit into the file of %zu: it is truncated",
                         (unsigned long long)wanted, size);
    }
    if (wanted == 0 || bytes[LENGTH_BYTES] != '{') {
        return error_set(err, STATUS_DATA, "header does not start with '{'");
    }
    size_t bad;
    if (!utf8_valid((const char *)bytes + LENGTH_BYTES, (size_t)wanted, &bad)) {
        return error_set(err, STATUS_DATA, "header is not valid UTF-8 at byte %zu", LENGTH_BYTES + bad);
    }
    *length = (size_t)wanted;
    return bound_header(bytes + LENGTH_BYTES, *length, err);
}

static int read_type(const json_t *entry, struct tensor *out, struct error *err) {
    const char *name = NULL;
    TRY(json_get_string(entry, "dtype", &name, err));
    if (name == NULL) {
        return error_set(err, STATUS_DATA, "'dtype' is missing");
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name, types[i].name) == 0) {
            out->type = &types[i];
            out->format = weight_format_find(name);
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA, "dtype '%.32s' is unknown", name);
}

static int read_natural(const json_t *value, const char *what, size_t *out, struct error *err) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return error_set(err, STATUS_DATA, "%s is not a whole number from 0 on", what);
    }
    *out = (size_t)json_integer_value(value);
    return STATUS_OK;
}

// The shape, and the bytes it takes.
static int read_shape(const json_t *entry, struct tensor *out, size_t *bytes, struct error *err) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_RANK) {
        return error_set(err, STATUS_DATA, "'shape' is not a list of at most %d sizes", TENSOR_RANK);
    }
    size_t bits = out->type->bits;
    out->rank = json_array_size(shape);
    for (size_t i = 0; i < out->rank; i++) {
        TRY(read_natural(json_array_get(shape, i), "a size in 'shape'", &out->shape[i], err));
        if (!size_mul(bits, out->shape[i], &bits)) {
            return error_set(err, STATUS_DATA, "'shape' is too large");
        }
    }
    if (bits % 8 != 0) {
        return error_set(err, STATUS_DATA, "'shape' does not fill whole bytes");
    }
    *bytes = bits / 8;
    return STATUS_OK;
}

static int read_offsets(const json_t *entry, struct tensor *out, size_t bytes, size_t data, size_t size,
                        struct error *err) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2) {
        return error_set(err, STATUS_DATA, "'data_offsets' is not a list of two numbers");
    }
    size_t begin = 0;
    size_t end = 0;
    TRY(read_natural(json_array_get(offsets, 0), "the start in 'data_offsets'", &begin, err));
    TRY(read_natural(json_array_get(offsets, 1), "the end in 'data_offsets'", &end, err));
    if (begin > end || end - begin != bytes) {
        return error_set(err, STATUS_DATA, "'data_offsets' [%zu, %zu) do not span the %zu bytes of the shape",
                         begin, end, bytes);
    }
    if (end > size - data) {
        return error_set(err, STATUS_DATA, "data ends at byte %zu of %zu: the file is truncated", end,
                         size - data);
    }
    out->begin = data + begin;
    out->end = data + end;
    return STATUS_OK;
}

static int read_tensor(const json_t *entry, const char *name, size_t data, size_t size, struct tensor *out,
                       struct error *err) {
    if (!json_is_object(entry)) {
        return error_set(err, STATUS_DATA, "entry is not an object");
    }
    size_t bytes = 0;
    TRY(read_type(entry, out, err));
    TRY(read_shape(entry, out, &bytes, err));
    TRY(read_offsets(entry, out, bytes, data, size, err));
    return memory_text(&out->name, name, err);
}

static int check_metadata(const json_t *metadata, struct error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        return error_set(err, STATUS_DATA, "'__metadata__' is not an object");
    }
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value)) {
            return error_set(err, STATUS_DATA, "'__metadata__' entry '%.64s' is not a text", key);
        }
    }
    return STATUS_OK;
}

// The data section is filled from its first to its last byte: no hole, no overlap, nothing behind.
static int check_places(struct tensors *out, size_t first, size_t data, size_t size, struct error *err) {
    size_t count = out->count - first;
    struct tensor *tensors = count == 0 ? NULL : out->entries + first; // entries is NULL where there are none
    if (count > 0) {
        qsort(tensors, count, sizeof tensors[0], tensors_compare_places);
    }
    size_t at = data;
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = &tensors[i];
        if (tensor->begin != at) {
            return error_set(err, STATUS_DATA, "tensor '%.200s' %s the data before it", tensor->name,
                             tensor->begin < at ? "overlaps" : "leaves a hole after");
        }
        at = tensor->end;
    }
    if (at != size) {
        return error_set(err, STATUS_DATA, "%zu bytes after the last tensor belong to none", size - at);
    }
    return STATUS_OK;
}

static int read_entries(struct tensors *out, size_t number, json_t *header, size_t data, size_t size,
                        struct error *err) {
    size_t first = out->count;
    size_t entries = json_object_size(header);
    if (entries > SAFETENSORS_TENSORS) {
        return error_set(err, STATUS_DATA, "%zu tensors are more than the limit of %d", entries,
                         SAFETENSORS_TENSORS);
    }
    TRY(tensors_reserve(out, entries, err));
    const char *key;
    json_t *entry;
    json_object_foreach(header, key, entry) {
        if (strcmp(key, "__metadata__") == 0) {
            TRY(check_metadata(entry, err));
            continue;
        }
        struct tensor *tensor = &out->entries[out->count++];
        *tensor = (struct tensor){.file = number};
        if (read_tensor(entry, key, data, size, tensor, err) != STATUS_OK) {
            return error_wrap(err, "tensor '%.200s'", key);
        }
    }
    return check_places(out, first, data, size, err);
}

int safetensors_parse(struct tensors *out, size_t number, const unsigned char *bytes, size_t size,
                      const char *name, struct error *err) {
    int status;
    size_t length = 0;
    size_t before = out->count;
    json_t *header = NULL;
    TRY_TO(done, status = find_header(bytes, size, &length, err));
    TRY_TO(done, status = json_parse(&header, (const char *)bytes + LENGTH_BYTES, length, "header", err));
    TRY_TO(done, status = read_entries(out, number, header, LENGTH_BYTES + length, size, err));
done:
    json_decref(header);
    if (status != STATUS_OK) {
        tensors_truncate(out, before);
        return error_wrap(err, "%s", name);
    }
    return STATUS_OK;
}

// What the header may take, of what the file has: its length says so, and safetensors_parse judges it.
int safetensors_read(struct tensors *out, size_t number, int descriptor, size_t size, const char *path,
                     struct error *err) {
    int status;
    struct buffer bytes = {0};
    unsigned char length[LENGTH_BYTES];
    size_t first = size_min(size, sizeof length);
    TRY(file_read_at(descriptor, length, first, 0, path, err));
    uint64_t wanted = header_length(length, first);
    bool fits = first == sizeof length && wanted <= SAFETENSORS_HEADER && wanted <= size - first;
    size_t needed = fits ? first + (size_t)wanted : first;
    TRY(buffer_reserve(&bytes, size_max(needed, 1), err));
    TRY_TO(done, status = file_read_at(descriptor, bytes.data, needed, 0, path, err));
    // Of a header that is plausible the first bytes are a length, whatever else they look like.
    if (!fits || wanted == 0 || bytes.data[first] != '{') {
        TRY_TO(done, status = first_bytes_check_file(path, FIRST_BYTES_SAFETENSORS, err));
    }
    status = safetensors_parse(out, number, (const unsigned char *)bytes.data, size, path, err);
done:
    buffer_destroy(&bytes);
    return status;
}
