// SPDX-License-Identifier: MIT
// FP8 tensors: the numbers that torch and transformers make of them, bit by bit, and every way they can be
// wrong answered with the tensor's name.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/packing_methods.h"
#include "packed.h"

static struct quantization with_blocks(size_t rows, size_t columns) {
    return (struct quantization){
        .method = QUANTIZATION_FP8, .name = "fp8", .block_rows = rows, .block_columns = columns};
}

static int find(struct weight_source *out, const struct packed *packed, struct quantization quantization,
                const char *stem, size_t rows, size_t columns, bool *found, struct error *err) {
    return packing_fp8_find(out, &packed->checkpoint, &quantization, stem, rows, columns, found, err);
}

// ---- numbers ----

static void numbers_are_those_of_the_libraries(void **state) {
    (void)state;
    static const struct {
        const char *stem;
        size_t rows, columns;
        size_t block_rows, block_columns; // of config.json
        enum weight_scale scale;
        size_t shared_rows, shared_columns;
        size_t components;
    } cases[] = {
        {"codes", 16, 16, 0, 0, SCALE_F32, 0, 0, 2}, // all
        {"clipped", 10, 12, 4, 8, SCALE_F32, 4, 8, 3},    {"grid", 8, 16, 0, 0, SCALE_BF16, 4, 4, 2},
        {"grid", 8, 16, 4, 4, SCALE_BF16, 4, 4, 2},       {"channel", 6, 16, 0, 0, SCALE_F16, 1, 0, 2},
        {"channel", 6, 16, 128, 128, SCALE_F16, 1, 0, 2}, {"tensor", 6, 16, 0, 0, SCALE_F32, 0, 0, 2},
        {"tensor", 6, 16, 128, 128, SCALE_F32, 0, 0, 2}, // a block is larger than the matrix
        {"e8m0", 8, 16, 0, 0, SCALE_E8M0, 4, 0, 2},       {"e8m0-bytes", 3, 64, 1, 32, SCALE_E8M0, 1, 32, 2},
    };
    struct packed packed;
    packed_open_golden(&packed, "fp8");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct weight_source source;
        struct error err = {0};
        bool found = false;
        packed_must(find(&source, &packed, with_blocks(cases[i].block_rows, cases[i].block_columns),
                         cases[i].stem, cases[i].rows, cases[i].columns, &found, &err),
                    &err);
        assert_true(found);
        assert_int_equal(source.format.groups.code, CODE_E4M3);
        assert_int_equal(source.format.groups.scale, cases[i].scale);
        assert_int_equal(source.format.groups.rows, cases[i].shared_rows);
        assert_int_equal(source.format.groups.columns, cases[i].shared_columns);
        assert_int_equal(source.component_count, cases[i].components);
        for (size_t k = 0; k < source.component_count; k++) {
            assert_int_equal(source.components[k].is_read, k < 2); // not the scale of activations
        }
        packed_check_numbers(&packed, &source, cases[i].stem, cases[i].rows, cases[i].columns);
    }
    packed_close(&packed);
}

// ---- what is there decides ----

enum { ROWS = 12, COLUMNS = 20 };

// The weight with these tensors must be refused so; `said` NULL: it is found, or (wanted false) not.
static void check(const char *type, const struct packed_tensor *scales, struct quantization quantization,
                  const char *said, bool wanted) {
    const struct packed_tensor tensors[] = {{"m.weight", type, 2, {ROWS, COLUMNS}, NULL}, *scales};
    struct packed packed;
    struct weight_source source;
    struct error err = {0};
    bool found = false;
    packed_make(&packed, tensors, 2);
    int status = find(&source, &packed, quantization, "m", ROWS, COLUMNS, &found, &err);
    packed_close(&packed);
    if (said == NULL) {
        packed_must(status, &err);
        assert_int_equal(found, wanted);
        return;
    }
    assert_int_equal(status, STATUS_DATA);
    if (strstr(err.message, said) == NULL) {
        fail_msg("instead of '%s': %s", said, err.message);
    }
}

static void wrong_scales_are_named(void **state) {
    (void)state;
    static const struct {
        struct packed_tensor scales;
        size_t block_rows, block_columns;
        const char *said; // NULL: they are right
    } cases[] = {
        {{.name = "m.weight_scale_inv"}, 8, 8, "tensor 'm.weight_scale_inv' is missing"},
        {{"m.weight_scale_inv", "F32", 2, {2, 3}, NULL}, 8, 8, NULL},
        {{"m.weight_scale_inv", "F32", 2, {2, 2}, NULL},
         8,
         8,
         "tensor 'm.weight_scale_inv' has shape [2, 2]; 'weight_block_size' [8, 8] of config.json asks for "
         "[2, 3]"},
        {{"m.weight_scale_inv", "F32", 2, {3, 2}, NULL}, 8, 8, "'m.weight_scale_inv' has shape [3, 2]"},
        {{"m.weight_scale_inv", "F32", 2, {2, 2}, NULL}, 0, 0, NULL},
        {{"m.weight_scale_inv", "F32", 2, {2, 3}, NULL},
         0,
         0,
         "tensor 'm.weight_scale_inv' has shape [2, 3], which does not divide the weight's [12, 20]"},
        {{"m.weight_scale_inv", "F32", 2, {0, 2}, NULL}, 0, 0, "'m.weight_scale_inv' has shape [0, 2]"},
        {{"m.weight_scale_inv", "F32", 3, {2, 2, 1}, NULL}, 0, 0, "'m.weight_scale_inv' has shape [2, 2, 1]"},
        {{"m.weight_scale_inv", "F32", 0, {0}, NULL}, 8, 8, NULL},
        {{"m.weight_scale_inv", "F32", 1, {1}, NULL}, 0, 0, NULL},
        {{"m.weight_scale_inv", "F32", 1, {ROWS}, NULL}, 0, 0, NULL},
        {{"m.weight_scale_inv", "F32", 1, {COLUMNS}, NULL},
         0,
         0,
         "'m.weight_scale_inv' has shape [20], which"},
        {{"m.weight_scale_inv", "I8", 1, {1}, NULL},
         0,
         0,
         "tensor 'm.weight_scale_inv' has dtype I8; scales are read in F32, F16, BF16, F8_E8M0 and U8"},
        {{"m.scale", "F32", 1, {1}, NULL}, 0, 0, NULL},
        {{"m.qscale_weight", "BF16", 1, {1}, NULL}, 0, 0, NULL},
        {{"m.weight_scale", "F16", 1, {1}, NULL}, 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check("F8_E4M3", &cases[i].scales, with_blocks(cases[i].block_rows, cases[i].block_columns),
              cases[i].said, true);
    }
}

static void only_e4m3_is_read(void **state) {
    (void)state;
    static const struct packed_tensor scale = {"m.weight_scale_inv", "F32", 1, {1}, NULL};
    static const struct packed_tensor of_vllm = {"m.weight_scale", "F32", 1, {1}, NULL};
    static const struct quantization none = {0};
    static const struct quantization other = {.method = QUANTIZATION_COMPRESSED_TENSORS};
    check("F8_E5M2", &scale, none,
          "tensor 'm.weight' has dtype F8_E5M2; of float8 weights F8_E4M3 is supported", true);
    check("F8_E4M3FNUZ", &scale, none, "tensor 'm.weight' has dtype F8_E4M3FNUZ", true);
    check("BF16", &scale, with_blocks(8, 8), NULL, false); // a module that was left as it is
    check("F8_E4M3", &scale, none, NULL, true);
    // Of what compressed-tensors packs, products are rounded; only config.json tells it from others.
    check("F8_E4M3", &of_vllm, other, NULL, false);
    check("F8_E4M3", &of_vllm, none, "tensor 'm.weight_scale_inv' is missing", true);
}

static void the_weight_has_its_shape(void **state) {
    (void)state;
    static const struct packed_tensor tensors[] = {{"m.weight", "F8_E4M3", 2, {ROWS, COLUMNS}, NULL},
                                                   {"m.weight_scale_inv", "F32", 0, {0}, NULL},
                                                   {"m.activation_scale", "F32", 0, {0}, NULL},
                                                   {"m.input_scale", "F32", 1, {1}, NULL}};
    struct packed packed;
    struct weight_source source;
    struct error err = {0};
    bool found = false;
    packed_make(&packed, tensors, 4);
    packed_must(find(&source, &packed, with_blocks(0, 0), "m", ROWS, COLUMNS, &found, &err), &err);
    assert_int_equal(source.component_count, 4);
    assert_int_equal(find(&source, &packed, with_blocks(0, 0), "m", COLUMNS, ROWS, &found, &err),
                     STATUS_DATA);
    assert_non_null(
        strstr(err.message,
               "tensor 'm.weight' has shape [12, 20]; the weight and its quantization ask for [20, 12]"));
    packed_must(find(&source, &packed, with_blocks(0, 0), "n", ROWS, COLUMNS, &found, &err), &err);
    assert_false(found);
    packed_close(&packed);
}

static void what_is_no_number_is_refused(void **state) {
    (void)state;
    static const unsigned char codes[ROWS * COLUMNS] = {[7] = 0x7f};
    static const unsigned char exponents[] = {127, 255};
    static const float scale = 1.0f / 0.0f;
    static const struct packed_tensor tensors[] = {{"m.weight", "F8_E4M3", 2, {ROWS, COLUMNS}, codes},
                                                   {"m.weight_scale_inv", "F32", 0, {0}, &scale},
                                                   {"n.weight", "F8_E4M3", 2, {ROWS, COLUMNS}, codes},
                                                   {"n.weight_scale_inv", "U8", 2, {1, 2}, exponents}};
    static const char *const stems[] = {"m", "n"};
    struct packed packed;
    packed_make(&packed, tensors, 4);
    for (size_t i = 0; i < 2; i++) {
        struct weight_source source;
        struct error err = {0};
        bool found = false;
        packed_must(find(&source, &packed, with_blocks(0, 0), stems[i], ROWS, COLUMNS, &found, &err), &err);
        packed_check_refused(&packed, &source, 0);
        packed_check_refused(&packed, &source, 1);
    }
    packed_close(&packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_libraries),
        cmocka_unit_test(wrong_scales_are_named),
        cmocka_unit_test(only_e4m3_is_read),
        cmocka_unit_test(the_weight_has_its_shape),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
