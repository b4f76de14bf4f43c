// Weights that are kept in another format than the one computed in: the same bits as converted at load, the
// same choice of algorithms, and memory as planned. With a format of the test's own, whose blocks of 32 codes
// share a scale, and 4 rows x 32 columns of them an offset.
#include "base/memory.h"
#include "device_testing.h"

enum { TOKENS = 21, BLOCK = 32, OFFSET_ROWS = 4 };

// number = scale * code + offset; codes are signed bytes, scales bfloat16. The offsets of the 4 rows are
// packed into 4 bytes, in quarters.
static void expand_blocks(float *out, const struct weight_format *format, const struct weight_run *run) {
    (void)format;
    assert_int_equal(run->column % WEIGHT_RUN, 0);
    assert_true(run->count <= WEIGHT_RUN);
    for (size_t i = 0; i < run->count; i++) {
        size_t column = run->column + i;
        uint16_t scale;
        memcpy(&scale, run->parts[1] + column / BLOCK * sizeof scale, sizeof scale);
        signed char offset =
            (signed char)run->parts[2][column / BLOCK * OFFSET_ROWS + run->row % OFFSET_ROWS];
        out[i] = bf16_to_f32(scale) * (float)(signed char)run->parts[0][column] + 0.25f * (float)offset;
    }
}

static const struct weight_format blocks_of_32 = {
    .name = "blocks",
    .block = BLOCK,
    .bytes = BLOCK,
    .companion_count = 2,
    .companions = {{".scale", "BF16", sizeof(uint16_t), 1, BLOCK},
                   {".offset", "I32", OFFSET_ROWS, OFFSET_ROWS, BLOCK}},
    .expand = expand_blocks,
};

// ---- the table ----

static void test_table(void **state) {
    (void)state;
    const char *const names[] = {"F32", "F16", "BF16"};
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t i = 0; i < 3; i++) {
        const float numbers[4] = {1.5f, -2, 0.25f, 1024};
        uint32_t stored[4];
        float expanded[3];
        const struct weight_format *format = weight_format_find(names[i]);
        assert_non_null(format);
        assert_ptr_equal(format, weight_format_of(dtypes[i]));
        assert_string_equal(format->name, names[i]);
        assert_true(format->plain && format->dtype == dtypes[i] && format->companion_count == 0);
        assert_int_equal(format->bytes, format->block * dtype_size(dtypes[i]));
        dtype_convert(stored, dtypes[i], numbers, DTYPE_F32, 4);
        const struct weight_run run = {.parts = {(const unsigned char *)stored}, .column = 0, .count = 3};
        format->expand(expanded, format, &run);
        assert_memory_equal(expanded, numbers, sizeof expanded);
    }
    assert_null(weight_format_find("F64"));
    assert_null(weight_format_find("bf16"));
}

static void test_layout(void **state) {
    (void)state;
    struct weight_layout layout;
    assert_true(weight_layout(&blocks_of_32, 10, 70, &layout));
    assert_int_equal(layout.parts[0].row, 3 * BLOCK); // the last block has 6 numbers
    assert_int_equal(layout.parts[0].rows, 10);
    assert_int_equal(layout.parts[1].offset, 1024); // behind 960
    assert_int_equal(layout.parts[1].row, 3 * sizeof(uint16_t));
    assert_int_equal(layout.parts[2].offset, 1280); // behind 1024 + 60
    assert_int_equal(layout.parts[2].rows, 3);
    assert_int_equal(layout.parts[2].shared, OFFSET_ROWS);
    assert_int_equal(layout.bytes, 1280 + 3 * 3 * sizeof(float));
    assert_false(weight_layout(&blocks_of_32, SIZE_MAX / 64, 70, &layout));
    assert_false(weight_layout(&blocks_of_32, 3, SIZE_MAX - 2, &layout));
    // For all rows and for all of a row: one element each.
    struct weight_format whole = blocks_of_32;
    whole.companions[0].columns = 0;
    whole.companions[1].rows = 0;
    assert_true(weight_layout(&whole, 10, 70, &layout));
    assert_int_equal(layout.parts[1].row, sizeof(uint16_t));
    assert_int_equal(layout.parts[2].rows, 1);
    assert_int_equal(layout.parts[2].shared, 10);
}

// ---- matmul ----

// A device with just the memory that its plan names.
static struct bed planned_bed(const char *path, enum dtype dtype, const struct weight_format *const *formats,
                              size_t count, size_t rows, size_t columns) {
    struct bed bed = {.dtype = dtype, .path = path, .rows = TOKENS};
    struct device_options options = {.dtype = dtype, .threads = 2, .cpu_path = test_on_cpu() ? path : NULL};
    must(&bed, device_open(&bed.device, test_device(), &options, &bed.error));
    struct device_plan plan = {.tokens = TOKENS};
    for (size_t i = 0; i < count; i++) {
        must(&bed, device_plan_matrix(&plan, bed.device, formats[i], rows, columns, &bed.error));
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

// Numbers that all three plain formats hold.
static float *plain_numbers(size_t count) {
    float *numbers = random_numbers(3, count, 0.5f, DTYPE_BF16);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = f16_to_f32(f32_to_f16(numbers[i]));
    }
    return numbers;
}

static void load_pieces(struct bed *bed, struct device_matrix *matrix, const void *source,
                        const struct weight_format *format) {
    const size_t pieces[][2] = {{100, matrix->rows - 100}, {0, 1}, {1, 66}, {67, 33}};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t at = pieces[i][0] * matrix->columns * format->bytes;
        must(bed, device_matrix_load(bed->device, matrix, pieces[i][0], pieces[i][1],
                                     (const unsigned char *)source + at, format, &bed->error));
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

// On a device of its own: loaded with conversion, or kept in `format`.
static char *matmul_of(const char *path, enum dtype dtype, const struct weight_format *format, bool kept,
                       size_t rows, size_t columns, unsigned char **bytes) {
    const struct weight_format *formats[] = {kept ? format : NULL};
    struct bed bed = planned_bed(path, dtype, formats, 1, rows, columns);
    float *weights = plain_numbers(rows * columns);
    float *numbers = random_numbers(4, TOKENS * columns, 1.0f, dtype);
    void *source = malloc(rows * columns * sizeof(float));
    assert_non_null(source);
    dtype_convert(source, format->dtype, weights, DTYPE_F32, rows * columns);
    struct device_matrix matrix;
    must(&bed, device_matrix_take(bed.device, &matrix, formats[0], rows, columns, &bed.error));
    assert_true((matrix.format != NULL) == (kept && format->dtype != dtype));
    load_pieces(&bed, &matrix, source, format);
    void *x = bed_take_rows(&bed, columns);
    void *out = bed_take_rows(&bed, rows);
    char *chosen = multiply(&bed, &matrix, out, x, numbers, bytes);
    assert_as_planned(&bed);
    free(source);
    free(numbers);
    free(weights);
    bed_close(&bed);
    return chosen;
}

static void kept_of(const char *path, enum dtype dtype, size_t rows, size_t columns) {
    const struct weight_format *f32 = weight_format_of(DTYPE_F32);
    unsigned char *wanted;
    char *algorithms = matmul_of(path, dtype, f32, false, rows, columns, &wanted);
    for (int d = 0; d < 3; d++) {
        for (int kept = 0; kept < 2; kept++) {
            unsigned char *got;
            char *chosen = matmul_of(path, dtype, weight_format_of((enum dtype)d), kept, rows, columns, &got);
            assert_memory_equal(got, wanted, TOKENS * rows * dtype_size(dtype));
            assert_string_equal(chosen, algorithms);
            free(chosen);
            free(got);
        }
    }
    free(algorithms);
    free(wanted);
}

static void kept(const char *path, enum dtype dtype) {
    kept_of(path, dtype, 152, 200);
    if (test_on_cpu()) { // edges of panels and of runs, odd depths
        kept_of(path, dtype, 150, 271);
    }
}

static void test_kept(void **state) {
    (void)state;
    on_every_path(kept);
}

// The scratch is shared: a deep matrix of NaN leaves nothing in the padding of one that comes after it.
static void shared_scratch(const char *path, enum dtype dtype) {
    enum { ROWS = 152, DEEP = 96, COLUMNS = 80 };
    const struct weight_format *other = weight_format_of(DTYPE_F16);
    const struct weight_format *formats[] = {other, other, NULL};
    struct bed bed = planned_bed(path, dtype, formats, 3, ROWS, DEEP);
    struct device_matrix nan;
    struct device_matrix kept_matrix;
    struct device_matrix converted;
    must(&bed, device_matrix_take(bed.device, &nan, other, ROWS, DEEP, &bed.error));
    must(&bed, device_matrix_take(bed.device, &kept_matrix, other, ROWS - 5, COLUMNS, &bed.error));
    must(&bed, device_matrix_take(bed.device, &converted, NULL, ROWS - 5, COLUMNS, &bed.error));
    float *numbers = random_numbers(4, TOKENS * DEEP, 1.0f, dtype);
    uint16_t *source = malloc((size_t)ROWS * DEEP * sizeof *source);
    assert_non_null(source);
    memset(source, 0xff, (size_t)ROWS * DEEP * sizeof *source);
    must(&bed, device_matrix_load(bed.device, &nan, 0, ROWS, source, other, &bed.error));
    float *weights = plain_numbers((size_t)ROWS * COLUMNS);
    dtype_convert(source, DTYPE_F16, weights, DTYPE_F32, (size_t)ROWS * COLUMNS);
    must(&bed, device_matrix_load(bed.device, &kept_matrix, 0, ROWS - 5, source, other, &bed.error));
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

// ---- companions ----

struct packed { // [rows, columns] in the test's format, and what it stands for
    signed char *codes;
    uint16_t *scales;
    signed char *offsets;
    float *numbers;
};

static struct packed make_packed(size_t rows, size_t columns, size_t groups) {
    uint64_t seed = 11;
    struct packed packed = {malloc(rows * groups * BLOCK), malloc(rows * groups * sizeof(uint16_t)),
                            calloc(rows + OFFSET_ROWS, groups), malloc(rows * columns * sizeof(float))};
    assert_true(packed.codes != NULL && packed.scales != NULL && packed.offsets != NULL &&
                packed.numbers != NULL);
    for (size_t i = 0; i < rows * groups * BLOCK; i++) {
        packed.codes[i] = (signed char)((int)(random_unit(&seed) * 255) - 127);
    }
    for (size_t i = 0; i < rows * groups; i++) {
        packed.scales[i] = f32_to_bf16((float)random_unit(&seed) * 0.01f);
        packed.offsets[i] = (signed char)((int)(random_unit(&seed) * 9) - 4);
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            packed.numbers[r * columns + c] =
                bf16_to_f32(packed.scales[r * groups + c / BLOCK]) *
                    (float)packed.codes[r * groups * BLOCK + c] +
                0.25f * (float)packed
                            .offsets[(r / OFFSET_ROWS * groups + c / BLOCK) * OFFSET_ROWS + r % OFFSET_ROWS];
        }
    }
    return packed;
}

static void load_packed(struct bed *bed, struct device_matrix *matrix, const struct packed *packed,
                        size_t groups) {
    const size_t pieces[][2] = {{100, matrix->rows - 100}, {0, 4}, {4, 96}};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t row = pieces[i][0];
        size_t count = pieces[i][1];
        must(bed, device_companion_load(bed->device, matrix, 1, row, count, packed->offsets + row * groups,
                                        &bed->error));
        must(bed, device_matrix_load(bed->device, matrix, row, count, packed->codes + row * groups * BLOCK,
                                     &blocks_of_32, &bed->error));
        must(bed, device_companion_load(bed->device, matrix, 0, row, count, packed->scales + row * groups,
                                        &bed->error));
    }
}

static void companions(const char *path, enum dtype dtype) {
    const size_t rows = 150;
    const size_t columns = 333;
    const size_t groups = (columns + BLOCK - 1) / BLOCK;
    const struct weight_format *formats[] = {&blocks_of_32, NULL};
    struct bed bed = planned_bed(path, dtype, formats, 2, rows, columns);
    struct packed packed = make_packed(rows, columns, groups);
    float *numbers = random_numbers(4, TOKENS * columns, 1.0f, dtype);
    struct device_matrix matrix;
    struct device_matrix plain;
    must(&bed, device_matrix_take(bed.device, &matrix, &blocks_of_32, rows, columns, &bed.error));
    must(&bed, device_matrix_take(bed.device, &plain, NULL, rows, columns, &bed.error));
    load_packed(&bed, &matrix, &packed, groups);
    must(&bed, device_matrix_load(bed.device, &plain, 0, rows, packed.numbers, weight_format_of(DTYPE_F32),
                                  &bed.error));
    void *x = bed_put_rows(&bed, numbers, TOKENS, columns);
    void *out = bed_take_rows(&bed, rows);
    size_t bytes = TOKENS * rows * dtype_size(dtype);
    must(&bed, device_matmul(bed.device, out, x, &matrix, NULL, TOKENS, DEVICE_STORE, &bed.error));
    void *got = bed_bytes(&bed, out, bytes);
    must(&bed, device_matmul(bed.device, out, x, &plain, NULL, TOKENS, DEVICE_STORE, &bed.error));
    void *wanted = bed_bytes(&bed, out, bytes);
    assert_memory_equal(got, wanted, bytes);
    assert_as_planned(&bed);
    free(got);
    free(wanted);
    free(numbers);
    free(packed.codes);
    free(packed.scales);
    free(packed.offsets);
    free(packed.numbers);
    bed_close(&bed);
}

static void test_companions(void **state) {
    (void)state;
    if (test_on_cpu()) {
        on_every_path(companions);
    }
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
    struct device_matrix half;
    struct device_matrix packed;
    struct device_matrix plain;
    must(&bed, device_matrix_take(bed.device, &half, f16, ROWS, COLUMNS, &bed.error));
    must(&bed, device_matrix_take(bed.device, &packed, &blocks_of_32, ROWS, COLUMNS, &bed.error));
    must(&bed, device_matrix_take(bed.device, &plain, f32, ROWS, COLUMNS, &bed.error));
    assert_null(plain.format); // its own is how it computes
    void *x = bed_take_rows(&bed, COLUMNS);
    void *out = bed_take_rows(&bed, ROWS);
    refused(&bed, device_matrix_load(bed.device, &half, 0, 1, numbers, f32, &bed.error), STATUS_INTERNAL,
            "weights in F32 do not go into a matrix stored in F16");
    refused(&bed, device_matrix_load(bed.device, &plain, 0, 1, numbers, &blocks_of_32, &bed.error),
            STATUS_INTERNAL, "weights in blocks do not go into a matrix stored in float32");
    refused(&bed, device_vector_load(bed.device, x, 0, 1, numbers, &blocks_of_32, &bed.error),
            STATUS_INTERNAL, "comes in blocks");
    refused(&bed, device_companion_load(bed.device, &half, 0, 0, 1, numbers, &bed.error), STATUS_INTERNAL,
            "stored in F16 has no companion 0");
    refused(&bed, device_companion_load(bed.device, &packed, 2, 0, 4, numbers, &bed.error), STATUS_INTERNAL,
            "has no companion 2");
    refused(&bed, device_companion_load(bed.device, &packed, 1, 2, 4, numbers, &bed.error), STATUS_INTERNAL,
            "rows 2 + 4 of a matrix of [16, 64] cut 4 that share .offset");
    refused(&bed, device_companion_load(bed.device, &packed, 1, 0, 17, numbers, &bed.error), STATUS_INTERNAL,
            "do not fit");
    refused(&bed, device_matmul(bed.device, out, x, &half, NULL, 1, DEVICE_STORE, &bed.error),
            STATUS_INTERNAL, "no scratch was planned to expand a matrix of [16, 64] in F16");
    bed_close(&bed);
}

static void test_packed_on_a_gpu(void **state) {
    (void)state;
    enum { ROWS = 16, COLUMNS = 64 };
    if (test_on_cpu()) {
        return;
    }
    const struct weight_format *formats[] = {&blocks_of_32};
    struct bed bed = planned_bed(test_device(), DTYPE_BF16, formats, 1, ROWS, COLUMNS);
    struct device_matrix packed;
    must(&bed, device_matrix_take(bed.device, &packed, &blocks_of_32, ROWS, COLUMNS, &bed.error));
    void *x = bed_take_rows(&bed, COLUMNS);
    void *out = bed_take_rows(&bed, ROWS);
    refused(&bed, device_matmul(bed.device, out, x, &packed, NULL, 1, DEVICE_STORE, &bed.error),
            STATUS_DEVICE, "a GPU does not expand weights in blocks");
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_shared_scratch),
        cmocka_unit_test(test_companions),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_packed_on_a_gpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
