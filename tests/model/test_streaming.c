// SPDX-License-Identifier: MIT
// Blocks that come into slots: the bits of a model that is resident whatever the group and the number of
// resident blocks, which block is where, what is read of the files and how often, and bytes that are not
// those of the start. pread is this file's own, so that reads can be counted and a disk can stop answering.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/clock.h"
#include "golden.h"
#include "model/streaming.h"

enum { MOST_LAYERS = 8 };

static atomic_llong bytes_read;
static atomic_bool stuck;

ssize_t pread(int descriptor, void *out, size_t size, off_t begin) {
    while (atomic_load(&stuck)) {
        usleep(1000);
    }
    ssize_t got = syscall(SYS_pread64, descriptor, out, size, begin);
    atomic_fetch_add(&bytes_read, got > 0 ? got : 0);
    return got;
}

static int readings; // that were told

static void count_reading(void *context) {
    ++*(int *)context;
}

static const char *test_device(void) {
    const char *name = getenv("STRATA_TEST_DEVICE");
    return name != NULL && *name != 0 ? name : "cpu";
}

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

struct rig {
    struct golden golden;
    struct model *model;
    size_t layers[MOST_LAYERS + 2]; // and pre_norm
};

// A model of which the first `resident` blocks stay, for groups of one batch a text.
static void open_waiting(struct rig *rig, const char *folder, enum model_weights_at at, size_t resident,
                         double timeout) {
    struct golden *golden = &rig->golden;
    struct error err = {0};
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct model_load_options loading = {
        .timeout_seconds = timeout, .reads_again = count_reading, .context = &readings};
    struct model_placement placement = {.at = at, .resident = resident};
    struct device *device;
    struct model_plan plan;
    struct model_resident pieces;
    for (size_t i = 0; i <= golden->layers + 1; i++) {
        rig->layers[i] = i;
    }
    const struct model_limits limits = {.layers = rig->layers,
                                        .layer_count = golden->layers + 2,
                                        .tokens = golden->tokens,
                                        .texts = golden->texts,
                                        .rows = golden->tokens,
                                        .longest = golden->tokens,
                                        .stored = DTYPE_F32,
                                        .slots = golden->texts,
                                        .group = golden->texts};
    must(device_open(&device, test_device(), &options, &err), &err);
    must(model_open(&rig->model, folder, &err), &err);
    must(model_add_device(rig->model, device, test_device(), &err), &err);
    model_set_placement(rig->model, &placement);
    must(model_plan(rig->model, &limits, &plan, &err), &err);
    must(model_reserve(rig->model, &plan, &err), &err);
    must(model_load(rig->model, &limits, &loading, &err), &err);
    must(model_check_resident(rig->model, &pieces, &err), &err);
    must(model_check(rig->model, &err), &err);
    must(model_tune(rig->model, NULL, NULL, &err), &err);
    model_seal(rig->model);
}

static void open_model(struct rig *rig, const char *folder, enum model_weights_at at, size_t resident) {
    open_waiting(rig, folder, at, resident, 0);
}

// `count` texts from `first` on, a batch each, in the slots of their numbers.
static int sweep(struct rig *rig, size_t first, size_t count, struct error *err) {
    struct golden *golden = &rig->golden;
    struct model_batch batches[GOLDEN_TEXTS];
    const struct model_batch *list[GOLDEN_TEXTS] = {0};
    int32_t starts[GOLDEN_TEXTS][2];
    struct device_span *spans;
    spans = calloc(golden->tokens, sizeof spans[0]);
    for (size_t t = 0; t < golden->tokens; t++) {
        spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    for (size_t i = 0; i < count; i++) {
        size_t text = first + i;
        size_t tokens = (size_t)(golden->starts[text + 1] - golden->starts[text]);
        starts[i][0] = 0;
        starts[i][1] = (int32_t)tokens;
        batches[i] = (struct model_batch){.ids = golden->ids + golden->starts[text],
                                          .starts = starts[i],
                                          .spans = spans,
                                          .tokens = tokens,
                                          .texts = 1,
                                          .rows = tokens,
                                          .slot = text};
        list[i] = &batches[i];
    }
    int status = model_sweep(rig->model, 0, list, count, err);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = model_wait(rig->model, first + i, NULL, err);
    }
    free(spans);
    return status;
}

static void same_outputs(struct rig *rig, struct rig *other, size_t first, size_t count) {
    struct golden *golden = &rig->golden;
    for (size_t text = first; text < first + count; text++) {
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

// Sweeps of one batch, of all, and of what is left, several times: the slots come round.
static void the_bits_are_those_of_a_resident_model(void **state) {
    (void)state;
    const char *const names[] = {"qwen3", "llama-dynamic", "mistral-window", "qwen2-layer-types",
                                 "nemotron_h"}; // whose blocks have little in common
    const enum model_weights_at at[] = {MODEL_WEIGHTS_DISK, MODEL_WEIGHTS_HOST};
    struct error err = {0};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct rig whole;
        golden_open(&whole.golden, names[n]);
        size_t layers = whole.golden.layers;
        size_t texts = whole.golden.texts;
        assert_true(layers <= MOST_LAYERS && texts > 2);
        open_model(&whole, whole.golden.folder, MODEL_WEIGHTS_RESIDENT, 0);
        must(sweep(&whole, 0, texts, &err), &err);
        for (size_t i = 0; i < 2 * (layers + 1); i++) {
            struct rig rig = whole;
            open_model(&rig, whole.golden.folder, at[i % 2], i / 2);
            assert_int_equal(model_streamed(rig.model, layers), layers - i / 2);
            for (size_t count = 1; count <= texts; count += texts - 1) {
                for (size_t first = 0; first < texts; first += count) {
                    must(sweep(&rig, first, count, &err), &err);
                    same_outputs(&rig, &whole, first, count);
                }
            }
            must(sweep(&rig, 1, texts - 1, &err), &err);
            same_outputs(&rig, &whole, 1, texts - 1);
            model_close(rig.model);
        }
        model_close(whole.model);
        golden_close(&whole.golden);
    }
}

static bool holds(struct stage *stage, size_t block) {
    const struct weight_slot *slot = weights_slot(&stage->weights, block);
    return slot->holds && slot->block == block;
}

static void blocks_come_in_any_order(void **state) {
    (void)state;
    const size_t order[] = {0, 1, 2, 0, 2, 2, 1, 0, 1};
    struct error err = {0};
    struct rig rig;
    golden_open(&rig.golden, "qwen3");
    assert_int_equal(rig.golden.layers, 3);
    open_model(&rig, rig.golden.folder, MODEL_WEIGHTS_DISK, 0);
    struct stage *stage = &rig.model->stages[0];
    struct device_description device;
    model_describe(rig.model, &device);
    assert_int_equal(stage->weights.slot_count, device.queues ? 2 : 1);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        must(streaming_bring(rig.model, order[i], &err), &err);
        assert_true(holds(stage, order[i]));
        must(streaming_ahead(rig.model, order[i], &err), &err);
        size_t next = (order[i] + 1) % 3;
        assert_int_equal(holds(stage, next), device.queues);
    }
    must(sweep(&rig, 0, 2, &err), &err);
    model_close(rig.model);
    golden_close(&rig.golden);
}

// Blocks for which there are slots stay in them, images take the place of the files: neither is read again.
// Of others every sweep reads.
static void files_are_read_as_often_as_needed(void **state) {
    (void)state;
    struct error err = {0};
    struct rig rig;
    golden_open(&rig.golden, "qwen3");
    for (size_t i = 0; i <= 2 * rig.golden.layers; i++) {
        enum model_weights_at at = i % 2 == 0 ? MODEL_WEIGHTS_DISK : MODEL_WEIGHTS_HOST;
        open_model(&rig, rig.golden.folder, at, i / 2);
        must(sweep(&rig, 0, 2, &err), &err);
        must(sweep(&rig, 0, 2, &err), &err);
        clock_sleep(0.05); // what is read ahead for the next sweep
        long long before = atomic_load(&bytes_read);
        for (int n = 0; n < 3; n++) {
            must(sweep(&rig, 0, 2, &err), &err);
        }
        const struct model_weights *weights = &rig.model->stages[0].weights;
        if (at == MODEL_WEIGHTS_DISK && weights->streamed > weights->slot_count) {
            assert_true(atomic_load(&bytes_read) > before);
        } else if (at == MODEL_WEIGHTS_HOST && weights->slot_count > 1) {
            assert_int_equal(atomic_load(&bytes_read), before);
        }
        model_close(rig.model);
    }
    golden_close(&rig.golden);
}

static void change_byte(const char *folder) {
    char path[GOLDEN_PATH + 32];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    int descriptor = open(path, O_RDWR);
    unsigned char byte;
    assert_true(descriptor >= 0);
    off_t last = lseek(descriptor, -1, SEEK_END);
    assert_int_equal(syscall(SYS_pread64, descriptor, &byte, 1, last), 1);
    byte ^= 1;
    assert_int_equal(pwrite(descriptor, &byte, 1, last), 1);
    close(descriptor);
}

static void a_changed_byte_ends_the_sweep(void **state) {
    (void)state;
    struct error err = {0};
    struct rig rig;
    golden_open(&rig.golden, "qwen3");
    open_model(&rig, rig.golden.folder, MODEL_WEIGHTS_DISK, 0);
    must(sweep(&rig, 0, 2, &err), &err);
    change_byte(rig.golden.folder);
    int status = STATUS_OK;
    for (int n = 0; n < 3 && status == STATUS_OK; n++) { // the next one's blocks may have been read ahead
        status = sweep(&rig, 0, 2, &err);
    }
    assert_int_equal(status, STATUS_DATA);
    assert_non_null(strstr(err.message, "model.safetensors changed while the run was using it"));
    assert_int_equal(sweep(&rig, 0, 2, &err), STATUS_DATA); // nor is it used after that
    model_close(rig.model);
    golden_close(&rig.golden);
}

static void a_disk_that_does_not_answer_is_named(void **state) {
    (void)state;
    struct error err = {0};
    struct rig rig;
    golden_open(&rig.golden, "qwen3");
    open_waiting(&rig, rig.golden.folder, MODEL_WEIGHTS_DISK, 0, 5);
    must(sweep(&rig, 0, 2, &err), &err);
    atomic_store(&stuck, true);
    readings = 0;
    int status = STATUS_OK;
    for (int n = 0; n < 3 && status == STATUS_OK; n++) {
        status = sweep(&rig, 0, 2, &err);
    }
    assert_int_equal(status, STATUS_DEVICE);
    assert_non_null(strstr(err.message, "model.safetensors: no byte for"));
    assert_true(readings > 0);
    atomic_store(&stuck, false);
    must(sweep(&rig, 0, 2, &err), &err);
    model_close(rig.model);
    golden_close(&rig.golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bits_are_those_of_a_resident_model),
        cmocka_unit_test(blocks_come_in_any_order),
        cmocka_unit_test(files_are_read_as_often_as_needed),
        cmocka_unit_test(a_changed_byte_ends_the_sweep),
        cmocka_unit_test(a_disk_that_does_not_answer_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
