// Experts whose weights are kept in another format than the one computed in: the same bits as of weights that
// were converted when they were loaded, for every kind of format, whether each expert has pieces of its own
// or one piece has all of them, and memory as planned.
#include "experts_testing.h"
#include "formats_testing.h"

enum { EACH = 3 }; // formats of every expert that differ in what alike ones may differ in

struct packed { // the two matrices of a layer, packed, in host memory
    struct device_matrix shape[2];
    struct weight_format formats[2][DEVICE_PIECES][DEVICE_EXPERTS_MOST]; // of a copy of each
    unsigned char *bytes[2][DEVICE_PIECES][DEVICE_EXPERTS_MOST];
};

static size_t copies_of(const struct device_matrix *shape) {
    return size_max(shape->copies, 1);
}

// A matrix of experts with `rows` each, in pieces of each expert, or in one of all.
static void pack_matrix(struct packed *packed, size_t which, const struct sizes *sizes, size_t rows,
                        size_t columns, size_t pieces, const struct weight_format *format, bool fused) {
    struct device_matrix *shape = &packed->shape[which];
    *shape = (struct device_matrix){.rows = sizes->experts * rows,
                                    .columns = columns,
                                    .parts = sizes->experts,
                                    .piece_count = fused ? 1 : pieces,
                                    .copies = fused ? 1 : sizes->experts,
                                    .format_apart = sizeof packed->formats[0][0][0]};
    for (size_t i = 0; i < shape->piece_count; i++) {
        shape->pieces[i] = (struct device_piece){&packed->formats[which][i][0],
                                                 fused ? shape->rows : rows / shape->piece_count, NULL};
        for (size_t copy = 0; copy < copies_of(shape); copy++) {
            struct weight_format *own = &packed->formats[which][i][copy];
            *own = *format;
            own->lookups.offset += (float)(copy % EACH) / 8;
            packed->bytes[which][i][copy] =
                random_piece(own, shape->pieces[i].rows, columns, 100 * which + 10 * i + copy);
        }
    }
}

static struct packed *take_packed(const struct sizes *sizes, const struct weight_format *format, bool fused) {
    struct packed *packed = calloc(1, sizeof *packed);
    assert_non_null(packed);
    pack_matrix(packed, 0, sizes, rows_of(sizes), sizes->hidden, sizes->plain ? 1 : 2, format, fused);
    pack_matrix(packed, 1, sizes, sizes->hidden, sizes->width, 1, format, fused);
    return packed;
}

static void packed_free(struct packed *packed) {
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; i < packed->shape[which].piece_count; i++) {
            for (size_t copy = 0; copy < copies_of(&packed->shape[which]); copy++) {
                free(packed->bytes[which][i][copy]);
            }
        }
    }
    free(packed);
}

// A device with room to spare, but for what experts are expanded into: what is planned, or scratch for some
// of them at a time.
static struct bed packed_bed(const char *path, enum dtype dtype, int threads, const struct packed *packed,
                             bool kept, size_t tokens, size_t expansion) {
    struct bed bed = {.dtype = dtype, .path = path, .rows = tokens};
    struct device_options options = {
        .dtype = dtype, .threads = threads, .cpu_path = test_on_cpu() ? path : NULL};
    must(&bed, device_open(&bed.device, test_device(), &options, &bed.error));
    struct device_plan plan = {.tokens = tokens};
    for (size_t which = 0; which < 2; which++) {
        struct device_matrix shape = packed->shape[which];
        if (!kept) {
            shape = (struct device_matrix){.rows = shape.rows, .columns = shape.columns};
        }
        must(&bed, device_plan_matrix(&plan, bed.device, &shape, &bed.error));
    }
    assert_true(kept == (plan.expansion > 0));
    plan.expansion = kept && expansion > 0 ? expansion : plan.expansion;
    for (int p = DEVICE_ACTIVATIONS; p < DEVICE_PURPOSES; p++) {
        must(&bed, device_plan_add(&plan, (enum device_purpose)p, POOL_BYTES / 4, &bed.error));
    }
    must(&bed, device_reserve(bed.device, &plan, &bed.error));
    must(&bed, device_take(bed.device, DEVICE_STAGING, POOL_BYTES / 4, &bed.staging, &bed.error));
    return bed;
}

static void put_piece(struct bed *bed, struct device_matrix *matrix, const struct packed *packed,
                      size_t which, size_t i, size_t copy, bool kept) {
    const struct device_matrix *shape = &packed->shape[which];
    size_t rows = shape->pieces[i].rows;
    size_t copy_rows = shape->rows / copies_of(shape);
    struct weight_layout layout;
    struct weight_view view;
    const unsigned char *bytes = packed->bytes[which][i][copy];
    const struct weight_format *format = &packed->formats[which][i][copy];
    assert_true(weight_layout(format, rows, shape->columns, &layout));
    assert_true(weight_view_of(format, rows, shape->columns, bytes, &view));
    for (size_t part = 0; part < WEIGHT_PARTS && kept; part++) {
        must(bed,
             device_piece_load(bed->device, matrix, copy * shape->piece_count + i, part, 0,
                               bytes + layout.parts[part].offset, layout.parts[part].bytes, &bed->error));
    }
    if (!kept) {
        must(bed,
             device_matrix_load_view(bed->device, matrix, copy * copy_rows + i * rows, &view, &bed->error));
    }
}

static void put_packed(struct bed *bed, const struct packed *packed, const struct sizes *sizes,
                       const struct numbers *in, struct layer *layer, bool kept) {
    struct device_matrix *matrices[] = {&layer->gate_up, &layer->down};
    for (size_t which = 0; which < 2; which++) {
        const struct device_matrix *shape = &packed->shape[which];
        *matrices[which] =
            kept ? *shape : (struct device_matrix){.rows = shape->rows, .columns = shape->columns};
        must(bed, device_matrix_take(bed->device, matrices[which], &bed->error));
        for (size_t copy = 0; copy < copies_of(shape); copy++) {
            for (size_t i = 0; i < shape->piece_count; i++) {
                put_piece(bed, matrices[which], packed, which, i, copy, kept);
            }
        }
    }
    layer->experts = layer_of(bed, sizes, in, &layer->gate_up, &layer->down);
}

static unsigned char *bytes_of_packed(const char *path, enum dtype dtype, int threads,
                                      const struct sizes *sizes, const struct packed *packed, bool kept,
                                      size_t expansion) {
    struct bed bed = packed_bed(path, dtype, threads, packed, kept, sizes->tokens, expansion);
    struct numbers in = take_numbers(sizes, dtype);
    struct layer layer;
    put_packed(&bed, packed, sizes, &in, &layer, kept);
    void *scratch = take_scratch(&bed, &layer, sizes->tokens);
    unsigned char *bytes = run_tokens(&bed, sizes, &in, &layer, NULL, sizes->tokens, scratch);
    struct device_residency report;
    device_residency(bed.device, &report);
    assert_int_equal(report.planned[DEVICE_WEIGHTS], report.taken[DEVICE_WEIGHTS]);
    numbers_free(&in);
    bed_close(&bed);
    return bytes;
}

// Kept, and expanded when loaded; the latter once, since threads change nothing.
static void same_bits(const char *path, enum dtype dtype, const struct sizes *sizes,
                      const struct weight_format *format, bool fused, size_t expansion) {
    struct packed *packed = take_packed(sizes, format, fused);
    size_t bytes = sizes->tokens * sizes->hidden * dtype_size(dtype);
    unsigned char *wanted = bytes_of_packed(path, dtype, 2, sizes, packed, false, 0);
    unsigned char *got = bytes_of_packed(path, dtype, 3, sizes, packed, true, expansion);
    for (size_t i = 0; i < bytes; i++) {
        if (got[i] != wanted[i]) {
            fail_msg("path %s, %s, %s%s: byte %zu differs", path != NULL ? path : "chosen", dtype_name(dtype),
                     format->name, fused ? ", all experts in one piece" : "", i);
        }
    }
    free(got);
    free(wanted);
    packed_free(packed);
}

// Some experts have no tokens; scratch has room for one of them, or for the planned ones, which are all. On
// one path: numbers are made of formats alike on all (test_expand).
static void test_each_format(void **state) {
    (void)state;
    static const struct sizes deep = {2, 3, 1, 256, 256, 0, false, DEVICE_ADD, 0, DEVICE_SILU, true, false};
    static const struct sizes sizes = {11, 6, 2, 64, 32, 0, true, DEVICE_ADD, 3, DEVICE_SILU, false, false};
    for (size_t i = 0; i < CHOSEN + NAMED; i++) {
        const struct weight_format *format = format_number(i);
        const struct sizes *own = format->block > 32 ? &deep : &sizes;
        size_t one = own->hidden * size_max(rows_of(own), 64) * sizeof(uint16_t);
        same_bits(NULL, DTYPE_BF16, own, format, false, i % 2 == 0 ? 0 : one);
        same_bits(NULL, DTYPE_BF16, own, format, true, i % 2 == 1 ? 0 : one);
    }
}

// Experts that end within panels, groups of rows that end within none, and runs that go on from row to row.
static void odd_sizes(const char *path, enum dtype dtype) {
    static const struct sizes sizes = {30, 5, 3, 71, 35, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    const struct weight_format *const formats[] = {&grouped_indexed, &grouped_float4, &looked_up_twice};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        same_bits(path, dtype, &sizes, formats[i], false, 96 << 10);
        same_bits(path, dtype, &sizes, formats[i], true, 96 << 10);
    }
}

static void test_odd_sizes(void **state) {
    (void)state;
    if (test_on_cpu()) { // a GPU multiplies no odd depths
        on_every_path(odd_sizes);
    }
}

// Pieces of rows and of columns, experts without a gate, and inputs that are scaled.
static void larger_batches(const char *path, enum dtype dtype) {
    static const struct sizes cases[] = {
        {320, 3, 2, 136, 64, 0, false, DEVICE_STORE, 1, DEVICE_SILU, false, false},
        {60, 5, 3, 64, 72, 0, true, DEVICE_ADD, 2, DEVICE_RELU_SQUARED, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        same_bits(path, dtype, &cases[i], &looked_up_twice, false, 160 << 10);
        same_bits(path, dtype, &cases[i], &grouped_float8, true, 160 << 10);
    }
}

static void test_larger_batches(void **state) {
    (void)state;
    on_every_path(larger_batches);
}

// ---- refusals ----

static void test_refusals(void **state) {
    (void)state;
    static const struct sizes sizes = {4, 4, 2, 64, 64, 0, false, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    struct packed *packed = take_packed(&sizes, &grouped_8, false);
    struct bed bed = packed_bed("portable", DTYPE_F32, 1, packed, true, sizes.tokens, DEVICE_ALIGNMENT);
    struct numbers in = take_numbers(&sizes, DTYPE_F32);
    struct layer layer;
    size_t bytes;
    put_packed(&bed, packed, &sizes, &in, &layer, true);
    void *scratch = take_scratch(&bed, &layer, sizes.tokens);
    void *x = bed_put_rows(&bed, in.x, sizes.tokens, sizes.hidden);
    void *out = bed_take_rows(&bed, sizes.hidden);
    struct device_routes routes = {bed_upload(&bed, in.experts, 8 * sizeof(int32_t)),
                                   bed_upload(&bed, in.weights, 8 * sizeof(float))};
    assert_int_equal(device_experts(bed.device, out, x, &routes, &layer.experts, DEVICE_STORE, sizes.tokens,
                                    scratch, &bed.error),
                     STATUS_INTERNAL);
    assert_non_null(strstr(bed.error.message, "no scratch was planned"));
    layer.gate_up.parts = 0; // as a matrix that is multiplied as a whole
    assert_int_equal(device_experts(bed.device, out, x, &routes, &layer.experts, DEVICE_STORE, sizes.tokens,
                                    scratch, &bed.error),
                     STATUS_INTERNAL);
    struct device_matrix shape = packed->shape[0];
    assert_true(device_matrix_bytes(bed.device, &shape, &bytes));
    packed->formats[0][1][2].groups.factor = 2; // a copy that is not like the others
    assert_false(device_matrix_bytes(bed.device, &shape, &bytes));
    packed->formats[0][1][2].groups.factor = packed->formats[0][1][0].groups.factor;
    shape.copies = 2;
    assert_false(device_matrix_bytes(bed.device, &shape, &bytes));
    shape = packed->shape[0];
    shape.parts = 3;
    assert_false(device_matrix_bytes(bed.device, &shape, &bytes));
    assert_int_equal(device_piece_load(bed.device, &layer.down, sizes.experts, 0, 0, "", 1, &bed.error),
                     STATUS_INTERNAL);
    numbers_free(&in);
    bed_close(&bed);
    packed_free(packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_format),
        cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_larger_batches),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
