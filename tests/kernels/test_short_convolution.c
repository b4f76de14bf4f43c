// SPDX-License-Identifier: MIT
// The gated short convolution on every path against double precision, rounding points of the halves, its
// bits in the company of other texts and in slices.
#include "base/size.h"
#include "device_testing.h"

struct convolution_case {
    size_t width;
    size_t taps;
    bool biased;
};

static const struct convolution_case cases[] = {
    {64, 3, false}, {7, 4, true}, {130, 1, true}, {1030, 3, true}, {24, DEVICE_TAPS_MOST, false}};

static const int32_t starts[] = {0, 1, 6, 8, 30};
enum { TEXTS = sizeof starts / sizeof starts[0] - 1, TOKENS = 30 };

struct numbers {
    float *in; // [TOKENS, 3 width]
    float *weight;
    float *bias;
    struct device_short_convolution shape;
};

static struct numbers numbers_of(struct bed *bed, const struct convolution_case *c, size_t tokens) {
    struct numbers n = {.in = random_numbers(c->width, tokens * 3 * c->width, 1.5f, bed->dtype),
                        .weight = random_numbers(c->taps, c->width * c->taps, 1.0f, bed->dtype),
                        .bias = random_numbers(3, c->width, 1.0f, bed->dtype)};
    n.shape = (struct device_short_convolution){
        .width = c->width,
        .taps = c->taps,
        .weight = bed_put(bed, n.weight, c->width * c->taps),
        .bias = c->biased ? bed_put(bed, n.bias, c->width) : NULL,
    };
    return n;
}

static void numbers_free(struct numbers *n) {
    free(n->bias);
    free(n->weight);
    free(n->in);
}

// Number i of a token that has `before` tokens of its text before it.
static void wanted(const struct bed *bed, const struct numbers *n, size_t token, size_t before, size_t i,
                   double *exact, double *bound, float *rounded) {
    size_t width = n->shape.width;
    size_t taps = n->shape.taps;
    double sum = n->shape.bias != NULL ? (double)n->bias[i] : 0;
    double size = fabs(sum);
    double with_roundings = sum;
    for (size_t back = 0; back < taps && back <= before; back++) {
        const float *row = n->in + (token - back) * 3 * width;
        double weight = (double)n->weight[i * taps + taps - 1 - back];
        double product = (double)row[i] * (double)row[2 * width + i];
        sum += weight * product;
        size += fabs(weight * product);
        with_roundings += weight * (double)round_to((float)product, bed->dtype);
    }
    double gate = (double)n->in[token * 3 * width + width + i];
    *exact = gate * sum;
    *rounded = round_to((float)gate * round_to((float)with_roundings, bed->dtype), bed->dtype);
    *bound = fabs(gate) * size * ((double)(taps + 4) * F32_EPSILON + 3.1 * bed_epsilon(bed)) +
             (fabs(gate) + 1) * (double)(taps + 2) * bed_least(bed) + 1e-30;
}

static void try_case(struct bed *bed, const struct convolution_case *c) {
    struct numbers n = numbers_of(bed, c, TOKENS);
    struct device_texts texts = {
        .starts = bed_upload(bed, starts, sizeof starts), .host_starts = starts, .count = TEXTS};
    void *out = bed_take(bed, TOKENS * c->width * sizeof(float));
    must(bed, device_short_convolution(bed->device, out, bed_put(bed, n.in, TOKENS * 3 * c->width), &n.shape,
                                       texts, NULL, &bed->error));
    float *got = bed_get(bed, out, TOKENS * c->width);
    size_t different = 0;
    for (size_t text = 0; text < TEXTS; text++) {
        for (int32_t t = starts[text]; t < starts[text + 1]; t++) {
            for (size_t i = 0; i < c->width; i++) {
                double exact;
                double bound;
                float rounded;
                size_t at = (size_t)t * c->width + i;
                wanted(bed, &n, (size_t)t, (size_t)(t - starts[text]), i, &exact, &bound, &rounded);
                assert_close(bed, "short_convolution", at, got[at], exact, bound);
                different += got[at] != rounded;
            }
        }
    }
    // Where halves are rounded at other points than asked, far more numbers differ.
    assert_true(bed->dtype == DTYPE_F32 || different * 50 <= TOKENS * c->width);
    free(got);
    numbers_free(&n);
}

static void convolutions(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        try_case(&bed, &cases[i]);
    }
    bed_close(&bed);
}

static void test_convolutions(void **state) {
    (void)state;
    on_every_path(convolutions);
}

// ---- company and slices ----

static unsigned char *run(struct bed *bed, const struct numbers *n, size_t first, size_t count, size_t before,
                          void *state) {
    int32_t own[2] = {0, (int32_t)count};
    size_t width = n->shape.width;
    void *out = bed_take(bed, count * width * sizeof(float));
    struct device_texts texts = {
        .starts = bed_upload(bed, own, sizeof own), .host_starts = own, .count = 1, .before = before};
    must(bed, device_short_convolution(bed->device, out,
                                       bed_put(bed, n->in + first * 3 * width, count * 3 * width), &n->shape,
                                       texts, state, &bed->error));
    return bed_bytes(bed, out, count * width * dtype_size(bed->dtype));
}

static void alone_and_in_slices(const char *path, enum dtype dtype) {
    enum { LONG = 2 * DEVICE_SLICE + 2 }; // the last slice is shorter than what a text leaves
    static const struct convolution_case c = {20, 5, true};
    struct bed bed = bed_open(path, dtype, 2);
    struct numbers n = numbers_of(&bed, &c, LONG);
    size_t row = c.width * dtype_size(dtype);
    unsigned char *whole = run(&bed, &n, 0, LONG, 0, NULL);
    unsigned char *begun = run(&bed, &n, 0, 9, 0, NULL);
    assert_memory_equal(begun, whole, 9 * row);
    free(begun);
    void *left = bed_take(&bed, device_short_convolution_state(&n.shape, sizeof(float)));
    for (size_t first = 0; first < LONG; first += DEVICE_SLICE) {
        size_t count = size_min(DEVICE_SLICE, LONG - first);
        unsigned char *slice = run(&bed, &n, first, count, first, left);
        assert_memory_equal(slice, whole + first * row, count * row);
        free(slice);
    }
    free(whole);
    numbers_free(&n);
    bed_close(&bed);
}

static void test_alone_and_in_slices(void **state) {
    (void)state;
    on_every_path(alone_and_in_slices);
}

// A batch of texts that are alike: the same bits for each, with any number of threads.
static void company(const char *path, enum dtype dtype) {
    enum { EACH = 11, COPIES = 9 };
    static const struct convolution_case c = {50, 3, false};
    int32_t own[COPIES + 1];
    for (int threads = 1; threads <= (test_on_cpu() ? 3 : 1); threads++) {
        struct bed bed = bed_open(path, dtype, threads);
        struct numbers n = numbers_of(&bed, &c, EACH * COPIES);
        size_t bytes = EACH * c.width * dtype_size(dtype);
        for (size_t i = 0; i <= COPIES; i++) {
            own[i] = (int32_t)(i * EACH);
        }
        for (size_t i = 1; i < COPIES; i++) {
            memcpy(n.in + i * EACH * 3 * c.width, n.in, EACH * 3 * c.width * sizeof *n.in);
        }
        void *out = bed_take(&bed, EACH * COPIES * c.width * sizeof(float));
        struct device_texts texts = {
            .starts = bed_upload(&bed, own, sizeof own), .host_starts = own, .count = COPIES};
        must(&bed, device_short_convolution(bed.device, out, bed_put(&bed, n.in, EACH * COPIES * 3 * c.width),
                                            &n.shape, texts, NULL, &bed.error));
        unsigned char *together = bed_bytes(&bed, out, COPIES * bytes);
        unsigned char *alone = run(&bed, &n, 0, EACH, 0, NULL);
        for (size_t i = 0; i < COPIES; i++) {
            assert_memory_equal(together + i * bytes, alone, bytes);
        }
        free(alone);
        free(together);
        numbers_free(&n);
        bed_close(&bed);
    }
}

static void test_company(void **state) {
    (void)state;
    on_every_path(company);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_alone_and_in_slices),
        cmocka_unit_test(test_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
