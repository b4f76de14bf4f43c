// SPDX-License-Identifier: MIT
// The tensors of a GGUF header: types, shapes and places.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/names.h"
#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/gguf_internal.h"

enum { LONGEST_NAME = 255, TYPE_NAMES = 256 }; // ggml's own limit for a name is 63 bytes

struct type {
    struct tensor_type type;
    unsigned number;
    unsigned block;     // numbers of a row that are packed together
    unsigned bytes;     // that a block takes
    const char *advice; // why it is refused, and what to get; NULL: it is read
};

#define SMALLER "it needs tables of grids: get the model as Q2_K, Q3_K or IQ4_XS"
#define TERNARY "its weights are ternary: get the model as Q2_K or larger"
#define RUNTIME "it is a format of computation, not of files: get the model as Q8_0"
#define NUMBERS "weights are not kept so: convert the model anew"

static const struct type types[] = {
    {{"F32", 32}, 0, 1, 4, NULL},
    {{"F16", 16}, 1, 1, 2, NULL},
    {{"Q4_0", 0}, 2, 32, 18, NULL},
    {{"Q4_1", 0}, 3, 32, 20, NULL},
    {{"Q5_0", 0}, 6, 32, 22, NULL},
    {{"Q5_1", 0}, 7, 32, 24, NULL},
    {{"Q8_0", 0}, 8, 32, 34, NULL},
    {{"Q8_1", 0}, 9, 32, 36, RUNTIME},
    {{"Q2_K", 0}, 10, 256, 84, NULL},
    {{"Q3_K", 0}, 11, 256, 110, NULL},
    {{"Q4_K", 0}, 12, 256, 144, NULL},
    {{"Q5_K", 0}, 13, 256, 176, NULL},
    {{"Q6_K", 0}, 14, 256, 210, NULL},
    {{"Q8_K", 0}, 15, 256, 292, RUNTIME},
    {{"IQ2_XXS", 0}, 16, 256, 66, SMALLER},
    {{"IQ2_XS", 0}, 17, 256, 74, SMALLER},
    {{"IQ3_XXS", 0}, 18, 256, 98, SMALLER},
    {{"IQ1_S", 0}, 19, 256, 50, SMALLER},
    {{"IQ4_NL", 0}, 20, 32, 18, NULL},
    {{"IQ3_S", 0}, 21, 256, 110, SMALLER},
    {{"IQ2_S", 0}, 22, 256, 82, SMALLER},
    {{"IQ4_XS", 0}, 23, 256, 136, NULL},
    {{"I8", 8}, 24, 1, 1, NUMBERS},
    {{"I16", 16}, 25, 1, 2, NUMBERS},
    {{"I32", 32}, 26, 1, 4, NUMBERS},
    {{"I64", 64}, 27, 1, 8, NUMBERS},
    {{"F64", 64}, 28, 1, 8, NUMBERS},
    {{"IQ1_M", 0}, 29, 256, 56, SMALLER},
    {{"BF16", 16}, 30, 1, 2, NULL},
    {{"TQ1_0", 0}, 34, 256, 54, TERNARY},
    {{"TQ2_0", 0}, 35, 256, 66, TERNARY},
    {{"MXFP4", 0}, 39, 32, 17, NULL},
    {{"NVFP4", 0}, 40, 64, 36, "get the model as MXFP4, Q4_K or Q8_0"},
    {{"Q1_0", 0}, 41, 128, 18, "get the model as Q2_K or larger"},
};

enum { TYPES = sizeof types / sizeof types[0] };

static void name_types(char out[TYPE_NAMES]) {
    size_t count = 0;
    size_t named = 0;
    for (size_t i = 0; i < TYPES; i++) {
        count += types[i].advice == NULL;
    }
    out[0] = 0;
    for (size_t i = 0; i < TYPES; i++) {
        if (types[i].advice == NULL) {
            names_append(out, TYPE_NAMES, types[i].type.name, named++, count);
        }
    }
}

static int find_type(uint32_t number, const struct type **out, struct error *err) {
    char names[TYPE_NAMES];
    for (size_t i = 0; i < TYPES; i++) {
        if (types[i].number == number) {
            *out = &types[i];
            return types[i].advice == NULL ? STATUS_OK
                                           : error_set(err, STATUS_DATA, "type %s is not supported: %s",
                                                       types[i].type.name, types[i].advice);
        }
    }
    name_types(names);
    return error_set(err, STATUS_DATA, "type number %u is unknown: get the model as one of %s", number,
                     names);
}

// The sizes as they are in the file, with the row's length first; the bytes that they take.
static int take_shape(struct gguf_cursor *cursor, struct tensor *out, size_t sizes[GGUF_RANK],
                      struct error *err) {
    uint32_t rank;
    size_t numbers = 1;
    TRY(gguf_take_u32(cursor, "a rank", &rank, err));
    if (rank == 0 || rank > GGUF_RANK) {
        return error_set(err, STATUS_DATA, "%u dimensions are not 1 to %d", rank, GGUF_RANK);
    }
    out->rank = rank;
    for (size_t i = 0; i < rank; i++) {
        uint64_t size;
        TRY(gguf_take_u64(cursor, "a size", &size, err));
        if (size == 0 || size > INT64_MAX || !size_mul(numbers, (size_t)size, &numbers)) {
            return error_set(err, STATUS_DATA, "size %zu is %llu: the shape is %s", i,
                             (unsigned long long)size, size == 0 ? "empty" : "too large");
        }
        sizes[i] = (size_t)size;
        out->shape[rank - 1 - i] = (size_t)size;
    }
    return STATUS_OK;
}

static int find_bytes(const struct type *type, const size_t sizes[GGUF_RANK], size_t rank, size_t *bytes,
                      struct error *err) {
    if (sizes[0] % type->block != 0) {
        return error_set(err, STATUS_DATA, "rows of %zu numbers are no multiple of the %u that %s packs",
                         sizes[0], type->block, type->type.name);
    }
    size_t size = type->bytes;
    bool fits = size_mul(size, sizes[0] / type->block, &size);
    for (size_t i = 1; i < rank && fits; i++) {
        fits = size_mul(size, sizes[i], &size);
    }
    *bytes = size;
    return fits ? STATUS_OK : error_set(err, STATUS_DATA, "the shape is too large");
}

// begin and end count from the start of the data here: where that is, is known behind the last tensor.
static int take_place(struct gguf_cursor *cursor, struct tensor *out, size_t bytes, size_t alignment,
                      struct error *err) {
    uint64_t offset;
    TRY(gguf_take_u64(cursor, "an offset", &offset, err));
    if (offset % alignment != 0) {
        return error_set(err, STATUS_DATA, "its offset %llu is no multiple of the alignment %zu",
                         (unsigned long long)offset, alignment);
    }
    if (offset > SIZE_MAX - bytes) {
        return error_set(err, STATUS_DATA, "its offset %llu is too large", (unsigned long long)offset);
    }
    out->begin = (size_t)offset;
    out->end = (size_t)offset + bytes;
    return STATUS_OK;
}

static int take_tensor(struct gguf_cursor *cursor, struct tensor *out, size_t alignment, struct error *err) {
    size_t sizes[GGUF_RANK];
    size_t bytes = 0;
    uint32_t number;
    const struct type *type = NULL;
    TRY(take_shape(cursor, out, sizes, err));
    TRY(gguf_take_u32(cursor, "a tensor's type", &number, err));
    TRY(find_type(number, &type, err));
    out->type = &type->type;
    out->format = weight_format_find(type->type.name);
    TRY(find_bytes(type, sizes, out->rank, &bytes, err));
    return take_place(cursor, out, bytes, alignment, err);
}

static int take_named(struct gguf_cursor *cursor, struct tensor *out, size_t alignment, struct error *err) {
    const char *name;
    size_t length;
    char text[LONGEST_NAME + 1];
    TRY(gguf_take_text(cursor, LONGEST_NAME, "a tensor's name", &name, &length, err));
    if (length == 0) {
        return error_set(err, STATUS_DATA, "a tensor's name at byte %zu is empty", cursor->at);
    }
    memcpy(text, name, length);
    text[length] = 0;
    if (take_tensor(cursor, out, alignment, err) != STATUS_OK) {
        return error_wrap(err, "tensor '%s'", text);
    }
    return memory_text(&out->name, text, err);
}

static int compare_names(const void *left, const void *right) {
    return strcmp(((const struct tensor *)left)->name, ((const struct tensor *)right)->name);
}

static int check_names(struct tensor *tensors, size_t count, struct error *err) {
    qsort(tensors, count, sizeof tensors[0], compare_names);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0) {
            return error_set(err, STATUS_DATA, "tensor '%s' is there twice", tensors[i].name);
        }
    }
    return STATUS_OK;
}

// The data is filled from its first to its last byte but for the padding: no hole, no overlap, nothing
// behind. The last tensor need not be padded.
static int check_places(struct tensor *tensors, size_t count, size_t data, size_t file_size, size_t alignment,
                        struct error *err) {
    size_t at = 0;
    qsort(tensors, count, sizeof tensors[0], tensors_compare_places);
    for (size_t i = 0; i < count; i++) {
        struct tensor *tensor = &tensors[i];
        if (tensor->begin != at) {
            return error_set(err, STATUS_DATA, "tensor '%s' %s the data before it", tensor->name,
                             tensor->begin < at ? "overlaps" : "leaves a hole after");
        }
        if (data > file_size || tensor->end > file_size - data) {
            return error_set(err, STATUS_DATA,
                             "tensor '%s' ends at byte %zu of the data, which has %zu: the file is truncated",
                             tensor->name, tensor->end, data > file_size ? 0 : file_size - data);
        }
        if (!size_round_up(tensor->end, alignment, &at)) {
            return error_set(err, STATUS_DATA, "tensor '%s' is too large", tensor->name);
        }
    }
    if (file_size > data && file_size - data > at) {
        return error_set(err, STATUS_DATA, "%zu bytes after the last tensor belong to none",
                         file_size - data - at);
    }
    for (size_t i = 0; i < count; i++) {
        tensors[i].begin += data;
        tensors[i].end += data;
    }
    return STATUS_OK;
}

int gguf_take_tensors(struct gguf_cursor *cursor, struct tensors *tensors, size_t number, size_t count,
                      size_t alignment, struct error *err) {
    size_t first = tensors->count;
    size_t data;
    TRY(tensors_reserve(tensors, size_max(count, 1), err));
    for (size_t i = 0; i < count; i++) {
        struct tensor *tensor = &tensors->entries[tensors->count++];
        *tensor = (struct tensor){.file = number};
        TRY(take_named(cursor, tensor, alignment, err));
    }
    if (!size_round_up(cursor->at, alignment, &data)) {
        return error_set(err, STATUS_DATA, "the header is too long");
    }
    TRY(check_names(tensors->entries + first, count, err));
    return check_places(tensors->entries + first, count, data, cursor->window->file_size, alignment, err);
}
