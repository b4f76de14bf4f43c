// SPDX-License-Identifier: MIT
#include "kernels/weight_format.h"

#include <string.h>

#include "base/names.h"
#include "base/size.h"
#include "kernels/device.h"

#define PLAIN(called, type, size)                                                                            \
    { .name = called, .kind = WEIGHT_PLAIN, .dtype = type, .block = 1, .bytes = size, .rounding = DTYPE_F32 }
#define BLOCKS(called, numbers, size)                                                                        \
    { .name = #called, .kind = WEIGHT_##called, .block = numbers, .bytes = size, .rounding = DTYPE_F32 }

// Sizes of blocks: ggml-common.h of llama.cpp.
static const struct weight_format formats[] = {
    PLAIN("F32", DTYPE_F32, 4), PLAIN("F16", DTYPE_F16, 2), PLAIN("BF16", DTYPE_BF16, 2),
    BLOCKS(Q4_0, 32, 18),       BLOCKS(Q4_1, 32, 20),       BLOCKS(Q5_0, 32, 22),
    BLOCKS(Q5_1, 32, 24),       BLOCKS(Q8_0, 32, 34),       BLOCKS(Q2_K, 256, 84),
    BLOCKS(Q3_K, 256, 110),     BLOCKS(Q4_K, 256, 144),     BLOCKS(Q5_K, 256, 176),
    BLOCKS(Q6_K, 256, 210),     BLOCKS(IQ4_NL, 32, 18),     BLOCKS(IQ4_XS, 256, 136),
    BLOCKS(MXFP4, 32, 17),
};

enum { FORMATS = sizeof formats / sizeof formats[0] };

const struct weight_format *weight_format_find(const char *name) {
    for (size_t i = 0; i < FORMATS; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

bool weight_format_plain(const struct weight_format *format) {
    return format->kind == WEIGHT_PLAIN;
}

static bool groups_alike(const struct weight_groups *a, const struct weight_groups *b) {
    return a->code == b->code && a->scale == b->scale && a->rows == b->rows && a->columns == b->columns &&
           a->has_zeros == b->has_zeros && a->zero == b->zero && a->has_indices == b->has_indices &&
           a->factor == b->factor;
}

static bool lookups_alike(const struct weight_lookups *a, const struct weight_lookups *b) {
    return a->run == b->run && a->is_nested == b->is_nested && a->nested == b->nested &&
           a->low_first == b->low_first;
}

bool weight_formats_alike(const struct weight_format *a, const struct weight_format *b) {
    return a->kind == b->kind && a->dtype == b->dtype && a->block == b->block && a->bytes == b->bytes &&
           a->rounding == b->rounding && groups_alike(&a->groups, &b->groups) &&
           lookups_alike(&a->lookups, &b->lookups);
}

const struct weight_format *weight_format_of(enum dtype dtype) {
    for (size_t i = 0; i < FORMATS; i++) {
        if (weight_format_plain(&formats[i]) && formats[i].dtype == dtype) {
            return &formats[i];
        }
    }
    return NULL;
}

const char *weight_format_names(bool plain, char out[WEIGHT_FORMAT_NAMES]) {
    const char *names[FORMATS];
    size_t count = 0;
    for (size_t i = 0; i < FORMATS; i++) {
        if (weight_format_plain(&formats[i]) || !plain) {
            names[count++] = formats[i].name;
        }
    }
    out[0] = 0;
    for (size_t i = 0; i < count; i++) {
        names_append(out, WEIGHT_FORMAT_NAMES, names[i], i, count);
    }
    return out;
}

// ---- where parts lie ----

// What a part takes: `rows` rows of `row` bytes; rows 0: the format has none.
struct part_size {
    size_t rows;
    size_t row;
};

static size_t groups_of(size_t count, size_t each) {
    return each == 0 || each >= count ? 1 : (count - 1) / each + 1;
}

static size_t code_bytes(enum weight_code code, size_t count) {
    return code == CODE_U4 || code == CODE_E2M1 ? count / 2 + count % 2 : count;
}

static size_t scale_bytes(enum weight_scale scale) {
    static const size_t bytes[] = {[SCALE_F32] = 4, [SCALE_F16] = 2, [SCALE_BF16] = 2, [SCALE_E8M0] = 1};
    return bytes[scale];
}

static bool size_grouped(const struct weight_groups *groups, size_t rows, size_t columns,
                         struct part_size parts[WEIGHT_PARTS]) {
    enum { MOST_INDICES = 1 << 16, MOST_COLUMNS = INT32_MAX };
    size_t across = groups_of(columns, groups->columns);
    parts[PART_CODES] = (struct part_size){rows, code_bytes(groups->code, columns)};
    parts[PART_SCALES].rows = groups_of(rows, groups->rows == 0 ? rows : groups->rows);
    parts[PART_ZEROS] = (struct part_size){groups->has_zeros ? rows : 0, code_bytes(groups->code, across)};
    parts[PART_INDICES].rows = groups->has_indices ? 1 : 0;
    return columns <= MOST_COLUMNS && (!groups->has_indices || across <= MOST_INDICES) &&
           (!groups->has_zeros || groups->rows == 1) &&
           size_mul(across, scale_bytes(groups->scale), &parts[PART_SCALES].row) &&
           size_mul(columns, sizeof(uint16_t), &parts[PART_INDICES].row);
}

static bool power_of_two(size_t number) {
    return number > 0 && (number & (number - 1)) == 0;
}

static bool size_lookup(const struct weight_lookups *lookups, size_t rows, size_t columns,
                        struct part_size parts[WEIGHT_PARTS]) {
    enum { TABLE = 16, NESTED_TABLE = 256 };
    size_t numbers;
    if (!power_of_two(lookups->run) || (lookups->is_nested && !power_of_two(lookups->nested)) ||
        !size_mul(rows, columns, &numbers)) {
        return false;
    }
    size_t runs = groups_of(numbers, lookups->run);
    parts[PART_CODES] = (struct part_size){1, code_bytes(CODE_U4, numbers)};
    parts[PART_SCALES] = (struct part_size){1, lookups->is_nested ? runs : runs * sizeof(float)};
    parts[PART_TABLE] = (struct part_size){1, TABLE * sizeof(float)};
    if (lookups->is_nested) {
        parts[PART_NESTED_SCALES] = (struct part_size){1, groups_of(runs, lookups->nested) * sizeof(float)};
        parts[PART_NESTED_TABLE] = (struct part_size){1, NESTED_TABLE * sizeof(float)};
    }
    return numbers <= SIZE_MAX / sizeof(float);
}

static bool size_parts(const struct weight_format *format, size_t rows, size_t columns,
                       struct part_size parts[WEIGHT_PARTS]) {
    switch (format->kind) {
    case WEIGHT_GROUPED:
        return size_grouped(&format->groups, rows, columns, parts);
    case WEIGHT_LOOKUP:
        return size_lookup(&format->lookups, rows, columns, parts);
    default:
        parts[0].rows = rows;
        return columns % format->block == 0 &&
               size_mul(columns / format->block, format->bytes, &parts[0].row);
    }
}

bool weight_layout(const struct weight_format *format, size_t rows, size_t columns,
                   struct weight_layout *out) {
    struct part_size parts[WEIGHT_PARTS] = {0};
    *out = (struct weight_layout){0};
    if (rows == 0 || columns == 0 || !size_parts(format, rows, columns, parts)) {
        return false;
    }
    for (size_t part = 0; part < WEIGHT_PARTS; part++) {
        size_t bytes;
        if (!size_round_up(out->bytes, DEVICE_ALIGNMENT, &out->parts[part].offset) ||
            !size_mul(parts[part].row, parts[part].rows, &bytes)) {
            return false;
        }
        out->parts[part].row = parts[part].row;
        out->parts[part].bytes = bytes;
        if (bytes > 0 && !size_add(out->parts[part].offset, bytes, &out->bytes)) {
            return false;
        }
    }
    return true;
}

bool weight_view_of(const struct weight_format *format, size_t rows, size_t columns, const void *data,
                    struct weight_view *out) {
    struct weight_layout layout;
    *out = (struct weight_view){.format = *format, .rows = rows, .columns = columns};
    if (!weight_layout(format, rows, columns, &layout)) {
        return false;
    }
    for (size_t part = 0; part < WEIGHT_PARTS; part++) {
        out->parts[part] = (const unsigned char *)data + layout.parts[part].offset;
        out->row_bytes[part] = layout.parts[part].row;
    }
    return true;
}
