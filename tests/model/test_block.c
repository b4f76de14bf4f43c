// SPDX-License-Identifier: MIT
// The list of a block's matmuls, and what is sized by it, against numbers worked out by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/block.h"
#include "model/weight_table.h"

static unsigned char slides[2] = {0, 1};

// Queries wider than the hidden state, as in Qwen3-0.6B.
static const struct model_config wide = {.layers = 2,
                                         .hidden = 32,
                                         .intermediate = 40,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 16,
                                         .vocabulary = 7,
                                         .attention_bias = true,
                                         .window = 5,
                                         .layer_slides = slides,
                                         .weights = &weight_table_dense};

static const struct model_config narrow = {.layers = 1,
                                           .hidden = 64,
                                           .intermediate = 200,
                                           .heads = 4,
                                           .kv_heads = 1,
                                           .head_dim = 8,
                                           .vocabulary = 7,
                                           .output_bias = true,
                                           .mlp_bias = true,
                                           .layer_slides = slides,
                                           .weights = &weight_table_dense};

static void check_list(const struct model_config *config, const size_t shapes[4][2], const bool bias[4]) {
    static const enum block_step steps[] = {BLOCK_QKV, BLOCK_OUTPUT, BLOCK_GATE_UP, BLOCK_DOWN};
    struct block_matmul list[BLOCK_MATMULS_MOST];
    for (size_t block = 0; block < config->layers; block++) {
        assert_int_equal(block_matmuls(config, block, list), 4);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(list[i].step, steps[i]);
            assert_int_equal(list[i].rows, shapes[i][0]);
            assert_int_equal(list[i].columns, shapes[i][1]);
            assert_int_equal(list[i].has_bias, bias[i]);
            assert_int_equal(list[i].store, i % 2 == 0 ? DEVICE_STORE : DEVICE_ADD);
        }
    }
}

static void matmuls_have_the_shapes_of_the_weights(void **state) {
    (void)state;
    check_list(&wide, (const size_t[4][2]){{128, 32}, {32, 64}, {80, 32}, {32, 40}},
               (const bool[4]){true, false, false, false});
    check_list(&narrow, (const size_t[4][2]){{48, 64}, {64, 32}, {400, 64}, {64, 200}},
               (const bool[4]){false, true, true, true});
}

static void operands_are_those_of_the_block(void **state) {
    (void)state;
    char places[8];
    struct block_buffers buffers = {
        .x = &places[0], .normed = &places[1], .wide = &places[2], .inner = &places[3]};
    struct block_weights weights = {.qkv_bias = &places[4], .down_bias = &places[5]};
    struct block_matmul list[BLOCK_MATMULS_MOST];
    const void *expected[4][4] = {{buffers.wide, buffers.normed, &weights.qkv, weights.qkv_bias},
                                  {buffers.x, buffers.inner, &weights.output, NULL},
                                  {buffers.wide, buffers.normed, &weights.gate_up, NULL},
                                  {buffers.x, buffers.inner, &weights.down, weights.down_bias}};
    size_t count = block_matmuls(&wide, 0, list);
    for (size_t i = 0; i < count; i++) {
        struct block_operands o = block_operands(&list[i], &buffers, &weights);
        assert_ptr_equal(o.out, expected[i][0]);
        assert_ptr_equal(o.in, expected[i][1]);
        assert_ptr_equal(o.matrix, expected[i][2]);
        assert_ptr_equal(o.bias, expected[i][3]);
    }
}

static size_t planned(const struct model_config *config, size_t tokens) {
    struct device *device;
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device_plan plan = {0};
    struct block_buffers buffers;
    struct error err = {0};
    assert_int_equal(device_open(&device, "cpu", &options, &err), STATUS_OK);
    struct layout layout = layout_planning(device, &plan);
    assert_int_equal(block_lay_out_buffers(&layout, &buffers, config, tokens, 1, &err), STATUS_OK);
    device_close(device);
    return plan.bytes[DEVICE_ACTIVATIONS];
}

static void buffers_have_room_for_every_matmul(void **state) {
    (void)state;
    // Tokens that make every piece a multiple of DEVICE_ALIGNMENT: x and normed, q | k | v and queries.
    assert_int_equal(planned(&wide, 64), 64 * sizeof(float) * (32 + 32 + 128 + 64));
    assert_int_equal(planned(&narrow, 64), 64 * sizeof(float) * (64 + 64 + 400 + 200));
}

static void steps_are_of_the_kind_that_runs_them(void **state) {
    (void)state;
    struct block_matmul list[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(&wide, 0, list);
    size_t matmuls = 0;
    for (int step = 0; step < BLOCK_STEPS; step++) {
        bool of_latents = step >= BLOCK_QUERY_DOWN && step <= BLOCK_KEY_PLACE;
        matmuls += !of_latents && block_step_kind((enum block_step)step) == BLOCK_KIND_MATMUL;
    }
    assert_int_equal(matmuls,
                     count + 5); // and those of blocks' own inputs and gates, and of experts' latents
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(block_step_kind(list[i].step), BLOCK_KIND_MATMUL);
    }
    assert_int_equal(block_step_kind(BLOCK_ATTENTION_NORM), BLOCK_KIND_NORM);
    assert_int_equal(block_step_kind(BLOCK_MLP_NORM), BLOCK_KIND_NORM);
    assert_int_equal(block_step_kind(BLOCK_ROPE), BLOCK_KIND_OTHER);
}

static void latents_have_matmuls_of_their_own(void **state) {
    (void)state;
    static const struct {
        enum block_step step;
        size_t rows;
        size_t columns;
    } wanted[] = {{BLOCK_QUERY_DOWN, 12, 32}, {BLOCK_QUERY_UP, 96, 12}, {BLOCK_KEY_DOWN, 28, 32},
                  {BLOCK_KEY_UP, 128, 20},    {BLOCK_OUTPUT, 32, 64},   {BLOCK_GATE_UP, 80, 32},
                  {BLOCK_DOWN, 32, 40}};
    struct block_matmul list[BLOCK_MATMULS_MOST];
    struct model_config latent = wide;
    latent.latent = (struct latent_config){.query = 12, .key = 20, .value = 16};
    latent.heads = latent.kv_heads = 4;
    latent.head_dim = 24;
    latent.unrotated = 16;
    latent.attention_bias = false;
    latent.weights = &weight_table_deepseek_v2;
    size_t count = block_matmuls(&latent, 0, list);
    assert_int_equal(count, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list[i].step, wanted[i].step);
        assert_int_equal(list[i].rows, wanted[i].rows);
        assert_int_equal(list[i].columns, wanted[i].columns);
        assert_int_equal(block_step_kind(list[i].step), BLOCK_KIND_MATMUL);
        assert_false(list[i].has_bias);
    }
    // x and normed, q | k | v, what keys and values come from before their heads, and the two latents.
    assert_int_equal(block_buffer_numbers(&latent), 32 + 32 + 3 * 96 + 128 + 28 + 20);
}

static void attention_is_that_of_the_block(void **state) {
    (void)state;
    assert_int_equal(block_attention(&wide, 0, 9).window, 0);
    assert_int_equal(block_attention(&wide, 1, 9).window, 5);
    assert_true(block_attention(&wide, 1, 9).scale == 0.25f);
    assert_int_equal(block_attention(&wide, 1, 9).longest, 9);
}

static void a_step_that_is_none_is_refused(void **state) {
    (void)state;
    struct block_pass pass = {.config = &wide};
    struct block_weights weights = {0};
    struct error err = {0};
    assert_int_equal(block_run_step(&pass, &weights, 0, BLOCK_STEPS, &err), STATUS_INTERNAL);
    char message[64];
    snprintf(message, sizeof message, "a block has no step %d", (int)BLOCK_STEPS);
    assert_string_equal(err.message, message);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmuls_have_the_shapes_of_the_weights),
        cmocka_unit_test(operands_are_those_of_the_block),
        cmocka_unit_test(buffers_have_room_for_every_matmul),
        cmocka_unit_test(steps_are_of_the_kind_that_runs_them),
        cmocka_unit_test(latents_have_matmuls_of_their_own),
        cmocka_unit_test(attention_is_that_of_the_block),
        cmocka_unit_test(a_step_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
