// SPDX-License-Identifier: MIT
// The format npy: a folder of .npy files, one an array. Version 1.0 of them: magic, version, header length, a
// Python literal padded with spaces and ended by a newline so that the data begins at a multiple of 64 and
// can be memory-mapped. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "export/format.h"
#include "export/target.h"

enum { NPY_HEADER = 128 }; // bytes, the same for every array: the longest literal here has 98

struct npy_array {
    char *path;
    int descriptor;
    size_t row_bytes;
    uint64_t rows;
};

struct npy_store {
    struct array_store base;
    struct npy_array *arrays;
    size_t count;
    char folder[PATH_SIZE];
};

// numpy has no bfloat16: settle converts it.
static const char *type_code(enum array_type type) {
    static const char *const codes[] = {
        [ARRAY_F16] = "<f2", [ARRAY_BF16] = NULL, [ARRAY_F32] = "<f4", [ARRAY_F64] = "<f8",
        [ARRAY_U8] = "|u1",  [ARRAY_I32] = "<i4", [ARRAY_I64] = "<i8"};
    return codes[type];
}

static int write_header(const struct npy_array *array, const struct array_spec *spec, struct error *err) {
    char literal[NPY_HEADER];
    char shape[48];
    if (spec->columns == 0) {
        snprintf(shape, sizeof shape, "(%llu,)", (unsigned long long)spec->rows);
    } else {
        snprintf(shape, sizeof shape, "(%llu, %llu)", (unsigned long long)spec->rows,
                 (unsigned long long)spec->columns);
    }
    int length = snprintf(literal, sizeof literal, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                          type_code(spec->type), shape);
    if (length < 0 || length > NPY_HEADER - 11) {
        return error_set(err, STATUS_INTERNAL, "the .npy header of %s is too long", spec->name);
    }
    unsigned char header[NPY_HEADER];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = NPY_HEADER - 10;
    header[9] = 0;
    memcpy(header + 10, literal, (size_t)length);
    header[NPY_HEADER - 1] = '\n';
    return placed_file_write(array->descriptor, array->path, 0, header, sizeof header, err);
}

static int create_array(struct npy_array *array, const char *folder, const struct array_spec *spec,
                        struct error *err) {
    if (type_code(spec->type) == NULL) {
        return error_set(err, STATUS_INTERNAL, "numpy has no bfloat16: %s", spec->name);
    }
    char path[PATH_SIZE];
    char name[256];
    snprintf(name, sizeof name, "%s.npy", spec->name);
    TRY(path_join(path, sizeof path, folder, name, err));
    size_t columns = spec->columns == 0 ? 1 : spec->columns;
    size_t bytes;
    array->row_bytes = columns * array_type_size(spec->type);
    array->rows = spec->rows;
    if (!size_mul(array->row_bytes, spec->rows, &bytes) || !size_add(bytes, NPY_HEADER, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "the array %s is too large", spec->name);
    }
    TRY(memory_text(&array->path, path, err));
    TRY(placed_file_create(&array->descriptor, path, bytes, err));
    return write_header(array, spec, err);
}

static int npy_write(struct array_store *base, size_t array, uint64_t first, uint64_t rows, const void *bytes,
                     struct error *err) {
    struct npy_store *store = (struct npy_store *)base;
    const struct npy_array *place = &store->arrays[array];
    if (array >= store->count || first > place->rows || rows > place->rows - first) {
        return error_set(err, STATUS_INTERNAL, "%s: rows outside the array", store->folder);
    }
    return placed_file_write(place->descriptor, place->path, NPY_HEADER + first * place->row_bytes, bytes,
                             rows * place->row_bytes, err);
}

static int npy_read(struct array_store *base, size_t array, uint64_t first, uint64_t rows, void *bytes,
                    struct error *err) {
    const struct npy_array *place = &((const struct npy_store *)base)->arrays[array];
    return placed_file_read(place->descriptor, place->path, NPY_HEADER + first * place->row_bytes, bytes,
                            rows * place->row_bytes, err);
}

static int npy_close(struct array_store *base, struct error *err) {
    struct npy_store *store = (struct npy_store *)base;
    for (size_t i = 0; i < store->count; i++) {
        TRY(placed_file_finish(&store->arrays[i].descriptor, store->arrays[i].path, err));
    }
    return file_sync_folder(store->folder, err);
}

static void npy_destroy(struct array_store *base) {
    struct npy_store *store = (struct npy_store *)base;
    for (size_t i = 0; store->arrays != NULL && i < store->count; i++) {
        placed_file_abandon(&store->arrays[i].descriptor);
        free(store->arrays[i].path);
    }
    free(store->arrays);
    free(store);
}

static int make(struct array_store **out, const char *folder, const struct array_set *set,
                struct error *err) {
    void *block;
    int status;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct npy_store), err));
    struct npy_store *store = block;
    store->base = (struct array_store){npy_write, npy_read, npy_close, npy_destroy};
    store->count = set->count;
    TRY_TO(failed, status = path_join(store->folder, sizeof store->folder, "", folder, err));
    TRY_TO(failed, status = memory_zeroed(&block, set->count, sizeof(struct npy_array), err));
    store->arrays = block;
    for (size_t i = 0; i < set->count; i++) {
        store->arrays[i].descriptor = -1;
    }
    TRY_TO(failed, status = file_make_folder(folder, err));
    for (size_t i = 0; i < set->count; i++) {
        TRY_TO(failed, status = create_array(&store->arrays[i], folder, &set->specs[i], err));
    }
    *out = &store->base;
    return STATUS_OK;
failed:
    npy_destroy(&store->base);
    return status;
}

static int settle(struct export_plan *plan, const struct export_request *request, struct error *err) {
    if (plan->dtype != DTYPE_BF16) {
        return STATUS_OK;
    }
    if (request->convert) {
        return error_set(err, STATUS_USAGE,
                         "numpy has no bfloat16; use --dtype float32 (exact) or another format");
    }
    plan->dtype = DTYPE_F32;
    return STATUS_OK;
}

const struct export_format export_format_npy = {
    .name = "npy",
    .help = "S/hs_035.npy, memory-mappable, and S.jsonl; bfloat16 becomes float32",
    .settle = settle,
    .fill_line = export_format_fill_line,
    .layout = &export_split_arrays,
    .ending = "",
    .array_overhead = NPY_HEADER,
    .open_an_array = 1,
    .make = make,
};
