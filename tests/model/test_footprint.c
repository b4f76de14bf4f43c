// SPDX-License-Identifier: MIT
// What a model takes, counted without a device, against what a device plans, and against published sizes.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "close_to.h"
#include "golden.h"
#include "model/footprint.h"
#include "model_shapes.h"

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

// `value` in 10^9 bytes, to two digits.
static void check_gigabytes(uint64_t bytes, double value) {
    assert_close((double)bytes * 1e-9, value, 0.006);
}

static void a_model_of_seven_billion(void **state) {
    (void)state;
    struct model_config config;
    struct footprint plain;
    struct footprint packed;
    struct error err = {0};
    shape_mistral_7b(&config);
    assert_close((double)footprint_parameters(&config) * 1e-9, 7.24, 0.005);
    check_gigabytes(footprint_of_all(&config, MODEL_QUANTIZE_NONE), 14.48);
    check_gigabytes(footprint_of_all(&config, MODEL_QUANTIZE_NF4), 4.45);

    must(footprint_of_config(&plain, &config, 31, DTYPE_BF16, MODEL_QUANTIZE_NONE, &err), &err);
    must(footprint_of_config(&packed, &config, 31, DTYPE_BF16, MODEL_QUANTIZE_NF4, &err), &err);
    const uint64_t matrices = (uint64_t)4096 * (2 * 4096 + 2 * 1024 + 3 * 14336);
    const uint64_t block = 2 * (matrices + 2 * 4096);
    assert_int_equal(plain.blocks, 31);
    assert_int_equal(plain.block[30].held, block);
    assert_int_equal(plain.block[30].file, block);
    assert_int_equal(plain.all_blocks, 31 * block);
    assert_int_equal(plain.embedding, (uint64_t)2 * 32000 * 4096);
    assert_int_equal(plain.final_norm, 0);
    assert_int_equal(plain.expansion, 0);
    assert_int_equal(packed.expansion, (uint64_t)2 * 2 * 14336 * 4096); // gate and up are one matrix
    assert_int_equal(packed.block[0].expanded, 2 * matrices);
    assert_close((double)packed.block[0].held, (double)matrices * (0.5 + 4.0 / 64) + 4 * 4096, 5000);
    footprint_destroy(&plain);
    footprint_destroy(&packed);

    must(footprint_of_config(&plain, &config, 32, DTYPE_F32, MODEL_QUANTIZE_NONE, &err), &err);
    assert_int_equal(plain.block[0].held, 2 * block);
    assert_int_equal(plain.block[0].file, block); // the file stays as it is
    assert_int_equal(plain.final_norm, 4 * 4096);
    footprint_destroy(&plain);
    model_config_destroy(&config);
}

static struct model *open_golden(struct golden *golden, const char *name) {
    struct error err = {0};
    struct model *model;
    golden_open(golden, name);
    must(model_open(&model, golden->folder, &err), &err);
    return model;
}

// The checkpoint's own count (model_weight_bytes), block by block.
static void blocks_add_up_to_the_model(void **state) {
    (void)state;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct golden golden;
        struct error err = {0};
        struct model *model = open_golden(&golden, golden_names[i]);
        for (size_t last = 0; last <= golden.layers; last++) {
            struct model_weight_bytes bytes;
            struct footprint footprint;
            struct footprint alone; // without the checkpoint
            model_weight_bytes(model, last, DTYPE_F32, &bytes);
            must(footprint_of_model(&footprint, model, last, DTYPE_F32, MODEL_QUANTIZE_NONE, &err), &err);
            uint64_t norm = golden.hidden * sizeof(float); // counted where it is not needed, too
            assert_int_equal(footprint.all_blocks + footprint.embedding + norm, bytes.computed);
            must(footprint_of_config(&alone, model_config_of(model), last, DTYPE_F32, MODEL_QUANTIZE_NONE,
                                     &err),
                 &err);
            assert_int_equal(alone.all_blocks, footprint.all_blocks);
            assert_int_equal(alone.most.held, footprint.most.held);
            footprint_destroy(&alone);
            footprint_destroy(&footprint);
        }
        model_close(model);
        golden_close(&golden);
    }
}

// The same of every family, as numbers and quantised where it can be.
static void families_take_what_they_hold(void **state) {
    (void)state;
    static const enum model_quantize how[] = {MODEL_QUANTIZE_NONE, MODEL_QUANTIZE_NF4};
    for (size_t i = 0; i < 2 * GOLDEN_FAMILIES; i++) {
        struct golden golden;
        struct error err = {0};
        struct footprint footprint;
        struct model_weight_bytes bytes;
        const char *name = golden_families[i / 2];
        struct model *model = open_golden(&golden, name);
        if (how[i % 2] == MODEL_QUANTIZE_NONE || footprint_can_quantise(model_config_of(model))) {
            must(footprint_of_model(&footprint, model, golden.layers, DTYPE_BF16, how[i % 2], &err), &err);
            must(
                model_set_weight_options(model, &(struct model_weight_options){.quantize = how[i % 2]}, &err),
                &err);
            model_weight_bytes(model, golden.layers, DTYPE_BF16, &bytes);
            uint64_t counted = footprint.all_blocks + footprint.embedding + footprint.final_norm;
            if (counted != bytes.packed + bytes.computed) {
                fail_msg("%s: %ju counted, %ju + %ju held", name, (uintmax_t)counted, (uintmax_t)bytes.packed,
                         (uintmax_t)bytes.computed);
            }
            footprint_destroy(&footprint);
        }
        model_close(model);
        golden_close(&golden);
    }
}

static void same_batch(const struct model *model, const struct model_limits *limits) {
    struct model_plan plan;
    struct footprint_batch batch;
    struct error err = {0};
    must(model_plan(model, limits, &plan, &err), &err);
    footprint_of_batch(&batch, model_config_of(model), DTYPE_F32, limits, false);
    // Each piece of an arena begins at a multiple of 256.
    uintmax_t activations = model_plan_bytes(&plan, DEVICE_ACTIVATIONS);
    uintmax_t pieces = 20 + 4 * limits->members + (limits->head > 0 ? 10 : 0);
    double staging = (double)model_plan_bytes(&plan, DEVICE_STAGING);
    assert_in_range(batch.activations + batch.residuals + batch.head, activations - pieces * 256,
                    activations);
    assert_true((double)batch.staging <= staging && (double)batch.staging > 0.6 * staging);
    footprint_of_batch(&batch, model_config_of(model), DTYPE_F32, limits, true);
    assert_int_equal(batch.scratch, 40 << 20);
}

static void a_batch_is_what_a_device_plans(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3", "llama-dynamic", "mistral-window"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct golden golden;
        struct error err = {0};
        struct model *model = open_golden(&golden, names[i]);
        struct device *device;
        const struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
        must(device_open(&device, "cpu", &options, &err), &err);
        must(model_add_device(model, device, "cpu", &err), &err);
        const size_t layers[] = {0, golden.layers};
        struct model_limits limits = {.layers = layers,
                                      .layer_count = 2,
                                      .tokens = 700,
                                      .texts = 30,
                                      .rows = 90,
                                      .longest = 500,
                                      .stored = DTYPE_F16,
                                      .slots = 3};
        same_batch(model, &limits);
        limits.rows = 2000; // a row a token of a text that runs in slices
        limits.longest = 2000;
        assert_true(model_limits_slice(&limits));
        assert_int_equal(limits.members, 4);
        same_batch(model, &limits);
        if (model_shares_up_to(model) > 500) { // behind a head that spans lie in
            limits.longest_own = 1500;
            limits.head = 500;
            limits.head_rows = true;
            limits.members = 0;
            assert_true(model_limits_slice(&limits));
            same_batch(model, &limits);
        }
        model_close(model);
        golden_close(&golden);
    }
}

// Long texts: keys and values of one block, at whatever length.
static void keys_and_values_are_of_one_block(void **state) {
    (void)state;
    struct model_config config;
    struct footprint_batch batch;
    const size_t layer = 31;
    struct model_limits limits = {.layers = &layer,
                                  .layer_count = 1,
                                  .tokens = 32768,
                                  .texts = 1,
                                  .rows = 1,
                                  .longest = 32768,
                                  .stored = DTYPE_F16,
                                  .slots = 2};
    shape_mistral_7b(&config);
    footprint_of_batch(&batch, &config, DTYPE_BF16, &limits, true);
    assert_int_equal(batch.keys_values, (uint64_t)128 << 20);
    model_config_destroy(&config);
}

// Of Qwen3-8B a token of the head takes 147,456 bytes in all blocks, fewer in blocks of 8 or 4 bits.
static void the_head_takes_what_its_tokens_take(void **state) {
    (void)state;
    static const uint64_t bytes[] = {
        [DEVICE_KEEP_COMPUTED] = 147456, [DEVICE_KEEP_Q8_0] = 78336, [DEVICE_KEEP_Q4_0] = 41472};
    struct model_config config;
    struct footprint_batch batch;
    const size_t layer = 36;
    struct model_limits limits = {.layers = &layer,
                                  .layer_count = 1,
                                  .tokens = 8192,
                                  .texts = 30,
                                  .rows = 300,
                                  .longest = 1500,
                                  .longest_own = 1000,
                                  .head = 1000,
                                  .stored = DTYPE_F16,
                                  .slots = 3};
    shape_of(&config, "qwen3", 36, 4096, 32, 8, 12288, 151936);
    for (int keeping = DEVICE_KEEP_COMPUTED; keeping <= DEVICE_KEEP_Q4_0; keeping++) {
        limits.keeping = (enum device_keeping)keeping;
        footprint_of_batch(&batch, &config, DTYPE_BF16, &limits, true);
        uint64_t expanded = keeping == DEVICE_KEEP_COMPUTED ? 0 : 1000 * 4096; // of one block
        assert_int_equal(batch.head, 1000 * bytes[keeping] + expanded);
        assert_int_equal(batch.head_streamed, 1000 * bytes[keeping] / 36 + expanded +
                                                  8192 * footprint_residual(&config, DTYPE_BF16));
    }
    model_config_destroy(&config);
}

// Kept experts are expanded some at a time, each padded: their width ends within a panel.
static void experts_are_expanded_as_a_device_plans(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    struct device *device;
    struct model_plan plan;
    struct model_weight_bytes bytes;
    struct footprint footprint;
    struct model *model = open_golden(&golden, "qwen3_moe");
    const struct device_options options = {.dtype = DTYPE_F32, .threads = 1, .cpu_path = "portable"};
    must(footprint_of_model(&footprint, model, golden.layers, DTYPE_F32, MODEL_QUANTIZE_INT8, &err), &err);
    must(model_set_weight_options(model, &(struct model_weight_options){.quantize = MODEL_QUANTIZE_INT8},
                                  &err),
         &err);
    must(device_open(&device, "cpu", &options, &err), &err);
    must(model_add_device(model, device, "cpu", &err), &err);
    const size_t layers[] = {golden.layers};
    const struct model_limits limits = {.layers = layers,
                                        .layer_count = 1,
                                        .tokens = 70,
                                        .texts = 3,
                                        .rows = 9,
                                        .longest = 50,
                                        .stored = DTYPE_F16,
                                        .slots = 3};
    must(model_plan(model, &limits, &plan, &err), &err);
    model_weight_bytes(model, golden.layers, DTYPE_F32, &bytes);
    assert_true(2 * model_config_of(model)->experts.width % DEVICE_PART_STEP != 0);
    assert_int_equal(bytes.largest, plan.devices[0].expansion);
    assert_int_equal(footprint.most.largest, plan.devices[0].expansion);
    footprint_destroy(&footprint);
    model_close(model);
    golden_close(&golden);
}

// Of a token, where no row is whole 16 bytes and a state has more numbers than one launch takes: B and C of 2
// groups, 4 gates of each of 4 heads, and x twice.
static void a_state_space_on_a_gpu(void **state) {
    (void)state;
    struct model_config config;
    struct footprint_batch batch;
    const size_t layer = 1;
    const struct model_limits limits = {.layers = &layer,
                                        .layer_count = 1,
                                        .tokens = 100,
                                        .texts = 3,
                                        .rows = 9,
                                        .longest = 50,
                                        .stored = DTYPE_F32,
                                        .slots = 3};
    shape_of(&config, "llama", 3, 4096, 32, 8, 14336, 1000);
    config.state_space = (struct device_state_space){
        .heads = 4, .head_dim = 6, .groups = 2, .state = 258, .taps = 4, .norm_groups = 1};
    footprint_of_batch(&batch, &config, DTYPE_BF16, &limits, true);
    assert_int_equal(batch.scratch, (40 << 20) + 100 * (2 * 2 * 260 + 4 * 4 + 2 * 4 * 8) * sizeof(float));
    config.state_space.state = 254;
    footprint_of_batch(&batch, &config, DTYPE_BF16, &limits, true);
    assert_int_equal(batch.scratch, (40 << 20) + 100 * (2 * 2 * 256 + 4 * 4 + 4 * 8) * sizeof(float));
    model_config_destroy(&config);
}

// No sum wraps around: what no memory holds is UINT64_MAX.
static void the_largest_sizes_stay_at_the_top(void **state) {
    (void)state;
    struct model_config config;
    struct footprint_batch batch;
    struct footprint footprint;
    struct error err = {0};
    const size_t layer = 1;
    const struct model_limits limits = {.layers = &layer,
                                        .layer_count = 1,
                                        .tokens = SIZE_MAX / 2,
                                        .texts = SIZE_MAX / 2,
                                        .rows = SIZE_MAX / 2,
                                        .longest = SIZE_MAX / 2,
                                        .stored = DTYPE_F32,
                                        .slots = 4};
    shape_of(&config, "llama", 3, 4096, 32, 8, 14336, 1000);
    config.hidden = config.intermediate = config.vocabulary = (size_t)1 << 31;
    config.heads = config.kv_heads = (size_t)1 << 20;
    footprint_of_batch(&batch, &config, DTYPE_F32, &limits, true);
    assert_true(batch.activations == UINT64_MAX && batch.keys_values == UINT64_MAX);
    must(footprint_of_config(&footprint, &config, 2, DTYPE_F32, MODEL_QUANTIZE_NONE, &err), &err);
    assert_true(footprint.all_blocks == UINT64_MAX && footprint.most.held == UINT64_MAX);
    footprint_destroy(&footprint);
    model_config_destroy(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_of_seven_billion),
        cmocka_unit_test(blocks_add_up_to_the_model),
        cmocka_unit_test(families_take_what_they_hold),
        cmocka_unit_test(a_batch_is_what_a_device_plans),
        cmocka_unit_test(keys_and_values_are_of_one_block),
        cmocka_unit_test(the_head_takes_what_its_tokens_take),
        cmocka_unit_test(experts_are_expanded_as_a_device_plans),
        cmocka_unit_test(a_state_space_on_a_gpu),
        cmocka_unit_test(the_largest_sizes_stay_at_the_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
