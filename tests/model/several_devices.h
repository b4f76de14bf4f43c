// SPDX-License-Identifier: MIT
// A model on several devices, for the tests of it. On one GPU, which a machine may have no more of, its
// devices are that one, opened several times.
#ifndef STRATA_TESTS_MODEL_SEVERAL_DEVICES_H
#define STRATA_TESTS_MODEL_SEVERAL_DEVICES_H

#include "base/size.h"
#include "golden.h"
#include "model/stage.h"

enum { MOST_LAYERS = 8 };

static inline bool on_gpus(void) {
    const char *name = getenv("STRATA_TEST_DEVICE");
    return name != NULL && strncmp(name, "cuda", 4) == 0;
}

static inline void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static inline void name_of(size_t index, char *out, size_t size) {
    struct error why;
    if (on_gpus()) {
        snprintf(out, size, "cuda:%zu", index % size_max(device_gpus(&why), 1));
    } else {
        snprintf(out, size, "cpu");
    }
}

static inline struct device *open_device(size_t index) {
    struct error err = {0};
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device *device;
    char name[32];
    name_of(index, name, sizeof name);
    must(device_open(&device, name, &options, &err), &err);
    return device;
}

static const char *const names[MODEL_DEVICES] = {"first", "second", "third", "fourth"};

static inline void add_devices(struct model *model, size_t count) {
    struct error err = {0};
    for (size_t i = 0; i < count; i++) {
        must(model_add_device(model, open_device(i), names[i], &err), &err);
    }
}

struct way {
    size_t devices;
    enum model_split split;
    enum model_weights_at at;
    size_t resident;
    size_t group;
};

struct rig {
    struct golden golden;
    struct model *model;
    struct model_limits limits;
    size_t layers[MOST_LAYERS + 2]; // and pre_norm
};

static inline void open_waiting(struct rig *rig, const char *golden) {
    struct error err = {0};
    golden_open(&rig->golden, golden);
    assert_true(rig->golden.layers <= MOST_LAYERS && rig->golden.texts > 2);
    for (size_t i = 0; i <= rig->golden.layers + 1; i++) {
        rig->layers[i] = i;
    }
    rig->limits = (struct model_limits){.layers = rig->layers,
                                        .layer_count = rig->golden.layers + 2,
                                        .tokens = rig->golden.tokens,
                                        .texts = rig->golden.texts,
                                        .rows = rig->golden.tokens,
                                        .longest = rig->golden.tokens,
                                        .stored = DTYPE_F32,
                                        .slots = rig->golden.texts};
    must(model_open(&rig->model, rig->golden.folder, &err), &err);
}

static inline void load(struct rig *rig) {
    const struct model_load_options loading = {0};
    struct error err = {0};
    struct model_plan plan;
    struct model_resident pieces;
    must(model_plan(rig->model, &rig->limits, &plan, &err), &err);
    must(model_check_fits(rig->model, &plan, &err), &err);
    must(model_check_matmuls(rig->model, &rig->limits, &err), &err);
    must(model_reserve(rig->model, &plan, &err), &err);
    must(model_load(rig->model, &rig->limits, &loading, &err), &err);
    must(model_tune(rig->model, NULL, NULL, &err), &err);
    must(model_check(rig->model, &err), &err);
    must(model_check_resident(rig->model, &pieces, &err), &err);
    model_seal(rig->model);
    for (size_t i = 0; i < model_devices(rig->model); i++) {
        struct device_residency residency;
        model_residency(rig->model, i, &residency);
        assert_int_equal(residency.taken[DEVICE_WEIGHTS], residency.planned[DEVICE_WEIGHTS]);
    }
}

static inline void open_way(struct rig *rig, const char *golden, const struct way *way) {
    const struct model_placement placement = {.at = way->at, .resident = way->resident};
    open_waiting(rig, golden);
    add_devices(rig->model, way->devices);
    model_set_split(rig->model, way->split);
    model_set_placement(rig->model, &placement);
    rig->limits.group = way->group;
    load(rig);
}

static inline void close_rig(struct rig *rig) {
    model_close(rig->model);
    golden_close(&rig->golden);
}

// ---- batches: a text each, in the slot of its number ----

struct batches {
    struct model_batch batches[GOLDEN_TEXTS];
    const struct model_batch *list[GOLDEN_TEXTS];
    int32_t starts[GOLDEN_TEXTS][2];
    struct device_span *spans;
};

static inline void make_batches(struct batches *out, const struct golden *golden) {
    out->spans = calloc(golden->tokens, sizeof out->spans[0]);
    for (size_t t = 0; t < golden->tokens; t++) {
        out->spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    for (size_t i = 0; i < golden->texts; i++) {
        size_t tokens = (size_t)(golden->starts[i + 1] - golden->starts[i]);
        out->starts[i][0] = 0;
        out->starts[i][1] = (int32_t)tokens;
        out->batches[i] = (struct model_batch){.ids = golden->ids + golden->starts[i],
                                               .starts = out->starts[i],
                                               .spans = out->spans,
                                               .tokens = tokens,
                                               .texts = 1,
                                               .rows = tokens,
                                               .slot = i};
        out->list[i] = &out->batches[i];
    }
}

// All texts, in sweeps of `count` that the lanes take in turn, and as many of them queued as a lane may have.
static inline void run(struct rig *rig, size_t count) {
    struct batches batches;
    struct error err = {0};
    size_t lane = 0;
    size_t texts = rig->golden.texts;
    make_batches(&batches, &rig->golden);
    for (size_t first = 0; first < texts; first += count) {
        must(model_sweep(rig->model, lane, batches.list + first, size_min(count, texts - first), &err), &err);
        lane = (lane + 1) % model_lanes(rig->model);
    }
    for (size_t i = 0; i < texts; i++) {
        struct device_times times;
        bool reached;
        must(model_wait(rig->model, i, &times, &err), &err);
        assert_true(times.compute_seconds >= 0 && times.upload_seconds >= 0);
        must(model_reached(rig->model, i, &reached, &err), &err);
        assert_true(reached);
    }
    free(batches.spans);
}

#endif
