// SPDX-License-Identifier: MIT
// Several GPUs in one process: what a transfer waits for and what waits for it, its time, and messages that
// name the GPU. The emulation does queued work late and in an order that chance picks, so an order that a
// transfer leaves out goes wrong within a few seeds.
#include "cuda_testing.h"

enum { NUMBERS = 512, ROUNDS = 12, SEEDS = 12 };

struct pair { // numbers go from the first GPU to the second
    struct rig *from;
    struct rig to;
    float *source; // [NUMBERS] on the first
    float *place;  // [NUMBERS] on the second
    float *out;    // [NUMBERS] on the second
    int32_t *row;  // 0, on the second
};

static void *take(struct rig *rig, enum device_purpose purpose, size_t bytes) {
    return rig_take(rig, purpose, bytes);
}

static struct pair pair_open(struct rig *rig) {
    struct pair p = {.from = rig};
    rig_open_on(rig, "cuda:0", DTYPE_F32);
    rig_reserve(rig);
    p.source = take(rig, DEVICE_ACTIVATIONS, NUMBERS * sizeof *p.source);
    rig_open_on(&p.to, "cuda:1", DTYPE_F32);
    rig_reserve(&p.to);
    rig = &p.to;
    p.place = take(rig, DEVICE_ACTIVATIONS, NUMBERS * sizeof *p.place);
    p.out = take(rig, DEVICE_ACTIVATIONS, NUMBERS * sizeof *p.out);
    p.row = take(rig, DEVICE_ACTIVATIONS, sizeof *p.row);
    int32_t *staged = take(rig, DEVICE_STAGING, sizeof *staged);
    *staged = 0;
    MUST(device_upload(rig->device, p.row, staged, sizeof *staged, &rig->error));
    rig_finish(rig);
    return p;
}

// The first device is closed by its child.
static void pair_close(struct pair *p) {
    rig_finish(p->from);
    rig_finish(&p->to);
    device_close(p->to.device);
}

static float *numbers(struct rig *rig, float value) {
    float *out = take(rig, DEVICE_STAGING, NUMBERS * sizeof *out);
    for (size_t i = 0; i < NUMBERS; i++) {
        out[i] = value;
    }
    return out;
}

static void put(struct pair *p, float value) {
    struct rig *rig = p->from;
    MUST(device_upload(rig->device, p->source, numbers(rig, value), NUMBERS * sizeof(float), &rig->error));
}

static void transfer(struct pair *p, const struct device_fence *after) {
    struct rig *rig = p->from;
    MUST(device_transfer(p->to.device, p->place, rig->device, p->source, NUMBERS * sizeof(float), after,
                         &rig->error));
}

static void require_all(const float *got, float value) {
    for (size_t i = 0; i < NUMBERS; i++) {
        REQUIRE(got[i] == value);
    }
}

// Reads the place by an operation. The staging memory is the other GPU's.
static float *copied_out(struct pair *p) {
    struct rig *rig = &p->to;
    float *got = numbers(p->from, -1);
    MUST(device_embed(rig->device, p->out, p->place, p->row, 1, DEVICE_STORE, 1, NUMBERS, &rig->error));
    MUST(device_download(rig->device, got, p->out, NUMBERS * sizeof *got, &rig->error));
    return got;
}

// Every round overwrites the source while it may still be read, and the place, behind the fence of the
// operation that read it.
static void relay(struct pair *p) {
    struct rig *rig = p->from;
    float *got[ROUNDS];
    struct device_fence fences[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        put(p, (float)round);
        transfer(p, round > 0 ? &fences[round - 1] : NULL);
        got[round] = copied_out(p);
        rig = &p->to;
        MUST(device_fence(rig->device, &fences[round], &rig->error));
    }
    rig_finish(&p->to);
    for (int round = 0; round < ROUNDS; round++) {
        require_all(got[round], (float)round);
    }
}

// A place that is downloaded from needs no fence, and no wait of the host for the operations behind it.
static void relay_to_downloads(struct pair *p) {
    struct rig *rig = p->from;
    float *got[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        put(p, (float)round);
        transfer(p, NULL);
        rig = &p->to;
        got[round] = numbers(rig, -1);
        MUST(device_download(rig->device, got[round], p->place, NUMBERS * sizeof(float), &rig->error));
    }
    rig_finish(&p->to);
    for (int round = 0; round < ROUNDS; round++) {
        require_all(got[round], (float)round);
    }
}

static void load(struct rig *rig, float *out, float value) {
    float ordinary[NUMBERS];
    for (size_t i = 0; i < NUMBERS; i++) {
        ordinary[i] = value;
    }
    MUST(
        device_vector_load(rig->device, out, 0, NUMBERS, ordinary, weight_format_of(DTYPE_F32), &rig->error));
}

// What was loaded into the place before is overwritten, and what is loaded after it stays; the source may
// have been loaded as well.
static void relay_among_loads(struct pair *p) {
    load(p->from, p->source, 1);
    load(&p->to, p->place, 2);
    transfer(p, NULL);
    float *first = copied_out(p);
    struct device_fence fence;
    struct rig *rig = &p->to;
    MUST(device_fence(rig->device, &fence, &rig->error));
    load(&p->to, p->place, 2);
    transfer(p, &fence);
    load(&p->to, p->place, 3); // no operation comes between
    float *second = copied_out(p);
    rig_finish(&p->to);
    require_all(first, 1);
    require_all(second, 3);
}

// A transfer is part of its source's fences: the source may be loaded anew when one was reached.
static void relay_to_fences(struct pair *p) {
    struct rig *rig = p->from;
    float *got[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        struct device_fence fence;
        bool reached = false;
        put(p, (float)round);
        transfer(p, NULL);
        MUST(device_fence(rig->device, &fence, &rig->error));
        int asked = 0;
        for (; asked < 10000 && !reached; asked++) {
            MUST(device_reached(rig->device, fence, &reached, &rig->error));
        }
        REQUIRE(reached);
        MUST(device_wait(rig->device, fence, NULL, &rig->error));
        got[round] = numbers(rig, -1);
        rig = &p->to;
        MUST(device_download(rig->device, got[round], p->place, NUMBERS * sizeof(float), &rig->error));
        rig = p->from;
    }
    rig_finish(&p->to);
    for (int round = 0; round < ROUNDS; round++) {
        require_all(got[round], (float)round);
    }
}

static void in_every_way(struct rig *rig) {
    struct pair p = pair_open(rig);
    relay(&p);
    relay_to_downloads(&p);
    relay_among_loads(&p);
    relay_to_fences(&p);
    pair_close(&p);
}

// One that cannot be waited for any more is over when a later one is.
static void old_fence(struct rig *rig) {
    struct pair p = pair_open(rig);
    struct device_fence first;
    struct device_fence fence = {0};
    rig = &p.to;
    MUST(device_fence(rig->device, &first, &rig->error));
    for (int i = 0; i < 70; i++) {
        MUST(device_fence(rig->device, &fence, &rig->error));
    }
    put(&p, 3);
    transfer(&p, &first);
    float *got = copied_out(&p);
    rig_finish(&p.to);
    require_all(got, 3);
    fence.number += 100;
    rig = p.from;
    REFUSED(device_transfer(p.to.device, p.place, rig->device, p.source, 64, &fence, &rig->error),
            STATUS_INTERNAL, "never created");
    pair_close(&p);
}

static void test_order(void **state) {
    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        char settings[64];
        snprintf(settings, sizeof settings, "DEVICES=2 SEED=%d", seed);
        in_child(settings, in_every_way);
    }
    in_child("DEVICES=2 PEERS=0", in_every_way); // staged by the driver
    in_child("DEVICES=2", old_fence);
}

// ---- times ----

// By the emulation's clocks. A transfer is a download of its source; the other GPU's wait for it is neither
// computing nor uploading.
static void times_of_both(struct rig *rig) {
    enum { WORK = 1000 }; // microseconds of each copy and operation, and of what a transfer carries
    const double work = 1e-6 * WORK;
    const double carried = NUMBERS * sizeof(float) / 2e6;
    struct pair p = pair_open(rig);
    struct device_fence fence;
    struct device_fence source_fence;
    struct device_times times;
    float *staged = numbers(rig, 1);
    rig_finish(p.from);
    rig_finish(&p.to);
    for (int i = 0; i < 3; i++) {
        MUST(device_upload(rig->device, p.source, staged, NUMBERS * sizeof *staged, &rig->error));
    }
    rig = &p.to;
    MUST(device_upload(rig->device, p.out, staged, NUMBERS * sizeof *staged, &rig->error));
    transfer(&p, NULL);
    for (int i = 0; i < 2; i++) {
        MUST(device_embed(rig->device, p.out, p.place, p.row, 1, DEVICE_STORE, 1, NUMBERS, &rig->error));
    }
    MUST(device_fence(rig->device, &fence, &rig->error));
    MUST(device_fence(p.from->device, &source_fence, &rig->error));
    MUST(device_wait(rig->device, fence, &times, &rig->error));
    REQUIRE(times.compute_seconds > 1.9 * work && times.compute_seconds < 2.1 * work);
    REQUIRE(times.upload_seconds > 0.9 * (work + carried) && times.upload_seconds < 1.1 * (work + carried));
    REQUIRE(times.download_seconds == 0);
    rig = p.from;
    MUST(device_wait(rig->device, source_fence, &times, &rig->error));
    REQUIRE(times.upload_seconds > 2.7 * (work + carried) && times.upload_seconds < 3.3 * (work + carried));
    REQUIRE(times.compute_seconds == 0);
    REQUIRE(times.download_seconds > 0.9 * (work + carried) &&
            times.download_seconds < 1.1 * (work + carried));
    pair_close(&p);
}

// More turns than are timed: waits do not swallow what is computed.
static void many_turns(struct rig *rig) {
    struct pair p = pair_open(rig);
    struct device_fence fence;
    struct device_times times;
    rig = &p.to;
    float *staged = numbers(rig, 1);
    MUST(device_upload(rig->device, p.out, staged, NUMBERS * sizeof *staged, &rig->error));
    for (int i = 0; i < 20; i++) {
        transfer(&p, NULL);
        MUST(device_embed(rig->device, p.out, p.place, p.row, 1, DEVICE_STORE, 1, NUMBERS, &rig->error));
    }
    MUST(device_fence(rig->device, &fence, &rig->error));
    MUST(device_wait(rig->device, fence, &times, &rig->error));
    REQUIRE(times.compute_seconds > 20 * 0.99e-3 && times.upload_seconds < 1.1e-3);
    pair_close(&p);
}

// Asking sees fences reached in the order of the clocks, whatever order the work is done in.
static void asks_in_order(struct rig *rig) {
    struct pair p = pair_open(rig);
    struct device_fence slow;
    struct device_fence fast;
    bool reached = false;
    float *staged = numbers(rig, 1);
    for (int i = 0; i < 9; i++) {
        MUST(device_upload(rig->device, p.source, staged, NUMBERS * sizeof *staged, &rig->error));
    }
    MUST(device_fence(rig->device, &slow, &rig->error));
    rig = &p.to;
    MUST(device_upload(rig->device, p.out, staged, NUMBERS * sizeof *staged, &rig->error));
    MUST(device_fence(rig->device, &fast, &rig->error));
    for (int i = 0; i < 1000 && !reached; i++) {
        bool slow_reached;
        rig = p.from;
        MUST(device_reached(rig->device, slow, &slow_reached, &rig->error));
        REQUIRE(!slow_reached);
        rig = &p.to;
        MUST(device_reached(rig->device, fast, &reached, &rig->error));
    }
    REQUIRE(reached);
    // A question leaves nothing behind that the next launch would report.
    MUST(device_embed(rig->device, p.out, p.place, p.row, 1, DEVICE_STORE, 1, NUMBERS, &rig->error));
    pair_close(&p);
}

static void test_times(void **state) {
    (void)state;
    for (int seed = 0; seed < 2; seed++) {
        char settings[96];
        snprintf(settings, sizeof settings, "DEVICES=2 SEED=%d WORK_MICROSECONDS=1000", seed);
        in_child(settings, many_turns);
        in_child(settings, asks_in_order);
        snprintf(settings, sizeof settings, "DEVICES=2 SEED=%d WORK_MICROSECONDS=1000 COPY_RATE=2", seed);
        in_child(settings, times_of_both);
    }
}

// ---- each GPU for itself ----

static void counted(struct rig *rig) {
    struct error why = {0};
    REQUIRE(device_gpus(&why) == 3);
    REQUIRE(device_memory_node("cpu") == -1 && device_memory_node("cuda:3") == -1); // there is none
    rig_open_on(rig, "cuda:2", DTYPE_F32);
}

static void not_there(struct rig *rig) {
    REQUIRE(device_gpus(&rig->error) == 0 && strstr(rig->error.message, "cudaErrorNoDevice") != NULL);
}

static void unlike(struct rig *rig) {
    const char *const names[] = {"cuda:0", "cuda:1", "cuda:2"};
    struct device_description descriptions[3];
    for (size_t i = 0; i < 3; i++) {
        rig_open_on(rig, names[i], DTYPE_F32);
        device_describe(rig->device, &descriptions[i]);
        device_close(rig->device);
        rig->device = NULL;
    }
    REQUIRE(strcmp(descriptions[0].identity, descriptions[2].identity) == 0);
    REQUIRE(strcmp(descriptions[0].identity, descriptions[1].identity) != 0);
    REQUIRE(strcmp(descriptions[1].name, "Other") == 0);
    REQUIRE(descriptions[1].memory == 2000000000 && descriptions[0].memory == 4000000000);
    REQUIRE(descriptions[1].memory_free == 1000000000);
}

// Memory that the first takes is none of the second's, and the same in NVML.
static void memory_apart(struct rig *rig) {
    struct device_plan plan = rig_plan();
    struct rig other;
    plan.bytes[DEVICE_WEIGHTS] = 700000000;
    rig_open(rig, DTYPE_F32);
    MUST(device_reserve(rig->device, &plan, &rig->error));
    rig = &other;
    rig_open_on(rig, "cuda:1", DTYPE_F32);
    MUST(device_check_fits(rig->device, &plan, &rig->error));
    MUST(device_reserve(rig->device, &plan, &rig->error));
    void *weights = rig_take(rig, DEVICE_WEIGHTS, 1024);
    MUST(device_check_resident(rig->device, weights, 1024, &rig->error));
    struct device_residency residency;
    device_residency(rig->device, &residency);
    REQUIRE(residency.process_bytes > 700000000 && residency.process_bytes < 1000000000);
    device_close(rig->device);
}

static void others_memory(struct rig *rig) {
    struct pair p = pair_open(rig);
    REFUSED(device_check_resident(rig->device, p.place, 64, &rig->error), STATUS_DEVICE,
            "lies on GPU 1, not on GPU 0");
    pair_close(&p);
}

static void no_memory(struct rig *rig) {
    struct device_plan plan = rig_plan();
    rig_open(rig, DTYPE_F32);
    MUST(device_reserve(rig->device, &plan, &rig->error));
    device_close(rig->device);
    rig_open_on(rig, "cuda:1", DTYPE_F32);
    REFUSED(device_reserve(rig->device, &plan, &rig->error), STATUS_DEVICE, "GPU 1: cudaMalloc: ");
}

// A limit is of what the process has on the GPU, all in all.
static void limited(struct rig *rig) {
    struct device_options options = {.dtype = DTYPE_F32, .device_limit = 500000000};
    struct device_plan plan = rig_plan();
    MUST(device_open(&rig->device, "cuda:1", &options, &rig->error));
    MUST(device_check_fits(rig->device, &plan, &rig->error));
    plan.bytes[DEVICE_STAGING] = 600000000; // the host's
    MUST(device_check_fits(rig->device, &plan, &rig->error));
    plan.bytes[DEVICE_WEIGHTS] = 500000000;
    REFUSED(device_check_fits(rig->device, &plan, &rig->error), STATUS_DEVICE, "free 0.466 GiB of 0.466 GiB");
}

static void test_each_for_itself(void **state) {
    (void)state;
    in_child("DEVICES=3", counted);
    in_child("DEVICES=0", not_there);
    in_child("DEVICES=3 NAME=Other@1 MEMORY=4000000000,2000000000@1 FREE=1000000000@1", unlike);
    in_child("DEVICES=2 FREE=1000000000", memory_apart);
    in_child("DEVICES=2", others_memory);
    in_child("DEVICES=2 FAIL_MALLOC=1@1", no_memory);
    in_child("DEVICES=2", limited);
}

// ---- faults ----

static int work_once(struct rig *rig, float *x, float *out) {
    struct device_fence fence;
    TRY(device_norm(rig->device, out, x, &(struct device_norm){.epsilon = 1, .weight = x}, DEVICE_STORE, 1,
                    NUMBERS, &rig->error));
    TRY(device_fence(rig->device, &fence, &rig->error));
    return device_wait(rig->device, fence, NULL, &rig->error);
}

// Both work in turn until the second is lost; the first goes on, with the same streams.
static void second_is_lost(struct rig *rig) {
    struct pair p = pair_open(rig);
    int status = STATUS_OK;
    for (int i = 0; i < 100000 && status == STATUS_OK; i++) {
        MUST(work_once(p.from, p.source, p.source));
        status = work_once(&p.to, p.place, p.out);
    }
    rig = &p.to;
    REFUSED(status, STATUS_DEVICE, "GPU 1: ");
    REFUSED(status, STATUS_DEVICE, "the driver reports XID 79");
    rig = p.from;
    for (int i = 0; i < 10; i++) {
        MUST(work_once(rig, p.source, p.source));
    }
    REFUSED(device_transfer(p.to.device, p.place, rig->device, p.source, 64, NULL, &rig->error),
            STATUS_DEVICE, "transfer from GPU 0 to GPU 1: GPU 1: ");
    struct device_sample sample;
    device_sample(p.to.device, &sample);
    REQUIRE(sample.xid == 79);
    device_sample(rig->device, &sample);
    REQUIRE(sample.xid <= 0);
    device_close(p.to.device);
    MUST(work_once(rig, p.source, p.source));
}

static void kernel_of_second_fails(struct rig *rig) {
    struct pair p = pair_open(rig);
    MUST(work_once(p.from, p.source, p.source));
    rig = &p.to;
    REFUSED(work_once(rig, p.place, p.out), STATUS_INTERNAL, "GPU 1: ");
    rig = p.from;
    MUST(work_once(rig, p.source, p.source));
    device_close(p.to.device);
}

static void test_faults(void **state) {
    (void)state;
    in_child("DEVICES=2 LOSE_DEVICE=4000@1", second_is_lost);
    in_child("DEVICES=2 FAIL_LAUNCH=1@1", kernel_of_second_fails);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_each_for_itself),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
