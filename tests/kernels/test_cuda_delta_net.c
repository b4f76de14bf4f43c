// SPDX-License-Identifier: MIT
// Gated delta nets on CUDA: every size of a thread's share of a state, against a small net that comes to the
// same. The small one is compared with double precision, and all else is tested, in test_delta_net.c.
#include "device_testing.h"

enum { TEXTS = 3, TOKENS = 30, HEADS = 2, KEY = 64, VALUE = 32, TAPS = 4, VALUES_AT = 2 * KEY };

static const int32_t starts[TEXTS + 1] = {0, 1, 10, TOKENS};

// The small net's queries and keys lie among zeros: column c is column c * step + c % step + first. Its
// values, and what goes with them, are there value_dim / VALUE times over.
struct large {
    size_t key_dim;
    size_t step;
    size_t first;
    size_t value_dim;
};

static struct device_delta_net net_of(size_t key_dim, size_t value_dim) {
    return (struct device_delta_net){
        .key_heads = 1, .value_heads = HEADS, .key_dim = key_dim, .value_dim = value_dim, .taps = TAPS};
}

// Columns of the small net's rows that are the large one's; SIZE_MAX: zeros.
static void map_columns(const struct large *large, size_t *from) {
    const struct device_delta_net net = net_of(large->key_dim, large->value_dim);
    size_t width = device_delta_net_width(&net);
    size_t heads = 2 * HEADS; // of v and of z
    for (size_t i = 0; i < 2 * large->key_dim; i++) {
        from[i] = SIZE_MAX;
    }
    for (size_t c = 0; c < KEY; c++) {
        size_t to = c * large->step + c % large->step + large->first;
        from[to] = c;
        from[large->key_dim + to] = KEY + c;
    }
    for (size_t i = 0; i < heads * large->value_dim; i++) {
        from[2 * large->key_dim + i] =
            VALUES_AT + i / large->value_dim * VALUE + i % large->value_dim % VALUE;
    }
    for (size_t i = 0; i < 2 * HEADS; i++) {
        from[width - 2 * HEADS + i] = VALUES_AT + heads * VALUE + i;
    }
}

// out [TOKENS, HEADS, value_dim] of a net whose rows, taps and norm are the small net's in these columns.
static float *run(struct bed *bed, struct device_delta_net net, const size_t *from) {
    const struct device_delta_net small = net_of(KEY, VALUE);
    size_t small_width = device_delta_net_width(&small);
    size_t width = device_delta_net_width(&net);
    size_t mixed = device_delta_net_mixed(&net);
    size_t bytes;
    void *scratch;
    float *rows = random_numbers(1, TOKENS * small_width, 2.0f, bed->dtype);
    float *taps = random_numbers(2, small_width * TAPS, 0.7f, bed->dtype);
    float *norm = random_numbers(3, VALUE, 1.5f, bed->dtype);
    float *gates = random_numbers(4, 2 * HEADS, 1.0f, bed->dtype);
    float *large_rows = calloc(TOKENS * width, sizeof *large_rows);
    float *large_taps = calloc(width * TAPS, sizeof *large_taps);
    float *large_norm = calloc(net.value_dim, sizeof *large_norm);
    assert_true(large_rows != NULL && large_taps != NULL && large_norm != NULL);
    for (size_t i = 0; i < width; i++) {
        for (size_t t = 0; t < TOKENS && from[i] != SIZE_MAX; t++) {
            large_rows[t * width + i] = rows[t * small_width + from[i]];
        }
        for (size_t tap = 0; tap < TAPS; tap++) {
            large_taps[i * TAPS + tap] = from[i] != SIZE_MAX ? taps[from[i] * TAPS + tap] : 1;
        }
    }
    for (size_t i = 0; i < net.value_dim; i++) {
        large_norm[i] = norm[i % VALUE];
    }
    net.convolution = bed_put(bed, large_taps, mixed * TAPS);
    net.norm = bed_put(bed, large_norm, net.value_dim);
    net.decay = bed_put(bed, gates, HEADS);
    net.step_bias = bed_put(bed, gates + HEADS, HEADS);
    assert_true(device_delta_net_scratch(bed->device, &net, TOKENS, &bytes));
    must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &scratch, &bed->error));
    void *in = bed_put(bed, large_rows, TOKENS * width);
    void *out = bed_take(bed, TOKENS * device_delta_net_out(&net) * dtype_size(bed->dtype));
    struct device_texts texts = {
        .starts = bed_upload(bed, starts, sizeof starts), .host_starts = starts, .count = TEXTS};
    must(bed, device_delta_net(bed->device, out, in, &net, texts, NULL, scratch, &bed->error));
    free(rows);
    free(taps);
    free(norm);
    free(gates);
    free(large_rows);
    free(large_taps);
    free(large_norm);
    return bed_get(bed, out, TOKENS * device_delta_net_out(&net));
}

// Without an epsilon, the norm is the same of what is scaled and of what is there several times over. In
// float32 sums of another order are off by what their terms are; bfloat16 rounds four times.
static void compare(const struct bed *bed, const struct large *large, const float *got, const float *small) {
    for (size_t row = 0; row < (size_t)TOKENS * HEADS; row++) {
        double most = 0;
        for (size_t j = 0; j < VALUE; j++) {
            most = fmax(most, fabs((double)small[row * VALUE + j]));
        }
        for (size_t j = 0; j < large->value_dim; j++) {
            double want = (double)small[row * VALUE + j % VALUE];
            double bound = bed->dtype == DTYPE_F32 ? 2e-6 * most : 4.1 * bed_epsilon(bed) * fabs(want) + 1e-6;
            assert_close(bed, "delta net", row * large->value_dim + j, got[row * large->value_dim + j], want,
                         bound);
        }
    }
}

static void check_sizes(const char *path, enum dtype dtype) {
    static const struct large sizes[] = {
        {KEY, 1, 0, VALUE}, {104, 1, 40, 96}, {128, 2, 0, 128}, {136, 1, 72, 160}, {256, 4, 0, 256},
    };
    if (dtype == DTYPE_F16) { // whose o, scaled otherwise, loses other bits below 2^-14
        return;
    }
    size_t from[2 * 256 + 2 * HEADS * 256 + 2 * HEADS];
    float *small = NULL;
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        map_columns(&sizes[i], from);
        float *got = run(&bed, net_of(sizes[i].key_dim, sizes[i].value_dim), from);
        if (small == NULL) {
            small = got;
            continue;
        }
        compare(&bed, &sizes[i], got, small);
        free(got);
    }
    free(small);
    bed_close(&bed);
}

static void test_sizes(void **state) {
    (void)state;
    on_every_path(check_sizes);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
