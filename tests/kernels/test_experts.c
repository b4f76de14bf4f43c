// SPDX-License-Identifier: MIT
// The experts of a mixture against double precision, against a dense block's matmuls, and whether a row
// depends on its company.
#include "experts_testing.h"

// ---- against double precision ----

struct value {
    double is;
    double off; // at most, of what the device has
};

// row . x + bias, rounded to the dtype.
static struct value product(const struct bed *bed, const float *row, const struct value *x, size_t count,
                            const float *bias) {
    struct value sum = {bias != NULL ? (double)*bias : 0, 0};
    double size = fabs(sum.is);
    for (size_t k = 0; k < count; k++) {
        sum.is += (double)row[k] * x[k].is;
        sum.off += fabs((double)row[k]) * x[k].off;
        size += fabs((double)row[k]) * (fabs(x[k].is) + x[k].off);
    }
    sum.off += (double)(count + 2) * F32_EPSILON * size;
    sum.off += 1.01 * bed_epsilon(bed) * (fabs(sum.is) + sum.off) + bed_least(bed);
    return sum;
}

static double activation_of(enum device_activation activation, double x) {
    switch (activation) {
    case DEVICE_SILU:
        return x / (1 + exp(-x));
    case DEVICE_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case DEVICE_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case DEVICE_RELU:
        return fmax(x, 0);
    case DEVICE_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case DEVICE_XIELU:
        break; // no mixture of a known family has it
    }
    return NAN;
}

// Activations have slopes of at most 1.13, and round at most six times. The square has that of 2 x.
static struct value activated_plain(const struct bed *bed, const struct sizes *sizes, struct value up) {
    bool squared = sizes->activation == DEVICE_RELU_SQUARED;
    double is = activation_of(sizes->activation, up.is);
    double slope = squared ? 2 * (fabs(up.is) + up.off) : 1.13;
    double off = slope * up.off + 6 * (bed_epsilon(bed) + 8 * F32_EPSILON) * (fabs(is) + slope * up.off);
    return (struct value){is, off + 6 * bed_least(bed)};
}

// The same where they are multiplied with up.
static struct value activated(const struct bed *bed, const struct sizes *sizes, struct value gate,
                              struct value up) {
    double g = gate.is;
    double u = up.is;
    double is = activation_of(sizes->activation, g) * u;
    double factor = fabs(u);
    if (sizes->limit > 0) {
        g = fmin(g, (double)sizes->limit);
        u = fmax(fmin(u, (double)sizes->limit), -(double)sizes->limit);
        is = g / (1 + exp(-1.702 * g)) * (u + 1);
        factor = fabs(u) + 1;
    }
    double off = 1.13 * gate.off * (factor + up.off) + fabs(g) * up.off;
    off += 6 * (bed_epsilon(bed) + 8 * F32_EPSILON) * (fabs(g) + gate.off) * (factor + up.off);
    return (struct value){is, off + 6 * bed_least(bed) * (1 + factor)};
}

// One expert's rows of `out` [hidden] for one token.
static void expert_of(const struct bed *bed, const struct sizes *sizes, const struct numbers *in,
                      size_t expert, const float *token, float weight, struct value *out) {
    size_t width = sizes->width;
    size_t hidden = sizes->hidden;
    struct value *x = malloc(hidden * sizeof *x);
    struct value *inner = malloc(width * sizeof *inner);
    assert_true(x != NULL && inner != NULL);
    for (size_t k = 0; k < hidden; k++) {
        x[k] = (struct value){(double)token[k], 0};
        if (sizes->scales_input) {
            x[k].is *= (double)weight;
            x[k].off = 1.01 * bed_epsilon(bed) * fabs(x[k].is) + bed_least(bed);
        }
    }
    for (size_t i = 0; i < width; i++) {
        struct value both[2];
        for (size_t half = 0; half < (sizes->plain ? 1 : 2); half++) {
            size_t row = expert * rows_of(sizes) + half * width + i;
            both[half] = product(bed, in->gate_up + row * hidden, x, hidden,
                                 sizes->biased ? in->gate_up_bias + row : NULL);
        }
        inner[i] =
            sizes->plain ? activated_plain(bed, sizes, both[0]) : activated(bed, sizes, both[0], both[1]);
    }
    for (size_t i = 0; i < hidden; i++) {
        size_t row = expert * hidden + i;
        out[i] =
            product(bed, in->down + row * width, inner, width, sizes->biased ? in->down_bias + row : NULL);
    }
    free(inner);
    free(x);
}

static void check_token(const struct bed *bed, const struct sizes *sizes, const struct numbers *in,
                        size_t token, const float *got) {
    size_t hidden = sizes->hidden;
    struct value *one = malloc(hidden * sizeof *one);
    struct value *sum = calloc(hidden, sizeof *sum);
    assert_true(one != NULL && sum != NULL);
    for (size_t j = token * sizes->chosen; j < (token + 1) * sizes->chosen; j++) {
        expert_of(bed, sizes, in, (size_t)in->experts[j], in->x + token * hidden, in->weights[j], one);
        double weight = sizes->scales_input ? 1 : (double)in->weights[j];
        for (size_t i = 0; i < hidden; i++) {
            sum[i].is += weight * one[i].is;
            sum[i].off += weight * (one[i].off + 16 * F32_EPSILON * fabs(one[i].is));
        }
    }
    for (size_t i = 0; i < hidden; i++) {
        double want = sum[i].is;
        double off = sum[i].off + 1.01 * bed_epsilon(bed) * (fabs(want) + sum[i].off) + bed_least(bed);
        if (sizes->store == DEVICE_ADD) {
            want += (double)in->before[token * hidden + i];
            off += 1.01 * bed_epsilon(bed) * (fabs(want) + off) + bed_least(bed);
        }
        assert_close(bed, "experts", token * hidden + i, got[i], want, off + 1e-30);
    }
    free(sum);
    free(one);
}

static void check_case(const char *path, enum dtype dtype, const struct sizes *sizes) {
    struct bed bed = bed_open_rows(path, dtype, 2, sizes->tokens);
    struct numbers in = take_numbers(sizes, dtype);
    struct layer layer;
    put_layer(&bed, sizes, &in, &layer);
    void *scratch = take_scratch(&bed, &layer, sizes->tokens);
    float *got = numbers_widen(run_tokens(&bed, sizes, &in, &layer, NULL, sizes->tokens, scratch), dtype,
                               sizes->tokens * sizes->hidden);
    for (size_t t = 0; t<sizes->tokens; t += sizes->tokens> 60 ? 7 : 1) {
        check_token(&bed, sizes, &in, t, got + t * sizes->hidden);
    }
    free(got);
    numbers_free(&in);
    bed_close(&bed);
}

static void check_cases(const char *path, enum dtype dtype) {
    static const struct sizes cases[] = {
        {1, 4, 2, 8, 16, 0, false, DEVICE_STORE, 0, DEVICE_SILU, false, false},
        {3, 8, 8, 64, 24, 0, false, DEVICE_ADD, 0, DEVICE_RELU, false, false},
        {40, 16, 4, 32, 72, 7, true, DEVICE_STORE, 0, DEVICE_SILU, false, false},
        {230, 6, 2, 40, 64, 0, true, DEVICE_ADD, 2, DEVICE_GELU_TANH, false, false},
        {70, 3, 1, 136, 8, 1, true, DEVICE_ADD, 1, DEVICE_SILU, false, false},
        {9, 64, 6, 520, 16, 0, false, DEVICE_STORE, 0, DEVICE_GELU, false, false},
        {41, 8, 3, 40, 72, 0, false, DEVICE_ADD, 0, DEVICE_RELU_SQUARED, true, false},
        {150, 4, 2, 136, 136, 0, true, DEVICE_STORE, 1, DEVICE_SILU, true, false},
        {150, 4, 1, 136, 64, 0, false, DEVICE_ADD, 1, DEVICE_SILU, false, true},
        {20, 6, 3, 24, 16, 0, true, DEVICE_STORE, 0, DEVICE_SILU, false, true},
        {20, 6, 3, 24, 16, 0, true, DEVICE_STORE, 0, DEVICE_GELU, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(path, dtype, &cases[i]);
    }
}

static void test_against_double(void **state) {
    (void)state;
    on_every_path(check_cases);
}

// Experts that begin and end within panels, odd depths.
static void check_odd_cases(const char *path, enum dtype dtype) {
    static const struct sizes cases[] = {
        {1, 3, 2, 1, 1, 0, false, DEVICE_STORE, 0, DEVICE_SILU, false, false},
        {50, 5, 3, 33, 19, 0, true, DEVICE_ADD, 2, DEVICE_SILU, false, false},
        {300, 4, 1, 71, 35, 3, true, DEVICE_STORE, 1, DEVICE_SILU, false, false},
        {50, 5, 3, 33, 19, 0, true, DEVICE_ADD, 2, DEVICE_RELU_SQUARED, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(path, dtype, &cases[i]);
    }
}

static void test_odd_sizes(void **state) {
    (void)state;
    if (!test_on_cpu()) {
        print_message("skipped: sizes that are no multiples of 8, which a GPU's library may not have\n");
        return;
    }
    on_every_path(check_odd_cases);
}

// Three experts that come to `biases` whatever a token is, times `weights`.
static void check_sum(const char *path, enum dtype dtype, const float biases[3], const float weights[3],
                      float wanted) {
    static const struct sizes sizes = {5, 3, 3, 8, 8, 0, true, DEVICE_STORE, 0, DEVICE_RELU, true, false};
    struct bed bed = bed_open_rows(path, dtype, 2, sizes.tokens);
    struct numbers in = take_numbers(&sizes, dtype);
    memset(in.down, 0, sizes.experts * sizes.hidden * sizes.width * sizeof in.down[0]);
    for (size_t i = 0; i < sizes.experts * sizes.hidden; i++) {
        in.down_bias[i] = biases[i / sizes.hidden];
    }
    for (size_t i = 0; i < sizes.tokens * sizes.chosen; i++) {
        in.weights[i] = weights[i % sizes.chosen];
    }
    struct layer layer;
    put_layer(&bed, &sizes, &in, &layer);
    void *scratch = take_scratch(&bed, &layer, sizes.tokens);
    float *got = numbers_widen(run_tokens(&bed, &sizes, &in, &layer, NULL, sizes.tokens, scratch), dtype,
                               sizes.tokens * sizes.hidden);
    for (size_t i = 0; i < sizes.tokens * sizes.hidden; i++) {
        assert_true(got[i] == wanted);
    }
    free(got);
    numbers_free(&in);
    bed_close(&bed);
}

// What a token's experts come to is added up in ascending order: (2^24 + 1) - 2^24 is 0 in float32, and 1 the
// other way round.
static void check_order(const char *path, enum dtype dtype) {
    if (dtype != DTYPE_F16) { // which has no 2^24
        check_sum(path, dtype, (const float[3]){0x1p24f, 1, -0x1p24f}, (const float[3]){1, 1, 1}, 0);
    }
}

static void test_order(void **state) {
    (void)state;
    on_every_path(check_order);
}

// The sum is float32, of products that are not rounded: 256 + 0.5 (1 + 2^-10) + 0.5 is above the middle of
// 256 and 258, bfloat16's next; it comes to 256 where a product or a step is rounded.
static void check_rounded_once(const char *path, enum dtype dtype) {
    if (dtype == DTYPE_BF16) {
        check_sum(path, dtype, (const float[3]){256, 1, 1}, (const float[3]){1, 0x1.004p-1f, 0.5f}, 258);
    }
}

static void test_rounded_once(void **state) {
    (void)state;
    on_every_path(check_rounded_once);
}

// ---- company ----

// Tokens of a batch that goes in pieces have the bits that they have alone.
static void check_pieces(const char *path, enum dtype dtype) {
    enum { TOKENS = 2100, CHECKED = 149 };
    static const struct sizes sizes = {TOKENS,       3, 2,           1032,  8,    0, false,
                                       DEVICE_STORE, 1, DEVICE_SILU, false, false};
    size_t row = sizes.hidden * dtype_size(dtype);
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct numbers in = take_numbers(&sizes, dtype);
    struct layer layer;
    put_layer(&bed, &sizes, &in, &layer);
    void *scratch = take_scratch(&bed, &layer, TOKENS);
    unsigned char *all = run_tokens(&bed, &sizes, &in, &layer, NULL, TOKENS, scratch);
    bed_close(&bed);
    bed = bed_open_rows(path, dtype, 1, 1);
    put_layer(&bed, &sizes, &in, &layer);
    scratch = take_scratch(&bed, &layer, 1);
    for (size_t t = 0; t < TOKENS; t += CHECKED) {
        void *got = run_tokens(&bed, &sizes, &in, &layer, &t, 1, scratch);
        assert_memory_equal(got, all + t * row, row);
        free(got);
    }
    free(all);
    numbers_free(&in);
    bed_close(&bed);
}

static void test_pieces(void **state) {
    (void)state;
    on_every_path(check_pieces);
}

// A row has the same bits alone, among others in another order, and with other numbers of threads.
static void check_company_of(const char *path, enum dtype dtype, const struct sizes *sizes) {
    enum { TOKENS = 330, SOME = 29 }; // the case's tokens; of a batch in another order
    size_t row = sizes->hidden * dtype_size(dtype);
    struct numbers in = take_numbers(sizes, dtype);
    unsigned char *all = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        struct bed bed = bed_open_rows(path, dtype, threads, TOKENS);
        struct layer layer;
        put_layer(&bed, sizes, &in, &layer);
        void *scratch = take_scratch(&bed, &layer, TOKENS);
        unsigned char *got = run_tokens(&bed, sizes, &in, &layer, NULL, TOKENS, scratch);
        if (all == NULL) {
            all = got;
        } else {
            assert_memory_equal(got, all, TOKENS * row);
            free(got);
        }
        for (size_t t = 0; t < TOKENS; t += 47) {
            got = run_tokens(&bed, sizes, &in, &layer, &t, 1, scratch);
            assert_memory_equal(got, all + t * row, row);
            free(got);
        }
        uint64_t seed = (uint64_t)threads;
        for (size_t count = 2; count <= SOME; count += 9) {
            size_t order[SOME];
            for (size_t i = 0; i < count; i++) {
                order[i] = (size_t)(random_unit(&seed) * TOKENS);
            }
            got = run_tokens(&bed, sizes, &in, &layer, order, count, scratch);
            for (size_t i = 0; i < count; i++) {
                assert_memory_equal(got + i * row, all + order[i] * row, row);
            }
            free(got);
        }
        bed_close(&bed);
    }
    free(all);
    numbers_free(&in);
}

static void check_company(const char *path, enum dtype dtype) {
    static const struct sizes cases[] = {
        {330, 7, 3, 72, 40, 0, true, DEVICE_ADD, 3, DEVICE_SILU, false, false},
        {330, 7, 3, 72, 40, 0, true, DEVICE_ADD, 3, DEVICE_RELU_SQUARED, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_company_of(path, dtype, &cases[i]);
    }
}

static void test_company(void **state) {
    (void)state;
    on_every_path(check_company);
}

// A row of NaN stays one, and no other row is touched.
static void check_not_finite(const char *path, enum dtype dtype) {
    enum { TOKENS = 40, ROW = 11 };
    static const struct sizes sizes = {TOKENS,       4, 2,           16,    8,    7, false,
                                       DEVICE_STORE, 0, DEVICE_SILU, false, false};
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct numbers in = take_numbers(&sizes, dtype);
    struct layer layer;
    put_layer(&bed, &sizes, &in, &layer);
    void *scratch = take_scratch(&bed, &layer, TOKENS);
    float *before =
        numbers_widen(run_tokens(&bed, &sizes, &in, &layer, NULL, TOKENS, scratch), dtype, TOKENS * 16);
    in.x[ROW * 16 + 2] = NAN;
    float *got =
        numbers_widen(run_tokens(&bed, &sizes, &in, &layer, NULL, TOKENS, scratch), dtype, TOKENS * 16);
    for (size_t i = 0; i < TOKENS * 16; i++) {
        assert_true(i / 16 == ROW ? isnan(got[i]) : got[i] == before[i]);
    }
    free(got);
    free(before);
    numbers_free(&in);
    bed_close(&bed);
}

static void test_not_finite(void **state) {
    (void)state;
    on_every_path(check_not_finite);
}

// ---- against the dense operations ----

// An expert that begins and ends within panels, with weight 1: the bits of matmuls with matrices of its own.
static void check_dense(const char *path, enum dtype dtype) {
    enum { TOKENS = 100, HIDDEN = 71, WIDTH = 43, MATRIX = HIDDEN * WIDTH };
    static const struct sizes sizes = {TOKENS,       2, 1,           HIDDEN, WIDTH, 0, true,
                                       DEVICE_STORE, 0, DEVICE_SILU, false,  false};
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct numbers in = take_numbers(&sizes, dtype);
    struct layer layer;
    put_layer(&bed, &sizes, &in, &layer);
    for (size_t t = 0; t < TOKENS; t++) {
        in.experts[t] = 1;
        in.weights[t] = 1;
    }
    void *got = run_tokens(&bed, &sizes, &in, &layer, NULL, TOKENS, take_scratch(&bed, &layer, TOKENS));
    struct device_matrix gate_up = bed_matrix(&bed, in.gate_up + 2 * MATRIX, 2 * WIDTH, HIDDEN);
    struct device_matrix down = bed_matrix(&bed, in.down + MATRIX, HIDDEN, WIDTH);
    void *x = bed_put_rows(&bed, in.x, TOKENS, HIDDEN);
    void *both = bed_take_rows(&bed, (size_t)2 * WIDTH);
    void *inner = bed_take_rows(&bed, WIDTH);
    void *out = bed_take_rows(&bed, HIDDEN);
    const void *gate_up_bias = bed_put(&bed, in.gate_up_bias + 2 * WIDTH, 2 * WIDTH);
    const void *down_bias = bed_put(&bed, in.down_bias + HIDDEN, HIDDEN);
    must(&bed, device_matmul(bed.device, both, x, &gate_up, gate_up_bias, TOKENS, DEVICE_STORE, &bed.error));
    must(&bed, device_activate(bed.device, inner, both, DEVICE_SILU, true, TOKENS, WIDTH, &bed.error));
    must(&bed, device_matmul(bed.device, out, inner, &down, down_bias, TOKENS, DEVICE_STORE, &bed.error));
    void *want = bed_bytes(&bed, out, TOKENS * HIDDEN * dtype_size(dtype));
    assert_memory_equal(got, want, TOKENS * HIDDEN * dtype_size(dtype));
    free(want);
    free(got);
    numbers_free(&in);
    bed_close(&bed);
}

static void test_dense(void **state) {
    (void)state;
    if (!test_on_cpu()) {
        print_message("skipped: a GPU may add up an expert's products in another order than a matmul's\n");
        return;
    }
    on_every_path(check_dense);
}

// ---- sizes ----

static void test_refusals(void **state) {
    (void)state;
    static const struct sizes sizes = {2, 4, 2, 8, 16, 0, false, DEVICE_STORE, 0, DEVICE_SILU, false, false};
    struct bed bed = bed_open_rows(NULL, DTYPE_F32, 1, 2);
    struct numbers in = take_numbers(&sizes, DTYPE_F32);
    struct layer layer;
    size_t bytes;
    put_layer(&bed, &sizes, &in, &layer);
    void *x = bed_put_rows(&bed, in.x, 2, 8);
    void *scratch = take_scratch(&bed, &layer, 2);
    struct device_routes routes = {bed_upload(&bed, in.experts, 4 * sizeof(int32_t)),
                                   bed_upload(&bed, in.weights, 4 * sizeof(float))};
    assert_int_equal(
        device_experts(bed.device, x, x, &routes, &layer.experts, DEVICE_STORE, 2, scratch, &bed.error),
        STATUS_INTERNAL);
    layer.experts.plain = true;
    layer.experts.limit = 7;
    assert_int_equal(device_experts(bed.device, bed_take(&bed, 64), x, &routes, &layer.experts, DEVICE_STORE,
                                    2, scratch, &bed.error),
                     STATUS_INTERNAL);
    layer.experts.plain = false;
    layer.experts.limit = 0;
    layer.experts.width = 8;
    assert_int_equal(device_experts(bed.device, bed_take(&bed, 64), x, &routes, &layer.experts, DEVICE_STORE,
                                    2, scratch, &bed.error),
                     STATUS_INTERNAL);
    layer.experts.chosen = 5;
    assert_false(device_experts_scratch(bed.device, &layer.experts, 2, &bytes));
    layer.experts.chosen = 2;
    layer.experts.hidden = SIZE_MAX / 4;
    assert_false(device_experts_scratch(bed.device, &layer.experts, 1024, &bytes));
    numbers_free(&in);
    bed_close(&bed);
}

// Scratch for a batch has room for every smaller one.
static void test_scratch_grows(void **state) {
    (void)state;
    struct bed bed = bed_open_rows(NULL, DTYPE_F32, 1, 2);
    struct device_experts experts = {.experts = 128, .chosen = 8, .hidden = 2048, .width = 768};
    size_t before = 0;
    for (size_t tokens = 1; tokens <= 8192; tokens += tokens / 3 + 1) {
        size_t bytes;
        assert_true(device_experts_scratch(bed.device, &experts, tokens, &bytes));
        assert_true(bytes >= before);
        before = bytes;
    }
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_company),        cmocka_unit_test(test_order),
        cmocka_unit_test(test_rounded_once),   cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_not_finite),     cmocka_unit_test(test_dense),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_scratch_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
