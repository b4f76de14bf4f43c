#include "model/weight_tensors.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

enum { NAME = PACKING_STEM + 64 };

const struct tensor *weight_tensor_find(const struct checkpoint *checkpoint, const char *stem,
                                        const char *ending) {
    char name[NAME];
    int length = snprintf(name, sizeof name, "%s%s", stem, ending);
    return length < 0 || length >= NAME ? NULL : tensors_find(&checkpoint->tensors, name);
}

int weight_tensor_need(const struct tensor **out, const struct checkpoint *checkpoint, const char *stem,
                       const char *ending, struct error *err) {
    *out = weight_tensor_find(checkpoint, stem, ending);
    return *out != NULL ? STATUS_OK : error_set(err, STATUS_DATA, "tensor '%s%s' is missing", stem, ending);
}

bool weight_tensor_is(const struct tensor *tensor, const char *type) {
    return strcmp(tensor->type->name, type) == 0;
}

int weight_tensor_check(const struct tensor *tensor, const char *type, size_t rank, const size_t *shape,
                        const char *reason, struct error *err) {
    if (!weight_tensor_is(tensor, type)) {
        return error_set(err, STATUS_DATA, "tensor '%s' has dtype %s, not %s", tensor->name,
                         tensor->type->name, type);
    }
    if (tensor->rank != rank || (rank > 0 && memcmp(tensor->shape, shape, rank * sizeof *shape) != 0)) {
        char found[TENSOR_SHAPE_TEXT];
        char wanted[TENSOR_SHAPE_TEXT];
        tensor_shape_text(tensor->shape, tensor->rank, found);
        tensor_shape_text(shape, rank, wanted);
        return error_set(err, STATUS_DATA, "tensor '%s' has shape %s; %s asks for %s", tensor->name, found,
                         reason, wanted);
    }
    return STATUS_OK;
}

void weight_tensor_take(struct weight_source *out, const struct tensor *tensor, enum weight_part part,
                        enum arrangement_numbers numbers) {
    out->components[out->component_count++] = (struct weight_component){
        .tensor = tensor, .is_read = true, .part = part, .how = {.kind = ARRANGE_AS_IS, .numbers = numbers}};
}

void weight_tensor_pass_over(struct weight_source *out, const struct tensor *tensor) {
    out->components[out->component_count++] = (struct weight_component){.tensor = tensor};
}

int weight_tensors_fit(const struct weight_source *source, size_t rows, size_t columns, struct error *err) {
    struct weight_layout layout;
    if (!weight_layout(&source->format, rows, columns, &layout)) {
        return error_set(err, STATUS_DATA, "a matrix of %zu x %zu is too large to be kept in %s", rows,
                         columns, source->format.name);
    }
    for (size_t i = 0; i < source->component_count; i++) {
        const struct weight_component *component = &source->components[i];
        size_t bytes = component->tensor->end - component->tensor->begin;
        if (component->is_read && bytes != layout.parts[component->part].bytes) {
            return error_set(err, STATUS_DATA, "tensor '%s' has %zu bytes; a matrix of %zu x %zu takes %zu",
                             component->tensor->name, bytes, rows, columns,
                             layout.parts[component->part].bytes);
        }
    }
    return STATUS_OK;
}

int weight_tensor_read(void *out, size_t size, const struct checkpoint *checkpoint,
                       const struct tensor *tensor, struct error *err) {
    const struct checkpoint_file *file = &checkpoint->files[tensor->file];
    if (tensor->end - tensor->begin != size) {
        return error_set(err, STATUS_DATA, "tensor '%s' has %zu bytes, not %zu", tensor->name,
                         tensor->end - tensor->begin, size);
    }
    return file_read_at(file->descriptor, out, size, tensor->begin, file->path, err);
}
