// SPDX-License-Identifier: MIT
// AWQ and GPTQ: what a checkpoint holds of a weight, the numbers that come of it, and what is refused.
#include "packing_made.h"

enum { ROWS = 24, COLUMNS = 96 };

struct shape { // of a packed weight
    const char *config;
    const char *scales;
    unsigned bits;
    size_t group; // 0: all columns
    unsigned stored_less;
    unsigned zero; // of all; 0: random ones
    bool awq;
    bool by_order; // columns are of any group
    bool has_order;
};

struct weight {
    unsigned codes[ROWS][COLUMNS];
    unsigned zeros[ROWS][COLUMNS]; // [row][group], as the next
    float scales[ROWS][COLUMNS];
    int32_t order[COLUMNS];
    float expected[ROWS * COLUMNS];
};

static size_t groups_of(const struct shape *shape) {
    return shape->group == 0 ? 1 : (COLUMNS + shape->group - 1) / shape->group;
}

// Words of codes, the first lowest; AWQ's hold rows in its order.
static void pack(uint32_t *words, size_t word, size_t place, const struct shape *shape, unsigned code) {
    static const size_t awq[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    words[word] |= code << (shape->bits * (shape->awq ? awq[place] : place));
}

static void fill(struct weight *weight, const struct shape *shape, uint32_t *seed) {
    size_t groups = groups_of(shape);
    unsigned levels = 1u << shape->bits;
    for (size_t c = 0; c < COLUMNS; c++) {
        size_t group = shape->group == 0 ? 0 : c / shape->group;
        weight->order[c] = (int32_t)(shape->by_order ? c * 5 % COLUMNS / shape->group : group);
    }
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t g = 0; g < groups; g++) {
            unsigned most = levels - shape->stored_less;
            weight->zeros[r][g] =
                shape->zero != 0 ? shape->zero : made_random(seed) % most + shape->stored_less;
        }
        for (size_t c = 0; c < COLUMNS; c++) {
            weight->codes[r][c] = made_random(seed) % levels;
        }
    }
}

static void expect(struct weight *weight) {
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < COLUMNS; c++) {
            size_t g = (size_t)weight->order[c];
            int difference = (int)weight->codes[r][c] - (int)weight->zeros[r][g];
            weight->expected[r * COLUMNS + c] = (float)difference * weight->scales[r][g];
        }
    }
}

static void make(struct made *made, struct weight *weight, const struct shape *shape, uint32_t seed) {
    uint32_t words[ROWS * COLUMNS] = {0};
    uint32_t zeros[ROWS * COLUMNS] = {0};
    unsigned char scales[ROWS * COLUMNS * sizeof(float)];
    size_t each = 32 / shape->bits;
    size_t groups = groups_of(shape);
    fill(weight, shape, &seed);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < COLUMNS; c++) {
            if (shape->awq) {
                pack(words, c * (ROWS / each) + r / each, r % each, shape, weight->codes[r][c]);
            } else {
                pack(words, c / each * ROWS + r, c % each, shape, weight->codes[r][c]);
            }
        }
        for (size_t g = 0; g < groups; g++) {
            unsigned stored = weight->zeros[r][g] - shape->stored_less;
            pack(zeros, g * (ROWS / each) + r / each, r % each, shape, stored);
            weight->scales[r][g] = made_scale(scales, g * ROWS + r, shape->scales, &seed);
        }
    }
    expect(weight);
    made_open(made);
    made_add(made, "qweight", "I32", shape->awq ? COLUMNS : COLUMNS / each, shape->awq ? ROWS / each : ROWS,
             words);
    made_add(made, "qzeros", "I32", groups, ROWS / each, zeros);
    made_add(made, "scales", shape->scales, groups, ROWS, scales);
    if (shape->has_order) {
        made_add(made, "g_idx", "I32", COLUMNS, 0, weight->order);
    }
    made_order(made);
}

static struct quantization settled(const struct made *made, const struct shape *shape) {
    struct error err;
    struct quantization quantization = made_quantization(shape->config);
    must(packing_settle(&quantization, &made->checkpoint, &err), &err);
    return quantization;
}

// ---- numbers ----

#define AWQ(more) "{\"quant_method\": \"awq\", \"bits\": 4, \"version\": \"gemm\", " more "}"
#define GPTQ(more) "{\"quant_method\": \"gptq\", " more "}"
#define V2 ", \"checkpoint_format\": \"gptq_v2\""

static const struct shape shapes[] = {
    {AWQ("\"group_size\": 32"), "F16", 4, 32, 0, 0, true, false, false},
    {AWQ("\"group_size\": 96"), "BF16", 4, 96, 0, 0, true, false, false},
    {AWQ("\"group_size\": 12"), "F32", 4, 12, 0, 0, true, false, false},
    {AWQ("\"group_size\": -1"), "F16", 4, 0, 0, 0, true, false, false},
    {AWQ("\"q_group_size\": 48, \"w_bit\": 4"), "F16", 4, 48, 0, 8, true, false, false},
    {GPTQ("\"bits\": 4, \"group_size\": 32"), "F16", 4, 32, 1, 0, false, false, true},
    {GPTQ("\"bits\": 4, \"group_size\": 32"), "BF16", 4, 32, 1, 0, false, false, false},
    {GPTQ("\"bits\": 4, \"group_size\": -1"), "F32", 4, 0, 1, 0, false, false, true},
    {GPTQ("\"bits\": 4, \"group_size\": 24" V2), "F16", 4, 24, 0, 0, false, false, true},
    {GPTQ("\"bits\": 4, \"group_size\": 24, \"format\": \"gptq_v2\""), "F16", 4, 24, 0, 0, false, false,
     false},
    {GPTQ("\"bits\": 4, \"group_size\": 32, \"desc_act\": true"), "F16", 4, 32, 1, 0, false, true, true},
    {GPTQ("\"bits\": 4, \"group_size\": 32"), "F16", 4, 32, 1, 0, false, true, true}, // not said
    {GPTQ("\"bits\": 4, \"group_size\": 40"), "F16", 4, 40, 1, 0, false, false,
     true}, // the last group is cut
    {GPTQ("\"bits\": 8, \"group_size\": 32"), "F16", 8, 32, 1, 0, false, false, true},
    {GPTQ("\"bits\": 8, \"group_size\": 16, \"desc_act\": true" V2), "F32", 8, 16, 0, 0, false, true, true},
    // Symmetric, labelled right and wrong.
    {GPTQ("\"bits\": 4, \"group_size\": 32"), "F16", 4, 32, 1, 8, false, false, true},
    {GPTQ("\"bits\": 4, \"group_size\": 32"), "F16", 4, 32, 0, 8, false, false, true},
    {GPTQ("\"bits\": 4, \"group_size\": 32" V2), "F16", 4, 32, 1, 8, false, false, true},
    {GPTQ("\"bits\": 8, \"group_size\": 32"), "F16", 8, 32, 0, 128, false, false, true},
    {GPTQ("\"bits\": 8, \"group_size\": 32" V2), "F16", 8, 32, 1, 128, false, true, true},
};

static void numbers_are_those_of_the_formula(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct made made;
        struct weight weight;
        struct weight_source source;
        const struct shape *shape = &shapes[i];
        make(&made, &weight, shape, 11 + (uint32_t)i);
        struct quantization quantization = settled(&made, shape);
        made_found(&made, &quantization, ROWS, COLUMNS, &source);
        bool constant = !shape->awq && shape->zero != 0;
        assert_int_equal(source.format.groups.has_indices, shape->by_order);
        assert_int_equal(source.format.groups.has_zeros, !constant);
        assert_int_equal(source.component_count, shape->has_order ? 4 : 3);
        assert_int_equal(made_read_count(&source), 3 - constant + shape->by_order);
        assert_string_equal(source.format.name, shape->awq ? "awq" : "gptq");
        assert_int_equal(source.format.rounding, DTYPE_F32);
        made_check(&made, &source, ROWS, COLUMNS, weight.expected);
        made_close(&made);
    }
}

static void the_label_counts_where_zero_points_differ(void **state) {
    (void)state;
    for (unsigned v2 = 0; v2 < 2; v2++) {
        struct made made;
        struct weight weight;
        struct shape shape = shapes[v2 == 0 ? 5 : 8];
        make(&made, &weight, &shape, 3);
        struct quantization quantization = settled(&made, &shape);
        assert_int_equal(quantization.gptq_v2, v2);
        assert_false(quantization.zeros_in_middle);
        made_close(&made);
    }
    struct made made; // without any
    made_open(&made);
    made_order(&made);
    assert_false(settled(&made, &shapes[5]).zeros_in_middle);
    made_close(&made);
}

// ---- refusals ----

struct change {
    const char *suffix; // of the tensor
    const char *renamed;
    const char *type;
    size_t shape[2]; // 0: as it is
    const char *words;
};

static void refuse(const struct shape *shape, const struct change *change) {
    static const struct tensor_type types[] = {{"F32", 32}, {"I64", 64}, {"U8", 8}};
    struct made made;
    struct weight weight;
    make(&made, &weight, shape, 1);
    struct quantization quantization = made_quantization(shape->config);
    struct tensor *tensor = made_tensor(&made, change->suffix);
    if (change->renamed != NULL) {
        snprintf(tensor->name, strlen(tensor->name) + 1, STEM ".%s", change->renamed);
    }
    for (size_t i = 0; change->type != NULL && i < sizeof types / sizeof types[0]; i++) {
        tensor->type = strcmp(types[i].name, change->type) == 0 ? &types[i] : tensor->type;
    }
    for (size_t i = 0; i < 2; i++) {
        tensor->shape[i] = change->shape[i] == 0 ? tensor->shape[i] : change->shape[i];
    }
    made_refused(&made, &quantization, ROWS, COLUMNS, change->words);
    made_close(&made);
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    static const struct change awq[] = {
        {"qweight", "x", NULL, {0}, "tensor '" STEM ".qweight' is missing"},
        {"qzeros", "x", NULL, {0}, "tensor '" STEM ".qzeros' is missing"},
        {"scales", "x", NULL, {0}, "tensor '" STEM ".scales' is missing"},
        {"qweight", NULL, "F32", {0}, "tensor '" STEM ".qweight' has dtype F32, not I32"},
        {"qweight", NULL, NULL, {95, 0}, "tensor '" STEM ".qweight' has shape [95, 3]"},
        {"qzeros", NULL, NULL, {0, 2}, "tensor '" STEM ".qzeros' has shape [3, 2]"},
        {"scales", NULL, NULL, {6, 0}, "ask for [3, 24]"},
        {"scales", NULL, "I64", {0}, "tensor '" STEM ".scales' has dtype I64; scales are F32, F16 or BF16"},
    };
    static const struct change gptq[] = {
        {"qweight", NULL, NULL, {96, 3}, "ask for [12, 24]"}, // as AWQ has it
        {"g_idx", NULL, NULL, {95, 0}, "tensor '" STEM ".g_idx' has shape [95]"},
        {"g_idx", NULL, "U8", {0}, "tensor '" STEM ".g_idx' has dtype U8"},
        {"g_idx", "x", NULL, {0}, "tensor '" STEM ".g_idx' is missing, which 'desc_act'"},
    };
    for (size_t i = 0; i < sizeof awq / sizeof awq[0]; i++) {
        refuse(&shapes[0], &awq[i]);
    }
    for (size_t i = 0; i < sizeof gptq / sizeof gptq[0]; i++) {
        refuse(&shapes[10], &gptq[i]);
    }
}

static void other_sizes_than_the_configuration_says_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t shape;
        const char *config;
        const char *words;
    } cases[] = {
        {0, AWQ("\"group_size\": 16"), "ask for [6, 3]"},
        {0, AWQ("\"group_size\": 40"), "96 columns are no whole number of groups of 40"},
        {6, GPTQ("\"bits\": 4, \"group_size\": 40"), "96 columns are no whole number of groups of 40"},
        {5, GPTQ("\"bits\": 8, \"group_size\": 32"), "tensor '" STEM ".qweight' has shape [12, 24]"},
        {5, GPTQ("\"bits\": 8, \"group_size\": 32, \"dynamic\": {\"-:x\": {}}"), "'dynamic'"},
        {0, "", "packed as awq or gptq does it, but config.json has no 'quantization_config'"},
        {0, "{\"load_in_4bit\": true}", "but the method of config.json is bitsandbytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made made;
        struct weight weight;
        make(&made, &weight, &shapes[cases[i].shape], 1);
        struct quantization quantization = made_quantization(cases[i].config);
        made_refused(&made, &quantization, ROWS, COLUMNS, cases[i].words);
        made_close(&made);
    }
}

static void numbers_that_mean_nothing_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t shape;
        const char *suffix;
        uint32_t word;
        const char *found; // NULL: it is found, and refused when it is read
    } cases[] = {
        {0, "scales", 0x7c007c00u, NULL},
        {5, "qzeros", 0x000000f0u, NULL},
        {13, "qzeros", 0x00ff0000u, NULL},
        {10, "g_idx", 3, "tensor '" STEM ".g_idx': input 0 is of group 3, outside the 3 groups"},
        {10, "g_idx", UINT32_MAX, "group -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made made;
        struct weight weight;
        struct weight_source source;
        const struct shape *shape = &shapes[cases[i].shape];
        make(&made, &weight, shape, 2);
        off_t at = (off_t)made_tensor(&made, cases[i].suffix)->begin;
        assert_int_equal(pwrite(made.file.descriptor, &cases[i].word, 4, at), 4);
        struct quantization quantization = settled(&made, shape);
        if (cases[i].found != NULL) {
            made_refused(&made, &quantization, ROWS, COLUMNS, cases[i].found);
        } else {
            made_found(&made, &quantization, ROWS, COLUMNS, &source);
            free(made_parts(&made, &source, ROWS, COLUMNS, STATUS_DATA));
        }
        made_close(&made);
    }
}

static void sizes_that_fill_no_words_are_refused(void **state) {
    (void)state;
    struct made made;
    struct weight weight;
    make(&made, &weight, &shapes[0], 1);
    struct quantization awq = made_quantization(shapes[0].config);
    made_refused(&made, &awq, 20, COLUMNS, "does not fill words of 8 codes of 4 bits");
    made_close(&made);
    make(&made, &weight, &shapes[5], 1);
    struct quantization gptq = made_quantization(shapes[5].config);
    made_refused(&made, &gptq, ROWS, 92, "does not fill words of 8 codes of 4 bits");
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
    const float plain[4] = {0};
    struct quantization quantization = made_quantization(shapes[0].config);
    made_open(&made); // a weight of numbers, whatever the configuration says
    made_add(&made, "weight", "F32", 2, 2, plain);
    made_order(&made);
    must(packing_find(&source, &made.checkpoint, &quantization, STEM, 2, 2, &found, &err), &err);
    assert_false(found);
    made_close(&made);
    make(&made, &weight, &shapes[0], 1); // both
    made_add(&made, "weight", "F32", 2, 2, plain);
    made_refused(&made, &quantization, ROWS, COLUMNS,
                 "tensors '" STEM ".weight' and '" STEM ".qweight' are both there");
    made_close(&made);
    make(&made, &weight, &shapes[0], 1); // of two methods
    made_add(&made, "weight_packed", "I32", 2, 2, plain);
    made_refused(&made, &quantization, ROWS, COLUMNS,
                 "tensor '" STEM ".weight_packed' is packed as compressed-tensors does it, but the method of "
                 "config.json is awq");
    made_close(&made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_formula),
        cmocka_unit_test(the_label_counts_where_zero_points_differ),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(other_sizes_than_the_configuration_says_are_refused),
        cmocka_unit_test(numbers_that_mean_nothing_are_refused),
        cmocka_unit_test(sizes_that_fill_no_words_are_refused),
        cmocka_unit_test(tensors_tell_what_is_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
