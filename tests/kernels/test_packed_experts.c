// SPDX-License-Identifier: MIT
// Experts whose weights are kept in another format than the one computed in: the same bits as of weights that
// were converted when they were loaded, for every kind of format, whether each expert has pieces of its own
// or one piece has all of them, and memory as planned.
#include "experts_testing.h"
#include "formats_testing.h"
#include "kernels/back_end.h"

enum { EACH = 3 }; // formats of every expert that differ in what alike ones may differ in

struct way { // to keep a layer's matrices
    const struct weight_format *format;
    const struct weight_format *up; // of the second piece, where it is another; NULL: the same
    bool fused;                     // all experts in one piece, instead of pieces of each
    size_t expansion;               // scratch for some experts at a time; 0: what is planned
    bool idle;                      // the first experts, and some in the middle, have no tokens
};

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
                        size_t columns, size_t pieces, const struct way *way) {
    bool fused = way->fused;
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
            *own = i > 0 && way->up != NULL ? *way->up : *way->format;
            own->lookups.offset += (float)(copy % EACH) / 8;
            packed->bytes[which][i][copy] =
                random_piece(own, shape->pieces[i].rows, columns, 100 * which + 10 * i + copy);
        }
    }
}

static struct packed *take_packed(const struct sizes *sizes, const struct way *way) {
    struct packed *packed = calloc(1, sizeof *packed);
    assert_non_null(packed);
    pack_matrix(packed, 0, sizes, rows_of(sizes), sizes->hidden, sizes->plain ? 1 : 2, way);
    pack_matrix(packed, 1, sizes, sizes->hidden, sizes->width, 1, way);
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

// Scratch that no expert was expanded into holds no numbers: those that the call leaves out are seen.
static void poison(struct bed *bed) {
    struct device_fence fence;
    size_t bytes = bed->device->expansion_bytes;
    assert_true(bytes <= POOL_BYTES / 4);
    memset(bed->staging, 0xff, bytes); // NaN in every computation dtype
    must(bed, device_upload(bed->device, bed->device->expansion, bed->staging, bytes, &bed->error));
    must(bed, device_fence(bed->device, &fence, &bed->error));
    must(bed, device_wait(bed->device, fence, NULL, &bed->error));
}

// Each token has two of these experts; the others have no tokens.
static void route_to_some(const struct sizes *sizes, struct numbers *in) {
    static const int32_t busy[] = {2, 3, 6};
    assert_true(sizes->chosen == 2 && sizes->experts > 6);
    for (size_t t = 0; t < sizes->tokens; t++) {
        in->experts[2 * t] = busy[t % 2];
        in->experts[2 * t + 1] = busy[t % 2 + 1];
    }
}

static unsigned char *bytes_of_packed(const char *path, enum dtype dtype, int threads,
                                      const struct sizes *sizes, const struct packed *packed, bool kept,
                                      const struct way *way) {
    struct bed bed = packed_bed(path, dtype, threads, packed, kept, sizes->tokens, way->expansion);
    struct numbers in = take_numbers(sizes, dtype);
    struct layer layer;
    if (way->idle) {
        route_to_some(sizes, &in);
    }
    put_packed(&bed, packed, sizes, &in, &layer, kept);
    void *scratch = take_scratch(&bed, &layer, sizes->tokens);
    if (kept) {
        poison(&bed);
    }
    unsigned char *bytes = run_tokens(&bed, sizes, &in, &layer, NULL, sizes->tokens, scratch);
    struct device_residency report;
    device_residency(bed.device, &report);
    assert_int_equal(report.planned[DEVICE_WEIGHTS], report.taken[DEVICE_WEIGHTS]);
    numbers_free(&in);
    bed_close(&bed);
    return bytes;
}

// Kept, and expanded when loaded; the latter once, since threads change nothing.
static void same_bits(const char *path, enum dtype dtype, const struct sizes *sizes, const struct way *way) {
    struct packed *packed = take_packed(sizes, way);
    size_t bytes = sizes->tokens * sizes->hidden * dtype_size(dtype);
    unsigned char *wanted = bytes_of_packed(path, dtype, 2, sizes, packed, false, way);
    unsigned char *got = bytes_of_packed(path, dtype, 3, sizes, packed, true, way);
    for (size_t i = 0; i < bytes; i++) {
        if (got[i] != wanted[i]) {
            fail_msg("path %s, %s, %s%s: byte %zu differs", path != NULL ? path : "chosen", dtype_name(dtype),
                     way->format->name, way->fused ? ", all experts in one piece" : "", i);
        }
    }
    free(got);
    free(wanted);
    packed_free(packed);
}

// Scratch for one expert of these sizes at a time.
static size_t room_for_one(const struct sizes *sizes, enum dtype dtype) {
    return size_max(device_part_rows(rows_of(sizes)) * sizes->hidden,
                    device_part_rows(sizes->hidden) * sizes->width) *
           dtype_size(dtype);
}

// Some experts have no tokens; scratch has room for one of them, or for the planned ones, which are all. On
// one path: numbers are made of formats alike on all (test_expand).
static void test_each_format(void **state) {
    (void)state;
    static const struct sizes deep = {2, 3, 1, 256, 256, 0, false, DEVICE_ADD, 0, DEVICE_SILU, true, false};
    static const struct sizes sizes = {11, 6, 2, 64, 32, 0, true, DEVICE_ADD, 3, DEVICE_SILU, false, false};
    static const enum dtype dtypes[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    for (size_t i = 0; i < CHOSEN + NAMED; i++) {
        const struct weight_format *format = format_number(i);
        const struct sizes *own = format->block > 32 ? &deep : &sizes;
        for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
            size_t one = room_for_one(own, dtypes[d]);
            const struct way each = {.format = format, .expansion = i % 2 == 0 ? 0 : one};
            const struct way all = {.format = format, .fused = true, .expansion = i % 2 == 1 ? 0 : one};
            same_bits(NULL, dtypes[d], own, &each);
            same_bits(NULL, dtypes[d], own, &all);
        }
    }
}

// The first experts and some in the middle have no tokens; one or three at a time.
static void idle_experts(const char *path, enum dtype dtype) {
    static const struct sizes sizes = {9, 8, 2, 64, 32, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    size_t one = room_for_one(&sizes, dtype);
    for (size_t fused = 0; fused < 2; fused++) {
        const struct way alone = {.format = &grouped_4, .fused = fused == 1, .expansion = one, .idle = true};
        const struct way some = {
            .format = &looked_up_twice, .fused = fused == 1, .expansion = 3 * one, .idle = true};
        same_bits(path, dtype, &sizes, &alone);
        same_bits(path, dtype, &sizes, &some);
    }
}

static void test_idle_experts(void **state) {
    (void)state;
    on_every_path(idle_experts);
}

// Gate in numbers or of 8 bits, up of 4; for some or for all experts at a time.
static void pieces_unlike(const char *path, enum dtype dtype) {
    static const struct sizes sizes = {9, 8, 2, 64, 32, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    const struct way numbers = {.format = weight_format_find("BF16"), .up = &grouped_4};
    const struct way codes = {
        .format = &grouped_8, .up = &looked_up_twice, .expansion = 2 * room_for_one(&sizes, dtype)};
    same_bits(path, dtype, &sizes, &numbers);
    same_bits(path, dtype, &sizes, &codes);
}

static void test_pieces_unlike(void **state) {
    (void)state;
    on_every_path(pieces_unlike);
}

// One expert is expanded into what is planned for it, though its rows end within a panel.
static void one_planned(const char *path, enum dtype dtype) {
    static const struct sizes sizes = {3, 1, 1, 72, 40, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    static const struct sizes more = {7, 5, 2, 72, 40, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    for (size_t fused = 0; fused < 2; fused++) {
        const struct way way = {.format = &grouped_8, .fused = fused == 1};
        same_bits(path, dtype, &sizes, &way);
        same_bits(path, dtype, &more, &way);
    }
}

static void test_planned(void **state) {
    (void)state;
    on_every_path(one_planned);
}

// Experts so large that two do not fit: planned, and not taken.
static void one_large(const char *path, enum dtype dtype) {
    enum { EXPERTS = 3, ROWS = 5000, COLUMNS = 16384 };
    struct bed bed = {.dtype = dtype, .path = path};
    struct device_options options = {.dtype = dtype, .threads = 1, .cpu_path = test_on_cpu() ? path : NULL};
    struct device_matrix shape = {.rows = EXPERTS * ROWS, .columns = COLUMNS, .parts = EXPERTS};
    struct device_matrix one = {.rows = 5056, .columns = COLUMNS}; // 79 times 64
    struct device_plan plan = {.tokens = 1};
    size_t bytes;
    shape.piece_count = 1;
    shape.pieces[0] = (struct device_piece){&grouped_8, shape.rows, NULL};
    must(&bed, device_open(&bed.device, test_device(), &options, &bed.error));
    must(&bed, device_plan_matrix(&plan, bed.device, &shape, &bed.error));
    assert_true(device_matrix_bytes(bed.device, &one, &bytes));
    assert_int_equal(plan.expansion, bytes);
    device_close(bed.device);
}

static void test_one_large(void **state) {
    (void)state;
    on_every_path(one_large);
}

// Experts that end within panels, groups of rows that end within none, and runs that go on from row to row.
static void odd_sizes(const char *path, enum dtype dtype) {
    static const struct sizes sizes = {30, 5, 3, 71, 35, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    const struct weight_format *const formats[] = {&grouped_indexed, &grouped_float4, &looked_up_twice};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        for (size_t fused = 0; fused < 2; fused++) {
            same_bits(path, dtype, &sizes,
                      &(struct way){.format = formats[i], .fused = fused == 1, .expansion = 96 << 10});
        }
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
        const struct way each = {.format = &looked_up_twice, .expansion = 160 << 10};
        const struct way all = {.format = &grouped_float8, .fused = true, .expansion = 160 << 10};
        same_bits(path, dtype, &cases[i], &each);
        same_bits(path, dtype, &cases[i], &all);
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
    struct packed *packed = take_packed(&sizes, &(struct way){.format = &grouped_8});
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
        cmocka_unit_test(test_each_format),    cmocka_unit_test(test_idle_experts),
        cmocka_unit_test(test_pieces_unlike),  cmocka_unit_test(test_planned),
        cmocka_unit_test(test_one_large),      cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_larger_batches), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
