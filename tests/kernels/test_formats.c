// SPDX-License-Identifier: MIT
// Weights that are kept in another format than the one computed in: the same bits as converted at load, the
// same choice of algorithms, and memory as planned; for every kind of format, alone and as pieces of a fused
// matrix.
#include "base/memory.h"
#include "formats_testing.h"

enum { TOKENS = 21 };

static void test_table(void **state) {
    (void)state;
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t i = 0; i < 3; i++) {
        const float numbers[4] = {1.5f, -2, 0.25f, 1024};
        uint32_t stored[4];
        float expanded[3];
        struct weight_view view;
        const struct weight_format *format = weight_format_find(named[i]);
        assert_non_null(format);
        assert_ptr_equal(format, weight_format_of(dtypes[i]));
        assert_string_equal(format->name, named[i]);
        assert_true(weight_format_plain(format) && format->dtype == dtypes[i]);
        assert_int_equal(format->bytes, format->block * dtype_size(dtypes[i]));
        dtype_convert(stored, dtypes[i], numbers, DTYPE_F32, 4);
        assert_true(weight_view_of(format, 1, 4, stored, &view));
        weight_expand(expanded, &view, 0, 0, 3);
        assert_memory_equal(expanded, numbers, sizeof expanded);
    }
    assert_null(weight_format_find("F64"));
    assert_null(weight_format_find("bf16"));
    assert_false(weight_format_plain(weight_format_find("Q4_K")));
}

static void test_layout(void **state) {
    (void)state;
    struct weight_layout layout;
    assert_true(weight_layout(&grouped_4, 10, 70, &layout));
    assert_int_equal(layout.parts[PART_CODES].row, 35);
    assert_int_equal(layout.parts[PART_CODES].bytes, 350);
    assert_int_equal(layout.parts[PART_SCALES].offset, 512);
    assert_int_equal(layout.parts[PART_SCALES].row, 3 * sizeof(uint16_t)); // the last group has 6 numbers
    assert_int_equal(layout.parts[PART_ZEROS].offset, 768);
    assert_int_equal(layout.parts[PART_ZEROS].row, 2);
    assert_int_equal(layout.parts[PART_INDICES].bytes, 0);
    assert_int_equal(layout.bytes, 768 + 20);
    assert_true(weight_layout(&grouped_8, 10, 70, &layout));
    assert_int_equal(layout.parts[PART_SCALES].bytes, 10 * sizeof(float));
    assert_true(weight_layout(&grouped_float8, 130, 129, &layout));
    assert_int_equal(layout.parts[PART_SCALES].bytes, 2 * 2 * sizeof(float));
    assert_true(weight_layout(&looked_up_twice, 3, 50, &layout)); // runs go on from row to row
    assert_int_equal(layout.parts[PART_CODES].bytes, 75);
    assert_int_equal(layout.parts[PART_SCALES].bytes, 5);
    assert_int_equal(layout.parts[PART_NESTED_SCALES].bytes, 2 * sizeof(float));
    assert_int_equal(layout.parts[PART_TABLE].bytes, 16 * sizeof(float));
    assert_int_equal(layout.parts[PART_NESTED_TABLE].bytes, 256 * sizeof(float));
    assert_false(weight_layout(weight_format_find("Q8_0"), 3, 70, &layout)); // ends within a block
    assert_true(weight_layout(weight_format_find("Q4_K"), 3, 512, &layout));
    assert_int_equal(layout.bytes, 3 * 2 * 144);
    for (size_t i = 0; i < CHOSEN + NAMED; i++) {
        assert_false(weight_layout(format_number(i), SIZE_MAX / 64, 51200, &layout));
        assert_false(weight_layout(format_number(i), 0, 256, &layout));
    }
}

// ---- matmul ----

// A device with just the memory that its plan names.
static struct bed planned_bed(const char *path, enum dtype dtype, const struct device_matrix *matrices,
                              size_t count) {
    struct bed bed = {.dtype = dtype, .path = path, .rows = TOKENS};
    struct device_options options = {.dtype = dtype, .threads = 2, .cpu_path = test_on_cpu() ? path : NULL};
    size_t rows = matrices[0].rows;
    size_t columns = matrices[0].columns;
    must(&bed, device_open(&bed.device, test_device(), &options, &bed.error));
    struct device_plan plan = {.tokens = TOKENS};
    for (size_t i = 0; i < count; i++) {
        must(&bed, device_plan_matrix(&plan, bed.device, &matrices[i], &bed.error));
    }
    size_t number = dtype_size(dtype);
    must(&bed, device_plan_add(&plan, DEVICE_ACTIVATIONS, TOKENS * columns * number, &bed.error));
    must(&bed, device_plan_add(&plan, DEVICE_ACTIVATIONS, TOKENS * rows * number, &bed.error));
    must(&bed, device_plan_add(&plan, DEVICE_STAGING, TOKENS * rows * number, &bed.error));
    must(&bed, device_reserve(bed.device, &plan, &bed.error));
    must(&bed, device_take(bed.device, DEVICE_STAGING, TOKENS * rows * number, &bed.staging, &bed.error));
    return bed;
}

static void assert_as_planned(const struct bed *bed) {
    struct device_residency report;
    device_residency(bed->device, &report);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        assert_int_equal(report.planned[p], report.taken[p]);
    }
}

// Tunes and multiplies; what the device chose, and the bytes of out: the caller's.
static char *multiply(struct bed *bed, const struct device_matrix *matrix, void *out, void *x,
                      const float *numbers, unsigned char **bytes) {
    struct buffer text = {0};
    must(bed, device_matmul_tune(bed->device, out, x, matrix, NULL, DEVICE_STORE, &bed->error));
    must(bed, device_vector_load(bed->device, x, 0, TOKENS * matrix->columns, numbers,
                                 weight_format_of(DTYPE_F32), &bed->error));
    must(bed, device_matmul(bed->device, out, x, matrix, NULL, TOKENS, DEVICE_STORE, &bed->error));
    must(bed, device_algorithms(bed->device, &text, &bed->error));
    *bytes = bed_bytes(bed, out, TOKENS * matrix->rows * dtype_size(bed->dtype));
    char *copy = strdup(text.data != NULL ? text.data : "");
    assert_non_null(copy);
    buffer_destroy(&text);
    return copy;
}

// The whole of a piece, part by part, each in two halves, the second one first.
static void load_piece(struct bed *bed, struct device_matrix *matrix, size_t piece,
                       const unsigned char *bytes) {
    struct weight_layout layout;
    const struct device_piece *p = &matrix->pieces[piece];
    assert_true(weight_layout(p->format, p->rows, matrix->columns, &layout));
    for (size_t part = 0; part < WEIGHT_PARTS; part++) {
        const unsigned char *from = bytes + layout.parts[part].offset;
        size_t half = layout.parts[part].bytes / 2;
        must(bed, device_piece_load(bed->device, matrix, piece, part, half, from + half,
                                    layout.parts[part].bytes - half, &bed->error));
        must(bed, device_piece_load(bed->device, matrix, piece, part, 0, from, half, &bed->error));
    }
}

// The same numbers kept as pieces, loaded from views of them, and loaded as float32: what the device chose,
// and the results' bytes.
enum form { KEPT, FROM_VIEWS, FROM_FLOATS };

static char *matmul_of(const char *path, enum dtype dtype, const struct device_matrix *shape, enum form form,
                       unsigned char **bytes) {
    struct device_matrix matrix = {.rows = shape->rows, .columns = shape->columns};
    if (form == KEPT) {
        matrix = *shape;
    }
    struct bed bed = planned_bed(path, dtype, &matrix, 1);
    must(&bed, device_matrix_take(bed.device, &matrix, &bed.error));
    size_t row = 0;
    for (size_t i = 0; i < shape->piece_count; i++) {
        const struct device_piece *piece = &shape->pieces[i];
        struct weight_view view;
        unsigned char *packed = random_piece(piece->format, piece->rows, shape->columns, 7 + i);
        assert_true(weight_view_of(piece->format, piece->rows, shape->columns, packed, &view));
        if (form == KEPT) {
            load_piece(&bed, &matrix, i, packed);
        } else if (form == FROM_VIEWS) {
            must(&bed, device_matrix_load_view(bed.device, &matrix, row, &view, &bed.error));
        }
        for (size_t r = 0; form == FROM_FLOATS && r < piece->rows; r++) {
            float *numbers = malloc(shape->columns * sizeof *numbers);
            assert_non_null(numbers);
            weight_expand(numbers, &view, r, 0, shape->columns);
            must(&bed, device_matrix_load(bed.device, &matrix, row + r, 1, numbers,
                                          weight_format_of(DTYPE_F32), &bed.error));
            free(numbers);
        }
        row += piece->rows;
        free(packed);
    }
    float *numbers = random_numbers(4, TOKENS * shape->columns, 1.0f, dtype);
    void *x = bed_take_rows(&bed, shape->columns);
    void *out = bed_take_rows(&bed, shape->rows);
    char *algorithms = multiply(&bed, &matrix, out, x, numbers, bytes);
    assert_as_planned(&bed);
    free(numbers);
    bed_close(&bed);
    return algorithms;
}

static void same_in_all_forms(const char *path, enum dtype dtype, const struct device_matrix *shape) {
    unsigned char *wanted;
    char *algorithms = matmul_of(path, dtype, shape, FROM_FLOATS, &wanted);
    for (int form = KEPT; form < FROM_FLOATS; form++) {
        unsigned char *got;
        char *other = matmul_of(path, dtype, shape, (enum form)form, &got);
        assert_memory_equal(got, wanted, TOKENS * shape->rows * dtype_size(dtype));
        assert_string_equal(other, algorithms);
        free(other);
        free(got);
    }
    free(algorithms);
    free(wanted);
}

static void each_format(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < CHOSEN + NAMED; i++) {
        const struct device_matrix shape = {
            .rows = 72, .columns = 256, .piece_count = 1, .pieces = {{format_number(i), 72, NULL}}};
        same_in_all_forms(path, dtype, &shape);
    }
}

static void test_each_format(void **state) {
    (void)state;
    on_every_path(each_format);
}

// Pieces that end within panels, odd depths, runs that go on from row to row, and numbers stored as computed
// beside others.
static void odd_pieces(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < CHOSEN; i++) {
        const struct device_matrix shape = {.rows = 150,
                                            .columns = 271,
                                            .piece_count = 3,
                                            .pieces = {{format_number(i), 37, NULL},
                                                       {weight_format_of(DTYPE_BF16), 13, NULL},
                                                       {format_number((i + 1) % CHOSEN), 100, NULL}}};
        same_in_all_forms(path, dtype, &shape);
    }
}

static void test_odd_pieces(void **state) {
    (void)state;
    if (test_on_cpu()) { // a GPU multiplies no odd depths
        on_every_path(odd_pieces);
    }
}

static void blocks_beside_each_other(const char *path, enum dtype dtype) {
    const struct device_matrix shape = {.rows = 152,
                                        .columns = 512,
                                        .piece_count = 3,
                                        .pieces = {{weight_format_find("Q4_K"), 40, NULL},
                                                   {weight_format_find("Q6_K"), 56, NULL},
                                                   {weight_format_find("F16"), 56, NULL}}};
    same_in_all_forms(path, dtype, &shape);
}

static void test_blocks_beside_each_other(void **state) {
    (void)state;
    on_every_path(blocks_beside_each_other);
}

// The scratch is shared: a deep matrix of NaN leaves nothing in the padding of one that comes after it.
static void shared_scratch(const char *path, enum dtype dtype) {
    enum { ROWS = 152, DEEP = 96, COLUMNS = 80 };
    const struct weight_format *other = weight_format_of(DTYPE_F16);
    const struct device_matrix deep = {
        .rows = ROWS, .columns = DEEP, .piece_count = 1, .pieces = {{other, ROWS, NULL}}};
    const struct device_matrix shapes[] = {deep, deep, {.rows = ROWS, .columns = DEEP}};
    struct bed bed = planned_bed(path, dtype, shapes, 3);
    struct device_matrix nan = deep;
    struct device_matrix kept_matrix = {
        .rows = ROWS - 5, .columns = COLUMNS, .piece_count = 1, .pieces = {{other, ROWS - 5, NULL}}};
    struct device_matrix converted = {.rows = ROWS - 5, .columns = COLUMNS};
    must(&bed, device_matrix_take(bed.device, &nan, &bed.error));
    must(&bed, device_matrix_take(bed.device, &kept_matrix, &bed.error));
    must(&bed, device_matrix_take(bed.device, &converted, &bed.error));
    float *numbers = random_numbers(4, TOKENS * DEEP, 1.0f, dtype);
    uint16_t *source = malloc((size_t)ROWS * DEEP * sizeof *source);
    assert_non_null(source);
    memset(source, 0xff, (size_t)ROWS * DEEP * sizeof *source);
    must(&bed, device_piece_load(bed.device, &nan, 0, 0, 0, source, (size_t)ROWS * DEEP * sizeof *source,
                                 &bed.error));
    float *weights = random_numbers(3, (size_t)ROWS * COLUMNS, 0.5f, DTYPE_F16);
    dtype_convert(source, DTYPE_F16, weights, DTYPE_F32, (size_t)ROWS * COLUMNS);
    must(&bed, device_piece_load(bed.device, &kept_matrix, 0, 0, 0, source,
                                 (size_t)(ROWS - 5) * COLUMNS * sizeof *source, &bed.error));
    must(&bed, device_matrix_load(bed.device, &converted, 0, ROWS - 5, source, other, &bed.error));
    void *x = bed_put_rows(&bed, numbers, TOKENS, DEEP);
    void *out = bed_take_rows(&bed, ROWS);
    size_t bytes = TOKENS * (ROWS - 5) * dtype_size(dtype);
    must(&bed, device_matmul(bed.device, out, x, &nan, NULL, TOKENS, DEVICE_STORE, &bed.error));
    if (bed_multiplies(&bed, ROWS - 5, COLUMNS, false, DEVICE_STORE)) {
        must(&bed, device_matmul(bed.device, out, x, &kept_matrix, NULL, TOKENS, DEVICE_STORE, &bed.error));
        void *got = bed_bytes(&bed, out, bytes);
        must(&bed, device_matmul(bed.device, out, x, &converted, NULL, TOKENS, DEVICE_STORE, &bed.error));
        void *wanted = bed_bytes(&bed, out, bytes);
        assert_memory_equal(got, wanted, bytes);
        free(got);
        free(wanted);
    }
    free(weights);
    free(source);
    free(numbers);
    bed_close(&bed);
}

static void test_shared_scratch(void **state) {
    (void)state;
    on_every_path(shared_scratch);
}

// ---- refusals ----

static void refused(struct bed *bed, int status, int expected, const char *text) {
    if (status != expected || strstr(bed->error.message, text) == NULL) {
        fail_msg("%d: %s", status, bed->error.message);
    }
}

static void test_refusals(void **state) {
    (void)state;
    enum { ROWS = 16, COLUMNS = 64 };
    struct bed bed = bed_open_rows("portable", DTYPE_F32, 1, TOKENS); // without scratch to expand into
    const struct weight_format *f16 = weight_format_of(DTYPE_F16);
    const struct weight_format *f32 = weight_format_of(DTYPE_F32);
    const float numbers[ROWS * COLUMNS] = {0};
    struct weight_view narrow;
    struct device_matrix half = {
        .rows = ROWS, .columns = COLUMNS, .piece_count = 1, .pieces = {{f16, ROWS, NULL}}};
    struct device_matrix short_pieces = {
        .rows = ROWS, .columns = COLUMNS, .piece_count = 1, .pieces = {{f16, ROWS - 1, NULL}}};
    struct device_matrix tall_pieces = {
        .rows = ROWS, .columns = COLUMNS, .piece_count = 1, .pieces = {{f16, ROWS, NULL}}, .loose_rows = 1};
    struct device_matrix broken = {.rows = ROWS,
                                   .columns = COLUMNS - 1,
                                   .piece_count = 1,
                                   .pieces = {{weight_format_find("Q8_0"), ROWS, NULL}}};
    struct device_matrix plain = {.rows = ROWS, .columns = COLUMNS};
    refused(&bed, device_matrix_take(bed.device, &short_pieces, &bed.error), STATUS_INTERNAL,
            "cannot be held");
    refused(&bed, device_matrix_take(bed.device, &tall_pieces, &bed.error), STATUS_INTERNAL,
            "cannot be held");
    refused(&bed, device_matrix_take(bed.device, &broken, &bed.error), STATUS_INTERNAL, "cannot be held");
    must(&bed, device_matrix_take(bed.device, &half, &bed.error));
    must(&bed, device_matrix_take(bed.device, &plain, &bed.error));
    void *x = bed_take_rows(&bed, COLUMNS);
    void *out = bed_take_rows(&bed, ROWS);
    refused(&bed, device_matrix_load(bed.device, &half, 0, 1, numbers, f32, &bed.error), STATUS_INTERNAL,
            "that is kept");
    refused(&bed, device_matrix_load(bed.device, &plain, ROWS, 1, numbers, f32, &bed.error), STATUS_INTERNAL,
            "do not fit");
    assert_true(weight_view_of(f32, 1, COLUMNS - 1, numbers, &narrow));
    refused(&bed, device_matrix_load_view(bed.device, &plain, 0, &narrow, &bed.error), STATUS_INTERNAL,
            "does not go into a matrix of [16, 64]");
    refused(&bed, device_vector_load(bed.device, x, 0, 1, numbers, weight_format_find("Q8_0"), &bed.error),
            STATUS_INTERNAL, "comes in Q8_0");
    refused(&bed, device_piece_load(bed.device, &half, 0, 0, 2 * ROWS * COLUMNS - 1, numbers, 2, &bed.error),
            STATUS_INTERNAL, "do not fit piece 0");
    refused(&bed, device_piece_load(bed.device, &half, 0, 1, 0, numbers, 1, &bed.error), STATUS_INTERNAL,
            "of part 1 do not fit");
    refused(&bed, device_piece_load(bed.device, &plain, 0, 0, 0, numbers, 1, &bed.error), STATUS_INTERNAL,
            "do not fit piece 0");
    refused(&bed, device_matmul(bed.device, out, x, &half, NULL, 1, DEVICE_STORE, &bed.error),
            STATUS_INTERNAL, "no scratch was planned to expand a matrix of [16, 64] in F16");
    bed_close(&bed);
}

// Blocks of GGUF that are numbers, at random, but for one byte: scales are finite where all numbers are.
static void one_byte_changed(const struct weight_format *format, unsigned char *bytes, size_t at) {
    enum { COLUMNS = 512 };
    struct weight_view view;
    float numbers[COLUMNS];
    size_t size = COLUMNS / format->block * format->bytes;
    unsigned char kept = bytes[at];
    assert_true(weight_view_of(format, 1, COLUMNS, bytes, &view));
    for (unsigned value = 0; value < 256; value++) {
        bool finite = true;
        bytes[at] = (unsigned char)value;
        weight_expand(numbers, &view, 0, 0, COLUMNS);
        for (size_t i = 0; i < COLUMNS; i++) {
            finite = finite && isfinite(numbers[i]);
        }
        if (weight_scales_finite(format, bytes, size) != finite) {
            fail_msg("%s: byte %zu is %u", format->name, at, value);
        }
    }
    bytes[at] = kept;
}

static void test_scales_within_blocks(void **state) {
    (void)state;
    for (size_t i = 3; i < NAMED; i++) {
        const struct weight_format *format = weight_format_find(named[i]);
        unsigned char *bytes = random_piece(format, 1, 512, i);
        size_t size = 512 / format->block * format->bytes;
        assert_true(weight_scales_finite(format, bytes, size));
        if (format->kind == WEIGHT_MXFP4) { // the next smaller ones have codes that are numbers
            bytes[format->bytes] = 255;
            assert_false(weight_scales_finite(format, bytes, size));
            assert_true(weight_scales_finite(format, bytes, format->bytes));
        } else {
            for (size_t at = 0; at < 2 * format->bytes; at++) {
                one_byte_changed(format, bytes, at);
            }
        }
        free(bytes);
    }
    const unsigned char none[4] = {255, 255, 255, 255};
    assert_true(weight_scales_finite(weight_format_find("F16"), none, sizeof none)); // has none
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_each_format),
        cmocka_unit_test(test_odd_pieces),
        cmocka_unit_test(test_blocks_beside_each_other),
        cmocka_unit_test(test_shared_scratch),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_scales_within_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
