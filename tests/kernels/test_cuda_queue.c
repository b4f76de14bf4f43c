// SPDX-License-Identifier: MIT
// The CUDA back end's streams: what is read must not be overwritten before, what is loaded must be there, and
// times. The emulation does queued work late and in an order that chance picks, so what the back end forgets
// to order comes out wrong within a few seeds.
#include "cuda_testing.h"
#include "kernels/cuda/cuda_device.h"

enum { COUNT = 4096 };

static float number(size_t i, int round) {
    return (float)((int)(i % 251) - 125 + 1000 * round);
}

static void write_numbers(float *out, size_t count, int round) {
    for (size_t i = 0; i < count; i++) {
        out[i] = number(i, round);
    }
}

static void require_numbers(const float *in, size_t count, int round) {
    for (size_t i = 0; i < count; i++) {
        REQUIRE(in[i] == number(i, round));
    }
}

// Each round overwrites, in another way, what the download before it may still be reading.
static void overwrite(struct rig *rig) {
    enum { ROUNDS = 12 };
    size_t bytes = COUNT * sizeof(float);
    float *read[ROUNDS];
    float *staged[ROUNDS];
    int32_t *zeros = NULL;
    rig_open(rig, DTYPE_F32);
    rig_reserve(rig);
    float *place = rig_take(rig, DEVICE_ACTIVATIONS, bytes);
    float *table = rig_take(rig, DEVICE_WEIGHTS, bytes);
    zeros = rig_take(rig, DEVICE_ACTIVATIONS, 4 * sizeof *zeros);
    float *loaded = malloc(bytes);
    int32_t *first_row = rig_take(rig, DEVICE_STAGING, 4 * sizeof *zeros);
    memset(first_row, 0, 4 * sizeof *zeros);
    MUST(device_upload(rig->device, zeros, first_row, 4 * sizeof *zeros, &rig->error));
    for (int round = 0; round < ROUNDS; round++) {
        read[round] = rig_take(rig, DEVICE_STAGING, bytes);
        staged[round] = rig_take(rig, DEVICE_STAGING, bytes);
    }
    for (int round = 0; round < ROUNDS; round++) {
        write_numbers(staged[round], COUNT, round);
        switch (round % 4) {
        case 0: // upload
            MUST(device_upload(rig->device, place, staged[round], bytes, &rig->error));
            break;
        case 1: // load
            memcpy(loaded, staged[round], bytes);
            MUST(device_vector_load(rig->device, place, 0, COUNT, loaded, weight_format_of(DTYPE_F32),
                                    &rig->error));
            memset(loaded, 0xff, bytes); // the source may be reused
            break;
        case 2: // operation
            MUST(device_upload(rig->device, table, staged[round], bytes, &rig->error));
            MUST(device_embed(rig->device, place, table, zeros, 1, DEVICE_STORE, 1, COUNT, &rig->error));
            break;
        case 3: // in pieces, one number at a time overlapping the end
            MUST(device_upload(rig->device, place + COUNT / 2, staged[round] + COUNT / 2, bytes / 2,
                               &rig->error));
            MUST(device_upload(rig->device, place, staged[round], bytes / 2, &rig->error));
            break;
        }
        MUST(device_download(rig->device, read[round], place, bytes, &rig->error));
    }
    rig_finish(rig);
    for (int round = 0; round < ROUNDS; round++) {
        require_numbers(read[round], COUNT, round);
    }
    free(loaded);
}

static void test_downloads_are_not_overtaken(void **state) {
    (void)state;
    for (int seed = 0; seed < 12; seed++) {
        char settings[32];
        snprintf(settings, sizeof settings, "SEED=%d", seed);
        in_child(settings, overwrite);
    }
}

// Far more downloads than the ring holds, between few fences.
static void many(struct rig *rig) {
    enum { DOWNLOADS = 1300, PIECE = 64 };
    rig_open(rig, DTYPE_F32);
    rig_reserve(rig);
    float *place = rig_take(rig, DEVICE_ACTIVATIONS, PIECE * sizeof(float));
    float *staged = rig_take(rig, DEVICE_STAGING, DOWNLOADS * sizeof(float));
    float *read = rig_take(rig, DEVICE_STAGING, DOWNLOADS * sizeof(float));
    for (int i = 0; i < DOWNLOADS; i++) {
        staged[i] = (float)i;
        MUST(device_upload(rig->device, place + i % PIECE, staged + i, sizeof(float), &rig->error));
        MUST(device_download(rig->device, read + i, place + i % PIECE, sizeof(float), &rig->error));
    }
    struct device_fence fence;
    struct device_times times;
    struct device_times again;
    MUST(device_fence(rig->device, &fence, &rig->error));
    MUST(device_wait(rig->device, fence, &times, &rig->error));
    MUST(device_wait(rig->device, fence, &again, &rig->error));
    REQUIRE(times.download_seconds > 0 && times.download_seconds == again.download_seconds);
    for (int i = 0; i < DOWNLOADS; i++) {
        REQUIRE(read[i] == (float)i);
    }
}

static void test_more_downloads_than_the_ring_holds(void **state) {
    (void)state;
    in_child("SEED=3", many);
    in_child("SEED=0", many);
}

static void fences(struct rig *rig) {
    struct device_fence first;
    struct device_fence fence;
    struct device_times times;
    rig_open(rig, DTYPE_BF16);
    rig_reserve(rig);
    size_t bytes = COUNT * sizeof(uint16_t);
    void *x = rig_take(rig, DEVICE_ACTIVATIONS, bytes);
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, bytes);
    void *weight = rig_take(rig, DEVICE_WEIGHTS, bytes);
    void *staged = rig_take(rig, DEVICE_STAGING, bytes);
    MUST(device_fence(rig->device, &first, &rig->error));
    MUST(device_wait(rig->device, first, &times, &rig->error));
    REQUIRE(times.upload_seconds == 0 && times.compute_seconds == 0 && times.download_seconds == 0);
    MUST(device_upload(rig->device, x, staged, bytes, &rig->error));
    MUST(device_norm(rig->device, out, x, &(struct device_norm){.epsilon = 1e-6f, .weight = weight},
                     DEVICE_STORE, COUNT / 64, 64, &rig->error));
    MUST(device_download(rig->device, staged, out, bytes, &rig->error));
    MUST(device_fence(rig->device, &fence, &rig->error));
    MUST(device_wait(rig->device, fence, &times, &rig->error));
    REQUIRE(times.upload_seconds > 0 && times.compute_seconds > 0 && times.download_seconds > 0);
    REQUIRE(times.upload_seconds < 10 && times.compute_seconds < 10 && times.download_seconds < 10);
    // More turns than are timed one by one.
    for (int i = 0; i < 20; i++) {
        MUST(device_upload(rig->device, x, staged, bytes, &rig->error));
        MUST(device_norm(rig->device, out, x, &(struct device_norm){.epsilon = 1e-6f, .weight = weight},
                         DEVICE_STORE, COUNT / 64, 64, &rig->error));
    }
    MUST(device_fence(rig->device, &fence, &rig->error));
    MUST(device_wait(rig->device, fence, &times, &rig->error));
    REQUIRE(times.compute_seconds > 0);
    for (int i = 0; i < 64; i++) {
        MUST(device_fence(rig->device, &fence, &rig->error));
    }
    MUST(device_wait(rig->device, fence, NULL, &rig->error));
    REFUSED(device_wait(rig->device, first, NULL, &rig->error), STATUS_INTERNAL, "forgotten");
    fence.number = 0;
    REFUSED(device_wait(rig->device, fence, NULL, &rig->error), STATUS_INTERNAL, "never created");
    fence.number = 1000;
    REFUSED(device_wait(rig->device, fence, NULL, &rig->error), STATUS_INTERNAL, "never created");
}

static void test_fences_and_times(void **state) {
    (void)state;
    in_child("SEED=1", fences);
}

// ---- loading ----

// Larger than the whole ring, in one call; the source is gone when it returns.
static void load_much(struct rig *rig) {
    size_t count = (40 << 20) / sizeof(float);
    struct device_plan plan = rig_plan();
    plan.bytes[DEVICE_WEIGHTS] = count * sizeof(float);
    plan.bytes[DEVICE_STAGING] = count * sizeof(float);
    rig_open(rig, DTYPE_F32);
    MUST(device_reserve(rig->device, &plan, &rig->error));
    float *place = rig_take(rig, DEVICE_WEIGHTS, count * sizeof(float));
    float *read = rig_take(rig, DEVICE_STAGING, count * sizeof(float));
    float *source = malloc(count * sizeof(float));
    write_numbers(source, count, 1);
    MUST(device_vector_load(rig->device, place, 0, count, source, weight_format_of(DTYPE_F32), &rig->error));
    memset(source, 0xff, count * sizeof(float));
    MUST(device_download(rig->device, read, place, count * sizeof(float), &rig->error));
    rig_finish(rig);
    require_numbers(read, count, 1);
    free(source);
}

// Rows of a fused matrix out of order, from every format, against the host's conversion.
static void load_converted(struct rig *rig) {
    enum { ROWS = 5, COLUMNS = 33 };
    const enum dtype sources[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    float numbers[COLUMNS];
    unsigned char source[COLUMNS * sizeof(float)];
    unsigned char expected[3][COLUMNS * sizeof(float)];
    struct device_matrix matrix;
    rig_reserve(rig);
    matrix = (struct device_matrix){.rows = ROWS, .columns = COLUMNS};
    MUST(device_matrix_take(rig->device, &matrix, &rig->error));
    const float zeros[ROWS * COLUMNS] = {0};
    MUST(device_matrix_load(rig->device, &matrix, 0, ROWS, zeros, weight_format_of(DTYPE_F32), &rig->error));
    size_t row_bytes = COLUMNS * dtype_size(rig->dtype);
    for (size_t s = 0; s < 3; s++) {
        for (size_t i = 0; i < COLUMNS; i++) {
            numbers[i] = ((float)i - 16.3f) * (1.0f + (float)s) * 0.37f;
        }
        dtype_convert(source, sources[s], numbers, DTYPE_F32, COLUMNS);
        dtype_convert(expected[s], rig->dtype, source, sources[s], COLUMNS);
        MUST(device_matrix_load(rig->device, &matrix, 3 - s, 1, source, weight_format_of(sources[s]),
                                &rig->error));
    }
    unsigned char *read = rig_take(rig, DEVICE_STAGING, ROWS * row_bytes);
    MUST(device_download(rig->device, read, matrix.data, ROWS * row_bytes, &rig->error));
    rig_finish(rig);
    for (size_t s = 0; s < 3; s++) {
        REQUIRE(memcmp(read + (3 - s) * row_bytes, expected[s], row_bytes) == 0);
    }
    for (size_t i = 0; i < row_bytes; i++) { // rows that were not loaded again
        REQUIRE(read[i] == 0 && read[4 * row_bytes + i] == 0);
    }
}

static void load_f32(struct rig *rig) {
    rig_open(rig, DTYPE_F32);
    load_converted(rig);
}

static void load_f16(struct rig *rig) {
    rig_open(rig, DTYPE_F16);
    load_converted(rig);
}

static void load_bf16(struct rig *rig) {
    rig_open(rig, DTYPE_BF16);
    load_converted(rig);
}

static void test_loading(void **state) {
    (void)state;
    in_child("SEED=0", load_much);
    in_child("SEED=2", load_much);
    in_child("SEED=1", load_f32);
    in_child("SEED=2", load_bf16);
    in_child("SEED=3", load_f16);
}

// ---- load slots ----

enum { SLOTS = 2, ROWS_OF_SLOT = 4, MUCH = 5 * (8 << 20) / sizeof(float) }; // MUCH: more than the ring holds

// Streams weights through two slots: each is loaded again while the other one's readers may still run, by
// every way there is to use it, from the numbers as computed and by a conversion.
static void stream_slots(struct rig *rig) {
    enum { ROUNDS = 24 };
    size_t bytes = COUNT * sizeof(float);
    float *slots[SLOTS];
    float *read[ROUNDS];
    float *source = malloc(bytes);
    uint16_t *half = malloc(COUNT * sizeof *half);
    rig_open(rig, DTYPE_F32);
    rig_reserve(rig);
    for (int i = 0; i < SLOTS; i++) {
        slots[i] = rig_take(rig, DEVICE_WEIGHTS, bytes);
        MUST(device_load_slot(rig->device, slots[i], bytes, &rig->error));
    }
    float *out = rig_take(rig, DEVICE_ACTIVATIONS, bytes);
    int32_t *ids = rig_take(rig, DEVICE_ACTIVATIONS, ROWS_OF_SLOT * sizeof *ids);
    int32_t *staged = rig_take(rig, DEVICE_STAGING, ROWS_OF_SLOT * sizeof *ids);
    for (int32_t i = 0; i < ROWS_OF_SLOT; i++) {
        staged[i] = i;
    }
    for (int round = 0; round < ROUNDS; round++) {
        read[round] = rig_take(rig, DEVICE_STAGING, bytes);
    }
    MUST(device_upload(rig->device, ids, staged, ROWS_OF_SLOT * sizeof *ids, &rig->error));
    for (int round = 0; round < ROUNDS; round++) {
        float *slot = slots[round / 2 % SLOTS]; // twice each: again while its own readers may run
        for (size_t i = 0; i < COUNT; i++) {    // float16 holds them
            source[i] = (float)((int)(i % 251) + round);
        }
        if (round % 3 == 0) {
            dtype_convert(half, DTYPE_F16, source, DTYPE_F32, COUNT);
        }
        const void *from = round % 3 == 0 ? (const void *)half : source;
        const struct weight_format *format = weight_format_of(round % 3 == 0 ? DTYPE_F16 : DTYPE_F32);
        size_t width = round % 3 == 0 ? sizeof *half : sizeof *source;
        MUST(device_vector_load(rig->device, slot, 0, COUNT / 2, from, format, &rig->error));
        MUST(device_vector_load(rig->device, slot, COUNT / 2, COUNT / 2,
                                (const unsigned char *)from + COUNT / 2 * width, format, &rig->error));
        if (round % 5 < 3) { // an operation reads it, and more than one has
            MUST(device_embed(rig->device, out, slot, ids, 1, DEVICE_STORE, 1, COUNT / ROWS_OF_SLOT,
                              &rig->error));
            MUST(device_embed(rig->device, out, slot, ids, 1, DEVICE_STORE, ROWS_OF_SLOT,
                              COUNT / ROWS_OF_SLOT, &rig->error));
            if (round % 5 == 1) { // and is what was queued last when the slot is loaded again
                memset(source, 0xff, bytes);
                MUST(device_vector_load(rig->device, slot, 0, COUNT, source, weight_format_of(DTYPE_F32),
                                        &rig->error));
            }
            MUST(device_download(rig->device, read[round], out, bytes, &rig->error));
        } else { // a download does
            MUST(device_download(rig->device, read[round], slot, bytes, &rig->error));
        }
    }
    rig_finish(rig);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            REQUIRE(read[round][i] == (float)((int)(i % 251) + round));
        }
    }
    free(source);
    free(half);
}

static void test_slots_are_ordered(void **state) {
    (void)state;
    for (int seed = 0; seed < 24; seed++) {
        char settings[32];
        snprintf(settings, sizeof settings, "SEED=%d", seed);
        in_child(settings, stream_slots);
    }
}

// Whether compute that uses one place was done when a load of more than the ring holds into another came
// back. What is uploaded is read when the work is done, which with seed 0 is when something needs it.
static bool waits(struct rig *rig, bool slot_used, bool slot_loaded, bool same) {
    size_t bytes = (size_t)MUCH * sizeof(float);
    struct device_plan plan = rig_plan();
    plan.bytes[DEVICE_WEIGHTS] = bytes + RIG_BYTES;
    rig_open(rig, DTYPE_F32);
    MUST(device_reserve(rig->device, &plan, &rig->error));
    float *used = rig_take(rig, DEVICE_WEIGHTS, RIG_BYTES);
    float *loaded = rig_take(rig, DEVICE_WEIGHTS, bytes);
    float *staged = rig_take(rig, DEVICE_STAGING, sizeof *staged);
    float *read = rig_take(rig, DEVICE_STAGING, sizeof *read);
    if (slot_used) {
        MUST(device_load_slot(rig->device, used, RIG_BYTES, &rig->error));
    }
    if (slot_loaded) {
        MUST(device_load_slot(rig->device, loaded, bytes, &rig->error));
    }
    float *source = calloc(MUCH, sizeof *source);
    // The first load waits for what was queued before there was a slot.
    MUST(device_vector_load(rig->device, loaded, 0, 1, source, weight_format_of(DTYPE_F32), &rig->error));
    staged[0] = 1;
    float *place = same ? loaded : used;
    MUST(device_upload(rig->device, place, staged, sizeof *staged, &rig->error));
    MUST(device_download(rig->device, read, place, sizeof *read, &rig->error));
    MUST(device_vector_load(rig->device, loaded, 0, MUCH, source, weight_format_of(DTYPE_F32), &rig->error));
    staged[0] = 2;
    rig_finish(rig);
    REQUIRE(read[0] == 1 || read[0] == 2);
    free(source);
    return read[0] == 1;
}

static void slots_apart(struct rig *rig) {
    REQUIRE(!waits(rig, true, true, false));
}

static void slot_beside_others(struct rig *rig) {
    REQUIRE(!waits(rig, false, true, false));
}

static void slot_in_use(struct rig *rig) {
    REQUIRE(waits(rig, true, true, true));
}

static void no_slots(struct rig *rig) {
    REQUIRE(waits(rig, false, false, false));
}

static void test_slots_do_not_wait_for_others(void **state) {
    (void)state;
    in_child("SEED=0", slots_apart);
    in_child("SEED=0", slot_beside_others);
    in_child("SEED=0", slot_in_use);
    in_child("SEED=0", no_slots);
}

// The other way: an operation that uses one slot does not wait for a load into another.
static void operation_beside_a_load(struct rig *rig) {
    size_t bytes = COUNT * sizeof(float);
    rig_open(rig, DTYPE_F32);
    rig_reserve(rig);
    float *idle = rig_take(rig, DEVICE_WEIGHTS, bytes);
    float *used = rig_take(rig, DEVICE_WEIGHTS, bytes);
    float *read = rig_take(rig, DEVICE_STAGING, bytes);
    float *source = calloc(COUNT, sizeof *source);
    const struct weight_format *f32 = weight_format_of(DTYPE_F32);
    MUST(device_load_slot(rig->device, idle, bytes, &rig->error));
    MUST(device_load_slot(rig->device, used, bytes, &rig->error));
    MUST(device_vector_load(rig->device, used, 0, COUNT, source, f32, &rig->error));
    MUST(device_vector_load(rig->device, idle, 0, COUNT, source, f32, &rig->error));
    MUST(device_download(rig->device, read, used, bytes, &rig->error));
    rig_finish(rig);
    for (size_t i = 0; i < COUNT; i++) {
        REQUIRE(read[i] == 0);
    }
    REQUIRE(cudaStreamQuery(cuda_of(rig->device)->loader.stream) == cudaErrorNotReady);
    free(source);
}

static void slot_refusals(struct rig *rig) {
    rig_open(rig, DTYPE_F32);
    rig_reserve(rig);
    unsigned char *place = rig_take(rig, DEVICE_WEIGHTS, 2 * DEVICE_LOAD_SLOTS * 256);
    for (size_t i = 0; i < DEVICE_LOAD_SLOTS; i++) {
        MUST(device_load_slot(rig->device, place + i * 256, 256, &rig->error));
        if (i + 1 < DEVICE_LOAD_SLOTS) {
            REFUSED(device_load_slot(rig->device, place + i * 256 + 255, 2, &rig->error), STATUS_INTERNAL,
                    "overlaps another");
        }
    }
    REFUSED(device_load_slot(rig->device, place + DEVICE_LOAD_SLOTS * 256, 256, &rig->error), STATUS_INTERNAL,
            "more than 16 load slots");
    REFUSED(device_load_slot(rig->device, NULL, 256, &rig->error), STATUS_INTERNAL, "no memory");
    device_seal(rig->device);
    REFUSED(device_load_slot(rig->device, place, 256, &rig->error), STATUS_INTERNAL, "after the start");
}

static void test_slots(void **state) {
    (void)state;
    in_child("SEED=0", operation_beside_a_load);
    in_child("SEED=1", slot_refusals);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_downloads_are_not_overtaken),
        cmocka_unit_test(test_more_downloads_than_the_ring_holds),
        cmocka_unit_test(test_fences_and_times),
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_slots_are_ordered),
        cmocka_unit_test(test_slots_do_not_wait_for_others),
        cmocka_unit_test(test_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
