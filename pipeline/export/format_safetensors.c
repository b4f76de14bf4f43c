// SPDX-License-Identifier: MIT
// The format safetensors, and its files, which other formats make too: 8 bytes header length (little-endian),
// a JSON header padded with spaces to a multiple of 8, then the tensors without gaps in the header's order.
// https://huggingface.co/docs/safetensors/index#format
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/size.h"
#include "export/format.h"
#include "export/target.h"

struct placed_array {
    uint64_t offset; // of its first byte in the file
    size_t row_bytes;
    uint64_t rows;
};

struct safetensors_store {
    struct array_store base;
    char *path;
    int descriptor;
    struct placed_array *arrays;
    size_t count;
};

static const char *type_name(enum array_type type) {
    static const char *const names[] = {
        [ARRAY_F16] = "F16", [ARRAY_BF16] = "BF16", [ARRAY_F32] = "F32", [ARRAY_F64] = "F64",
        [ARRAY_U8] = "U8",   [ARRAY_I32] = "I32",   [ARRAY_I64] = "I64"};
    return names[type];
}

// Appends a name as a JSON string; ids of problems may hold quotes, backslashes and control characters.
static int append_key(struct buffer *header, const struct array_spec *spec, struct error *err) {
    static const char reserved[] = "__metadata__";
    if (spec->name_size == sizeof reserved - 1 && memcmp(spec->name, reserved, spec->name_size) == 0) {
        return error_set(err, STATUS_DATA,
                         "safetensors reserves the name '%s': it cannot be the id of a problem", reserved);
    }
    json_t *key = json_stringn(spec->name, spec->name_size);
    if (key == NULL) {
        return error_set(err, STATUS_DATA, "the name '%.*s' is not valid UTF-8",
                         (int)size_min(spec->name_size, 200), spec->name);
    }
    char *text = json_dumps(key, JSON_ENCODE_ANY);
    json_decref(key);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: a JSON string");
    }
    int status = buffer_append(header, text, strlen(text), err);
    free(text);
    return status;
}

static int append_array(struct buffer *header, const struct array_spec *spec, uint64_t *offset,
                        struct placed_array *array, struct error *err) {
    size_t numbers;
    size_t bytes;
    size_t columns = spec->columns == 0 ? 1 : spec->columns;
    size_t end;
    if (!size_mul(spec->rows, columns, &numbers) || !size_mul(numbers, array_type_size(spec->type), &bytes) ||
        !size_add(*offset, bytes, &end)) {
        return error_set(err, STATUS_INTERNAL, "the array %s is too large", spec->name);
    }
    if (header->size > 1) {
        TRY(buffer_append(header, ",", 1, err));
    }
    TRY(append_key(header, spec, err));
    TRY(buffer_printf(header, err, ":{\"dtype\":\"%s\",\"shape\":[%llu", type_name(spec->type),
                      (unsigned long long)spec->rows));
    if (spec->columns > 0) {
        TRY(buffer_printf(header, err, ",%llu", (unsigned long long)spec->columns));
    }
    TRY(buffer_printf(header, err, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*offset,
                      (unsigned long long)end));
    *array = (struct placed_array){
        .offset = *offset, .row_bytes = columns * array_type_size(spec->type), .rows = spec->rows};
    *offset = end;
    return STATUS_OK;
}

static int write_header(struct safetensors_store *store, struct buffer *header, uint64_t data_bytes,
                        struct error *err) {
    TRY(buffer_append(header, "}", 1, err));
    while (header->size % 8 != 0) {
        TRY(buffer_append(header, " ", 1, err));
    }
    unsigned char length[8];
    for (size_t i = 0; i < sizeof length; i++) {
        length[i] = (unsigned char)((uint64_t)header->size >> (8 * i));
    }
    uint64_t start = sizeof length + header->size;
    for (size_t i = 0; i < store->count; i++) {
        store->arrays[i].offset += start;
    }
    TRY(placed_file_create(&store->descriptor, store->path, start + data_bytes, err));
    TRY(placed_file_write(store->descriptor, store->path, 0, length, sizeof length, err));
    return placed_file_write(store->descriptor, store->path, sizeof length, header->data, header->size, err);
}

static int safetensors_write(struct array_store *base, size_t array, uint64_t first, uint64_t rows,
                             const void *bytes, struct error *err) {
    struct safetensors_store *store = (struct safetensors_store *)base;
    const struct placed_array *place = &store->arrays[array];
    if (array >= store->count || first > place->rows || rows > place->rows - first) {
        return error_set(err, STATUS_INTERNAL, "%s: rows outside the array", store->path);
    }
    return placed_file_write(store->descriptor, store->path, place->offset + first * place->row_bytes, bytes,
                             rows * place->row_bytes, err);
}

static int safetensors_read(struct array_store *base, size_t array, uint64_t first, uint64_t rows,
                            void *bytes, struct error *err) {
    const struct safetensors_store *store = (const struct safetensors_store *)base;
    const struct placed_array *place = &store->arrays[array];
    return placed_file_read(store->descriptor, store->path, place->offset + first * place->row_bytes, bytes,
                            rows * place->row_bytes, err);
}

static int safetensors_close(struct array_store *base, struct error *err) {
    struct safetensors_store *store = (struct safetensors_store *)base;
    return placed_file_finish(&store->descriptor, store->path, err);
}

static void safetensors_destroy(struct array_store *base) {
    struct safetensors_store *store = (struct safetensors_store *)base;
    placed_file_abandon(&store->descriptor);
    free(store->path);
    free(store->arrays);
    free(store);
}

static int create_file(struct safetensors_store *store, const struct array_spec *specs, struct error *err) {
    struct buffer header = {0};
    uint64_t offset = 0;
    int status;
    TRY_TO(done, status = buffer_append(&header, "{", 1, err));
    for (size_t i = 0; i < store->count; i++) {
        TRY_TO(done, status = append_array(&header, &specs[i], &offset, &store->arrays[i], err));
    }
    status = write_header(store, &header, offset, err);
done:
    buffer_destroy(&header);
    return status;
}

static int make_store(struct safetensors_store **out, const char *path, const struct array_spec *specs,
                      size_t count, struct error *err) {
    void *block;
    int status;
    TRY(memory_zeroed(&block, 1, sizeof(struct safetensors_store), err));
    struct safetensors_store *store = block;
    store->base =
        (struct array_store){safetensors_write, safetensors_read, safetensors_close, safetensors_destroy};
    store->descriptor = -1;
    store->count = count;
    TRY_TO(failed, status = memory_text(&store->path, path, err));
    TRY_TO(failed, status = memory_zeroed(&store->arrays, count, sizeof(struct placed_array), err));
    TRY_TO(failed, status = create_file(store, specs, err));
    *out = store;
    return STATUS_OK;
failed:
    safetensors_destroy(&store->base);
    return status;
}

int safetensors_store(struct array_store **out, const char *path, const struct array_spec *specs,
                      size_t count, struct error *err) {
    struct safetensors_store *store = NULL;
    int status = make_store(&store, path, specs, count, err);
    *out = store == NULL ? NULL : &store->base;
    return status;
}

int safetensors_joined_store(struct array_store **out, const char *path, const struct array_spec *specs,
                             size_t count, struct error *err) {
    struct safetensors_store *store = NULL;
    *out = NULL;
    TRY(make_store(&store, path, specs, count, err));
    *out = &store->base;
    for (size_t i = 1; i < count; i++) { // they lie without gaps
        store->arrays[0].rows += store->arrays[i].rows;
    }
    store->count = 1;
    void *arrays = store->arrays;
    int status = memory_resize(&arrays, 1, sizeof *store->arrays, err);
    store->arrays = arrays;
    return status;
}

static int make(struct array_store **out, const char *path, const struct array_set *set, struct error *err) {
    return safetensors_store(out, path, set->specs, set->count, err);
}

const struct export_format export_format_safetensors = {
    .name = "safetensors",
    .help = "S.safetensors, and S.jsonl with a line per problem: id, counts, metadata",
    .fill_line = export_format_fill_line,
    .layout = &export_split_arrays,
    .ending = ".safetensors",
    .array_overhead = 128,
    .file_overhead = 16,
    .make = make,
};
