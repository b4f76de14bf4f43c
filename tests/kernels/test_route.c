// The choice of each token's experts against double precision, ties, NaN, and whether a token's choice
// depends on its company.
#include "device_testing.h"

struct case_of_routing {
    size_t tokens;
    size_t hidden;
    bool biased;
    struct device_routing routing;
};

static const struct case_of_routing cases[] = {
    {1, 8, false, {8, 2, DEVICE_SCORES_ALL, true, true, false, 1}},          // Mixtral
    {130, 64, false, {64, 8, DEVICE_SCORES_ALL, false, true, true, 1}},      // OLMoE
    {37, 520, false, {128, 8, DEVICE_SCORES_ALL, true, true, true, 1}},      // Qwen3-MoE
    {300, 40, true, {32, 4, DEVICE_SCORES_CHOSEN, false, true, true, 1}},    // gpt-oss
    {9, 1032, false, {40, 8, DEVICE_SCORES_CHOSEN, false, true, true, 1}},   // GraniteMoe
    {20, 24, true, {7, 7, DEVICE_SCORES_SIGMOID, true, false, false, 2.5f}}, // all of them
    {5, 16, false, {1024, 3, DEVICE_SCORES_SIGMOID, false, false, true, 1}},
    {3, 8, false, {1, 1, DEVICE_SCORES_ALL, true, false, false, 1}},
};

static const struct case_of_routing odd_cases[] = {
    {33, 513, true, {65, 5, DEVICE_SCORES_ALL, true, false, false, 1}},
    {2, 1, false, {3, 1, DEVICE_SCORES_SIGMOID, false, false, false, 1}},
    {150, 1025, false, {9, 2, DEVICE_SCORES_CHOSEN, false, true, true, 1}},
};

struct choice { // of all tokens, in host memory
    int32_t *experts;
    float *weights;
};

static void choice_free(struct choice *choice) {
    free(choice->experts);
    free(choice->weights);
}

// x, router, bias: numbers of the dtype in device memory.
static struct choice choose(struct bed *bed, const void *x, const void *router, const void *bias,
                            const struct device_routing *routing, size_t tokens, size_t hidden) {
    size_t pairs = tokens * routing->chosen;
    struct device_routes routes = {bed_take(bed, pairs * sizeof(int32_t)),
                                   bed_take(bed, pairs * sizeof(float))};
    must(bed, device_route(bed->device, &routes, x, router, bias, routing, tokens, hidden, &bed->error));
    return (struct choice){bed_bytes(bed, routes.experts, pairs * sizeof(int32_t)),
                           bed_bytes(bed, routes.weights, pairs * sizeof(float))};
}

// logits [experts] of one token in double precision, with what float32 sums may be off; returns the largest
// of that.
static double logits_of(const struct bed *bed, const struct case_of_routing *in, double *logits,
                        const float *x, const float *router, const float *bias) {
    double worst = 0;
    for (size_t e = 0; e < in->routing.experts; e++) {
        double size = 0;
        logits[e] = 0;
        for (size_t k = 0; k < in->hidden; k++) {
            double term = (double)x[k] * (double)router[e * in->hidden + k];
            logits[e] += term;
            size += fabs(term);
        }
        if (in->biased) {
            logits[e] += (double)bias[e];
            size += fabs((double)bias[e]);
        }
        double off = (double)(in->hidden + 2) * F32_EPSILON * size;
        if (in->routing.rounds_logits) {
            off += 1.01 * bed_epsilon(bed) * fabs(logits[e]) + bed_least(bed);
        }
        worst = fmax(worst, off);
    }
    return worst;
}

// The weights of the experts that were chosen, by the definition.
static void weights_of(const struct case_of_routing *in, double *weights, const double *logits,
                       const int32_t *experts) {
    const struct device_routing *routing = &in->routing;
    double sum = 0;
    size_t summed = routing->scores == DEVICE_SCORES_ALL ? routing->experts : routing->chosen;
    for (size_t i = 0; i < summed; i++) {
        sum += exp(logits[routing->scores == DEVICE_SCORES_ALL ? i : (size_t)experts[i]]);
    }
    double chosen = 0;
    for (size_t i = 0; i < routing->chosen; i++) {
        double logit = logits[experts[i]];
        weights[i] = routing->scores == DEVICE_SCORES_SIGMOID ? 1 / (1 + exp(-logit)) : exp(logit) / sum;
        chosen += weights[i];
    }
    for (size_t i = 0; i < routing->chosen; i++) {
        weights[i] *= (double)routing->scaling / (routing->normalised ? chosen : 1);
    }
}

static void check_token(const struct bed *bed, const struct case_of_routing *in, const double *logits,
                        double off, const int32_t *experts, const float *weights) {
    enum { MOST = 16 };
    const struct device_routing *routing = &in->routing;
    double want[MOST];
    bool chosen[DEVICE_EXPERTS_MOST] = {false};
    double least = INFINITY;
    assert_true(routing->chosen <= MOST);
    for (size_t i = 0; i < routing->chosen; i++) {
        assert_in_range(experts[i], i == 0 ? 0 : experts[i - 1] + 1, routing->experts - 1);
        chosen[experts[i]] = true;
        least = fmin(least, logits[experts[i]]);
    }
    for (size_t e = 0; e < routing->experts; e++) {
        assert_true(chosen[e] || logits[e] <= least + 2 * off);
    }
    weights_of(in, want, logits, experts);
    for (size_t i = 0; i < routing->chosen; i++) {
        // A logit that is off by d puts a factor of e^d on its score, and another on the sum; an exponential
        // is good to a few units, and so are sums of at most 1024 of them.
        double factor = expm1(2 * off) + 200 * F32_EPSILON + 2 * off;
        double round = routing->rounds_weights ? bed_epsilon(bed) : F32_EPSILON;
        double bound = fabs(want[i]) * (2 * factor + 1.01 * round) + bed_least(bed) + 1e-30;
        assert_close(bed, "weight", i, weights[i], want[i], bound);
    }
}

static void check_case(const char *path, enum dtype dtype, const struct case_of_routing *in) {
    struct bed bed = bed_open_rows(path, dtype, 2, in->tokens);
    size_t experts = in->routing.experts;
    float *x = random_numbers(in->tokens, in->tokens * in->hidden, 1.0f, dtype);
    float *router = random_numbers(in->hidden, experts * in->hidden, 0.5f, dtype);
    float *bias = random_numbers(experts, experts, 1.0f, dtype);
    double *logits = malloc(experts * sizeof *logits);
    assert_non_null(logits);
    struct choice got = choose(
        &bed, bed_put_rows(&bed, x, in->tokens, in->hidden), bed_put(&bed, router, experts * in->hidden),
        in->biased ? bed_put(&bed, bias, experts) : NULL, &in->routing, in->tokens, in->hidden);
    for (size_t t = 0; t < in->tokens; t++) {
        double off = logits_of(&bed, in, logits, x + t * in->hidden, router, bias);
        check_token(&bed, in, logits, off, got.experts + t * in->routing.chosen,
                    got.weights + t * in->routing.chosen);
    }
    choice_free(&got);
    free(logits);
    free(bias);
    free(router);
    free(x);
    bed_close(&bed);
}

static void check_cases(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(path, dtype, &cases[i]);
    }
}

static void test_against_double(void **state) {
    (void)state;
    on_every_path(check_cases);
}

static void check_odd_cases(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < sizeof odd_cases / sizeof odd_cases[0]; i++) {
        check_case(path, dtype, &odd_cases[i]);
    }
}

static void test_odd_sizes(void **state) {
    (void)state;
    on_every_path(check_odd_cases);
}

// Equal logits: those of the lower numbers.
static void check_ties(const char *path, enum dtype dtype) {
    enum { TOKENS = 5, HIDDEN = 24, EXPERTS = 72, CHOSEN = 4 };
    static const int32_t wanted[CHOSEN] = {1, 4, 5, 9};
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct device_routing routing = {EXPERTS, CHOSEN, DEVICE_SCORES_ALL, true, true, true, 1};
    float *router = random_numbers(1, EXPERTS * HIDDEN, 0.001f, dtype);
    float x[TOKENS * HIDDEN];
    for (size_t i = 0; i < TOKENS * HIDDEN; i++) {
        x[i] = 1;
    }
    const size_t great[] = {1, 4, 5, 9, 40, 64, 71}; // in one panel and another
    for (size_t i = 0; i < sizeof great / sizeof great[0]; i++) {
        for (size_t k = 0; k < HIDDEN; k++) {
            router[great[i] * HIDDEN + k] = 0.125f;
        }
    }
    struct choice got =
        choose(&bed, bed_put_rows(&bed, x, TOKENS, HIDDEN), bed_put(&bed, router, (size_t)EXPERTS * HIDDEN),
               NULL, &routing, TOKENS, HIDDEN);
    for (size_t t = 0; t < TOKENS; t++) {
        assert_memory_equal(got.experts + t * CHOSEN, wanted, sizeof wanted);
        for (size_t i = 0; i < CHOSEN; i++) {
            assert_true(got.weights[t * CHOSEN + i] == 0.25f);
        }
    }
    choice_free(&got);
    free(router);
    bed_close(&bed);
}

static void test_ties(void **state) {
    (void)state;
    on_every_path(check_ties);
}

// Tokens of NaN and infinities still get experts that exist, and their weights show it; others keep theirs.
static void check_not_finite(const char *path, enum dtype dtype) {
    enum { TOKENS = 3, HIDDEN = 16, EXPERTS = 20, CHOSEN = 3 };
    for (int scores = DEVICE_SCORES_ALL; scores <= DEVICE_SCORES_SIGMOID; scores++) {
        struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
        struct device_routing routing = {EXPERTS, CHOSEN, (enum device_scores)scores, false, true, true, 1};
        float *router = random_numbers(5, EXPERTS * HIDDEN, 1.0f, dtype);
        float *x = random_numbers(6, TOKENS * HIDDEN, 1.0f, dtype);
        void *device_router = bed_put(&bed, router, (size_t)EXPERTS * HIDDEN);
        struct choice before = choose(&bed, bed_put_rows(&bed, x, TOKENS, HIDDEN), device_router, NULL,
                                      &routing, TOKENS, HIDDEN);
        x[3] = NAN;
        x[2 * HIDDEN + 1] = INFINITY;
        x[2 * HIDDEN + 2] = -INFINITY;
        struct choice got = choose(&bed, bed_put_rows(&bed, x, TOKENS, HIDDEN), device_router, NULL, &routing,
                                   TOKENS, HIDDEN);
        for (size_t i = 0; i < (size_t)TOKENS * CHOSEN; i++) {
            assert_in_range(got.experts[i], i % CHOSEN == 0 ? 0 : got.experts[i - 1] + 1, EXPERTS - 1);
        }
        assert_true(isnan(got.weights[0]));
        assert_memory_equal(got.experts + CHOSEN, before.experts + CHOSEN, CHOSEN * sizeof(int32_t));
        assert_memory_equal(got.weights + CHOSEN, before.weights + CHOSEN, CHOSEN * sizeof(float));
        choice_free(&got);
        choice_free(&before);
        free(x);
        free(router);
        bed_close(&bed);
    }
}

static void test_not_finite(void **state) {
    (void)state;
    on_every_path(check_not_finite);
}

// A token's choice has the same bits alone, in company and with other numbers of threads.
static void check_company(const char *path, enum dtype dtype) {
    enum { TOKENS = 141, HIDDEN = 1032, EXPERTS = 72, CHOSEN = 6 };
    struct device_routing routing = {EXPERTS, CHOSEN, DEVICE_SCORES_ALL, true, true, false, 1};
    float *router = random_numbers(5, (size_t)EXPERTS * HIDDEN, 0.1f, dtype);
    float *x = random_numbers(6, (size_t)TOKENS * HIDDEN, 1.0f, dtype);
    struct choice all = {0};
    for (int threads = 1; threads <= 3; threads++) {
        struct bed bed = bed_open_rows(path, dtype, threads, TOKENS);
        void *device_router = bed_put(&bed, router, (size_t)EXPERTS * HIDDEN);
        struct choice got = choose(&bed, bed_put_rows(&bed, x, TOKENS, HIDDEN), device_router, NULL, &routing,
                                   TOKENS, HIDDEN);
        if (threads == 1) {
            all = got;
        } else {
            assert_memory_equal(got.experts, all.experts, TOKENS * CHOSEN * sizeof(int32_t));
            assert_memory_equal(got.weights, all.weights, TOKENS * CHOSEN * sizeof(float));
            choice_free(&got);
        }
        for (size_t t = 0; t < TOKENS; t += 20) {
            got = choose(&bed, bed_put_rows(&bed, x + t * HIDDEN, 1, HIDDEN), device_router, NULL, &routing,
                         1, HIDDEN);
            assert_memory_equal(got.experts, all.experts + t * CHOSEN, CHOSEN * sizeof(int32_t));
            assert_memory_equal(got.weights, all.weights + t * CHOSEN, CHOSEN * sizeof(float));
            choice_free(&got);
        }
        bed_close(&bed);
    }
    choice_free(&all);
    free(x);
    free(router);
}

static void test_company(void **state) {
    (void)state;
    on_every_path(check_company);
}

static void test_refusals(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{0, 1}, {4, 0}, {4, 5}, {DEVICE_EXPERTS_MOST + 1, 1}};
    struct bed bed = bed_open_rows(NULL, DTYPE_F32, 1, 1);
    float numbers[8] = {0};
    void *x = bed_put(&bed, numbers, 8);
    struct device_routes routes = {bed_take(&bed, 64), bed_take(&bed, 64)};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct device_routing routing = {sizes[i][0], sizes[i][1], DEVICE_SCORES_ALL, true, true, true, 1};
        assert_int_equal(device_route(bed.device, &routes, x, x, NULL, &routing, 1, 8, &bed.error),
                         STATUS_INTERNAL);
        assert_non_null(strstr(bed.error.message, "cannot choose so many experts"));
    }
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_ties),           cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_company),        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
