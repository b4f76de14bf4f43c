// SPDX-License-Identifier: MIT
// bitsandbytes' tensors: the numbers of its own files, bit by bit, and every way they can be wrong answered
// with the tensor's name.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/packing_methods.h"
#include "packed.h"

static const struct quantization bitsandbytes = {
    .method = QUANTIZATION_BITSANDBYTES, .name = "bitsandbytes", .bits = 4};
static const struct quantization eight = {
    .method = QUANTIZATION_BITSANDBYTES, .name = "bitsandbytes", .bits = 8};

// ---- numbers ----

static void numbers_are_those_of_the_library(void **state) {
    (void)state;
    static const struct {
        const char *stem;
        size_t rows, columns;
        const char *format;
        size_t run, nested, components;
    } cases[] = {
        {"nf4", 6, 64, "NF4", 64, 0, 4},          {"fp4", 4, 128, "FP4", 64, 0, 4},
        {"partial", 5, 72, "NF4", 64, 0, 4},      {"odd", 3, 7, "FP4", 64, 0, 4},
        {"nested", 17, 512, "NF4", 32, 256, 6},   {"nested-partial", 5, 72, "FP4", 64, 256, 6},
        {"storage-bf16", 6, 64, "NF4", 64, 0, 4}, {"storage-f32", 4, 128, "NF4", 128, 256, 6},
        {"int8", 7, 40, "LLM.int8", 0, 0, 3},
    };
    struct packed packed;
    packed_open_golden(&packed, "bitsandbytes");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct weight_source source;
        struct error err = {0};
        bool found = false;
        packed_must(packing_bitsandbytes_find(&source, &packed.checkpoint,
                                              strcmp(cases[i].stem, "int8") == 0 ? &eight : &bitsandbytes,
                                              cases[i].stem, cases[i].rows, cases[i].columns, &found, &err),
                    &err);
        assert_true(found);
        assert_string_equal(source.format.name, cases[i].format);
        assert_int_equal(source.format.lookups.run, cases[i].run);
        assert_int_equal(source.format.lookups.nested, cases[i].nested);
        assert_int_equal(source.component_count, cases[i].components);
        // The last one tells how the others are read, and is not read with them.
        for (size_t k = 0; k < source.component_count; k++) {
            assert_int_equal(source.components[k].is_read, k + 1 < source.component_count);
        }
        packed_check_numbers(&packed, &source, cases[i].stem, cases[i].rows, cases[i].columns);
    }
    packed_close(&packed);
}

// ---- refusals ----

enum { ROWS = 4, COLUMNS = 32 };

#define NESTED                                                                                               \
    "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float16\", \"shape\": [4, 32], "              \
    "\"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": 0.5}"
#define STATE "m.weight.quant_state.bitsandbytes__nf4"

// A matrix of each kind, whose numbers are zeros.
static const struct packed_tensor four_bits[] = {
    {"m.weight", "U8", 2, {ROWS * COLUMNS / 2, 1}, NULL}, {"m.weight.absmax", "U8", 1, {2}, NULL},
    {"m.weight.quant_map", "F32", 1, {16}, NULL},         {"m.weight.nested_absmax", "F32", 1, {1}, NULL},
    {"m.weight.nested_quant_map", "F32", 1, {256}, NULL}, {STATE, "U8", 1, {sizeof NESTED - 1}, NESTED},
};
static const struct packed_tensor eight_bits[] = {
    {"m.weight", "I8", 2, {ROWS, COLUMNS}, NULL},
    {"m.SCB", "F32", 1, {ROWS}, NULL},
    {"m.weight_format", "U8", 0, {0}, NULL},
};

enum { FOUR = sizeof four_bits / sizeof four_bits[0], EIGHT = sizeof eight_bits / sizeof eight_bits[0] };

// The matrix with one tensor changed must be refused so; `said` NULL: it is found, or (found false) not.
static void check(const struct packed_tensor *base, size_t count, const struct packed_tensor *change,
                  const struct quantization *quantization, const char *said, bool wanted) {
    struct packed_tensor tensors[FOUR + 1];
    struct packed packed;
    struct weight_source source;
    struct error err = {0};
    bool found = false;
    bool replaced = false;
    for (size_t i = 0; i < count; i++) {
        bool is_it = change != NULL && strcmp(base[i].name, change->name) == 0;
        tensors[i] = is_it ? *change : base[i];
        replaced |= is_it;
    }
    if (change != NULL && !replaced) {
        tensors[count++] = *change;
    }
    packed_make(&packed, tensors, count);
    int status = packing_bitsandbytes_find(&source, &packed.checkpoint, quantization, "m", ROWS, COLUMNS,
                                           &found, &err);
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

struct wrong {
    struct packed_tensor change;
    const char *said;
};

static void check_all(const struct packed_tensor *base, size_t count, const struct wrong *wrongs,
                      size_t wrong_count) {
    check(base, count, NULL, base == eight_bits ? &eight : &bitsandbytes, NULL, true);
    for (size_t i = 0; i < wrong_count; i++) {
        check(base, count, &wrongs[i].change, base == eight_bits ? &eight : &bitsandbytes, wrongs[i].said,
              true);
    }
}

static void wrong_tensors_of_four_bits_are_named(void **state) {
    (void)state;
    static const struct wrong wrongs[] = {
        {{.name = "m.weight"}, "tensor 'm.weight' is missing"},
        {{"m.weight", "I8", 2, {64, 1}, NULL},
         "tensor 'm.weight' has dtype I8; codes of 4 bits lie in U8, BF16,"},
        {{"m.weight", "U8", 2, {65, 1}, NULL},
         "tensor 'm.weight' has shape [65, 1] of U8; 128 codes of 4 bits"},
        {{"m.weight", "F16", 2, {64, 1}, NULL},
         "'m.weight' has shape [64, 1] of F16; 128 codes of 4 bits take"},
        {{"m.weight", "U8", 2, {4, 16}, NULL}, "tensor 'm.weight' has shape [4, 16] of U8"},
        {{.name = "m.weight.absmax"}, "tensor 'm.weight.absmax' is missing"},
        {{"m.weight.absmax", "F32", 1, {2}, NULL}, "tensor 'm.weight.absmax' has dtype F32, not U8"},
        {{"m.weight.absmax", "U8", 1, {3}, NULL},
         "'m.weight.absmax' has shape [3]; the weight and its quantization ask for [2]"},
        {{.name = "m.weight.quant_map"}, "tensor 'm.weight.quant_map' is missing"},
        {{"m.weight.quant_map", "F32", 1, {15}, NULL},
         "'m.weight.quant_map' has shape [15]; the weight and its quantization ask for"},
        {{"m.weight.quant_map", "BF16", 1, {16}, NULL},
         "tensor 'm.weight.quant_map' has dtype BF16, not F32"},
        {{.name = "m.weight.nested_absmax"}, "tensor 'm.weight.nested_absmax' is missing"},
        {{"m.weight.nested_absmax", "F32", 1, {2}, NULL},
         "'m.weight.nested_absmax' has shape [2]; the weight and its quantization ask for [1]"},
        {{.name = "m.weight.nested_quant_map"}, "tensor 'm.weight.nested_quant_map' is missing"},
        {{"m.weight.nested_quant_map", "F32", 1, {16}, NULL},
         "'m.weight.nested_quant_map' has shape [16]; the weight and its quantization ask for [256]"},
        {{.name = STATE}, "tensor '" STATE "' is missing"},
        {{STATE, "F32", 1, {4}, NULL}, "tensor '" STATE "' is not a text of at most 4096 bytes (dtype U8)"},
        {{STATE, "U8", 1, {4097}, NULL}, "tensor '" STATE "' is not a text of at most 4096 bytes (dtype U8)"},
    };
    check_all(four_bits, FOUR, wrongs, sizeof wrongs / sizeof wrongs[0]);
}

static void wrong_states_are_named(void **state) {
    (void)state;
#define TEXT(type, block, shape, rest)                                                                       \
    "{\"quant_type\": \"" type "\", \"blocksize\": " block ", \"shape\": " shape rest "}"
#define INNER(block, dtype, offset)                                                                          \
    ", \"nested_blocksize\": " block ", \"nested_dtype\": \"" dtype "\", \"nested_offset\": " offset
    static const struct {
        const char *text;
        const char *said;
    } cases[] = {
        {"{", "quant_state"},
        {"[]", "not a JSON object"},
        {"{}", "'quant_type' is '', not 'nf4'"},
        {TEXT("fp4", "64", "[4, 32]", ""), "'quant_type' is 'fp4', not 'nf4'"},
        {TEXT("nf4", "null", "[4, 32]", ""), "'blocksize' is missing"},
        {TEXT("nf4", "16", "[4, 32]", ""), "'blocksize'"},
        {TEXT("nf4", "8192", "[4, 32]", ""), "'blocksize'"},
        {TEXT("nf4", "96", "[4, 32]", ""), "'blocksize' is 96, not a power of two from 32 to 4096"},
        {TEXT("nf4", "64", "null", ""), "'shape' is not a list of two sizes"},
        {TEXT("nf4", "64", "[128]", ""), "'shape' is not a list of two sizes"},
        {TEXT("nf4", "64", "[0, 32]", ""), "'shape' is not a list of two sizes"},
        {TEXT("nf4", "64", "[32, 4]", ""), "'shape' is [32, 4]; config.json asks for [4, 32]"},
        {TEXT("nf4", "64", "[4, 32]", ""), "tensor 'm.weight.absmax' has dtype U8, not F32"},
        {TEXT("nf4", "64", "[4, 32]", INNER("100", "float32", "0")), "'nested_blocksize' is 100"},
        {TEXT("nf4", "64", "[4, 32]", INNER("256", "float16", "0")), "'nested_dtype' is 'float16'"},
        {TEXT("nf4", "64", "[4, 32]", INNER("256", "float32", "null")), "'nested_offset' is missing or no"},
        {TEXT("nf4", "64", "[4, 32]", INNER("256", "float32", "1e39")), "'nested_offset' is missing or no"},
        {TEXT("nf4", "64", "[4, 32]", INNER("256", "float32", "NaN")), "'nested_offset'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct packed_tensor change = {STATE, "U8", 1, {strlen(cases[i].text)}, cases[i].text};
        check(four_bits, FOUR, &change, &bitsandbytes, cases[i].said, true);
    }
    // Plain scales, and still the tensors of nested ones.
    static const char plain[] = TEXT("nf4", "64", "[4, 32]", "");
    struct packed_tensor tensors[FOUR];
    memcpy(tensors, four_bits, sizeof tensors);
    tensors[1].type = "F32";
    tensors[FOUR - 1] = (struct packed_tensor){STATE, "U8", 1, {sizeof plain - 1}, plain};
    check(tensors, FOUR, NULL, &bitsandbytes,
          "tensor 'm.weight.nested_absmax' is there, but quant_state has no 'nested_blocksize'", true);
}

static void wrong_tensors_of_eight_bits_are_named(void **state) {
    (void)state;
    static const unsigned char orders[] = {1, 2, 3, 9};
    static const struct wrong wrongs[] = {
        {{.name = "m.weight"}, "tensor 'm.weight' is missing"},
        {{"m.weight", "U8", 2, {4, 32}, NULL}, "tensor 'm.weight' has dtype U8, not I8"},
        {{"m.weight", "I8", 2, {32, 4}, NULL},
         "'m.weight' has shape [32, 4]; the weight and its quantization ask for [4, 32]"},
        {{.name = "m.SCB"}, "tensor 'm.SCB' is missing"},
        {{"m.SCB", "F16", 1, {4}, NULL}, "tensor 'm.SCB' has dtype F16, not F32"},
        {{"m.SCB", "F32", 1, {32}, NULL},
         "tensor 'm.SCB' has shape [32]; the weight and its quantization ask for [4]"},
        {{"m.weight_format", "I8", 0, {0}, NULL}, "tensor 'm.weight_format' is not one number (dtype U8)"},
        {{"m.weight_format", "U8", 1, {2}, NULL}, "tensor 'm.weight_format' is not one number (dtype U8)"},
        {{"m.weight_format", "U8", 0, {0}, &orders[0]},
         "tensor 'm.weight_format' says col32: the weight is not"},
        {{"m.weight_format", "U8", 0, {0}, &orders[1]}, "tensor 'm.weight_format' says col_turing"},
        {{"m.weight_format", "U8", 0, {0}, &orders[2]}, "tensor 'm.weight_format' says col_ampere"},
        {{"m.weight_format", "U8", 0, {0}, &orders[3]}, "tensor 'm.weight_format' says 9"},
    };
    check_all(eight_bits, EIGHT, wrongs, sizeof wrongs / sizeof wrongs[0]);
    const struct packed_tensor absent = {.name = "m.weight_format"}; // in order, as older files say it
    check(eight_bits, EIGHT, &absent, &eight, NULL, true);
    check(eight_bits, EIGHT, NULL, &bitsandbytes,
          "weight 'm' is packed in 8 bits, and quantization_config says 'load_in_4bit'", true);
}

static void what_is_not_packed_is_not_found(void **state) {
    (void)state;
    static const struct packed_tensor plain = {"m.weight", "BF16", 2, {ROWS, COLUMNS}, NULL};
    check(&plain, 1, NULL, &bitsandbytes, NULL, false); // a module that was left as it is
    check(four_bits, 1, NULL, &bitsandbytes, "tensor '" STATE "' is missing", true);
    check(four_bits, 2, NULL, &bitsandbytes, "tensor '" STATE "' is missing", true);
}

static void what_is_no_number_is_refused(void **state) {
    (void)state;
    static const float numbers[256] = {[0] = 1.0f / 0.0f};
    struct packed_tensor tensors[FOUR + EIGHT];
    struct packed packed;
    struct weight_source source;
    struct error err = {0};
    bool found = false;
    memcpy(tensors, four_bits, sizeof four_bits);
    memcpy(tensors + FOUR, eight_bits, sizeof eight_bits);
    for (size_t i = 2; i < 5; i++) {
        tensors[i].bytes = numbers;
    }
    tensors[FOUR].name = "n.weight";
    tensors[FOUR + 1] = (struct packed_tensor){"n.SCB", "F32", 1, {ROWS}, numbers};
    tensors[FOUR + 2].type = NULL;
    packed_make(&packed, tensors, FOUR + EIGHT);
    packed_must(packing_bitsandbytes_find(&source, &packed.checkpoint, &bitsandbytes, "m", ROWS, COLUMNS,
                                          &found, &err),
                &err);
    for (size_t i = 2; i < 5; i++) { // tables, and scales of scales
        packed_check_refused(&packed, &source, i);
    }
    packed_must(
        packing_bitsandbytes_find(&source, &packed.checkpoint, &eight, "n", ROWS, COLUMNS, &found, &err),
        &err);
    packed_check_refused(&packed, &source, 1);
    packed_close(&packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_library),
        cmocka_unit_test(wrong_tensors_of_four_bits_are_named),
        cmocka_unit_test(wrong_states_are_named),
        cmocka_unit_test(wrong_tensors_of_eight_bits_are_named),
        cmocka_unit_test(what_is_not_packed_is_not_found),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
