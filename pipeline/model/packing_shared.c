// SPDX-License-Identifier: MIT
// What the methods of packing share.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "model/packing_methods.h"

enum { LONGEST_SUFFIX = 64 };

const struct tensor *packing_tensor(const struct packing *p, const char *suffix) {
    char name[PACKING_STEM + LONGEST_SUFFIX];
    snprintf(name, sizeof name, "%s.%s", p->stem, suffix);
    return tensors_find(&p->checkpoint->tensors, name);
}

int packing_require(const struct packing *p, const char *suffix, const struct tensor **out,
                    struct error *err) {
    *out = packing_tensor(p, suffix);
    return *out != NULL ? STATUS_OK
                        : error_set(err, STATUS_DATA, "tensor '%s.%s' is missing", p->stem, suffix);
}

int packing_check_shape(const struct tensor *tensor, size_t rank, size_t size, size_t second,
                        struct error *err) {
    const size_t wanted[2] = {size, second};
    if (tensor->rank == rank && memcmp(tensor->shape, wanted, rank * sizeof wanted[0]) == 0) {
        return STATUS_OK;
    }
    char found_text[TENSOR_SHAPE_TEXT];
    char wanted_text[TENSOR_SHAPE_TEXT];
    tensor_shape_text(tensor->shape, tensor->rank, found_text);
    tensor_shape_text(wanted, rank, wanted_text);
    return error_set(err, STATUS_DATA, "tensor '%s' has shape %s; the weight and its quantization ask for %s",
                     tensor->name, found_text, wanted_text);
}

int packing_check(const struct tensor *tensor, const char *type, size_t rank, size_t size, size_t second,
                  struct error *err) {
    if (strcmp(tensor->type->name, type) != 0) {
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s, not %s", tensor->name,
                         tensor->type->name, type);
    }
    return packing_check_shape(tensor, rank, size, second, err);
}

int packing_scale(const struct tensor *tensor, struct weight_format *format,
                  enum arrangement_numbers *numbers, enum dtype *dtype, struct error *err) {
    static const struct {
        const char *name;
        enum weight_scale scale;
        enum arrangement_numbers numbers;
        enum dtype dtype;
    } types[] = {{"F32", SCALE_F32, NUMBERS_F32, DTYPE_F32},
                 {"F16", SCALE_F16, NUMBERS_F16, DTYPE_F16},
                 {"BF16", SCALE_BF16, NUMBERS_BF16, DTYPE_BF16}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(tensor->type->name, types[i].name) == 0) {
            format->groups.scale = types[i].scale;
            *numbers = types[i].numbers;
            *dtype = types[i].dtype;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s; scales are F32, F16 or BF16", tensor->name,
                     tensor->type->name);
}

static struct weight_component *next_component(const struct packing *p) {
    return &p->out->components[p->out->component_count++];
}

void packing_add(const struct packing *p, const struct tensor *tensor, enum weight_part part,
                 struct arrangement how) {
    *next_component(p) =
        (struct weight_component){.tensor = tensor, .is_read = true, .part = part, .how = how};
}

void packing_pass(const struct packing *p, const struct tensor *tensor) {
    if (tensor != NULL) {
        *next_component(p) = (struct weight_component){.tensor = tensor};
    }
}

int packing_read(const struct packing *p, const struct tensor *tensor, unsigned char **out,
                 struct error *err) {
    void *bytes;
    const struct checkpoint_file *file = &p->checkpoint->files[tensor->file];
    size_t size = tensor->end - tensor->begin;
    TRY(memory_zeroed(&bytes, size_max(size, 1), 1, err));
    int status = file_read_at(file->descriptor, bytes, size, tensor->begin, file->path, err);
    if (status != STATUS_OK) {
        free(bytes);
        return status;
    }
    *out = bytes;
    return STATUS_OK;
}

int packing_read_order(const struct packing *p, const struct tensor *tensor, size_t group, size_t groups,
                       bool *in_order, struct error *err) {
    unsigned char *bytes;
    struct arrangement how = {.kind = ARRANGE_INDICES, .groups = groups};
    TRY(packing_check(tensor, "I32", 1, p->columns, 0, err));
    TRY(packing_read(p, tensor, &bytes, err));
    // In its own place: each number becomes a shorter one.
    int status =
        arrange(bytes, p->columns * sizeof(uint16_t), &how, bytes, p->columns * sizeof(int32_t), err);
    *in_order = true;
    for (size_t i = 0; i < p->columns && status == STATUS_OK; i++) {
        size_t number = (size_t)bytes[2 * i] | (size_t)bytes[2 * i + 1] << 8;
        *in_order = *in_order && number == (group == 0 ? 0 : i / group);
    }
    free(bytes);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "tensor '%s'", tensor->name);
}
