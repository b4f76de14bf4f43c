// SPDX-License-Identifier: MIT
// The tensor directory of a checkpoint: which tensors there are, of what shape and type, and which bytes of
// which file hold them, whatever container they came in. A container's reader fills it file by file; nothing
// behind it knows the container.
#ifndef STRATA_MODEL_TENSORS_H
#define STRATA_MODEL_TENSORS_H

#include <stddef.h>

#include "base/error.h"

struct weight_format; // kernels/weight_format.h

enum { TENSOR_RANK = 8 }; // more dimensions than any weight has

struct tensor_type {  // static: the rows are the container's
    const char *name; // as the container writes it
    unsigned bits;    // of one number; 0: numbers are packed in blocks
};

struct tensor {
    char *name;
    const struct tensor_type *type;
    const struct weight_format *format; // of weights of this type; NULL: none are read from it
    size_t rank;
    size_t shape[TENSOR_RANK];
    size_t head_rows; // 0: rows lie in order; else rows of a head, which are interleaved (tensor_file_row)
    size_t file;      // number of the checkpoint's file
    size_t begin;     // bytes [begin, end) of that file
    size_t end;
};

struct tensors {
    struct tensor *entries; // ascending by name once tensors_order was called
    size_t count;
    size_t room;
    const struct tensor **in_files; // [count] ascending by file and place, once tensors_order was called
};

// Makes room for `more` entries behind the `count` first ones; who writes them counts them.
int tensors_reserve(struct tensors *tensors, size_t more, struct error *err);

// Forgets the entries from `count` on.
void tensors_truncate(struct tensors *tensors, size_t count);

// Once all files are read: sorts the entries and lists them in the order of the files. *twice is an entry
// whose name the one before it has too, or NULL.
int tensors_order(struct tensors *tensors, const struct tensor **twice, struct error *err);

// The tensor of this name, or NULL. Only after tensors_order.
const struct tensor *tensors_find(const struct tensors *tensors, const char *name);

// The row of the file that is row `row` of the model. In a head of interleaved rows the two halves, which
// rotate against each other, alternate: rows 0, 1, 2 ... of the file are rows 0, n/2, 1, n/2 + 1 ... of the
// head's n. No row leaves its head.
static inline size_t tensor_file_row(const struct tensor *tensor, size_t row) {
    size_t half = tensor->head_rows / 2;
    if (half == 0) {
        return row;
    }
    size_t in_head = row % tensor->head_rows;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

// By place in a file, for qsort over entries of one file: begin, then end, then name.
int tensors_compare_places(const void *left, const void *right);

// "[2, 3]" for messages.
enum { TENSOR_SHAPE_TEXT = 24 * TENSOR_RANK };
void tensor_shape_text(const size_t *shape, size_t rank, char out[TENSOR_SHAPE_TEXT]);

void tensors_destroy(struct tensors *tensors); // accepts zeros; leaves zeros

#endif
