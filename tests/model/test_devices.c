// A model on several devices: the bits of one device, whether each has all blocks or some of them; files that
// are read once for all; what is refused, and shares that follow the room that there is. On one GPU, which a
// machine may have no more of, a model's devices are that one, opened several times.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/size.h"
#include "golden.h"
#include "kernels/back_end.h"
#include "kernels/telemetry.h"
#include "model/stage.h"

enum { MOST_LAYERS = 8 };

static atomic_llong bytes_read;

ssize_t pread(int descriptor, void *out, size_t size, off_t begin) {
    ssize_t got = syscall(SYS_pread64, descriptor, out, size, begin);
    atomic_fetch_add(&bytes_read, got > 0 ? got : 0);
    return got;
}

static bool on_gpus(void) {
    const char *name = getenv("STRATA_TEST_DEVICE");
    return name != NULL && strncmp(name, "cuda", 4) == 0;
}

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static void name_of(size_t index, char *out, size_t size) {
    struct error why;
    if (on_gpus()) {
        snprintf(out, size, "cuda:%zu", index % size_max(device_gpus(&why), 1));
    } else {
        snprintf(out, size, "cpu");
    }
}

static struct device *open_device(size_t index) {
    struct error err = {0};
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device *device;
    char name[32];
    name_of(index, name, sizeof name);
    must(device_open(&device, name, &options, &err), &err);
    return device;
}

static const char *const names[MODEL_DEVICES] = {"first", "second", "third", "fourth"};

static void add_devices(struct model *model, size_t count) {
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
    size_t layers[MOST_LAYERS + 1];
};

static void open_waiting(struct rig *rig, const char *golden) {
    struct error err = {0};
    golden_open(&rig->golden, golden);
    assert_true(rig->golden.layers <= MOST_LAYERS && rig->golden.texts > 2);
    for (size_t i = 0; i <= rig->golden.layers; i++) {
        rig->layers[i] = i;
    }
    rig->limits = (struct model_limits){.layers = rig->layers,
                                        .layer_count = rig->golden.layers + 1,
                                        .tokens = rig->golden.tokens,
                                        .texts = rig->golden.texts,
                                        .rows = rig->golden.tokens,
                                        .longest = rig->golden.tokens,
                                        .stored = DTYPE_F32,
                                        .slots = rig->golden.texts};
    must(model_open(&rig->model, rig->golden.folder, &err), &err);
}

static void load(struct rig *rig) {
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

static void open_way(struct rig *rig, const char *golden, const struct way *way) {
    const struct model_placement placement = {.at = way->at, .resident = way->resident};
    open_waiting(rig, golden);
    add_devices(rig->model, way->devices);
    model_set_split(rig->model, way->split);
    model_set_placement(rig->model, &placement);
    rig->limits.group = way->group;
    load(rig);
}

static void close_rig(struct rig *rig) {
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

static void make_batches(struct batches *out, const struct golden *golden) {
    out->spans = calloc(golden->tokens, sizeof out->spans[0]);
    for (size_t t = 0; t < golden->tokens; t++) {
        out->spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    for (size_t i = 0; i < golden->texts; i++) {
        size_t tokens = (size_t)(golden->starts[i + 1] - golden->starts[i]);
        out->starts[i][0] = 0;
        out->starts[i][1] = (int32_t)tokens;
        out->batches[i] = (struct model_batch){
            golden->ids + golden->starts[i], out->starts[i], out->spans, tokens, 1, tokens, i};
        out->list[i] = &out->batches[i];
    }
}

// All texts, in sweeps of `count` that the lanes take in turn, and as many of them queued as a lane may have.
static void run(struct rig *rig, size_t count) {
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

static void same_outputs(const struct rig *rig, const struct rig *other) {
    const struct golden *golden = &rig->golden;
    for (size_t text = 0; text < golden->texts; text++) {
        struct model_output found;
        struct model_output wanted;
        size_t tokens = (size_t)(golden->starts[text + 1] - golden->starts[text]);
        model_outputs(rig->model, text, &found);
        model_outputs(other->model, text, &wanted);
        for (size_t layer = 0; layer <= golden->layers; layer++) {
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
    assert_non_null(strstr(err.message, "third: not enough memory"));
    assert_int_equal(model_host_fits(rig.model, &plan), !last->staging_is_host);
    close_rig(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bits_are_those_of_one_device),
        cmocka_unit_test(images_are_shared),
        cmocka_unit_test(a_sweep_reads_each_block_once),
        cmocka_unit_test(lanes_are_named),
        cmocka_unit_test(sweeps_outside_the_limits_are_refused),
        cmocka_unit_test(unlike_devices_are_refused),
        cmocka_unit_test(devices_are_as_many_as_there_is_room_for),
        cmocka_unit_test(a_chain_needs_blocks_that_stay),
        cmocka_unit_test(blocks_go_where_there_is_room),
        cmocka_unit_test(host_memory_counts_once_for_all),
    };
    setenv("CUDA_EMULATION_DEVICES", "3", 0); // read with the first call
    return cmocka_run_group_tests(tests, NULL, NULL);
}
