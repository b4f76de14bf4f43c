// SPDX-License-Identifier: MIT
// What a table of weights can say beside what today's families need: rows that only some blocks have, copies
// of a row, companions, fused tensors of both. A made-up family: experts in even blocks, a mixer in odd ones.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/operations.h"
#include "kernels/weight_format.h"
#include "model/weights.h"

enum { BLOCKS = 4, EXPERTS = 3, HIDDEN = 8, INNER = 16, Q_ROWS = 16, KV_ROWS = 8, WORDS = 24 };

static bool in_even(const struct model_config *config, size_t block) {
    (void)config;
    return block % 2 == 0;
}

static bool in_odd(const struct model_config *config, size_t block) {
    return !in_even(config, block);
}

static size_t experts(const struct model_config *config, size_t block) {
    (void)config;
    (void)block;
    return EXPERTS;
}

#define GLOBAL(member) offsetof(struct model_weights, member)
#define BLOCK(member) offsetof(struct block_weights, member)

// clang-format off
static const struct weight_row rows[] = {
    {"embed_tokens.weight",                  FORM_TABLE,  DIM_VOCABULARY,   DIM_HIDDEN, GLOBAL(embedding),   NULL, NULL, FILE_ROWS},
    {"layers.{i}.scale",                     FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,    BLOCK(input_norm),   NULL, NULL, FILE_ROWS},
    {"layers.{i}.q.weight",                  FORM_MATRIX, DIM_Q,            DIM_HIDDEN, BLOCK(qkv),          in_even, NULL, FILE_ROWS},
    {"layers.{i}.k.weight",                  FORM_MATRIX, DIM_KV,           DIM_HIDDEN, BLOCK(qkv),          NULL, NULL, FILE_ROWS},
    {"layers.{i}.mixer.weight",              FORM_MATRIX, DIM_Q,            DIM_HIDDEN, BLOCK(output),       in_odd, NULL, FILE_ROWS},
    {"layers.{i}.experts.{e}.gate.weight",   FORM_MATRIX, DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up),      in_even, experts, FILE_ROWS},
    {"layers.{i}.experts.{e}.up.weight",     FORM_MATRIX, DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up),      in_even, experts, FILE_ROWS},
    {"layers.{i}.experts.{e}.gate.bias",     FORM_VECTOR, DIM_INTERMEDIATE, DIM_ONE,    BLOCK(gate_up_bias), in_even, experts, FILE_ROWS},
    {"layers.{i}.experts.{e}.up.bias",       FORM_VECTOR, DIM_INTERMEDIATE, DIM_ONE,    BLOCK(gate_up_bias), in_even, experts, FILE_ROWS},
    {"norm.weight",                          FORM_VECTOR, DIM_HIDDEN,       DIM_ONE,    GLOBAL(final_norm),  NULL, NULL, FILE_ROWS},
};
// clang-format on

static const struct weight_table table = {rows, sizeof rows / sizeof rows[0]};
static const struct tensor_type float32 = {"F32", 32};

static const struct model_config config = {.model_type = "made-up",
                                           .weights = &table,
                                           .layers = BLOCKS,
                                           .hidden = HIDDEN,
                                           .intermediate = INNER,
                                           .heads = 2,
                                           .kv_heads = 1,
                                           .head_dim = 8,
                                           .vocabulary = WORDS};

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

// ---- a checkpoint of the family, its names written by hand ----

struct made {
    struct checkpoint_file file;
    struct checkpoint checkpoint;
};

static void add(struct made *made, const char *name, size_t height, size_t width) {
    struct tensors *tensors = &made->checkpoint.tensors;
    struct error err;
    must(tensors_reserve(tensors, 1, &err), &err);
    struct tensor *tensor = &tensors->entries[tensors->count++];
    *tensor = (struct tensor){.type = &float32,
                              .format = weight_format_of(DTYPE_F32),
                              .rank = width == 0 ? 1 : 2,
                              .shape = {height, width}};
    must(memory_text(&tensor->name, name, &err), &err);
}

static void add_block(struct made *made, size_t block) {
    char name[96];
    snprintf(name, sizeof name, "model.layers.%zu.scale", block);
    add(made, name, HIDDEN, 0);
    snprintf(name, sizeof name, "model.layers.%zu.k.weight", block);
    add(made, name, KV_ROWS, HIDDEN);
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", block, block % 2 == 0 ? "q" : "mixer");
    add(made, name, Q_ROWS, HIDDEN);
    for (size_t e = 0; e < EXPERTS && block % 2 == 0; e++) {
        static const char *const parts[] = {"gate", "up"};
        for (size_t part = 0; part < 2; part++) {
            snprintf(name, sizeof name, "model.layers.%zu.experts.%zu.%s.weight", block, e, parts[part]);
            add(made, name, INNER, HIDDEN);
            snprintf(name, sizeof name, "model.layers.%zu.experts.%zu.%s.bias", block, e, parts[part]);
            add(made, name, INNER, 0);
        }
    }
}

static void order(struct made *made) {
    const struct tensor *twice;
    struct error err;
    must(tensors_order(&made->checkpoint.tensors, &twice, &err), &err);
    assert_null(twice);
}

static void make(struct made *made) {
    *made = (struct made){.file = {.name = "made.safetensors"}};
    made->checkpoint.files = &made->file;
    made->checkpoint.count = 1;
    add(made, "model.embed_tokens.weight", WORDS, HIDDEN);
    add(made, "model.norm.weight", HIDDEN, 0);
    for (size_t block = 0; block < BLOCKS; block++) {
        add_block(made, block);
    }
}

static void take_apart(struct made *made) {
    tensors_destroy(&made->checkpoint.tensors);
}

static const struct weight_use *use_of(const struct made *made, const struct weight_use *uses,
                                       const char *name) {
    const struct tensor *tensor = tensors_find(&made->checkpoint.tensors, name);
    assert_non_null(tensor);
    return &uses[tensor - made->checkpoint.tensors.entries];
}

// ---- matching ----

static void every_block_and_copy_has_its_names(void **state) {
    (void)state;
    struct made made;
    struct weight_match match;
    struct error err = {0};
    make(&made);
    order(&made);
    must(weights_match(&match, &config, &made.checkpoint, &err), &err);
    for (size_t i = 0; i < made.checkpoint.tensors.count; i++) {
        assert_non_null(match.uses[i].row);
    }
    const struct weight_use *use = use_of(&made, match.uses, "model.layers.2.experts.1.up.weight");
    assert_string_equal(use->row->name, "layers.{i}.experts.{e}.up.weight");
    assert_int_equal(use->block, 2);
    assert_int_equal(use->copy, 1);
    use = use_of(&made, match.uses, "model.layers.3.mixer.weight");
    assert_string_equal(use->row->name, "layers.{i}.mixer.weight");
    assert_int_equal(use->block, 3);
    assert_int_equal(use->copy, 0);
    assert_string_equal(use_of(&made, match.uses, "model.norm.weight")->row->name, "norm.weight");
    weights_match_destroy(&match);
    take_apart(&made);
}

static void refused(struct made *made, const char *said) {
    struct weight_match match;
    struct error err = {0};
    order(made);
    assert_int_equal(weights_match(&match, &config, &made->checkpoint, &err), STATUS_DATA);
    assert_null(match.uses);
    if (strstr(err.message, said) == NULL) {
        fail_msg("instead of '%s': %s", said, err.message);
    }
    take_apart(made);
}

static void what_a_block_lacks_or_has_too_much_is_named(void **state) {
    (void)state;
    static const char *const extra[] = {"model.layers.0.mixer.weight", "model.layers.1.q.weight",
                                        "model.layers.2.experts.3.up.bias", "model.layers.3.scales"};
    struct made made;
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        char said[160];
        make(&made);
        add(&made, extra[i], Q_ROWS, HIDDEN);
        snprintf(said, sizeof said,
                 "tensor '%s' of made.safetensors has no place in a made-up model of 4 layers", extra[i]);
        refused(&made, said);
    }
    make(&made); // the last expert's last tensor is the last but one block's last
    for (size_t i = 0; i < made.checkpoint.tensors.count; i++) {
        char *name = made.checkpoint.tensors.entries[i].name;
        if (strcmp(name, "model.layers.2.experts.2.up.bias") == 0) {
            strcpy(name, "lm_head.weight");
        }
    }
    refused(&made, "tensor 'model.layers.2.experts.2.up.bias' is missing");
    make(&made);
    made.checkpoint.tensors.entries[2].shape[0] = 9;
    refused(&made, "tensor 'model.layers.0.scale' has shape [9]; config.json asks for [8]");
}

static void unsupported(struct made *made, const char *said, bool plain) {
    char names[WEIGHT_FORMAT_NAMES];
    char message[512];
    snprintf(message, sizeof message, "%s; supported are %s", said, weight_format_names(plain, names));
    refused(made, message);
}

static void what_no_weight_is_read_from_is_refused(void **state) {
    (void)state;
    static const struct tensor_type other = {"U8", 8};
    static const struct tensor_type blocks = {"Q8_0", 8};
    struct made made;
    make(&made);
    made.checkpoint.tensors.entries[3].type = &other;
    made.checkpoint.tensors.entries[3].format = NULL;
    unsupported(&made, "tensor 'model.layers.0.k.weight' has dtype U8", false);
    // Matrices may be packed in blocks, vectors not; nor rows that end within a block.
    make(&made);
    made.checkpoint.tensors.entries[2].type = &blocks;
    made.checkpoint.tensors.entries[2].format = weight_format_find("Q8_0");
    unsupported(&made, "tensor 'model.layers.0.scale' has dtype Q8_0", true);
    make(&made);
    made.checkpoint.tensors.entries[3].type = &blocks;
    made.checkpoint.tensors.entries[3].format = weight_format_find("Q8_0");
    refused(&made, "tensor 'model.layers.0.k.weight' in Q8_0 cannot have rows of 8 numbers");
}

// ---- counting ----

static void parameters_are_counted_block_by_block(void **state) {
    (void)state;
    uint64_t expert = 2 * INNER * HIDDEN;
    uint64_t even = Q_ROWS * HIDDEN + KV_ROWS * HIDDEN + EXPERTS * expert;
    uint64_t odd = Q_ROWS * HIDDEN + KV_ROWS * HIDDEN;
    uint64_t biases = EXPERTS * 2 * INNER;
    uint64_t all = WORDS * HIDDEN + HIDDEN + BLOCKS * HIDDEN + 2 * (even + biases) + 2 * odd;
    assert_int_equal(weights_count(&config, false), all);
    assert_int_equal(weights_count(&config, true), all + WORDS * HIDDEN);
}

// ---- on a device ----

struct loaded {
    struct device *device;
    struct block_weights blocks[BLOCKS];
    struct model_weights weights;
    float *staging; // [48 * HIDDEN]
    float *numbers; // on the device, as many
    float *out;     // on the device, [96]
};

enum { STAGED = 48 * HIDDEN, LARGEST_ROWS = 96 };

// `blocks` of them are resident.
static void load(struct loaded *loaded, size_t blocks, uint64_t *weight_bytes) {
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device_plan plan = {.tokens = 1};
    struct error err = {0};
    *loaded = (struct loaded){0};
    must(device_open(&loaded->device, "cpu", &options, &err), &err);
    loaded->weights = (struct model_weights){.blocks = loaded->blocks,
                                             .block_count = blocks,
                                             .has_embedding = true,
                                             .has_final_norm = blocks == BLOCKS};
    struct layout planning = layout_planning(loaded->device, &plan);
    must(weights_lay_out(&planning, &loaded->weights, &config, &err), &err);
    *weight_bytes = plan.bytes[DEVICE_WEIGHTS];
    must(device_plan_add(&plan, DEVICE_STAGING, STAGED * sizeof(float), &err), &err);
    must(device_plan_add(&plan, DEVICE_ACTIVATIONS, STAGED * sizeof(float), &err), &err);
    must(device_plan_add(&plan, DEVICE_ACTIVATIONS, LARGEST_ROWS * sizeof(float), &err), &err);
    must(device_reserve(loaded->device, &plan, &err), &err);
    struct layout taking = layout_taking(loaded->device);
    must(weights_lay_out(&taking, &loaded->weights, &config, &err), &err);
    must(layout_take(&taking, DEVICE_STAGING, STAGED, 1, sizeof(float), &loaded->staging, &err), &err);
    must(layout_take(&taking, DEVICE_ACTIVATIONS, STAGED, 1, sizeof(float), &loaded->numbers, &err), &err);
    must(layout_take(&taking, DEVICE_ACTIVATIONS, LARGEST_ROWS, 1, sizeof(float), &loaded->out, &err), &err);
}

static void wait(struct loaded *loaded) {
    struct device_fence fence;
    struct error err = {0};
    must(device_fence(loaded->device, &fence, &err), &err);
    must(device_wait(loaded->device, fence, NULL, &err), &err);
}

// Row `at` of a part is all `first + at`, so that every row of every tensor can be told apart.
static void put(struct loaded *loaded, struct weight_use use, float first) {
    struct error err = {0};
    size_t height;
    size_t width;
    weights_rows(&config, use, &height, &width);
    float *numbers = calloc(height * width, sizeof *numbers);
    for (size_t i = 0; i < height * width; i++) {
        numbers[i] = first + (float)(i / width);
    }
    size_t half = height / 2; // in two pieces, as a large tensor comes
    must(weights_put(loaded->device, &loaded->weights, &config, use, 0, half, numbers,
                     weight_format_of(DTYPE_F32), &err),
         &err);
    must(weights_put(loaded->device, &loaded->weights, &config, use, half, height - half,
                     numbers + half * width, weight_format_of(DTYPE_F32), &err),
         &err);
    free(numbers);
}

// The matrix times a one at the first place: its first column.
static void check_column(struct loaded *loaded, const struct device_matrix *matrix, const float *expected) {
    struct error err = {0};
    memset(loaded->staging, 0, HIDDEN * sizeof(float));
    loaded->staging[0] = 1;
    must(device_upload(loaded->device, loaded->numbers, loaded->staging, HIDDEN * sizeof(float), &err), &err);
    must(device_matmul(loaded->device, loaded->out, loaded->numbers, matrix, NULL, 1, DEVICE_STORE, &err),
         &err);
    wait(loaded);
    must(device_download(loaded->device, loaded->staging, loaded->out, matrix->rows * sizeof(float), &err),
         &err);
    wait(loaded);
    for (size_t row = 0; row < matrix->rows; row++) {
        if (loaded->staging[row] != expected[row]) {
            fail_msg("row %zu is %g, not %g", row, (double)loaded->staging[row], (double)expected[row]);
        }
    }
}

static void check_vector(struct loaded *loaded, const float *vector, const float *expected, size_t count) {
    struct error err = {0};
    must(device_download(loaded->device, loaded->staging, vector, count * sizeof(float), &err), &err);
    wait(loaded);
    assert_memory_equal(loaded->staging, expected, count * sizeof(float));
}

static const struct weight_row *row_of(const char *name) {
    for (size_t i = 0; i < table.count; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    fail_msg("no row %s", name);
    return NULL;
}

static void only_what_a_block_has_takes_memory(void **state) {
    (void)state;
    struct loaded loaded;
    uint64_t three;
    uint64_t all;
    load(&loaded, BLOCKS - 1, &three);
    assert_null(loaded.weights.final_norm);
    assert_null(loaded.blocks[3].input_norm);
    device_close(loaded.device);
    load(&loaded, BLOCKS, &all);
    assert_true(all > three);
    for (size_t block = 0; block < BLOCKS; block++) {
        const struct block_weights *weights = &loaded.blocks[block];
        bool even = block % 2 == 0;
        assert_non_null(weights->input_norm);
        assert_int_equal(weights->qkv.rows, even ? Q_ROWS + KV_ROWS : KV_ROWS);
        assert_int_equal(weights->output.rows, even ? 0 : Q_ROWS);
        assert_int_equal(weights->gate_up.rows, even ? EXPERTS * 2 * INNER : 0);
        assert_int_equal(weights->gate_up_bias != NULL, even);
    }
    struct error err = {0};
    struct layout checking = layout_checking(loaded.device);
    must(weights_lay_out(&checking, &loaded.weights, &config, &err), &err);
    assert_int_equal(checking.checked, 2 + BLOCKS * 2 + 2 * 1 + 2 * 2);
    device_close(loaded.device);
}

static void copies_lie_below_each_other_with_all_their_parts(void **state) {
    (void)state;
    struct loaded loaded;
    uint64_t bytes;
    float expected[LARGEST_ROWS];
    load(&loaded, BLOCKS, &bytes);
    for (size_t e = EXPERTS; e-- > 0;) { // in any order
        static const char *const names[] = {
            "layers.{i}.experts.{e}.up.weight", "layers.{i}.experts.{e}.gate.weight",
            "layers.{i}.experts.{e}.up.bias", "layers.{i}.experts.{e}.gate.bias"};
        for (size_t part = 0; part < 4; part++) {
            float first = (float)(1000 * e + (part % 2 == 0 ? 500 : 0));
            put(&loaded, (struct weight_use){.row = row_of(names[part]), .block = 2, .copy = e}, first);
        }
    }
    for (size_t i = 0; i < EXPERTS * 2 * INNER; i++) {
        size_t inside = i % (2 * INNER);
        expected[i] = (float)(1000 * (i / (2 * INNER)) + (inside < INNER ? inside : 500 + inside - INNER));
    }
    check_column(&loaded, &loaded.blocks[2].gate_up, expected);
    check_vector(&loaded, loaded.blocks[2].gate_up_bias, expected, EXPERTS * 2 * INNER);
    device_close(loaded.device);
}

static void a_part_that_a_block_lacks_takes_no_rows(void **state) {
    (void)state;
    struct loaded loaded;
    uint64_t bytes;
    float expected[LARGEST_ROWS];
    load(&loaded, BLOCKS, &bytes);
    put(&loaded, (struct weight_use){.row = row_of("layers.{i}.q.weight"), .block = 0}, 100);
    put(&loaded, (struct weight_use){.row = row_of("layers.{i}.k.weight"), .block = 0}, 200);
    put(&loaded, (struct weight_use){.row = row_of("layers.{i}.k.weight"), .block = 1}, 300);
    for (size_t i = 0; i < Q_ROWS + KV_ROWS; i++) {
        expected[i] = (float)(i < Q_ROWS ? 100 + i : 200 + i - Q_ROWS);
    }
    check_column(&loaded, &loaded.blocks[0].qkv, expected);
    for (size_t i = 0; i < KV_ROWS; i++) {
        expected[i] = (float)(300 + i);
    }
    check_column(&loaded, &loaded.blocks[1].qkv, expected);
    device_close(loaded.device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_and_copy_has_its_names),
        cmocka_unit_test(what_a_block_lacks_or_has_too_much_is_named),
        cmocka_unit_test(what_no_weight_is_read_from_is_refused),
        cmocka_unit_test(parameters_are_counted_block_by_block),
        cmocka_unit_test(only_what_a_block_has_takes_memory),
        cmocka_unit_test(copies_lie_below_each_other_with_all_their_parts),
        cmocka_unit_test(a_part_that_a_block_lacks_takes_no_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
