// SPDX-License-Identifier: MIT
// What tests of packed weights share: formats of every kind, and bytes of them.
#ifndef STRATA_TESTS_KERNELS_FORMATS_TESTING_H
#define STRATA_TESTS_KERNELS_FORMATS_TESTING_H

#include "base/size.h"
#include "device_testing.h"
#include "kernels/weight_format.h"

static const struct weight_format grouped_4 = {
    .name = "4 bits, zeros",
    .kind = WEIGHT_GROUPED,
    .groups = {CODE_U4, SCALE_F16, .rows = 1, .columns = 32, .has_zeros = true, .factor = 1},
};
static const struct weight_format grouped_indexed = {
    .name = "4 bits, columns in any group",
    .kind = WEIGHT_GROUPED,
    .groups = {CODE_U4, SCALE_BF16, .rows = 1, .columns = 64, .zero = 8, .has_indices = true, .factor = 1},
    .rounding = DTYPE_F16,
};
static const struct weight_format grouped_8 = {
    .name = "8 bits, a row",
    .kind = WEIGHT_GROUPED,
    .groups = {CODE_I8, SCALE_F32, .rows = 1, .factor = 0.0078740157f},
};
static const struct weight_format grouped_float8 = {
    .name = "float8, blocks",
    .kind = WEIGHT_GROUPED,
    .groups = {CODE_E4M3, SCALE_F32, .rows = 128, .columns = 128, .factor = 1},
};
static const struct weight_format grouped_float4 = {
    .name = "float4, odd groups",
    .kind = WEIGHT_GROUPED,
    .groups = {CODE_E2M1, SCALE_E8M0, .rows = 1, .columns = 20, .factor = 1},
    .rounding = DTYPE_BF16,
};
static const struct weight_format looked_up = {
    .name = "lookup", .kind = WEIGHT_LOOKUP, .lookups = {.run = 64}};
static const struct weight_format looked_up_twice = {
    .name = "nested lookup",
    .kind = WEIGHT_LOOKUP,
    .lookups = {.run = 32, .is_nested = true, .nested = 4, .offset = 0.25f, .low_first = true}};

static const struct weight_format *const chosen[] = {
    &grouped_4, &grouped_indexed, &grouped_8, &grouped_float8, &grouped_float4, &looked_up, &looked_up_twice};
static const char *const named[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",   "Q5_1",   "Q8_0",
                                    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"};

enum { CHOSEN = sizeof chosen / sizeof chosen[0], NAMED = sizeof named / sizeof named[0] };

static inline const struct weight_format *format_number(size_t i) {
    return i < CHOSEN ? chosen[i] : weight_format_find(named[i - CHOSEN]);
}

// Bytes of one piece, at random but for what would not be a finite number: those come again.
static inline unsigned char *random_piece(const struct weight_format *format, size_t rows, size_t columns,
                                          uint64_t seed) {
    struct weight_layout layout;
    struct weight_view view;
    float *numbers = malloc(columns * sizeof *numbers);
    assert_true(weight_layout(format, rows, columns, &layout));
    unsigned char *bytes = malloc(layout.bytes);
    assert_true(bytes != NULL && numbers != NULL);
    assert_true(weight_view_of(format, rows, columns, bytes, &view));
    for (size_t i = 0; i < layout.bytes; i++) {
        bytes[i] = (unsigned char)(random_unit(&seed) * 256);
    }
    for (size_t part = 1; part < WEIGHT_PARTS && format->kind == WEIGHT_LOOKUP; part++) {
        bool codes = part == PART_SCALES && format->lookups.is_nested;
        for (size_t i = 0; !codes && i < layout.parts[part].bytes / sizeof(float); i++) {
            float number = (float)random_unit(&seed) - 0.5f;
            memcpy(bytes + layout.parts[part].offset + i * sizeof number, &number, sizeof number);
        }
    }
    for (size_t i = 0; i < layout.parts[PART_INDICES].bytes && format->groups.has_indices; i += 2) {
        bytes[layout.parts[PART_INDICES].offset + i] =
            (unsigned char)(random_unit(&seed) * (double)((columns + 63) / 64));
        bytes[layout.parts[PART_INDICES].offset + i + 1] = 0;
    }
    for (bool finite = false; !finite;) {
        finite = true;
        for (size_t row = 0; row < rows; row++) {
            weight_expand(numbers, &view, row, 0, columns);
            for (size_t i = 0; i < columns; i++) {
                if (!(numbers[i] > -1e15f && numbers[i] < 1e15f)) {
                    finite = false;
                    for (size_t part = 0; part < WEIGHT_PARTS; part++) {
                        bool indices = part == PART_INDICES && format->groups.has_indices;
                        size_t bytes_of = layout.parts[part].bytes;
                        for (size_t k = 0; !indices && k < size_min(bytes_of, 4096); k++) {
                            size_t at = (size_t)(random_unit(&seed) * (double)bytes_of);
                            unsigned char *byte = bytes + layout.parts[part].offset + at;
                            *byte = (unsigned char)(*byte & 0x3f); // a smaller exponent, whatever it is of
                        }
                    }
                    break;
                }
            }
        }
    }
    free(numbers);
    return bytes;
}

#endif
