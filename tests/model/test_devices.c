// SPDX-License-Identifier: MIT
// A model on several devices: the bits of one device, whether each has all blocks or some of them, whole
// texts and texts in slices; files that are read once for all.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernels/shapes.h"
#include "several_devices.h"

static atomic_llong bytes_read;

ssize_t pread(int descriptor, void *out, size_t size, off_t begin) {
    ssize_t got = syscall(SYS_pread64, descriptor, out, size, begin);
    atomic_fetch_add(&bytes_read, got > 0 ? got : 0);
    return got;
}

static void same_outputs(const struct rig *rig, const struct rig *other) {
    const struct golden *golden = &rig->golden;
    for (size_t text = 0; text < golden->texts; text++) {
        struct model_output found;
        struct model_output wanted;
        size_t tokens = (size_t)(golden->starts[text + 1] - golden->starts[text]);
        model_outputs(rig->model, text, &found);
        model_outputs(other->model, text, &wanted);
        for (size_t layer = 0; layer <= golden->layers + 1; layer++) {
            assert_memory_equal(found.rows[layer], wanted.rows[layer],
                                tokens * golden->hidden * sizeof(float));
        }
    }
}

static const struct way ways[] = {
    {2, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_RESIDENT, 0, 1},
    {3, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_RESIDENT, 0, 2},
    {1, MODEL_SPLIT_LAYERS, MODEL_WEIGHTS_RESIDENT, 0, 1},
    {2, MODEL_SPLIT_LAYERS, MODEL_WEIGHTS_RESIDENT, 0, 1},
    {3, MODEL_SPLIT_LAYERS, MODEL_WEIGHTS_RESIDENT, 0, 1},
    {2, MODEL_SPLIT_LAYERS, MODEL_WEIGHTS_RESIDENT, 0, 3},
    {2, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_DISK, 0, 1},
    {2, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_DISK, 1, 2},
    {2, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_HOST, 0, 2},
    {3, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_HOST, 2, 1},
};

// What a way is like, what it reads, and its outputs with full sweeps and with sweeps of one batch, which
// come round in every turn of buffers.
static void check_way(const struct rig *whole, long long whole_bytes, const char *golden,
                      const struct way *way) {
    struct rig rig;
    long long before = atomic_load(&bytes_read);
    open_way(&rig, golden, way);
    bool together = way->split == MODEL_SPLIT_LAYERS || way->at != MODEL_WEIGHTS_RESIDENT;
    size_t batches = way->at == MODEL_WEIGHTS_RESIDENT ? way->group : way->group * way->devices;
    assert_int_equal(model_devices(rig.model), way->devices);
    assert_int_equal(model_lanes(rig.model), together ? 1 : way->devices);
    assert_int_equal(model_sweep_batches(rig.model), batches);
    if (way->at == MODEL_WEIGHTS_RESIDENT) { // once for all devices
        assert_int_equal(atomic_load(&bytes_read) - before, whole_bytes);
    }
    run(&rig, size_min(batches, rig.golden.texts));
    same_outputs(&rig, whole);
    run(&rig, 1);
    same_outputs(&rig, whole);
    close_rig(&rig);
}

static void check_ways(const char *golden, size_t first, size_t count) {
    const struct way one = {1, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_RESIDENT, 0, 1};
    struct rig whole;
    long long before = atomic_load(&bytes_read);
    open_way(&whole, golden, &one);
    long long bytes = atomic_load(&bytes_read) - before;
    assert_true(bytes > 0);
    run(&whole, 1);
    for (size_t w = first; w < first + count; w++) {
        check_way(&whole, bytes, golden, &ways[w]);
    }
    close_rig(&whole);
}

static void the_bits_are_those_of_one_device(void **state) {
    (void)state;
    check_ways("llama-dynamic", 0, sizeof ways / sizeof ways[0]); // batches bring rotary rows along
    check_ways("qwen3", 0, 2);
    check_ways("mistral-window", 3, 1);
    check_ways("gemma4-inputs", 4, 2); // which hands more on than residual streams
    check_ways("nemotron_h-latent", 4, 2);
}

// ---- texts in slices ----

enum { LONG_TEXTS = 3, LONGEST = 2 * DEVICE_SLICE + 16 };

struct long_texts {
    struct model_batch batches[LONG_TEXTS];
    const struct model_batch *list[LONG_TEXTS];
    int32_t ids[LONGEST];
    int32_t starts[LONG_TEXTS][2];
    struct device_span spans[LONG_TEXTS];
};

// Of three slices, of one, and of two; a mean of each.
static void make_long_texts(struct long_texts *out, const struct golden *golden) {
    static const int32_t tokens[LONG_TEXTS] = {LONGEST, 50, DEVICE_SLICE + 1};
    json_t *config = json_object_get(golden->json, "config");
    size_t vocabulary = (size_t)json_integer_value(json_object_get(config, "vocab_size"));
    uint64_t seed = 7;
    for (size_t t = 0; t < LONGEST; t++) {
        out->ids[t] = (int32_t)random_below(&seed, vocabulary);
    }
    for (size_t i = 0; i < LONG_TEXTS; i++) {
        out->starts[i][0] = 0;
        out->starts[i][1] = tokens[i];
        out->spans[i] = (struct device_span){0, tokens[i]};
        out->batches[i] = (struct model_batch){.ids = out->ids,
                                               .starts = out->starts[i],
                                               .spans = &out->spans[i],
                                               .tokens = (size_t)tokens[i],
                                               .texts = 1,
                                               .rows = 1,
                                               .slot = i};
        out->list[i] = &out->batches[i];
    }
}

static void open_for_long_texts(struct rig *rig, const struct way *way) {
    const struct model_placement placement = {.at = way->at, .resident = way->resident};
    open_waiting(rig, "llama-dynamic");
    add_devices(rig->model, way->devices);
    model_set_split(rig->model, way->split);
    model_set_placement(rig->model, &placement);
    rig->limits.tokens = DEVICE_SLICE;
    rig->limits.longest = LONGEST;
    rig->limits.rows = 1;
    rig->limits.slots = LONG_TEXTS;
    assert_true(model_limits_slice(&rig->limits));
    load(rig);
}

// In sweeps as large as they may be.
static void run_long_texts(struct rig *rig) {
    struct long_texts texts;
    struct error err = {0};
    size_t count;
    make_long_texts(&texts, &rig->golden);
    for (size_t first = 0; first < LONG_TEXTS; first += count) {
        count = 1;
        while (first + count < LONG_TEXTS && model_sweep_holds(rig->model, texts.list + first, count + 1)) {
            count++;
        }
        must(model_sweep(rig->model, 0, texts.list + first, count, &err), &err);
    }
    for (size_t i = 0; i < LONG_TEXTS; i++) {
        must(model_wait(rig->model, i, NULL, &err), &err);
    }
    for (size_t layer = 0; layer <= rig->golden.layers + 1; layer++) {
        struct model_output output;
        model_outputs(rig->model, 0, &output);
        assert_int_equal(output.checks[layer][0].not_finite, 0);
    }
}

static void long_texts_have_the_bits_of_one_device(void **state) {
    (void)state;
    const struct way one = {1, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_RESIDENT, 0, 1};
    const struct way others[] = {{2, MODEL_SPLIT_LAYERS, MODEL_WEIGHTS_RESIDENT, 0, 1},
                                 {2, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_DISK, 0, 1}};
    struct rig whole;
    open_for_long_texts(&whole, &one);
    run_long_texts(&whole);
    for (size_t w = 0; w < sizeof others / sizeof others[0]; w++) {
        struct long_texts texts;
        struct rig rig;
        open_for_long_texts(&rig, &others[w]);
        make_long_texts(&texts, &rig.golden);
        // All three are on two devices that compute them side by side, or one at a time.
        assert_int_equal(model_sweep_holds(rig.model, texts.list, LONG_TEXTS),
                         others[w].split == MODEL_SPLIT_BATCHES);
        run_long_texts(&rig);
        for (size_t text = 0; text < LONG_TEXTS; text++) {
            struct model_output found;
            struct model_output wanted;
            model_outputs(rig.model, text, &found);
            model_outputs(whole.model, text, &wanted);
            for (size_t layer = 0; layer <= rig.golden.layers + 1; layer++) {
                assert_memory_equal(found.rows[layer], wanted.rows[layer], rig.golden.hidden * sizeof(float));
            }
        }
        close_rig(&rig);
    }
    close_rig(&whole);
}

// ---- reading ----

// Blocks that the first sweep leaves in host memory are read for it, once for all devices.
static void images_are_shared(void **state) {
    (void)state;
    long long bytes[3];
    for (size_t devices = 1; devices <= 3; devices++) {
        const struct way way = {devices, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_HOST, 1, 1};
        struct rig rig;
        long long before = atomic_load(&bytes_read);
        open_way(&rig, "qwen3", &way);
        run(&rig, 1);
        run(&rig, devices);
        bytes[devices - 1] = atomic_load(&bytes_read) - before;
        assert_int_equal(bytes[devices - 1], bytes[0]);
        close_rig(&rig);
    }
}

// One sweep of as many batches as there are devices reads what a sweep of one batch does.
static void a_sweep_reads_each_block_once(void **state) {
    (void)state;
    struct error err = {0};
    for (size_t devices = 1; devices <= 3; devices++) {
        const struct way way = {devices, MODEL_SPLIT_BATCHES, MODEL_WEIGHTS_DISK, 0, 1};
        struct batches batches;
        struct rig rig;
        long long expected = 0;
        open_way(&rig, "qwen3", &way);
        make_batches(&batches, &rig.golden);
        for (size_t count = 1; count <= devices; count++) {
            must(model_sweep(rig.model, 0, batches.list, count, &err), &err); // whatever was read ahead
            must(model_wait(rig.model, 0, NULL, &err), &err);
            clock_sleep(0.1);
            long long before = atomic_load(&bytes_read);
            must(model_sweep(rig.model, 0, batches.list, count, &err), &err);
            must(model_wait(rig.model, 0, NULL, &err), &err);
            clock_sleep(0.1);
            long long bytes = atomic_load(&bytes_read) - before;
            assert_true(bytes > 0 && (count == 1 || bytes == expected));
            expected = bytes;
        }
        free(batches.spans);
        close_rig(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bits_are_those_of_one_device),
        cmocka_unit_test(long_texts_have_the_bits_of_one_device),
        cmocka_unit_test(images_are_shared),
        cmocka_unit_test(a_sweep_reads_each_block_once),
    };
    setenv("CUDA_EMULATION_DEVICES", "3", 0); // read with the first call
    return cmocka_run_group_tests(tests, NULL, NULL);
}
