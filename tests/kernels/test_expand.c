// SPDX-License-Identifier: MIT
// Packed weights to numbers on every CPU path: the bits of weight_decode.h, for every kind of format, from
// any column that the callers may begin with and to any end.
#include "device_testing.h"

#include "kernels/cpu/cpu_device.h"
#include "kernels/weight_decode.h"

enum { ROWS = 3, MOST_COLUMNS = 1024 };

static const struct weight_format made[] = {
    {.name = "4 bits, zeros",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_U4, SCALE_F16, 1, 128, true, 0, false, 1}},
    {.name = "4 bits to float16",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_U4, SCALE_F16, 1, 32, false, 8, false, 1},
     .rounding = DTYPE_F16},
    {.name = "4 bits to bfloat16, a row",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_U4, SCALE_F32, 1, 0, false, 8, false, 0.3f},
     .rounding = DTYPE_BF16},
    {.name = "4 bits, short groups",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_U4, SCALE_BF16, 1, 16, true, 0, false, 1}},
    {.name = "4 bits, columns in any group",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_U4, SCALE_F16, 1, 64, true, 0, true, 1}},
    {.name = "8 bits, columns in any of many groups",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_U8, SCALE_F32, 1, 20, false, 128, true, 1}},
    {.name = "8 bits, columns in groups of one",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_I8, SCALE_BF16, 1, 1, true, 0, true, 1}},
    {.name = "8 bits", .kind = WEIGHT_GROUPED, .groups = {CODE_U8, SCALE_F16, 1, 64, true, 0, false, 1}},
    {.name = "8 bits, a row",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_I8, SCALE_F32, 1, 0, false, 0, false, 0.0078740157f}},
    {.name = "float8, blocks",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_E4M3, SCALE_F32, 128, 128, false, 0, false, 1}},
    {.name = "float8, all",
     .kind = WEIGHT_GROUPED,
     .groups = {CODE_E4M3, SCALE_BF16, 0, 0, false, 0, false, 1}},
    {.name = "float4", .kind = WEIGHT_GROUPED, .groups = {CODE_E2M1, SCALE_E8M0, 1, 32, false, 0, false, 1}},
    {.name = "lookup", .kind = WEIGHT_LOOKUP, .lookups = {.run = 64}},
    {.name = "lookup to float16", .kind = WEIGHT_LOOKUP, .lookups = {.run = 4096}, .rounding = DTYPE_F16},
    {.name = "short runs", .kind = WEIGHT_LOOKUP, .lookups = {.run = 16}},
    {.name = "nested lookup",
     .kind = WEIGHT_LOOKUP,
     .lookups = {.run = 32, .is_nested = true, .nested = 4, .offset = 0.25f, .low_first = true}},
};
static const char *const named[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",   "Q5_1",   "Q8_0",
                                    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"};

enum { MADE = sizeof made / sizeof made[0], NAMED = sizeof named / sizeof named[0] };

// ---- the reference ----

static void expected_numbers(void *out, enum dtype dtype, const struct weight_view *view, size_t row,
                             size_t column, size_t count) {
    float numbers[MOST_COLUMNS];
    for (size_t at = 0; at < count; at += DECODE_RUN) {
        int some = (int)(count - at < DECODE_RUN ? count - at : DECODE_RUN);
        decode_run(numbers + at, some, view, row, column + at, view->format.kind);
    }
    dtype_convert(out, dtype, numbers, DTYPE_F32, count);
}

// Which NaN a product of two has is nobody's business.
static bool same_number(const void *a, const void *b, enum dtype dtype) {
    float numbers[2];
    dtype_convert(&numbers[0], DTYPE_F32, a, dtype, 1);
    dtype_convert(&numbers[1], DTYPE_F32, b, dtype, 1);
    return memcmp(a, b, dtype_size(dtype)) == 0 || (isnan(numbers[0]) && isnan(numbers[1]));
}

static void compare(const struct cpu_path *path, enum dtype dtype, const struct weight_view *view,
                    size_t column, size_t count) {
    enum { GUARD = 0x5a };
    const struct micro_kernels *kernels = cpu_path_kernels(path, dtype);
    size_t size = dtype_size(dtype);
    unsigned char got[(MOST_COLUMNS + 1) * sizeof(float)];
    unsigned char expected[MOST_COLUMNS * sizeof(float)];
    for (size_t row = 0; row < view->rows; row++) {
        memset(got, GUARD, sizeof got);
        kernels->expand(got, view, row, column, count);
        expected_numbers(expected, dtype, view, row, column, count);
        for (size_t i = 0; i < count; i++) {
            if (!same_number(got + i * size, expected + i * size, dtype)) {
                fail_msg("path %s, %s, %s: number %zu of row %zu, read from %zu on, is another", path->name,
                         dtype_name(dtype), view->format.name, column + i, row, column);
            }
        }
        for (size_t i = count * size; i < sizeof got; i++) {
            assert_int_equal(got[i], GUARD);
        }
    }
}

// ---- matrices ----

// Any bytes at all, NaN, infinities and subnormal scales among them; just as many as the format says, so that
// reading beyond them shows where memory is checked.
static unsigned char *random_matrix(const struct weight_format *format, size_t columns,
                                    struct weight_view *view, bool small) {
    struct weight_layout layout;
    uint64_t seed = columns + (small ? 1 : 0);
    assert_true(weight_layout(format, ROWS, columns, &layout));
    unsigned char *bytes = malloc(layout.bytes);
    assert_non_null(bytes);
    for (size_t i = 0; i < layout.bytes; i++) {
        bytes[i] = (unsigned char)(random_unit(&seed) * 256);
    }
    for (size_t part = 1; part < WEIGHT_PARTS && small && format->kind == WEIGHT_LOOKUP; part++) {
        bool codes = part == PART_SCALES && format->lookups.is_nested;
        for (size_t i = 0; !codes && i < layout.parts[part].bytes / sizeof(float); i++) {
            float number = (float)random_unit(&seed) - 0.5f;
            memcpy(bytes + layout.parts[part].offset + i * sizeof number, &number, sizeof number);
        }
    }
    for (size_t i = 0; format->groups.has_indices && i < columns; i++) {
        uint16_t group =
            (uint16_t)(random_unit(&seed) * (double)((columns - 1) / format->groups.columns + 1));
        memcpy(bytes + layout.parts[PART_INDICES].offset + i * sizeof group, &group, sizeof group);
    }
    assert_true(weight_view_of(format, ROWS, columns, bytes, view));
    return bytes;
}

static void expand_format(const struct cpu_path *path, const struct weight_format *format, size_t columns) {
    static const size_t starts[] = {0, 8, 32, 64, 120, 256};
    static const size_t counts[] = {1, 7, 31, 32, 33, 64, 127, 128, 512, MOST_COLUMNS};
    for (int small = 0; small < 2; small++) {
        struct weight_view view;
        unsigned char *bytes = random_matrix(format, columns, &view, small != 0);
        for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
            for (size_t c = 0; c < sizeof counts / sizeof counts[0] && starts[s] < columns; c++) {
                size_t count = counts[c] < columns - starts[s] ? counts[c] : columns - starts[s];
                for (enum dtype dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
                    compare(path, dtype, &view, starts[s], count);
                }
            }
        }
        free(bytes);
    }
}

static void test_every_path(void **state) {
    (void)state;
    const char *name;
    bool available;
    for (int i = 0; (name = device_cpu_path(i, &available)) != NULL; i++) {
        const struct cpu_features features = cpu_features();
        const struct cpu_path *path;
        struct error error = {0};
        char why[200];
        if (!available) {
            continue;
        }
        assert_int_equal(cpu_path_pick(&path, &features, DTYPE_F32, name, why, sizeof why, &error),
                         STATUS_OK);
        for (size_t f = 0; f < MADE; f++) {
            expand_format(path, &made[f], MOST_COLUMNS);
            expand_format(path, &made[f], 200); // ends within a unit and within a group
            expand_format(path, &made[f], 77);  // rows that begin anywhere
        }
        for (size_t f = 0; f < NAMED; f++) {
            const struct weight_format *format = weight_format_find(named[f]);
            assert_non_null(format);
            expand_format(path, format, MOST_COLUMNS);
            expand_format(path, format, 3 * format->block);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
