// SPDX-License-Identifier: MIT
// Mixtures of experts on CUDA: sizes that it refuses, and experts with so many rows that their tiles go in
// several groups. What all back ends have in common is in test_experts.c and test_route.c.
#include "base/random.h"
#include "cuda_testing.h"

enum {
    EXPERTS = 3,
    HIDDEN = 136, // two blocks of columns, and a last step that is not full; so has WIDTH
    WIDTH = 72,
    KINDS = 5,     // of rows
    TOKENS = 4300, // 2,580 of an expert: more than 16 tiles
    BYTES = 8 << 20,
};

struct layer {
    struct device_matrix gate_up;
    struct device_matrix down;
    struct device_experts experts;
};

static void *put_numbers(struct rig *rig, uint64_t seed, size_t rows, size_t columns, size_t kinds) {
    size_t count = rows * columns;
    float *numbers = malloc(count * sizeof *numbers);
    REQUIRE(numbers != NULL);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = i / columns < kinds ? (float)(random_unit(&seed) - 0.5) : numbers[i - kinds * columns];
    }
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, count * dtype_size(rig->dtype));
    MUST(device_vector_load(rig->device, out, 0, count, numbers, weight_format_of(DTYPE_F32), &rig->error));
    free(numbers);
    return out;
}

static struct device_matrix matrix_of(struct rig *rig, uint64_t seed, size_t rows, size_t columns) {
    return (struct device_matrix){
        .rows = rows, .columns = columns, .data = put_numbers(rig, seed, rows, columns, rows)};
}

static void open_layer(struct rig *rig, enum dtype dtype, size_t hidden, size_t width, struct layer *layer) {
    struct device_plan plan = {.tokens = TOKENS};
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        plan.bytes[p] = BYTES;
    }
    rig_open(rig, dtype);
    MUST(device_reserve(rig->device, &plan, &rig->error));
    layer->gate_up = matrix_of(rig, 1, EXPERTS * 2 * width, hidden);
    layer->down = matrix_of(rig, 2, EXPERTS * hidden, width);
    layer->experts = (struct device_experts){.experts = EXPERTS,
                                             .chosen = 1,
                                             .hidden = hidden,
                                             .width = width,
                                             .gate_up = &layer->gate_up,
                                             .down = &layer->down};
}

static void *upload(struct rig *rig, const void *from, size_t bytes) {
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, bytes);
    void *staging = rig_take(rig, DEVICE_STAGING, bytes);
    memcpy(staging, from, bytes);
    MUST(device_upload(rig->device, out, staging, bytes, &rig->error));
    return out;
}

// ---- refusals ----

static void refuse_sizes(struct rig *rig, size_t hidden, size_t width) {
    struct layer layer;
    size_t bytes;
    open_layer(rig, DTYPE_BF16, hidden, width, &layer);
    void *x = put_numbers(rig, 3, 1, hidden, 1);
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, hidden * sizeof(uint16_t));
    struct device_routes routes = {upload(rig, &(int32_t){0}, sizeof(int32_t)),
                                   upload(rig, &(float){1}, sizeof(float))};
    REQUIRE(device_experts_scratch(rig->device, &layer.experts, 1, &bytes));
    void *scratch = rig_take(rig, DEVICE_SCRATCH, bytes);
    REFUSED(
        device_experts(rig->device, out, x, &routes, &layer.experts, DEVICE_STORE, 1, scratch, &rig->error),
        STATUS_DEVICE, "multiples of 8");
}

static void refuse_hidden(struct rig *rig) {
    refuse_sizes(rig, 20, 16);
}

static void refuse_width(struct rig *rig) {
    refuse_sizes(rig, 16, 20);
}

static void test_refusals(void **state) {
    (void)state;
    in_child("SEED=1", refuse_hidden);
    in_child("SEED=1", refuse_width);
}

// ---- many tiles ----

// Token t is of kind t % KINDS, and kinds go to experts; *got is in staging.
static void run_tokens(struct rig *rig, const struct layer *layer, size_t tokens, unsigned char **got) {
    static const int32_t expert_of[KINDS] = {1, 0, 1, 2, 1};
    int32_t *experts = malloc(tokens * sizeof *experts);
    float *weights = malloc(tokens * sizeof *weights);
    REQUIRE(experts != NULL && weights != NULL);
    for (size_t t = 0; t < tokens; t++) {
        experts[t] = expert_of[t % KINDS];
        weights[t] = (float)(t % KINDS + 1) / 4;
    }
    size_t bytes;
    size_t out_bytes = tokens * HIDDEN * dtype_size(rig->dtype);
    void *x = put_numbers(rig, 4, tokens, HIDDEN, KINDS);
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, out_bytes);
    struct device_routes routes = {upload(rig, experts, tokens * sizeof *experts),
                                   upload(rig, weights, tokens * sizeof *weights)};
    REQUIRE(device_experts_scratch(rig->device, &layer->experts, tokens, &bytes));
    void *scratch = rig_take(rig, DEVICE_SCRATCH, bytes);
    MUST(device_experts(rig->device, out, x, &routes, &layer->experts, DEVICE_STORE, tokens, scratch,
                        &rig->error));
    *got = rig_take(rig, DEVICE_STAGING, out_bytes);
    MUST(device_download(rig->device, *got, out, out_bytes, &rig->error));
    rig_finish(rig);
    free(weights);
    free(experts);
}

// Each row has the bits that one of its kind has in a batch of five.
static void compare_rows(struct rig *rig, enum dtype dtype) {
    struct layer layer;
    unsigned char *few;
    unsigned char *many;
    open_layer(rig, dtype, HIDDEN, WIDTH, &layer);
    run_tokens(rig, &layer, KINDS, &few);
    run_tokens(rig, &layer, TOKENS, &many);
    size_t row = HIDDEN * dtype_size(dtype);
    for (size_t t = 0; t < TOKENS; t++) {
        REQUIRE(memcmp(many + t * row, few + t % KINDS * row, row) == 0);
    }
    for (size_t t = 1; t < KINDS; t++) { // and these are not all the same
        REQUIRE(memcmp(few, few + t * row, row) != 0);
    }
}

static void compare_f32(struct rig *rig) {
    compare_rows(rig, DTYPE_F32);
}

static void compare_bf16(struct rig *rig) {
    compare_rows(rig, DTYPE_BF16);
}

static void test_many_tiles(void **state) {
    (void)state;
    in_child("SEED=1", compare_f32);
    in_child("SEED=2", compare_bf16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_many_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
