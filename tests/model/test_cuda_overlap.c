// SPDX-License-Identifier: MIT
// Several GPUs compute at the same time, by the emulation's clocks: each kernel and matmul takes a
// millisecond there, everything else a microsecond, whatever it takes here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/size.h"
#include "golden.h"
#include "model/stage.h"

enum { BATCHES_MOST = 24, BLOCKS = 2 };

static char report[GOLDEN_PATH];

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

// The emulated host's clock when a device was last waited for.
static double host_seconds(void) {
    json_t *json;
    struct error err = {0};
    must(json_parse_file(&json, report, 1 << 20, &err), &err);
    double seconds = json_number_value(json_object_get(json, "host_seconds"));
    json_decref(json);
    return seconds;
}

static struct model *open_model(const struct golden *golden, size_t devices, enum model_split split) {
    static const size_t last[] = {BLOCKS};
    const struct model_limits limits = {.layers = last,
                                        .layer_count = 1,
                                        .tokens = golden->tokens,
                                        .texts = 1,
                                        .rows = 1,
                                        .longest = golden->tokens,
                                        .stored = DTYPE_F32,
                                        .slots = BATCHES_MOST};
    const struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    const struct model_load_options loading = {0};
    struct error err = {0};
    struct model *model;
    struct model_plan plan;
    must(model_open(&model, golden->folder, &err), &err);
    for (size_t i = 0; i < devices; i++) {
        struct device *device;
        char name[32];
        snprintf(name, sizeof name, "cuda:%zu", i);
        must(device_open(&device, name, &options, &err), &err);
        must(model_add_device(model, device, name, &err), &err);
    }
    model_set_split(model, split);
    must(model_plan(model, &limits, &plan, &err), &err);
    must(model_reserve(model, &plan, &err), &err);
    must(model_load(model, &limits, &loading, &err), &err);
    must(model_tune(model, NULL, NULL, &err), &err);
    must(model_check(model, &err), &err);
    model_seal(model);
    return model;
}

// Of so many batches in the lanes in turn, each with as many queued as it should have.
static double seconds_of(struct model *model, const struct golden *golden, size_t count) {
    int32_t starts[2] = {0, golden->starts[1]};
    struct device_span span = {0, golden->starts[1]};
    struct error err = {0};
    size_t ahead = model_lanes(model) * model_lane_sweeps(model);
    double began = host_seconds();
    for (size_t i = 0; i < count + ahead; i++) {
        struct model_batch batch = {.ids = golden->ids,
                                    .starts = starts,
                                    .spans = &span,
                                    .tokens = (size_t)starts[1],
                                    .texts = 1,
                                    .rows = 1,
                                    .slot = i};
        const struct model_batch *list = &batch;
        if (i >= ahead) {
            must(model_wait(model, i - ahead, NULL, &err), &err);
        }
        if (i < count) {
            must(model_sweep(model, i % model_lanes(model), &list, 1, &err), &err);
        }
    }
    return host_seconds() - began;
}

struct paces {
    double some; // seconds of 8 batches, from an idle device to an idle device
    double more; // of 16 more
};

static struct paces measure(const struct golden *golden, size_t devices, enum model_split split) {
    struct model *model = open_model(golden, devices, split);
    struct paces out = {.some = seconds_of(model, golden, 8)};
    out.more = seconds_of(model, golden, 24) - out.some;
    model_close(model);
    return out;
}

static void devices_compute_side_by_side(void **state) {
    (void)state;
    struct golden golden;
    golden_open(&golden, "qwen3");
    assert_true(golden.layers > BLOCKS);
    struct paces one = measure(&golden, 1, MODEL_SPLIT_BATCHES);
    struct paces batches = measure(&golden, 2, MODEL_SPLIT_BATCHES);
    struct paces layers = measure(&golden, 2, MODEL_SPLIT_LAYERS);
    print_message(
        "8 batches: %.1f ms on one device; of two with batches of their own 1 / %.3f, in a chain 1 / %.3f\n"
        "16 more: %.1f ms; 1 / %.3f, 1 / %.3f\n",
        one.some * 1e3, one.some / batches.some, one.some / layers.some, one.more * 1e3,
        one.more / batches.more, one.more / layers.more);
    assert_true(one.some >= 1.9 * batches.some);
    assert_true(one.more >= 1.9 * batches.more);
    // The second device of a chain has nothing to do at first, nor the first in the end: 8 batches take 9
    // turns, 2 * 8 / 9 at best.
    assert_true(one.some >= 1.7 * layers.some);
    assert_true(one.more >= 1.8 * layers.more);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(devices_compute_side_by_side)};
    golden_folder(report);
    char folder[GOLDEN_PATH];
    snprintf(folder, sizeof folder, "%s", report);
    strncat(report, "/report.json", sizeof report - strlen(report) - 1);
    setenv("CUDA_EMULATION_REPORT", report, 1); // all are read with the first call
    setenv("CUDA_EMULATION_DEVICES", "2", 1);
    setenv("CUDA_EMULATION_SLOW", "1:1", 1);
    setenv("CUDA_EMULATION_WORK_MICROSECONDS", "1", 1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    golden_remove(folder);
    return failed;
}
