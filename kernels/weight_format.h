// How weights are stored: one row of traits a format. A format is a way to write a matrix's numbers down:
// codes, and beside them companions (scales, zero points) that several numbers share. enum dtype is what is
// computed and stored in; a format is what a file has, and what a matrix may keep on a device
// (device_matrix_take).
//
// Parts. A matrix of a format has 1 + companions parts, each row-major: part 0 are the codes, part i the
// companion i - 1. On a device they lie one behind another, each as the file has it (weight_layout).
#ifndef STRATA_KERNELS_WEIGHT_FORMAT_H
#define STRATA_KERNELS_WEIGHT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dtype.h"

enum {
    WEIGHT_COMPANIONS = 3, // of a format, at most
    WEIGHT_PARTS = 1 + WEIGHT_COMPANIONS,
    WEIGHT_RUN = 128, // numbers that are expanded at a time, and what every such run begins at a multiple of
};

struct weight_companion {
    const char *suffix; // of its tensor's name, in place of the matrix's ".weight"
    const char *type;   // of its elements, as safetensors writes it
    size_t bytes;       // of the elements that rows x columns numbers share
    size_t rows;        // of the matrix that share them; 0: all
    size_t columns;     // 0: all of a row
};

struct weight_run {                           // numbers [column, column + count) of a row
    const unsigned char *parts[WEIGHT_PARTS]; // the row's, each from its first column on
    size_t row;    // of the matrix: a row of a part may hold what several rows share
    size_t column; // a multiple of WEIGHT_RUN
    size_t count;  // at most WEIGHT_RUN
};

struct weight_format {
    const char *name; // of the elements as safetensors writes it, or of the method that packs them
    size_t block;     // numbers of a row that are packed together; the last block of a row may have fewer
    size_t bytes;     // that a block takes
    size_t companion_count;
    struct weight_companion companions[WEIGHT_COMPANIONS];
    bool plain;       // a block is one number, as it is
    enum dtype dtype; // of it, where plain
    void (*expand)(float *out, const struct weight_format *format, const struct weight_run *run);
};

const struct weight_format *weight_format_find(const char *name); // NULL: no format is called so
const struct weight_format *weight_format_of(enum dtype dtype);   // the plain one

// For messages, "F32, F16 and BF16": all formats, or the plain ones only. Returns `out`.
enum { WEIGHT_FORMAT_NAMES = 256 };
const char *weight_format_names(bool plain, char out[WEIGHT_FORMAT_NAMES]);

// Where the parts of a matrix lie.
struct weight_layout {
    size_t bytes; // in all
    struct {
        size_t offset; // a multiple of DEVICE_ALIGNMENT
        size_t row;    // bytes of one row of the part
        size_t shared; // rows of the matrix that one row of the part is for
        size_t rows;   // of the part
    } parts[WEIGHT_PARTS];
};

// False where sizes overflow.
bool weight_layout(const struct weight_format *format, size_t rows, size_t columns,
                   struct weight_layout *out);

struct weight_rows { // a matrix in host memory
    const struct weight_format *format;
    size_t columns;
    const unsigned char *parts[WEIGHT_PARTS]; // each from row 0 on
};

// Numbers [column, column + count) of a row, rounded to `dtype`; column is a multiple of WEIGHT_RUN.
void weight_rows_read(void *out, enum dtype dtype, const struct weight_rows *rows, size_t row, size_t column,
                      size_t count);

#endif
