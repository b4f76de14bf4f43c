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
    MUST(device_embed(rig->device, p->out, p->place, p->row, 1, NUMBERS, &rig->error));
    MUST(device_download(rig->device, got, p->out, NUMBERS * sizeof *got, &rig->error));
    return got;
}

// Every round overwrites the source while it may still be read, and the place, behind the fence of the
// operation that read it.
static void relay(struct rig *rig) {
    struct pair p = pair_open(rig);
    float *got[ROUNDS];
    struct device_fence fences[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        put(&p, (float)round);
        transfer(&p, round > 0 ? &fences[round - 1] : NULL);
        got[round] = copied_out(&p);
        rig = &p.to;
        MUST(device_fence(rig->device, &fences[round], &rig->error));
    }
    rig_finish(&p.to);
    for (int round = 0; round < ROUNDS; round++) {
        require_all(got[round], (float)round);
    }
    pair_close(&p);
}

// A place that is downloaded from needs no fence, and no wait of the host for the operations behind it.
static void relay_to_downloads(struct rig *rig) {
    struct pair p = pair_open(rig);
    float *got[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        put(&p, (float)round);
        transfer(&p, NULL);
        rig = &p.to;
        got[round] = numbers(rig, -1);
        MUST(device_download(rig->device, got[round], p.place, NUMBERS * sizeof(float), &rig->error));
    }
    rig_finish(&p.to);
    for (int round = 0; round < ROUNDS; round++) {
        require_all(got[round], (float)round);
    }
    pair_close(&p);
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
static void relay_among_loads(struct rig *rig) {
    struct pair p = pair_open(rig);
    load(p.from, p.source, 1);
    load(&p.to, p.place, 2);
    transfer(&p, NULL);
    float *first = copied_out(&p);
    struct device_fence fence;
    rig = &p.to;
    MUST(device_fence(rig->device, &fence, &rig->error));
    transfer(&p, &fence);
    load(&p.to, p.place, 3);
    float *second = copied_out(&p);
    rig_finish(&p.to);
    require_all(first, 1);
    require_all(second, 3);
    pair_close(&p);
}

// A transfer is part of its source's fences: the source may be loaded anew when one was reached.
static void relay_to_fences(struct rig *rig) {
    struct pair p = pair_open(rig);
    float *got[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        struct device_fence fence;
        bool reached = false;
        put(&p, (float)round);
        transfer(&p, NULL);
        MUST(device_fence(rig->device, &fence, &rig->error));
        int asked = 0;
        for (; asked < 10000 && !reached; asked++) {
            MUST(device_reached(rig->device, fence, &reached, &rig->error));
        }
        REQUIRE(reached);
        MUST(device_wait(rig->device, fence, NULL, &rig->error));
        got[round] = numbers(rig, -1);
        rig = &p.to;
        MUST(device_download(rig->device, got[round], p.place, NUMBERS * sizeof(float), &rig->error));
        rig = p.from;
    }
    rig_finish(&p.to);
    for (int round = 0; round < ROUNDS; round++) {
        require_all(got[round], (float)round);
    }
    pair_close(&p);
}

static void test_order(void **state) {
    (void)state;
    void (*const cases[])(struct rig *) = {relay, relay_to_downloads, relay_among_loads, relay_to_fences};
    for (int seed = 0; seed < SEEDS; seed++) {
        char settings[64];
        snprintf(settings, sizeof settings, "DEVICES=2 SEED=%d", seed);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            in_child(settings, cases[i]);
        }
    }
    in_child("DEVICES=2 PEERS=0", relay); // staged by the driver
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
