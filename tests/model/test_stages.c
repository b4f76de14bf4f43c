// A model owns its devices, and its blocks can be shared between stages.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden.h"
#include "kernels/telemetry.h"
#include "model/stage.h"

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
    must(model_add_device(model, open_cpu(), &err), &err);

    struct device *second = open_cpu();
    assert_int_equal(model_add_device(model, second, &err), STATUS_INTERNAL);
    must(model_plan_weights(model, 1, &plan, &err), &err);
    must(model_reserve_weights(model, &plan, &err), &err);
    must(model_load_weights(model, 1, &loading, &err), &err);
    assert_int_equal(model_add_device(model, second, &err), STATUS_INTERNAL);
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
    must(model_add_device(model, device, &err), &err);
    must(model_plan_weights(model, 2, &plan, &err), &err);
    must(model_reserve_weights(model, &plan, &err), &err);
    must(model_load_weights(model, 2, &loading, &err), &err);

    model_describe(model, &description);
    device_describe(device, &own);
    assert_string_equal(description.identity, own.identity);
    assert_string_equal(description.reason, own.reason);
    assert_int_equal(description.threads, own.threads);
    assert_int_equal(description.memory, own.memory);
    model_residency(model, &residency);
    assert_int_equal(residency.planned[DEVICE_WEIGHTS], model_plan_bytes(&plan, DEVICE_WEIGHTS));
    assert_int_equal(residency.taken[DEVICE_WEIGHTS], model_plan_bytes(&plan, DEVICE_WEIGHTS));
    model_sample(model, &sample);
    assert_int_equal(sample.xid, DEVICE_UNKNOWN);
    assert_true(model_clock(model) >= 0);
    model_seal(model);
    void *piece;
    assert_int_equal(device_take(device, DEVICE_WEIGHTS, 1, &piece, &err), STATUS_INTERNAL);
    model_close(model);
    golden_close(&golden);
}

// Bytes of the weights of all stages together, and that each block is on one of them, in order.
static size_t shared_bytes(const struct model *model, const struct device *device, size_t last,
                           size_t count) {
    struct device_plan plan = {0};
    struct error err = {0};
    size_t next = 0;
    for (size_t i = 0; i < count; i++) {
        struct model_weights weights;
        struct layout layout = layout_planning(device, &plan);
        must(stage_share(&weights, &model->config, last, i, count, &err), &err);
        assert_int_equal(weights.first_block, next);
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
    struct device *device = open_cpu();
    golden_open(&golden, "qwen3");
    must(model_open(&model, golden.folder, &err), &err);
    for (size_t last = 0; last <= golden.layers; last++) {
        size_t whole = shared_bytes(model, device, last, 1);
        for (size_t count = 2; count <= golden.layers + 2; count++) {
            assert_int_equal(shared_bytes(model, device, last, count), whole);
        }
    }
    model_close(model);
    device_close(device);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_takes_its_devices_before_its_weights),
        cmocka_unit_test(a_model_tells_what_its_device_tells),
        cmocka_unit_test(stages_share_the_blocks_between_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
