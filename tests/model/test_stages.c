// SPDX-License-Identifier: MIT
// A model owns its devices, and its blocks can be shared between stages.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden.h"
#include "kernels/telemetry.h"
#include "model/stage.h"

enum { MOST_LAYERS = 8 };

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static struct device *open_cpu(void) {
    struct error err = {0};
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device *device;
    must(device_open(&device, "cpu", &options, &err), &err);
    return device;
}

static void a_model_takes_its_devices_before_its_weights(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    struct model *model;
    struct model_plan plan;
    struct model_load_options loading = {0};
    struct device_description description;
    golden_open(&golden, "qwen3");
    must(model_open(&model, golden.folder, &err), &err);
    assert_int_equal(model_load_weights(model, 1, &loading, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "no device"));
    must(model_add_device(model, open_cpu(), "cpu", &err), &err);

    struct device *second = open_cpu();
    must(model_plan_weights(model, 1, &plan, &err), &err);
    must(model_reserve_weights(model, &plan, &err), &err);
    must(model_load_weights(model, 1, &loading, &err), &err);
    assert_int_equal(model_add_device(model, second, "cpu", &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "already loaded"));

    model_describe(model, &description);
    assert_string_equal(description.kind, "cpu");
    device_close(second); // still the test's
    model_close(model);
    golden_close(&golden);
}

// Of a model on one device: what the device says.
static void a_model_tells_what_its_device_tells(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    struct model *model;
    struct device *device = open_cpu();
    struct device_description description;
    struct device_description own;
    struct device_residency residency;
    struct device_sample sample;
    struct model_plan plan;
    struct model_load_options loading = {0};
    golden_open(&golden, "qwen3");
    must(model_open(&model, golden.folder, &err), &err);
    must(model_add_device(model, device, "cpu", &err), &err);
    must(model_plan_weights(model, 2, &plan, &err), &err);
    must(model_reserve_weights(model, &plan, &err), &err);
    must(model_load_weights(model, 2, &loading, &err), &err);

    model_describe(model, &description);
    device_describe(device, &own);
    assert_string_equal(description.identity, own.identity);
    assert_string_equal(description.reason, own.reason);
    assert_int_equal(description.threads, own.threads);
    assert_int_equal(description.memory, own.memory);
    model_residency(model, 0, &residency);
    assert_int_equal(residency.planned[DEVICE_WEIGHTS], model_plan_bytes(&plan, DEVICE_WEIGHTS));
    assert_int_equal(residency.taken[DEVICE_WEIGHTS], model_plan_bytes(&plan, DEVICE_WEIGHTS));
    model_sample(model, 0, &sample);
    assert_int_equal(sample.xid, DEVICE_UNKNOWN);
    assert_true(model_clock(model) >= 0);
    model_seal(model);
    void *piece;
    assert_int_equal(device_take(device, DEVICE_WEIGHTS, 1, &piece, &err), STATUS_INTERNAL);
    model_close(model);
    golden_close(&golden);
}

// Bytes of the weights of all stages together, and that each block is on one of them, in order.
static size_t shared_bytes(const struct model *model, size_t last) {
    struct device_plan plan = {0};
    struct error err = {0};
    size_t first_block[MODEL_DEVICES + 1];
    size_t count = model_devices(model);
    size_t next = 0;
    must(shares_choose(model, last, NULL, first_block, &err), &err);
    for (size_t i = 0; i < count; i++) {
        struct model_weights weights;
        struct layout layout = layout_planning(model->stages[i].device, &plan);
        must(stage_share(&weights, model, last, first_block, i, &err), &err);
        assert_int_equal(weights.first_block, next);
        assert_in_range(weights.block_count, last / count, (last + count - 1) / count);
        assert_int_equal(weights.has_embedding, i == 0);
        assert_int_equal(weights.has_final_norm, i + 1 == count && last == model->config.layers);
        next += weights.block_count;
        must(weights_lay_out(&layout, &weights, &model->config, &err), &err);
        free(weights.blocks);
    }
    assert_int_equal(next, last);
    return plan.bytes[DEVICE_WEIGHTS];
}

static void stages_share_the_blocks_between_them(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    struct model *model;
    size_t whole[MOST_LAYERS + 1];
    golden_open(&golden, "qwen3");
    assert_true(golden.layers <= MOST_LAYERS);
    must(model_open(&model, golden.folder, &err), &err);
    model_set_split(model, MODEL_SPLIT_LAYERS);
    for (size_t count = 1; count <= golden.layers; count++) {
        must(model_add_device(model, open_cpu(), "cpu", &err), &err);
        for (size_t last = count; last <= golden.layers; last++) {
            whole[last] = count == 1 ? shared_bytes(model, last) : whole[last];
            assert_int_equal(shared_bytes(model, last), whole[last]);
        }
    }
    model_close(model);
    golden_close(&golden);
}

// All of a plan but staging is in exactly one of its two parts.
static void check_parts(const struct model_plan *plan) {
    const struct model_plan nothing = model_plan_part(plan, false, false);
    const struct model_plan weights = model_plan_part(plan, true, false);
    const struct model_plan batch = model_plan_part(plan, false, true);
    const struct model_plan both = model_plan_part(plan, true, true);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        size_t bytes = p == DEVICE_STAGING ? 0 : model_plan_bytes(plan, p);
        assert_int_equal(model_plan_bytes(&nothing, p), 0);
        assert_int_equal(model_plan_bytes(&weights, p), p == DEVICE_WEIGHTS ? bytes : 0);
        assert_int_equal(model_plan_bytes(&batch, p), p == DEVICE_WEIGHTS ? 0 : bytes);
        assert_int_equal(model_plan_bytes(&both, p), bytes);
    }
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        const struct device_plan *device = &plan->devices[i];
        assert_int_equal(nothing.devices[i].tokens, device->tokens);
        assert_int_equal(weights.devices[i].tokens, device->tokens);
        assert_int_equal(batch.devices[i].tokens, device->tokens);
        assert_int_equal(both.devices[i].tokens, device->tokens);
        // Scratch that is reserved on top of the planned one.
        assert_int_equal(nothing.devices[i].expansion, 0);
        assert_int_equal(weights.devices[i].expansion, 0);
        assert_int_equal(batch.devices[i].expansion, device->expansion);
        assert_int_equal(both.devices[i].expansion, device->expansion);
        // What lies beside the arenas is read ahead of weights.
        assert_int_equal(nothing.devices[i].beside, 0);
        assert_int_equal(batch.devices[i].beside, 0);
        assert_int_equal(weights.devices[i].beside, device->beside);
        assert_int_equal(both.devices[i].beside, device->beside);
    }
}

static void parts_of_a_plan_add_up(void **state) {
    (void)state;
    struct golden golden;
    struct error err = {0};
    struct model *model;
    struct model_plan plan = {0};
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        plan.devices[i] = (struct device_plan){.bytes = {[DEVICE_WEIGHTS] = 1000 + i,
                                                         [DEVICE_ACTIVATIONS] = 200 + i,
                                                         [DEVICE_SCRATCH] = 30 + i,
                                                         [DEVICE_STAGING] = 4 + i},
                                               .tokens = 50 + i,
                                               .expansion = 6 + i,
                                               .beside = 70 + i};
    }
    check_parts(&plan);
    size_t scratch = 0;
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        scratch += plan.devices[i].bytes[DEVICE_SCRATCH] + plan.devices[i].expansion;
    }
    assert_int_equal(model_plan_bytes(&plan, DEVICE_SCRATCH), scratch);

    golden_open(&golden, "qwen3");
    must(model_open(&model, golden.folder, &err), &err);
    must(model_add_device(model, open_cpu(), "cpu", &err), &err);
    const size_t layers[] = {1, golden.layers};
    const struct model_limits limits = {.layers = layers,
                                        .layer_count = 2,
                                        .tokens = golden.tokens,
                                        .texts = golden.texts,
                                        .rows = golden.tokens,
                                        .longest = golden.tokens,
                                        .stored = DTYPE_F32,
                                        .slots = 2};
    must(model_plan(model, &limits, &plan, &err), &err);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        assert_true(model_plan_bytes(&plan, p) > 0);
    }
    check_parts(&plan);
    model_close(model);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_takes_its_devices_before_its_weights),
        cmocka_unit_test(a_model_tells_what_its_device_tells),
        cmocka_unit_test(stages_share_the_blocks_between_them),
        cmocka_unit_test(parts_of_a_plan_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
