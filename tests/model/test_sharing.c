// SPDX-License-Identifier: MIT
// What the devices of a model are called and share: lanes, what is refused, and blocks that go where there is
// room for them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/back_end.h"
#include "kernels/telemetry.h"
#include "several_devices.h"

// ---- names and lanes ----

static void lanes_are_named(void **state) {
    (void)state;
    struct rig rig;
    struct device_description one;
    struct device_description all;
    struct device_sample sample;
    open_waiting(&rig, "qwen3");
    add_devices(rig.model, 3);
    model_describe(rig.model, &all);
    model_describe_device(rig.model, 1, &one);
    assert_string_equal(one.identity, all.identity);
    assert_int_equal(all.memory, 3 * one.memory);
    assert_string_equal(model_device_name(rig.model, 1), "second");
    assert_int_equal(model_lanes(rig.model), 3);
    assert_string_equal(model_lane_name(rig.model, 2), "third");
    assert_int_equal(model_lane_sweeps(rig.model), one.queues ? 2 : 1);
    model_sample(rig.model, 1, &sample);

    model_set_split(rig.model, MODEL_SPLIT_LAYERS);
    assert_int_equal(model_split_of(rig.model), MODEL_SPLIT_LAYERS);
    assert_int_equal(model_lanes(rig.model), 1);
    assert_string_equal(model_lane_name(rig.model, 0), "first to third");
    assert_int_equal(model_lane_sweeps(rig.model), one.queues ? 4 : 1);
    model_sample(rig.model, 0, &sample);

    model_set_split(rig.model, MODEL_SPLIT_BATCHES);
    model_set_placement(rig.model, &(struct model_placement){.at = MODEL_WEIGHTS_DISK});
    assert_int_equal(model_lanes(rig.model), 1);
    assert_string_equal(model_lane_name(rig.model, 0), "first to third");
    close_rig(&rig);
}

static void sweeps_outside_the_limits_are_refused(void **state) {
    (void)state;
    const struct way way = {2, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_RESIDENT, 0, 1};
    struct batches batches;
    struct error err = {0};
    struct rig rig;
    open_way(&rig, "qwen3", &way);
    make_batches(&batches, &rig.golden);
    assert_int_equal(model_sweep(rig.model, 2, batches.list, 1, &err), STATUS_INTERNAL);
    assert_int_equal(model_sweep(rig.model, 1, batches.list, 2, &err), STATUS_INTERNAL);
    assert_int_equal(model_sweep(rig.model, 1, batches.list, 0, &err), STATUS_INTERNAL);
    must(model_sweep(rig.model, 1, batches.list, 1, &err), &err);
    must(model_wait(rig.model, 0, NULL, &err), &err);
    free(batches.spans);
    close_rig(&rig);
}

// ---- algorithms ----

static void algorithms_of(const struct device *device, struct buffer *out) {
    struct error err = {0};
    must(device_algorithms(device, out, &err), &err);
    must(buffer_append(out, "", 1, &err), &err);
}

// A device that had its algorithms named by the first cannot have them named again, which is how the test
// knows.
static void the_first_device_chooses_for_all(void **state) {
    (void)state;
    const struct model_load_options loading = {0};
    struct error err = {0};
    struct model_plan plan;
    struct buffer first = {0};
    struct buffer second = {0};
    struct rig rig;
    open_waiting(&rig, "qwen3");
    add_devices(rig.model, 2);
    must(model_plan(rig.model, &rig.limits, &plan, &err), &err);
    must(model_reserve(rig.model, &plan, &err), &err);
    must(model_load(rig.model, &rig.limits, &loading, &err), &err);
    must(model_tune(rig.model, NULL, NULL, &err), &err);
    algorithms_of(rig.model->stages[0].device, &first);
    algorithms_of(rig.model->stages[1].device, &second);
    assert_string_equal(first.data, second.data);
    assert_int_equal(*first.data != 0, on_gpus());
    assert_int_equal(model_tune(rig.model, NULL, NULL, &err), on_gpus() ? STATUS_INTERNAL : STATUS_OK);
    assert_true(!on_gpus() || strstr(err.message, "second: algorithms were named") != NULL);
    buffer_destroy(&second);
    buffer_destroy(&first);
    close_rig(&rig);
}

// ---- refusals ----

static void unlike_devices_are_refused(void **state) {
    (void)state;
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct error err = {0};
    struct device *other;
    struct rig rig;
    options.cpu_path = on_gpus() ? NULL : "portable";
    must(device_open(&other, "cpu", &options, &err), &err);
    open_waiting(&rig, "qwen3");
    add_devices(rig.model, 1);
    assert_int_equal(model_add_device(rig.model, other, "odd", &err), STATUS_DEVICE);
    assert_non_null(strstr(err.message, "odd is of another kind than first"));
    assert_int_equal(model_devices(rig.model), 1);
    device_close(other);
    must(model_add_device(rig.model, open_device(1), "second", &err), &err);
    close_rig(&rig);
}

static void devices_are_as_many_as_there_is_room_for(void **state) {
    (void)state;
    struct error err = {0};
    struct rig rig;
    open_waiting(&rig, "qwen3");
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        must(model_add_device(rig.model, open_device(i), "any", &err), &err);
    }
    struct device *more = open_device(0);
    assert_int_equal(model_add_device(rig.model, more, "more", &err), STATUS_INTERNAL);
    device_close(more);
    close_rig(&rig);
}

static void a_chain_needs_blocks_that_stay(void **state) {
    (void)state;
    struct error err = {0};
    struct model_plan plan;
    struct rig rig;
    open_waiting(&rig, "qwen3");
    add_devices(rig.model, 3);
    model_set_split(rig.model, MODEL_SPLIT_LAYERS);
    model_set_placement(rig.model, &(struct model_placement){.at = MODEL_WEIGHTS_HOST});
    assert_int_equal(model_plan(rig.model, &rig.limits, &plan, &err), STATUS_JOB);
    assert_non_null(strstr(err.message, "resident"));
    model_set_placement(rig.model, &(struct model_placement){.at = MODEL_WEIGHTS_RESIDENT});
    must(model_plan(rig.model, &rig.limits, &plan, &err), &err);
    assert_int_equal(model_plan_weights(rig.model, 2, &plan, &err), STATUS_JOB);
    assert_non_null(strstr(err.message, "2 for 3 devices"));
    close_rig(&rig);
}

// ---- room ----

// The device says from now on that so much of its memory is free, as it does once its weights have theirs.
static void pretend_free(struct device *device, uint64_t bytes) {
    device->weights_first = true;
    device->available = bytes;
    device->host_available = UINT64_MAX;
}

// The fewest bytes that have room for a plan.
static uint64_t bytes_for(struct device *device, const struct device_plan *plan) {
    struct error ignored;
    uint64_t low = 0;
    uint64_t high = UINT64_C(1) << 32;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        pretend_free(device, middle);
        *(device_check_fits(device, plan, &ignored) == STATUS_OK ? &high : &low) = middle;
    }
    return high;
}

static void blocks_go_where_there_is_room(void **state) {
    (void)state;
    struct error err = {0};
    struct model_plan plan;
    struct model_plan moved;
    struct rig rig;
    open_waiting(&rig, "qwen3");
    add_devices(rig.model, 2);
    struct device *first = rig.model->stages[0].device;
    struct device *second = rig.model->stages[1].device;
    model_set_split(rig.model, MODEL_SPLIT_LAYERS);
    must(model_plan(rig.model, &rig.limits, &plan, &err), &err);
    assert_int_equal(plan.first_block[1], 1);
    assert_int_equal(plan.first_block[2], 3);
    uint64_t enough = UINT64_C(1) << 32;
    uint64_t needed = bytes_for(second, &plan.devices[1]);

    pretend_free(first, enough);
    pretend_free(second, needed);
    must(model_plan(rig.model, &rig.limits, &moved, &err), &err);
    assert_int_equal(moved.first_block[1], 1);
    pretend_free(second, needed - 1);
    must(model_plan(rig.model, &rig.limits, &moved, &err), &err);
    assert_int_equal(moved.first_block[1], 2);
    assert_int_equal(moved.first_block[2], 3);
    assert_true(moved.devices[1].bytes[DEVICE_WEIGHTS] < plan.devices[1].bytes[DEVICE_WEIGHTS]);

    // The other way round, and where nobody has room.
    uint64_t whole = bytes_for(first, &moved.devices[0]);
    pretend_free(first, whole - 1);
    must(model_plan(rig.model, &rig.limits, &moved, &err), &err);
    assert_int_equal(moved.first_block[1], 1);
    pretend_free(first, enough);
    assert_int_equal(model_check_fits(rig.model, &moved, &err), STATUS_DEVICE);
    assert_non_null(strstr(err.message, "second: not enough memory"));
    assert_non_null(strstr(err.message, "; first: weights "));
    assert_non_null(strstr(err.message, ", which fit"));
    close_rig(&rig);
}

// What the others take of the host's memory is taken for each.
static void host_memory_counts_once_for_all(void **state) {
    (void)state;
    struct error err = {0};
    struct model_plan plan;
    struct rig rig;
    open_waiting(&rig, "qwen3");
    add_devices(rig.model, 3);
    must(model_plan(rig.model, &rig.limits, &plan, &err), &err);
    assert_true(plan.devices[0].bytes[DEVICE_STAGING] > 0);
    assert_int_equal(plan.devices[1].bytes[DEVICE_STAGING], 0);
    assert_int_equal(plan.devices[2].bytes[DEVICE_STAGING], 0);
    uint64_t all = HOST_RESERVE;
    for (size_t i = 0; i < 3; i++) {
        size_t bytes;
        must(device_host_bytes(rig.model->stages[i].device, &plan.devices[i], &bytes, &err), &err);
        all += bytes;
    }
    for (size_t i = 0; i < 3; i++) {
        struct device *device = rig.model->stages[i].device;
        pretend_free(device, UINT64_C(1) << 40);
        device->host_available = all;
        if (!device->staging_is_host) {
            device->available = all;
        }
    }
    must(model_check_fits(rig.model, &plan, &err), &err);
    assert_true(model_host_fits(rig.model, &plan));
    struct device *last = rig.model->stages[2].device;
    last->host_available--;
    last->available -= last->staging_is_host ? 0 : 1;
    assert_int_equal(model_check_fits(rig.model, &plan, &err), STATUS_DEVICE);
    assert_non_null(strstr(err.message, "the host, for third and the others: not enough memory"));
    assert_int_equal(model_host_fits(rig.model, &plan), !last->staging_is_host);
    close_rig(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_are_named),
        cmocka_unit_test(sweeps_outside_the_limits_are_refused),
        cmocka_unit_test(the_first_device_chooses_for_all),
        cmocka_unit_test(unlike_devices_are_refused),
        cmocka_unit_test(devices_are_as_many_as_there_is_room_for),
        cmocka_unit_test(a_chain_needs_blocks_that_stay),
        cmocka_unit_test(blocks_go_where_there_is_room),
        cmocka_unit_test(host_memory_counts_once_for_all),
    };
    setenv("CUDA_EMULATION_DEVICES", "3", 0); // read with the first call
    return cmocka_run_group_tests(tests, NULL, NULL);
}
