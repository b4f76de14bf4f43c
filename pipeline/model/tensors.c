// SPDX-License-Identifier: MIT
#include "model/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"

int tensors_reserve(struct tensors *tensors, size_t more, struct error *err) {
    size_t room;
    void *entries = tensors->entries;
    if (!size_add(tensors->count, more, &room)) {
        return error_set(err, STATUS_INTERNAL, "%zu tensors are too many", more);
    }
    if (room > tensors->room) {
        TRY(memory_resize(&entries, room, sizeof tensors->entries[0], err));
        tensors->entries = entries;
        tensors->room = room;
    }
    return STATUS_OK;
}

void tensors_truncate(struct tensors *tensors, size_t count) {
    while (tensors->count > count) {
        free(tensors->entries[--tensors->count].name);
    }
}

// Of equal names the one of the earlier file comes first.
static int compare_names(const void *left, const void *right) {
    const struct tensor *a = left;
    const struct tensor *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->file > b->file) - (a->file < b->file);
}

int tensors_compare_places(const void *left, const void *right) {
    const struct tensor *a = left;
    const struct tensor *b = right;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    if (a->end != b->end) {
        return a->end < b->end ? -1 : 1;
    }
    return strcmp(a->name, b->name);
}

static int compare_in_files(const void *left, const void *right) {
    const struct tensor *a = *(const struct tensor *const *)left;
    const struct tensor *b = *(const struct tensor *const *)right;
    if (a->file != b->file) {
        return a->file < b->file ? -1 : 1;
    }
    return tensors_compare_places(a, b);
}

int tensors_order(struct tensors *tensors, const struct tensor **twice, struct error *err) {
    void *list;
    *twice = NULL;
    TRY(memory_zeroed(&list, size_max(tensors->count, 1), sizeof tensors->in_files[0], err));
    tensors->in_files = list;
    if (tensors->count == 0) {
        return STATUS_OK;
    }
    qsort(tensors->entries, tensors->count, sizeof tensors->entries[0], compare_names);
    for (size_t i = 0; i < tensors->count; i++) {
        tensors->in_files[i] = &tensors->entries[i];
        if (*twice == NULL && i > 0 && strcmp(tensors->entries[i - 1].name, tensors->entries[i].name) == 0) {
            *twice = &tensors->entries[i];
        }
    }
    qsort(tensors->in_files, tensors->count, sizeof tensors->in_files[0], compare_in_files);
    return STATUS_OK;
}

static int compare_to_name(const void *key, const void *entry) {
    return strcmp(key, ((const struct tensor *)entry)->name);
}

const struct tensor *tensors_find(const struct tensors *tensors, const char *name) {
    return tensors->count == 0
               ? NULL
               : bsearch(name, tensors->entries, tensors->count, sizeof tensors->entries[0], compare_to_name);
}

void tensor_shape_text(const size_t *shape, size_t rank, char out[TENSOR_SHAPE_TEXT]) {
    size_t used = 1;
    strcpy(out, "[");
    for (size_t i = 0; i < rank; i++) {
        used += (size_t)snprintf(out + used, TENSOR_SHAPE_TEXT - used, "%s%zu", i == 0 ? "" : ", ", shape[i]);
    }
    snprintf(out + used, TENSOR_SHAPE_TEXT - used, "]");
}

void tensors_destroy(struct tensors *tensors) {
    tensors_truncate(tensors, 0);
    free(tensors->entries);
    free(tensors->in_files);
    *tensors = (struct tensors){0};
}
