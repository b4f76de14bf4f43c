// SPDX-License-Identifier: MIT
// The choice of each token's experts against double precision, ties, NaN, and whether a token's choice
// depends on its company.
#include "device_testing.h"

struct case_of_routing {
    size_t tokens;
    size_t hidden;
    bool biased;
    bool corrected;
    struct device_routing routing;
};

// Where logits are, experts have scales of their own too.
static bool has_scales(const struct case_of_routing *in) {
    return in->routing.logit_scale != 0;
}

#define ROUTING(EXPERTS, CHOSEN, SCORES, NORMALISED, LOGITS, WEIGHTS, SCALING)                               \
    .experts = EXPERTS, .chosen = CHOSEN, .scores = DEVICE_SCORES_##SCORES, .normalised = NORMALISED,        \
    .rounds_logits = LOGITS, .rounds_weights = WEIGHTS, .scaling = SCALING
#define GROUPS(COUNT, CHOSEN, PAIRS) .groups = COUNT, .chosen_groups = CHOSEN, .group_pairs = PAIRS
#define WIDE .wide_router = true

static const struct case_of_routing cases[] = {
    {1, 8, false, false, {ROUTING(8, 2, ALL, true, true, false, 1)}},          // Mixtral
    {130, 64, false, false, {ROUTING(64, 8, ALL, false, true, true, 1)}},      // OLMoE
    {37, 520, false, false, {ROUTING(128, 8, ALL, true, true, true, 1)}},      // Qwen3-MoE
    {300, 40, true, false, {ROUTING(32, 4, CHOSEN, false, true, true, 1)}},    // gpt-oss
    {9, 1032, false, false, {ROUTING(40, 8, CHOSEN, false, true, true, 1)}},   // GraniteMoe
    {20, 24, true, false, {ROUTING(7, 7, SIGMOID, true, false, false, 2.5f)}}, // all of them
    {5, 16, false, false, {ROUTING(1024, 3, SIGMOID, false, false, true, 1)}},
    {3, 8, false, false, {ROUTING(1, 1, ALL, true, false, false, 1)}},
    {40, 520, false, true, {ROUTING(256, 8, SIGMOID, true, false, false, 2.5f), GROUPS(8, 4, true), WIDE}},
    {70, 64, false, false, {ROUTING(160, 6, ALL, false, false, false, 16), GROUPS(8, 3, false), WIDE}},
    {33, 40, false, true, {ROUTING(64, 6, ALL, true, false, true, 1), WIDE}},
    {50, 24, false, true, {ROUTING(256, 8, SIGMOID, true, true, false, 1), .sum_more = 1e-20f}}, // MiniMax
    {9, 8, false, false, {ROUTING(64, 4, SIGMOID, true, false, false, 1), GROUPS(32, 2, true)}},
    {35, 40, false, false, {ROUTING(128, 8, ALL, true, true, false, 1), .logit_scale = 0.3f}}, // Gemma
                                                                                               // 4
    {50, 24, false, true, {ROUTING(256, 8, SIGMOID, true, true, false, 1), .rounds_correction = true}}, // -M2
    {33, 40, false, true, {ROUTING(64, 6, ALL, true, false, true, 1), WIDE, .sum_least = 0.4f}}, // ERNIE 4.5
    {20, 64, false, false, {ROUTING(128, 4, ALL, true, true, true, 2), GROUPS(4, 2, true)}},     // Mistral 4
};

static const struct case_of_routing odd_cases[] = {
    {33, 513, true, false, {ROUTING(65, 5, ALL, true, false, false, 1)}},
    {2, 1, false, false, {ROUTING(3, 1, SIGMOID, false, false, false, 1)}},
    {150, 1025, false, false, {ROUTING(9, 2, CHOSEN, false, true, true, 1)}},
    {131, 515, true, true, {ROUTING(33, 5, SIGMOID, true, false, false, 3), GROUPS(3, 2, true), WIDE}},
    {3, 1, false, true, {ROUTING(6, 6, ALL, true, false, false, 1), .sum_more = 1}},
};

struct choice { // of all tokens, in host memory
    int32_t *experts;
    float *weights;
};

static void choice_free(struct choice *choice) {
    free(choice->experts);
    free(choice->weights);
}

// Of the router, whose dtype is that of the device or float32.
static enum dtype router_dtype(const struct device_routing *routing, enum dtype dtype) {
    return routing->wide_router ? DTYPE_F32 : dtype;
}

static void *put_router(struct bed *bed, const float *router, const struct device_routing *routing,
                        size_t hidden) {
    size_t count = routing->experts * hidden;
    return routing->wide_router ? bed_upload(bed, router, count * sizeof *router)
                                : bed_put(bed, router, count);
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
    double logit_scale = in->routing.logit_scale == 0 ? 1 : (double)in->routing.logit_scale;
    for (size_t e = 0; e < in->routing.experts; e++) {
        double size = 0;
        logits[e] = 0;
        for (size_t k = 0; k < in->hidden; k++) {
            double term = (double)x[k] * (double)router[e * in->hidden + k] * logit_scale;
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

// Scores of all experts, with their correction, in double precision.
static void scores_of(const struct case_of_routing *in, double *scores, const double *logits,
                      const float *correction) {
    double sum = 0;
    for (size_t e = 0; e < in->routing.experts; e++) {
        sum += exp(logits[e]);
    }
    for (size_t e = 0; e < in->routing.experts; e++) {
        scores[e] =
            in->routing.scores == DEVICE_SCORES_SIGMOID ? 1 / (1 + exp(-logits[e])) : exp(logits[e]) / sum;
        scores[e] += in->corrected ? (double)correction[e] : 0;
    }
}

// The weights of the experts that were chosen, by the definition.
static void weights_of(const struct case_of_routing *in, double *weights, const double *logits,
                       const float *scales, const int32_t *experts) {
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
    chosen = fmax(chosen + (double)routing->sum_more, (double)routing->sum_least);
    for (size_t i = 0; i < routing->chosen; i++) {
        weights[i] *= (double)routing->scaling / (routing->normalised ? chosen : 1);
        weights[i] *= has_scales(in) ? (double)scales[experts[i]] : 1;
    }
}

// What a group is chosen by.
static double rank_of_group(const struct device_routing *routing, const double *ranks, size_t group) {
    size_t each = routing->experts / routing->groups;
    double best[2] = {-INFINITY, -INFINITY};
    for (size_t e = group * each; e < (group + 1) * each; e++) {
        best[1] = fmax(best[1], fmin(best[0], ranks[e]));
        best[0] = fmax(best[0], ranks[e]);
    }
    return routing->group_pairs ? best[0] + best[1] : best[0];
}

// Groups that experts may come from: the greatest, as far as `off` leaves it open.
static void check_groups(const struct device_routing *routing, const double *ranks, const bool *chosen,
                         double off) {
    size_t each = routing->experts / routing->groups;
    for (size_t g = 0; g < routing->groups; g++) {
        size_t greater = 0;
        bool used = false;
        for (size_t other = 0; other < routing->groups; other++) {
            greater += rank_of_group(routing, ranks, other) > rank_of_group(routing, ranks, g) + 4 * off;
        }
        for (size_t e = g * each; e < (g + 1) * each; e++) {
            used = used || chosen[e];
        }
        assert_true(!used || greater < routing->chosen_groups);
    }
}

// That no expert of greater rank was passed over, but for those of groups that were.
static void check_choice(const struct case_of_routing *in, const double *ranks, const int32_t *experts,
                         double off) {
    const struct device_routing *routing = &in->routing;
    size_t each = routing->groups == 0 ? routing->experts : routing->experts / routing->groups;
    bool chosen[DEVICE_EXPERTS_MOST] = {false};
    double least = INFINITY;
    for (size_t i = 0; i < routing->chosen; i++) {
        assert_in_range(experts[i], i == 0 ? 0 : experts[i - 1] + 1, routing->experts - 1);
        chosen[experts[i]] = true;
        least = fmin(least, ranks[experts[i]]);
    }
    if (routing->groups > 0) {
        check_groups(routing, ranks, chosen, off);
    }
    for (size_t e = 0; e < routing->experts; e++) {
        size_t no_less = 0; // groups; where they are too few to leave this one out, it counts
        for (size_t g = 0; g < routing->groups; g++) {
            no_less += g != e / each &&
                       rank_of_group(routing, ranks, g) >= rank_of_group(routing, ranks, e / each) - 4 * off;
        }
        bool left_out = routing->groups > 0 && no_less >= routing->chosen_groups;
        assert_true(chosen[e] || left_out || ranks[e] <= least + 2 * off);
    }
}

static void check_token(const struct bed *bed, const struct case_of_routing *in, const double *logits,
                        double off, const float *correction, const float *scales, const int32_t *experts,
                        const float *weights) {
    enum { MOST = 16 };
    const struct device_routing *routing = &in->routing;
    double want[MOST];
    double scores[DEVICE_EXPERTS_MOST];
    assert_true(routing->chosen <= MOST);
    if (device_routing_by_scores(routing)) { // a score moves by no more than its logit and the others do
        scores_of(in, scores, logits, correction);
        check_choice(in, scores, experts, expm1(2 * off) + 200 * F32_EPSILON);
    } else {
        check_choice(in, logits, experts, off);
    }
    weights_of(in, want, logits, scales, experts);
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
    float *router = random_numbers(in->hidden, experts * in->hidden, 0.5f, router_dtype(&in->routing, dtype));
    float *correction =
        random_numbers(experts + 1, experts, 0.3f, in->routing.rounds_correction ? dtype : DTYPE_F32);
    float *bias = random_numbers(experts, experts, 1.0f, dtype);
    float *scales = random_numbers(experts + 2, experts, 1.0f, dtype);
    double *logits = malloc(experts * sizeof *logits);
    assert_non_null(logits);
    struct device_routing routing = in->routing;
    routing.correction = in->corrected ? bed_upload(&bed, correction, experts * sizeof(float)) : NULL;
    routing.expert_scales = has_scales(in) ? bed_put(&bed, scales, experts) : NULL;
    struct case_of_routing full = *in;
    full.routing = routing;
    struct choice got = choose(
        &bed, bed_put_rows(&bed, x, in->tokens, in->hidden), put_router(&bed, router, &routing, in->hidden),
        in->biased ? bed_put(&bed, bias, experts) : NULL, &routing, in->tokens, in->hidden);
    for (size_t t = 0; t < in->tokens; t++) {
        double off = logits_of(&bed, in, logits, x + t * in->hidden, router, bias);
        check_token(&bed, &full, logits, off, correction, scales, got.experts + t * in->routing.chosen,
                    got.weights + t * in->routing.chosen);
    }
    choice_free(&got);
    free(logits);
    free(scales);
    free(bias);
    free(correction);
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
    struct device_routing routing = {ROUTING(EXPERTS, CHOSEN, ALL, true, true, true, 1)};
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
    for (int scores = DEVICE_SCORES_ALL; scores <= DEVICE_SCORES_IN_TURN; scores++) {
        struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
        struct device_routing routing = {ROUTING(EXPERTS, CHOSEN, ALL, false, true, true, 1)};
        routing.scores = (enum device_scores)scores;
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

// A correction decides alone where logits are equal: among groups, then among experts. Weights do not show
// it, and what is NaN is chosen before everything, its group first.
static void check_corrections(const char *path, enum dtype dtype) {
    enum { EXPERTS = 12, HIDDEN = 8, CHOSEN = 3 };
    const float corrections[][EXPERTS] = {
        {0, 0, 0, 0, 5, 0, 0, 0, 3, 3, 0, 0},         // groups of 4: sums of pairs 0, 5, 6
        {-1, -2, -3, -4, -1, -1, -9, -9, 0, 0, 0, 0}, // excluded ones stay behind negative ones
        {0, 0, 0, NAN, 9, 9, 9, 9, 1, 1, 1, 1},
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    };
    const int32_t wanted[][CHOSEN] = {{4, 8, 9}, {8, 9, 10}, {3, 4, 5}, {0, 1, 2}};
    struct bed bed = bed_open_rows(path, dtype, 1, 1);
    float zeros[EXPERTS * HIDDEN] = {0};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct device_routing routing = {ROUTING(EXPERTS, CHOSEN, SIGMOID, true, false, false, 1),
                                         GROUPS(3, 2, true), WIDE};
        routing.correction = bed_upload(&bed, corrections[i], sizeof corrections[i]);
        struct choice got = choose(&bed, bed_put_rows(&bed, zeros, 1, HIDDEN),
                                   put_router(&bed, zeros, &routing, HIDDEN), NULL, &routing, 1, HIDDEN);
        assert_memory_equal(got.experts, wanted[i], sizeof wanted[i]);
        for (size_t j = 0; j < CHOSEN; j++) {
            assert_true(got.weights[j] == 0.5f / 1.5f);
        }
        choice_free(&got);
    }
    bed_close(&bed);
}

static void test_corrections(void **state) {
    (void)state;
    on_every_path(check_corrections);
}

// Experts in turn, of logits that halves hold: two others are near the greatest, one of them near the next
// greatest, and none is near where there is only one. NaN is chosen first, which its weight shows.
static void check_turns(const char *path, enum dtype dtype) {
    enum { EXPERTS = 40, HIDDEN = 8, CHOSEN = 2, TOKENS = 4 };
    static const float logits[TOKENS][EXPERTS] = {
        {[3] = 1.984375f, [37] = 2, [20] = 1.96875f, [5] = 1.9375f, [6] = -4},
        {[3] = 1, [37] = 0.5f},
        {[3] = 1, [37] = 1},
        {[3] = 1},
    };
    const double near = exp(-0.015625);
    const double wanted[TOKENS - 1][CHOSEN] = {{1 / (1 + near), 1 / (1 + near + near * near)},
                                               {1, 1},
                                               {0.5, 1}}; // of equal ones the lower number is first
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct device_routing routing = {ROUTING(EXPERTS, CHOSEN, IN_TURN, false, true, true, 1),
                                     .spread = 0.02f};
    float router[EXPERTS * HIDDEN] = {0};
    float x[TOKENS * HIDDEN] = {0};
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t e = 0; e < EXPERTS; e++) {
            router[e * HIDDEN + t] = logits[t][e];
        }
        x[t * HIDDEN + t] = 1;
    }
    float bias[EXPERTS] = {0};
    struct choice got =
        choose(&bed, bed_put_rows(&bed, x, TOKENS, HIDDEN), bed_put(&bed, router, (size_t)EXPERTS * HIDDEN),
               bed_put(&bed, bias, EXPERTS), &routing, TOKENS, HIDDEN);
    for (size_t t = 0; t + 1 < TOKENS; t++) {
        assert_int_equal(got.experts[t * CHOSEN], 3);
        assert_int_equal(got.experts[t * CHOSEN + 1], 37);
        for (size_t i = 0; i < CHOSEN; i++) {
            double want = wanted[t][i];
            assert_close(&bed, "weight", i, got.weights[t * CHOSEN + i], want,
                         want * (1.01 * bed_epsilon(&bed) + 100 * F32_EPSILON));
        }
    }
    choice_free(&got);
    bias[37] = NAN;
    got = choose(&bed, bed_put_rows(&bed, x + 3 * HIDDEN, 1, HIDDEN),
                 bed_put(&bed, router, (size_t)EXPERTS * HIDDEN), bed_put(&bed, bias, EXPERTS), &routing, 1,
                 HIDDEN);
    assert_int_equal(got.experts[0], 3);
    assert_int_equal(got.experts[1], 37);
    assert_true(got.weights[0] == 1 && isnan(got.weights[1]));
    choice_free(&got);
    bed_close(&bed);
}

static void test_turns(void **state) {
    (void)state;
    on_every_path(check_turns);
}

// A token's choice has the same bits alone, in company and with other numbers of threads.
static void check_company_of(const char *path, enum dtype dtype, const struct device_routing *shape) {
    enum { TOKENS = 141, HIDDEN = 1032, EXPERTS = 72, CHOSEN = 6 };
    float *router = random_numbers(5, (size_t)EXPERTS * HIDDEN, 0.1f, router_dtype(shape, dtype));
    float *correction = random_numbers(7, EXPERTS, 0.1f, DTYPE_F32);
    float *x = random_numbers(6, (size_t)TOKENS * HIDDEN, 1.0f, dtype);
    struct choice all = {0};
    for (int threads = 1; threads <= 3; threads++) {
        struct bed bed = bed_open_rows(path, dtype, threads, TOKENS);
        struct device_routing routing = *shape;
        void *device_router = put_router(&bed, router, &routing, HIDDEN);
        void *device_correction = bed_upload(&bed, correction, EXPERTS * sizeof(float));
        routing.correction = shape->wide_router ? device_correction : NULL;
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
    free(correction);
    free(router);
}

static void check_company(const char *path, enum dtype dtype) {
    const struct device_routing shapes[] = {
        {ROUTING(72, 6, ALL, true, true, false, 1)},
        {ROUTING(72, 6, SIGMOID, true, false, false, 1), GROUPS(6, 3, true), WIDE},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_company_of(path, dtype, &shapes[i]);
    }
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
        struct device_routing routing = {ROUTING(sizes[i][0], sizes[i][1], ALL, true, true, true, 1)};
        assert_int_equal(device_route(bed.device, &routes, x, x, NULL, &routing, 1, 8, &bed.error),
                         STATUS_INTERNAL);
        assert_non_null(strstr(bed.error.message, "cannot choose so many experts"));
    }
    const struct {
        struct device_routing routing;
        const char *why;
    } others[] = {
        {{ROUTING(8, 2, CHOSEN, false, true, true, 1), .correction = x}, "scores of the chosen"},
        {{ROUTING(8, 2, IN_TURN, false, true, true, 1), .correction = x}, "scores of the chosen"},
        {{ROUTING(8, 2, IN_TURN, false, true, true, 1), GROUPS(4, 1, false)}, "chosen in turn"},
        {{ROUTING(8, 2, SIGMOID, false, true, true, 1), .group_pairs = true}, "no groups"},
        {{ROUTING(8, 2, ALL, false, true, true, 1), GROUPS(3, 1, false)}, "such groups"},
        {{ROUTING(8, 2, ALL, false, true, true, 1), GROUPS(4, 0, false)}, "such groups"},
        {{ROUTING(8, 2, ALL, false, true, true, 1), GROUPS(4, 5, false)}, "such groups"},
        {{ROUTING(8, 2, SIGMOID, false, true, true, 1), GROUPS(8, 2, true)}, "such groups"},
        {{ROUTING(64, 2, ALL, false, true, true, 1), GROUPS(64, 2, false)}, "such groups"},
        {{ROUTING(8, 3, ALL, false, true, true, 1), GROUPS(4, 1, false)}, "too few experts"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(device_route(bed.device, &routes, x, x, NULL, &others[i].routing, 1, 8, &bed.error),
                         STATUS_INTERNAL);
        assert_non_null(strstr(bed.error.message, others[i].why));
    }
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_ties),           cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_corrections),    cmocka_unit_test(test_company),
        cmocka_unit_test(test_turns),          cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
