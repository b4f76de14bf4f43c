// SPDX-License-Identifier: MIT
// compressed-tensors: what a checkpoint holds of a weight, the numbers that come of it (rounded to the type
// of their scales), and what is refused.
#include "packing_made.h"

enum { ROWS = 20, COLUMNS = 96 };

enum strategy { TENSOR, CHANNEL, GROUP, BLOCK };

struct shape { // of a packed weight
    enum { PACKED, INT, FLOAT } layout;
    unsigned bits;
    enum strategy strategy;
    size_t group;
    size_t block[2];
    const char *scales;
    bool has_zeros;
    bool by_order;
    size_t columns;
};

struct weight {
    int codes[ROWS][COLUMNS]; // as they count: from -2^(bits-1) on; float8: bits
    int zeros[ROWS][COLUMNS]; // [row][group]
    int32_t order[COLUMNS];
    float scales[ROWS][COLUMNS]; // [row][group]
    float expected[ROWS * COLUMNS];
};

static const char *quantization_of(const struct shape *shape, char text[1024]) {
    static const char *const formats[] = {"pack-quantized", "int-quantized", "float-quantized"};
    static const char *const strategies[] = {"tensor", "channel", "group", "block"};
    char sizes[128] = "";
    if (shape->strategy == GROUP) {
        snprintf(sizes, sizeof sizes, ", \"group_size\": %zu", shape->group);
    } else if (shape->strategy == BLOCK) {
        snprintf(sizes, sizeof sizes, ", \"block_structure\": [%zu, %zu]", shape->block[0], shape->block[1]);
    }
    snprintf(
        text, 1024,
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"%s\", \"config_groups\": {\"group_0\": "
        "{\"weights\": {\"num_bits\": %u, \"type\": \"%s\", \"strategy\": \"%s\", \"symmetric\": %s%s%s}}}}",
        formats[shape->layout], shape->bits, shape->layout == FLOAT ? "float" : "int",
        strategies[shape->strategy], shape->has_zeros ? "false" : "true", sizes,
        shape->by_order ? ", \"actorder\": \"group\"" : "");
    return text;
}

// ---- groups ----

static size_t divide_up(size_t value, size_t by) {
    return (value + by - 1) / by;
}

static size_t groups_down(const struct shape *shape) {
    return shape->strategy == TENSOR ? 1 : shape->strategy == BLOCK ? divide_up(ROWS, shape->block[0]) : ROWS;
}

static size_t groups_across(const struct shape *shape) {
    return shape->strategy == GROUP   ? shape->columns / shape->group
           : shape->strategy == BLOCK ? divide_up(shape->columns, shape->block[1])
                                      : 1;
}

static void group_at(const struct shape *shape, const struct weight *weight, size_t row, size_t column,
                     size_t *down, size_t *across) {
    *down = shape->strategy == TENSOR ? 0 : shape->strategy == BLOCK ? row / shape->block[0] : row;
    *across = shape->strategy == GROUP   ? (size_t)weight->order[column]
              : shape->strategy == BLOCK ? column / shape->block[1]
                                         : 0;
}

// ---- a float8, by its definition ----

static float float8(int bits) {
    int exponent = bits >> 3 & 15;
    float mantissa = (float)(bits & 7);
    float value = exponent == 0 ? mantissa * 0x1p-9f : (1 + mantissa / 8) * (float)(1 << exponent) * 0x1p-7f;
    return (bits & 128) != 0 ? -value : value;
}

static float rounded(float value, const char *type) {
    if (strcmp(type, "F32") == 0) {
        return value;
    }
    return strcmp(type, "F16") == 0 ? f16_to_f32(f32_to_f16(value)) : bf16_to_f32(f32_to_bf16(value));
}

// ---- making ----

static void fill(struct weight *weight, const struct shape *shape, uint32_t *seed) {
    int half = 1 << (shape->bits - 1);
    for (size_t c = 0; c < shape->columns && shape->strategy == GROUP; c++) {
        weight->order[c] = (int32_t)((shape->by_order ? c * 5 % shape->columns : c) / shape->group);
    }
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        int code = (int)(made_random(seed) % (2u << (shape->bits - 1))) - half;
        int zero = (int)(made_random(seed) % (2u << (shape->bits - 1))) - half;
        if (shape->layout == FLOAT) {
            code = code == -1 || code == 127 ? 0 : code & 255; // no NaN
        }
        weight->codes[i / COLUMNS][i % COLUMNS] = code;
        weight->zeros[i / COLUMNS][i % COLUMNS] = shape->has_zeros ? zero : 0;
    }
}

static void expect(struct weight *weight, const struct shape *shape) {
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < shape->columns; c++) {
            size_t down;
            size_t across;
            group_at(shape, weight, r, c, &down, &across);
            float code = shape->layout == FLOAT ? float8(weight->codes[r][c])
                                                : (float)(weight->codes[r][c] - weight->zeros[down][across]);
            weight->expected[r * shape->columns + c] =
                rounded(code * weight->scales[down][across], shape->scales);
        }
    }
}

// Codes of `bits` into words, as value + 2^(bits - 1): along columns, or along rows.
static void pack(uint32_t *words, const struct shape *shape, const int (*codes)[COLUMNS], size_t columns,
                 bool along_rows) {
    size_t each = 32 / shape->bits;
    size_t across = along_rows ? columns : divide_up(columns, each);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < columns; c++) {
            size_t word = along_rows ? r / each * across + c : r * across + c / each;
            size_t place = along_rows ? r % each : c % each;
            words[word] |= (uint32_t)(codes[r][c] + (1 << (shape->bits - 1))) << (shape->bits * place);
        }
    }
}

static void add_codes(struct made *made, const struct weight *weight, const struct shape *shape) {
    uint32_t words[ROWS * COLUMNS] = {0};
    unsigned char bytes[ROWS * COLUMNS];
    const int64_t stated[2] = {ROWS, (int64_t)shape->columns};
    for (size_t i = 0; i < ROWS * shape->columns; i++) {
        bytes[i] = (unsigned char)weight->codes[i / shape->columns][i % shape->columns];
    }
    if (shape->layout != PACKED) {
        made_add(made, "weight", shape->layout == FLOAT ? "F8_E4M3" : "I8", ROWS, shape->columns, bytes);
        return;
    }
    pack(words, shape, weight->codes, shape->columns, false);
    made_add(made, "weight_packed", "I32", ROWS, divide_up(shape->columns, 32 / shape->bits), words);
    made_add(made, "weight_shape", "I64", 2, 0, stated);
}

static void add_zeros(struct made *made, const struct weight *weight, const struct shape *shape) {
    uint32_t words[ROWS * COLUMNS] = {0};
    signed char bytes[ROWS * COLUMNS];
    size_t down = groups_down(shape);
    size_t across = groups_across(shape);
    if (shape->layout == PACKED) {
        pack(words, shape, weight->zeros, across, true);
        made_add(made, "weight_zero_point", "I32", divide_up(ROWS, 32 / shape->bits), across, words);
        return;
    }
    for (size_t i = 0; i < down * across; i++) {
        bytes[i] = (signed char)weight->zeros[i / across][i % across];
    }
    made_add(made, "weight_zero_point", "I8", down, shape->strategy == TENSOR ? 0 : across, bytes);
}

static void make(struct made *made, struct weight *weight, const struct shape *shape, uint32_t seed) {
    unsigned char scales[ROWS * COLUMNS * sizeof(float)];
    size_t down = groups_down(shape);
    size_t across = groups_across(shape);
    fill(weight, shape, &seed);
    for (size_t i = 0; i < down * across; i++) {
        weight->scales[i / across][i % across] = made_scale(scales, i, shape->scales, &seed);
    }
    expect(weight, shape);
    made_open(made);
    add_codes(made, weight, shape);
    made_add(made, "weight_scale", shape->scales, down, shape->strategy == TENSOR ? 0 : across, scales);
    if (shape->has_zeros) {
        add_zeros(made, weight, shape);
    }
    if (shape->by_order) {
        made_add(made, "weight_g_idx", "I32", shape->columns, 0, weight->order);
    }
    made_order(made);
}

// ---- numbers ----

static const struct shape shapes[] = {
    {PACKED, 4, GROUP, 32, {0}, "BF16", false, false, 96},
    {PACKED, 4, GROUP, 32, {0}, "BF16", true, false, 96},
    {PACKED, 4, GROUP, 24, {0}, "F16", true, true, 96},
    {PACKED, 4, GROUP, 11, {0}, "F32", true, false, 77}, // rows end within a word and a byte
    {PACKED, 4, CHANNEL, 0, {0}, "BF16", true, false, 96},
    {PACKED, 4, TENSOR, 0, {0}, "BF16", false, false, 96},
    {PACKED, 8, GROUP, 32, {0}, "BF16", false, true, 96},
    {PACKED, 8, GROUP, 32, {0}, "F16", true, false, 96},
    {PACKED, 8, CHANNEL, 0, {0}, "F32", true, false, 90},
    {INT, 8, CHANNEL, 0, {0}, "BF16", false, false, 96},
    {INT, 8, CHANNEL, 0, {0}, "F16", true, false, 96},
    {INT, 8, TENSOR, 0, {0}, "F32", false, false, 96},
    {INT, 8, TENSOR, 0, {0}, "BF16", true, false, 96},
    {INT, 8, GROUP, 16, {0}, "BF16", true, true, 96},
    {INT, 4, BLOCK, 0, {8, 32}, "F16", false, false, 90},
    {FLOAT, 8, CHANNEL, 0, {0}, "BF16", false, false, 96},
    {FLOAT, 8, CHANNEL, 0, {0}, "F32", false, false, 96},
    {FLOAT, 8, TENSOR, 0, {0}, "F16", false, false, 96},
    {FLOAT, 8, BLOCK, 0, {16, 64}, "BF16", false, false, 96}, // cut blocks
};

static void numbers_are_rounded_to_the_type_of_their_scales(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct made made;
        struct weight weight;
        struct weight_source source;
        char text[1024];
        make(&made, &weight, &shapes[i], 5 + (uint32_t)i);
        struct quantization quantization = made_quantization(quantization_of(&shapes[i], text));
        made_found(&made, &quantization, ROWS, shapes[i].columns, &source);
        assert_int_equal(source.component_count, made.checkpoint.tensors.count);
        assert_int_equal(source.format.groups.has_indices, shapes[i].by_order);
        made_check(&made, &source, ROWS, shapes[i].columns, weight.expected);
        made_close(&made);
    }
}

// One number may have any rank, rows may have one size; scales of activations and caches count for nothing.
static void what_needs_no_reading_is_passed_over(void **state) {
    (void)state;
    static const char *const others[] = {"input_scale",
                                         "output_scale",
                                         "input_zero_point",
                                         "output_zero_point",
                                         "/model.layers.0.self_attn.k_scale",
                                         "/model.layers.0.self_attn.k_zero_point"};
    static const size_t places[] = {5, 11, 17, 9, 15};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct shape shape = shapes[places[i]];
        for (size_t rank = 0; rank <= 2; rank++) {
            struct made made;
            struct weight weight;
            struct weight_source source;
            char text[1024];
            const uint32_t number = 0x3f80u;
            make(&made, &weight, &shape, 3);
            struct quantization quantization = made_quantization(quantization_of(&shape, text));
            struct tensor *scale = made_tensor(&made, "weight_scale");
            scale->rank = shape.strategy == TENSOR ? rank : rank < 2 ? 1 : 2;
            scale->shape[1] = 1;
            for (size_t j = 0; j < sizeof others / sizeof others[0]; j++) {
                made_add(&made, others[j], "BF16", 0, 0, &number);
            }
            made_found(&made, &quantization, ROWS, COLUMNS, &source);
            assert_int_equal(source.component_count, made.checkpoint.tensors.count);
            assert_int_equal(made_read_count(&source), 2);
            made_check(&made, &source, ROWS, COLUMNS, weight.expected);
            made_close(&made);
        }
    }
}

static void order_and_zero_points_that_say_nothing_are_passed_over(void **state) {
    (void)state;
    for (size_t way = 0; way < 2; way++) {
        struct made made;
        struct weight weight;
        struct weight_source source;
        char text[1024];
        int32_t order[COLUMNS];
        const signed char zeros[ROWS * 3] = {0};
        make(&made, &weight, &shapes[0], 3);
        for (size_t c = 0; c < COLUMNS; c++) {
            order[c] = way == 0 ? -1 : (int32_t)c / 32;
        }
        made_add(&made, "weight_g_idx", "I32", COLUMNS, 0, order);
        made_add(&made, "weight_zero_point", "I8", ROWS, 3, zeros);
        struct quantization quantization = made_quantization(quantization_of(&shapes[0], text));
        made_found(&made, &quantization, ROWS, COLUMNS, &source);
        assert_int_equal(source.component_count, 5);
        assert_int_equal(made_read_count(&source), 2);
        made_check(&made, &source, ROWS, COLUMNS, weight.expected);
        made_close(&made);
    }
}

// ---- several schemes ----

#define SCHEME(more) "{\"weights\": {" more "}}"
#define SCHEMES(more) "{\"quant_method\": \"compressed-tensors\", \"config_groups\": {" more "}}"

static void the_scheme_that_fits_is_taken(void **state) {
    (void)state;
    const char *config = SCHEMES("\"a\": " SCHEME(
        "\"num_bits\": 8, \"type\": \"float\", \"strategy\": "
        "\"channel\"") ", \"b\": " SCHEME("\"num_bits\": 4, \"group_size\": 32, \"symmetric\": "
                                          "false") ", \"c\": " SCHEME("\"num_bits\": 8, "
                                                                      "\"strategy\": "
                                                                      "\"channel\""));
    static const size_t fits[] = {1, 9, 15};
    struct made made;
    struct weight weight;
    struct quantization quantization = made_quantization(config);
    for (size_t i = 0; i < sizeof fits / sizeof fits[0]; i++) {
        struct weight_source source;
        make(&made, &weight, &shapes[fits[i]], 3);
        made_found(&made, &quantization, ROWS, COLUMNS, &source);
        made_check(&made, &source, ROWS, COLUMNS, weight.expected);
        made_close(&made);
    }
    make(&made, &weight, &shapes[4], 3);
    made_refused(&made, &quantization, ROWS, COLUMNS, "none of 3 'config_groups' fits");
    made_close(&made);
    quantization = made_quantization(SCHEMES("\"a\": " SCHEME(
        "\"type\": \"float\", \"strategy\": \"block\", "
        "\"block_structure\": [16, 64]") ", \"b\": " SCHEME("\"type\": \"float\", \"strategy\": \"block\", "
                                                            "\"block_structure\": [12, 64]")));
    make(&made, &weight, &shapes[18], 3);
    made_refused(&made, &quantization, ROWS, COLUMNS, "fits two of 'config_groups'");
    made_close(&made);
    quantization = made_quantization(SCHEMES("\"a\": {\"weights\": null}"));
    make(&made, &weight, &shapes[9], 3);
    made_refused(&made, &quantization, ROWS, COLUMNS, "say nothing of weights");
    made_close(&made);
}

// ---- refusals ----

struct change {
    size_t made; // a shape
    const char *suffix;
    const char *renamed;
    const char *type;
    size_t shape[2]; // 0: as it is
    const char *words;
};

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    static const struct tensor_type types[] = {
        {"I32", 32}, {"I64", 64}, {"I8", 8}, {"F32", 32}, {"F8_E4M3", 8}};
    static const struct change changes[] = {
        {0, "weight_scale", "x", NULL, {0}, "tensor '" STEM ".weight_scale' is missing"},
        {0, "weight_packed", "x", NULL, {0}, "tensor '" STEM ".weight_packed' is missing, which"},
        {0, "weight_packed", NULL, "F32", {0}, "tensor '" STEM ".weight_packed' has dtype F32, not I32"},
        {0, "weight_packed", NULL, NULL, {0, 13}, "tensor '" STEM ".weight_packed' has shape [20, 13]"},
        {0, "weight_scale", NULL, NULL, {0, 6}, "tensor '" STEM ".weight_scale' has shape [20, 6]"},
        {0, "weight_scale", NULL, "I64", {0}, "scales are F32, F16 or BF16"},
        {0, "weight_shape", NULL, "I32", {0}, "tensor '" STEM ".weight_shape' has dtype I32, not I64"},
        {1, "weight_zero_point", "x", NULL, {0}, "tensor '" STEM ".weight_zero_point' is missing"},
        {1, "weight_zero_point", NULL, NULL, {2, 0}, "tensor '" STEM ".weight_zero_point' has shape [2, 3]"},
        {2, "weight_g_idx", "x", NULL, {0}, "tensor '" STEM ".weight_g_idx' is missing, which 'actorder'"},
        {2, "weight_g_idx", NULL, NULL, {95, 0}, "tensor '" STEM ".weight_g_idx' has shape [95]"},
        {9, "weight", "x", NULL, {0}, "tensor '" STEM ".weight_packed' is missing"},
        {9,
         "weight",
         NULL,
         "F32",
         {0},
         "'" STEM ".weight_scale' belongs to codes, but '" STEM ".weight' has dtype F32"},
        {9,
         "weight",
         NULL,
         "F8_E4M3",
         {0},
         "has dtype F8_E4M3, but quantization_config says codes of type int"},
        {9, "weight", NULL, NULL, {21, 0}, "tensor '" STEM ".weight' has shape [21, 96]"},
        {10, "weight_zero_point", NULL, "I32", {0}, "zero points of its codes are I8"},
        {15, "weight", NULL, "I8", {0}, "has dtype I8, but quantization_config says codes of type float"},
        {18, "weight_scale", NULL, NULL, {1, 0}, "tensor '" STEM ".weight_scale' has shape [1, 2]"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const struct change *change = &changes[i];
        struct made made;
        struct weight weight;
        char text[1024];
        make(&made, &weight, &shapes[change->made], 3);
        struct quantization quantization = made_quantization(quantization_of(&shapes[change->made], text));
        struct tensor *tensor = made_tensor(&made, change->suffix);
        if (change->renamed != NULL) {
            snprintf(tensor->name, strlen(tensor->name) + 1, STEM ".%s", change->renamed);
        }
        for (size_t j = 0; change->type != NULL && j < sizeof types / sizeof types[0]; j++) {
            tensor->type = strcmp(types[j].name, change->type) == 0 ? &types[j] : tensor->type;
        }
        for (size_t j = 0; j < 2; j++) {
            tensor->shape[j] = change->shape[j] == 0 ? tensor->shape[j] : change->shape[j];
        }
        made_refused(&made, &quantization, ROWS, COLUMNS, change->words);
        made_close(&made);
    }
}

static void numbers_that_contradict_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t made;
        const char *suffix;
        uint32_t word;
        const char *words; // NULL: found, and refused when it is read
    } cases[] = {
        {0, "weight_scale", 0x7fc07f80u, NULL},
        {16, "weight", 0x0000007fu, NULL},
        {0, "weight_shape", 21, "says [21, 96]; the weight has the shape [20, 96]"},
        {2, "weight_g_idx", 4, "input 0 is of group 4, outside the 4 groups"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made made;
        struct weight weight;
        struct weight_source source;
        char text[1024];
        const struct shape *shape = &shapes[cases[i].made];
        make(&made, &weight, shape, 2);
        off_t at = (off_t)made_tensor(&made, cases[i].suffix)->begin;
        assert_int_equal(pwrite(made.file.descriptor, &cases[i].word, 4, at), 4);
        struct quantization quantization = made_quantization(quantization_of(shape, text));
        if (cases[i].words != NULL) {
            made_refused(&made, &quantization, ROWS, COLUMNS, cases[i].words);
        } else {
            made_found(&made, &quantization, ROWS, COLUMNS, &source);
            free(made_parts(&made, &source, ROWS, COLUMNS, STATUS_DATA));
        }
        made_close(&made);
    }
}

static void schemes_without_a_meaning_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t made;
        const char *config;
        const char *words;
    } cases[] = {
        {0, SCHEMES("\"a\": " SCHEME("\"num_bits\": 3, \"group_size\": 32")),
         "codes of 3 bits; supported are"},
        {0, SCHEMES("\"a\": " SCHEME("\"type\": \"float\"")), "codes of 8 bits of type float"},
        {0, SCHEMES("\"a\": " SCHEME("\"num_bits\": 4, \"group_size\": 40")),
         "no whole number of groups of 40"},
        {1, SCHEMES("\"a\": " SCHEME("\"num_bits\": 4, \"group_size\": 32")),
         "but quantization_config says 'symmetric'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made made;
        struct weight weight;
        make(&made, &weight, &shapes[cases[i].made], 2);
        struct quantization quantization = made_quantization(cases[i].config);
        made_refused(&made, &quantization, ROWS, COLUMNS, cases[i].words);
        made_close(&made);
    }
    struct made made;
    struct weight weight;
    make(&made, &weight, &shapes[14], 2); // zero points of blocks
    const signed char zeros[9] = {1};
    made_add(&made, "weight_zero_point", "I8", 3, 3, zeros);
    struct quantization quantization = made_quantization(SCHEMES(
        "\"a\": " SCHEME("\"symmetric\": false, \"strategy\": \"block\", \"block_structure\": [8, 32]")));
    made_refused(&made, &quantization, ROWS, shapes[14].columns,
                 "zero points of such codes are not supported");
    made_close(&made);
}

// ---- which weights are packed ----

static void tensors_tell_what_is_packed(void **state) {
    (void)state;
    struct made made;
    struct weight weight;
    struct weight_source source;
    struct error err;
    bool found = true;
    char text[1024];
    const float plain[4] = {0};
    struct quantization quantization = made_quantization(quantization_of(&shapes[0], text));
    made_open(&made);
    made_add(&made, "weight", "F32", 2, 2, plain);
    made_order(&made);
    must(packing_find(&source, &made.checkpoint, &quantization, STEM, 2, 2, &found, &err), &err);
    assert_false(found);
    made_close(&made);
    make(&made, &weight, &shapes[0], 1);
    made_add(&made, "weight", "F32", 2, 2, plain);
    made_refused(&made, &quantization, ROWS, COLUMNS,
                 "tensors '" STEM ".weight' and '" STEM ".weight_packed' are both there");
    made_close(&made);
    make(&made, &weight, &shapes[0], 1);
    quantization = made_quantization("");
    made_refused(&made, &quantization, ROWS, COLUMNS,
                 "packed as compressed-tensors does it, but config.json has no");
    made_add(&made, "qweight", "I32", 2, 2, plain);
    quantization = made_quantization(quantization_of(&shapes[0], text));
    made_refused(&made, &quantization, ROWS, COLUMNS,
                 "tensor '" STEM
                 ".qweight' is packed as awq or gptq does it, but the method of config.json is "
                 "compressed-tensors");
    made_close(&made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_rounded_to_the_type_of_their_scales),
        cmocka_unit_test(what_needs_no_reading_is_passed_over),
        cmocka_unit_test(order_and_zero_points_that_say_nothing_are_passed_over),
        cmocka_unit_test(the_scheme_that_fits_is_taken),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(numbers_that_contradict_are_refused),
        cmocka_unit_test(schemes_without_a_meaning_are_refused),
        cmocka_unit_test(tensors_tell_what_is_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
