// SPDX-License-Identifier: MIT
// How weights are stored. enum dtype is what is computed and stored in; a format is what a file has, and what
// a piece of a matrix may keep on a device (device_matrix): codes, and beside them what several numbers
// share. Plain formats and the blocks of GGUF are known by name; formats whose sizes a checkpoint chooses
// (weight_grouped, weight_lookup) are values that the caller fills.
//
// Parts. What is kept lies in up to WEIGHT_PARTS parts one behind another, each row-major, whatever order the
// file had (weight_layout). weight_decode.h decodes them, on every device alike.
#ifndef STRATA_KERNELS_WEIGHT_FORMAT_H
#define STRATA_KERNELS_WEIGHT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum weight_kind {
    WEIGHT_PLAIN,   // a number as it is; part 0
    WEIGHT_GROUPED, // (code - zero) * scale; scales are shared by groups of rows and columns
    WEIGHT_LOOKUP,  // table[code] * scale; scales are shared by runs of the flattened matrix (bitsandbytes)
    // Blocks of GGUF, in part 0, each with its own scales.
    WEIGHT_Q4_0,
    WEIGHT_Q4_1,
    WEIGHT_Q5_0,
    WEIGHT_Q5_1,
    WEIGHT_Q8_0,
    WEIGHT_Q2_K,
    WEIGHT_Q3_K,
    WEIGHT_Q4_K,
    WEIGHT_Q5_K,
    WEIGHT_Q6_K,
    WEIGHT_IQ4_NL,
    WEIGHT_IQ4_XS,
    WEIGHT_MXFP4,
};

enum weight_code {
    CODE_U4, // two in a byte, the first in the low half; a row begins with a byte
    CODE_U8,
    CODE_I8,
    CODE_E4M3, // float8 without infinities (OCP FP8)
    CODE_E2M1, // float4 (OCP MX), packed as CODE_U4
};

enum weight_scale { SCALE_F32, SCALE_F16, SCALE_BF16, SCALE_E8M0 }; // E8M0: 2^(byte - 127)

struct weight_groups {
    enum weight_code code;
    enum weight_scale scale;
    size_t rows; // of the matrix that share a scale; 0: all
    size_t columns;
    bool has_zeros;   // a code of the matrix's own type for each group (one row each); else:
    int32_t zero;     // of all
    bool has_indices; // which group a column is of, a uint16_t each, the same for all rows; else in order
    float factor;     // multiplies the product; 1: none
};

struct weight_lookups {
    size_t run;     // numbers of the flattened matrix that share a scale
    bool is_nested; // scales are codes themselves: nested table[code] * nested scale + offset
    size_t nested;  // scales that share a nested scale
    float offset;   // of them
    bool low_first; // the first of two codes lies in the low half of its byte, not the high one
};

struct weight_format {
    const char *name; // of the elements as the container writes it, or of the method that packs them
    enum weight_kind kind;
    enum dtype dtype; // of a plain number
    size_t block;     // plain, GGUF: numbers of a row that are packed together
    size_t bytes;     // that a block takes
    struct weight_groups groups;
    struct weight_lookups lookups;
    enum dtype
        rounding; // that the number is rounded to before it becomes the device's; DTYPE_F32: not at all
};

const struct weight_format *weight_format_find(const char *name); // NULL: no format is called so
const struct weight_format *weight_format_of(enum dtype dtype);   // the plain one
bool weight_format_plain(const struct weight_format *format);

// Whether matrices of one shape have the same layout in both, and come to the same numbers of the same bytes
// but for the offset of nested scales (struct weight_lookups).
bool weight_formats_alike(const struct weight_format *a, const struct weight_format *b);

// For messages, "F32, F16 and BF16": all that are known by name, or the plain ones only. Returns `out`.
enum { WEIGHT_FORMAT_NAMES = 256 };
const char *weight_format_names(bool plain, char out[WEIGHT_FORMAT_NAMES]);

// ---- parts ----

enum weight_part { // of WEIGHT_GROUPED and WEIGHT_LOOKUP; the others have one
    PART_CODES,
    PART_SCALES,
    PART_ZEROS,                        // grouped
    PART_INDICES,                      // grouped
    PART_TABLE = PART_ZEROS,           // lookup: 16 float32
    PART_NESTED_SCALES = PART_INDICES, // lookup: float32 each
    PART_NESTED_TABLE,                 // lookup: 256 float32
    WEIGHT_PARTS
};

struct weight_layout {
    size_t bytes; // in all
    struct {
        size_t offset; // a multiple of DEVICE_ALIGNMENT
        size_t row;    // bytes from one row of the part to the next; of one that is not made of rows: all
        size_t bytes;  // 0: the format has no such part
    } parts[WEIGHT_PARTS];
};

// False where sizes overflow, or the format cannot have such a matrix (a row that ends within a block).
bool weight_layout(const struct weight_format *format, size_t rows, size_t columns,
                   struct weight_layout *out);

// ---- reading ----

// A matrix that is kept, as its decoder sees it: in host memory, or in a device's.
struct weight_view {
    struct weight_format format;
    size_t rows;
    size_t columns;
    const unsigned char *parts[WEIGHT_PARTS];
    size_t row_bytes[WEIGHT_PARTS]; // weight_layout's `row`
};

// The parts lie where weight_layout says, from `data` on. False as weight_layout.
bool weight_view_of(const struct weight_format *format, size_t rows, size_t columns, const void *data,
                    struct weight_view *out);

// Numbers [column, column + count) of a row as float32; column is a multiple of 8. The view is in host
// memory. The formulas are those of weight_decode.h.
void weight_expand(float *out, const struct weight_view *view, size_t row, size_t column, size_t count);

// The same, rounded to `dtype`, and as they are where the format is plain and has it.
void weight_read(void *out, enum dtype dtype, const struct weight_view *view, size_t row, size_t column,
                 size_t count);

// Whether the scales within whole blocks of GGUF are finite: float16 that are no NaN and no infinity, E8M0
// that is not 255. True of other formats, whose scales are a part of their own.
bool weight_scales_finite(const struct weight_format *format, const void *blocks, size_t bytes);

#endif
