// SPDX-License-Identifier: MIT
// Every operation that reads weights, from a load slot that is loaded again as soon as the operation is
// queued: it sees the numbers that were loaded before it, and not those after. The emulation does queued work
// late and in an order that chance picks, so an operation that leaves out one of its reads goes wrong within
// a few seeds.
#include "base/dtype.h"
#include "cuda_testing.h"

enum { WIDE = 96, HIGH = 24, TURNS = 6, SEEDS = 12 };

struct bench {
    struct device_matrix matrix; // of ones
    struct device_matrix kept;   // in float16
    float *vector;               // [WIDE] a weight
    float *ones;                 // [RIG_TOKENS, WIDE]
    float *zeros;
    float *out;
    int32_t *row; // of the rotary tables: 0
};

static void load(struct rig *rig, float *out, size_t count, float value) {
    float numbers[RIG_TOKENS * WIDE];
    for (size_t i = 0; i < count; i++) {
        numbers[i] = value;
    }
    MUST(device_vector_load(rig->device, out, 0, count, numbers, weight_format_of(DTYPE_F32), &rig->error));
}

static void load_rows(struct rig *rig, struct device_matrix *matrix, float value) {
    float numbers[HIGH * WIDE];
    uint16_t stored[HIGH * WIDE];
    for (size_t i = 0; i < HIGH * WIDE; i++) {
        numbers[i] = value;
    }
    if (matrix->piece_count == 0) {
        MUST(device_matrix_load(rig->device, matrix, 0, HIGH, numbers, weight_format_of(DTYPE_F32),
                                &rig->error));
        return;
    }
    dtype_convert(stored, DTYPE_F16, numbers, DTYPE_F32, HIGH * WIDE);
    MUST(device_piece_load(rig->device, matrix, 0, 0, 0, stored, sizeof stored, &rig->error));
}

static float *take(struct rig *rig, float value) {
    float *place = rig_take(rig, DEVICE_ACTIVATIONS, RIG_TOKENS * WIDE * sizeof *place);
    load(rig, place, RIG_TOKENS * WIDE, value);
    return place;
}

static struct bench open_bench(struct rig *rig) {
    struct device_plan plan = rig_plan();
    struct bench b;
    rig_open(rig, DTYPE_F32);
    b.kept = (struct device_matrix){.rows = HIGH,
                                    .columns = WIDE,
                                    .piece_count = 1,
                                    .pieces = {{.format = weight_format_of(DTYPE_F16), .rows = HIGH}}};
    MUST(device_plan_matrix(&plan, rig->device, &b.kept, &rig->error));
    MUST(device_reserve(rig->device, &plan, &rig->error));
    b.matrix = (struct device_matrix){.rows = HIGH, .columns = WIDE};
    MUST(device_matrix_take(rig->device, &b.matrix, &rig->error));
    MUST(device_matrix_take(rig->device, &b.kept, &rig->error));
    b.vector = rig_take(rig, DEVICE_WEIGHTS, WIDE * sizeof *b.vector);
    b.ones = take(rig, 1);
    b.zeros = take(rig, 0);
    b.out = take(rig, 0);
    b.row = rig_take(rig, DEVICE_ACTIVATIONS, sizeof *b.row);
    int32_t *staged = rig_take(rig, DEVICE_STAGING, sizeof *staged);
    *staged = 0;
    MUST(device_upload(rig->device, b.row, staged, sizeof *staged, &rig->error));
    load_rows(rig, &b.matrix, 1);
    // Algorithms are chosen before there is anything to wait for.
    MUST(device_matmul(rig->device, b.out, b.ones, &b.matrix, NULL, 1, DEVICE_STORE, &rig->error));
    MUST(device_matmul(rig->device, b.out, b.ones, &b.matrix, b.zeros, 1, DEVICE_STORE, &rig->error));
    rig_finish(rig);
    return b;
}

// ---- ways to read a weight: the first HIGH numbers of out are `value` times what it returns ----

typedef float (*reader)(struct rig *rig, struct bench *b, float value);

static float read_norm(struct rig *rig, struct bench *b, float value) {
    load(rig, b->vector, WIDE, value);
    MUST(device_norm(rig->device, b->out, b->ones, &(struct device_norm){.epsilon = 0, .weight = b->vector},
                     DEVICE_STORE, 1, WIDE, &rig->error));
    return 1;
}

static float read_heads(struct rig *rig, struct bench *b, float value) {
    const struct device_heads one = {1, 1, 16, 0};
    load(rig, b->vector, WIDE, value);
    MUST(device_norm(rig->device, b->out, b->ones, &(struct device_norm){.epsilon = 0, .weight = b->ones},
                     DEVICE_STORE, 1, WIDE, &rig->error)); // all 1 again
    MUST(device_qk_norm_rope(rig->device, b->out,
                             &(struct device_rope){.q_norm = {.epsilon = 0, .weight = b->vector},
                                                   .k_norm = {.epsilon = 0, .weight = b->vector},
                                                   .cosine = b->ones,
                                                   .sine = b->zeros,
                                                   .row = b->row,
                                                   .part = one.head_dim},
                             one, 1, &rig->error));
    return 1;
}

// The norm of zeros is its bias.
static float read_norm_bias(struct rig *rig, struct bench *b, float value) {
    load(rig, b->vector, WIDE, value);
    MUST(device_norm(
        rig->device, b->out, b->zeros,
        &(struct device_norm){.kind = DEVICE_NORM_LAYER, .epsilon = 1, .weight = b->ones, .bias = b->vector},
        DEVICE_STORE, 1, WIDE, &rig->error));
    return 1;
}

static float read_groups(struct rig *rig, struct bench *b, float value) {
    const struct device_groups groups = {.stride = WIDE, .count = 3, .width = WIDE / 3};
    load(rig, b->vector, WIDE, value);
    MUST(device_norm(rig->device, b->out, b->zeros, &(struct device_norm){.epsilon = 1, .weight = b->ones},
                     DEVICE_STORE, 1, WIDE, &rig->error)); // all 0
    MUST(device_norm_groups(
        rig->device, b->out, &groups,
        &(struct device_norm){
            .kind = DEVICE_NORM_LAYER, .epsilon = 1, .weight = b->vector, .bias = b->vector},
        1, &rig->error));
    return 1;
}

// A layer's scalar: of rows of ones it is what they become.
static float read_scalar(struct rig *rig, struct bench *b, float value) {
    load(rig, b->vector, WIDE, value);
    MUST(device_norm(rig->device, b->out, b->ones, &(struct device_norm){.epsilon = 0, .weight = b->ones},
                     DEVICE_STORE, 1, WIDE, &rig->error)); // all 1 again
    MUST(device_scale(rig->device, b->out, b->vector, 1, WIDE, &rig->error));
    return 1;
}

static float read_head_bias(struct rig *rig, struct bench *b, float value) {
    const struct device_heads one = {1, 1, 16, 0};
    const struct device_norm norm = {
        .kind = DEVICE_NORM_LAYER, .epsilon = 1, .weight = b->zeros, .bias = b->vector};
    load(rig, b->vector, WIDE, value);
    MUST(device_norm(rig->device, b->out, b->ones, &(struct device_norm){.epsilon = 0, .weight = b->ones},
                     DEVICE_STORE, 1, WIDE, &rig->error)); // all 1: the value of a head is not touched
    MUST(device_qk_norm_rope(rig->device, b->out, &(struct device_rope){.q_norm = norm, .k_norm = norm}, one,
                             1, &rig->error));
    return 1;
}

static float read_matrix(struct rig *rig, struct bench *b, float value) {
    load_rows(rig, &b->matrix, value);
    MUST(device_matmul(rig->device, b->out, b->ones, &b->matrix, NULL, 1, DEVICE_STORE, &rig->error));
    return WIDE;
}

static float read_bias(struct rig *rig, struct bench *b, float value) {
    load(rig, b->vector, HIGH, value);
    MUST(device_matmul(rig->device, b->out, b->zeros, &b->matrix, b->vector, 1, DEVICE_STORE, &rig->error));
    return 1;
}

static float read_kept(struct rig *rig, struct bench *b, float value) {
    load_rows(rig, &b->kept, value);
    MUST(device_matmul(rig->device, b->out, b->ones, &b->kept, NULL, 1, DEVICE_STORE, &rig->error));
    return WIDE;
}

// As blocks that are kept in host memory: the first time loaded and downloaded, then copied back.
static float read_restored(struct rig *rig, struct bench *b, float value) {
    float *image = rig_take(rig, DEVICE_STAGING, HIGH * WIDE * sizeof *image);
    load_rows(rig, &b->matrix, value);
    MUST(device_download(rig->device, image, b->matrix.data, HIGH * WIDE * sizeof *image, &rig->error));
    rig_finish(rig);
    REQUIRE(image[0] == value && image[HIGH * WIDE - 1] == value);
    load_rows(rig, &b->matrix, 1000);
    MUST(device_matmul(rig->device, b->out, b->ones, &b->matrix, NULL, 1, DEVICE_STORE, &rig->error));
    MUST(
        device_weights_restore(rig->device, b->matrix.data, image, HIGH * WIDE * sizeof *image, &rig->error));
    MUST(device_matmul(rig->device, b->out, b->ones, &b->matrix, NULL, 1, DEVICE_STORE, &rig->error));
    return WIDE;
}

enum slot { VECTOR, MATRIX, KEPT };

static void read_in_turn(struct rig *rig, reader read, enum slot slot) {
    struct bench b = open_bench(rig);
    void *const places[] = {b.vector, b.matrix.data, b.kept.data};
    const size_t bytes[] = {WIDE * sizeof(float), HIGH * WIDE * sizeof(float),
                            HIGH * WIDE * sizeof(uint16_t)};
    float *got[TURNS];
    float factor = 0;
    MUST(device_load_slot(rig->device, places[slot], bytes[slot], &rig->error));
    for (int turn = 0; turn < TURNS; turn++) {
        got[turn] = rig_take(rig, DEVICE_STAGING, HIGH * sizeof(float));
        factor = read(rig, &b, (float)(turn + 2));
        MUST(device_download(rig->device, got[turn], b.out, HIGH * sizeof(float), &rig->error));
    }
    rig_finish(rig);
    for (int turn = 0; turn < TURNS; turn++) {
        for (size_t i = 0; i < HIGH; i++) {
            REQUIRE(got[turn][i] == factor * (float)(turn + 2));
        }
    }
}

static void norm(struct rig *rig) {
    read_in_turn(rig, read_norm, VECTOR);
}

static void heads(struct rig *rig) {
    read_in_turn(rig, read_heads, VECTOR);
}

static void norm_bias(struct rig *rig) {
    read_in_turn(rig, read_norm_bias, VECTOR);
}

static void norm_of_groups(struct rig *rig) {
    read_in_turn(rig, read_groups, VECTOR);
}

static void scalar(struct rig *rig) {
    read_in_turn(rig, read_scalar, VECTOR);
}

static void head_bias(struct rig *rig) {
    read_in_turn(rig, read_head_bias, VECTOR);
}

static void matrix(struct rig *rig) {
    read_in_turn(rig, read_matrix, MATRIX);
}

static void restored(struct rig *rig) {
    read_in_turn(rig, read_restored, MATRIX);
}

static void bias(struct rig *rig) {
    read_in_turn(rig, read_bias, VECTOR);
}

static void kept(struct rig *rig) {
    read_in_turn(rig, read_kept, KEPT);
}

// ---- before there is a slot, and tuning ----

static void used_before(struct rig *rig) {
    struct bench b = open_bench(rig);
    float *got = rig_take(rig, DEVICE_STAGING, HIGH * sizeof *got);
    (void)read_norm(rig, &b, 2);
    MUST(device_load_slot(rig->device, b.vector, WIDE * sizeof(float), &rig->error));
    load(rig, b.vector, WIDE, 3);
    MUST(device_download(rig->device, got, b.out, HIGH * sizeof *got, &rig->error));
    rig_finish(rig);
    REQUIRE(got[0] == 2 && got[HIGH - 1] == 2);
}

// Zeros would be refused: the weights that were loaded last are what is tuned with.
static void tuned(struct rig *rig) {
    struct bench b = open_bench(rig);
    load_rows(rig, &b.matrix, 0);
    (void)read_norm(rig, &b, 1); // waits for every load outside slots
    rig_finish(rig);
    MUST(device_load_slot(rig->device, b.matrix.data, HIGH * WIDE * sizeof(float), &rig->error));
    load_rows(rig, &b.matrix, 0.5f);
    MUST(device_matmul_tune(rig->device, b.out, b.ones, &b.matrix, NULL, DEVICE_STORE, &rig->error));
}

static void test_slots(void **state) {
    (void)state;
    void (*const cases[])(struct rig * rig) = {norm,  norm_bias, norm_of_groups, scalar,
                                               heads, head_bias, matrix,         restored,
                                               bias,  kept,      used_before,    tuned};
    for (int seed = 0; seed < SEEDS; seed++) {
        char settings[32];
        snprintf(settings, sizeof settings, "SEED=%d", seed);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            in_child(settings, cases[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
