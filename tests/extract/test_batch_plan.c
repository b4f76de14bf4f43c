// SPDX-License-Identifier: MIT
// The batch plan: limits hold, every text once, the same input gives the same plan, and little room is
// wasted.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "stages/batch_plan.h"

enum { MOST = 4096 };

static struct plan planned(const struct plan_limits *limits, const uint32_t *tokens, size_t texts) {
    struct plan plan;
    struct error err;
    assert_int_equal(plan_create(&plan, limits, &err), STATUS_OK);
    plan_window(&plan, limits, tokens, NULL, texts);
    return plan;
}

// Limits, completeness, order within a batch.
static void check(const struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                  size_t texts) {
    static bool seen[MOST];
    memset(seen, 0, sizeof seen);
    assert_int_equal(plan->offset[0], 0);
    assert_int_equal(plan->offset[plan->batches], texts);
    for (size_t b = 0; b < plan->batches; b++) {
        size_t sum = 0;
        assert_in_range(plan->offset[b + 1] - plan->offset[b], 1, limits->problems);
        for (size_t i = plan->offset[b]; i < plan->offset[b + 1]; i++) {
            uint32_t text = plan->order[i];
            assert_true(text < texts && !seen[text]);
            assert_true(i == plan->offset[b] || text > plan->order[i - 1]);
            seen[text] = true;
            sum += tokens[text];
        }
        bool alone = plan->offset[b + 1] - plan->offset[b] == 1;
        assert_in_range(sum, 1, alone ? UINT32_MAX : limits->tokens);
    }
}

static void test_known(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 3, .tokens = 10, .window = 8};
    const uint32_t tokens[] = {3, 10, 4, 6, 7, 1, 1, 1};
    // Longest first: 10 | 7 | 6, then 4 beside 6, 3 beside 7; the three ones find no room but in a batch of
    // their own.
    const uint32_t order[] = {1, 0, 4, 2, 3, 5, 6, 7};
    const size_t offset[] = {0, 1, 3, 5, 8};
    struct plan plan = planned(&limits, tokens, 8);
    assert_int_equal(plan.batches, 4);
    assert_memory_equal(plan.offset, offset, sizeof offset);
    assert_memory_equal(plan.order, order, sizeof order);
    plan_destroy(&plan);
}

static void test_fullest_batch_is_taken(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 8, .tokens = 10, .window = 4};
    const uint32_t tokens[] = {6, 8, 2, 4};
    const uint32_t order[] = {1, 2, 0, 3}; // 2 goes to the 8, not to the 6, so that the 4 still fits there
    struct plan plan = planned(&limits, tokens, 4);
    assert_int_equal(plan.batches, 2);
    assert_memory_equal(plan.order, order, sizeof order);
    plan_destroy(&plan);
}

static void test_edges(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 1, .tokens = 5, .window = 3};
    const uint32_t tokens[] = {5, 1, 5};
    struct plan plan = planned(&limits, tokens, 3);
    assert_int_equal(plan.batches, 3);
    check(&plan, &limits, tokens, 3);
    plan_window(&plan, &limits, tokens, NULL, 0);
    assert_int_equal(plan.batches, 0);
    plan_window(&plan, &limits, tokens, NULL, 1);
    assert_int_equal(plan.batches, 1);
    plan_destroy(&plan);
}

// A text longer than a batch is one by itself, before all shorter ones; where it ends nothing else begins.
static void test_longer_than_a_batch(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 8, .tokens = 10, .window = 8};
    const uint32_t tokens[] = {6, 11, 4, 95, 10, 3, 11, 1};
    const uint32_t order[] = {3, 1, 6, 4, 0, 2, 5, 7};
    const size_t offset[] = {0, 1, 2, 3, 4, 6, 8};
    struct plan plan = planned(&limits, tokens, 8);
    check(&plan, &limits, tokens, 8);
    assert_int_equal(plan.batches, 6);
    assert_memory_equal(plan.offset, offset, sizeof offset);
    assert_memory_equal(plan.order, order, sizeof order);
    plan_destroy(&plan);
}

// Of the other texts the plan is the one that they have where the long ones are as long as a batch.
static void test_long_texts_are_full_batches(void **state) {
    (void)state;
    uint64_t random = 29;
    static uint32_t tokens[MOST];
    static uint32_t cut[MOST];
    for (int round = 0; round < 200; round++) {
        struct plan_limits limits = {.problems = 1 + random_below(&random, 30),
                                     .tokens = 1 + random_below(&random, 400),
                                     .full = round % 2 == 0};
        limits.window = limits.problems + random_below(&random, 200);
        size_t texts = 1 + random_below(&random, limits.window);
        for (size_t i = 0; i < texts; i++) {
            bool is_long = random_below(&random, 4) == 0;
            size_t most = is_long ? 9 * limits.tokens : limits.tokens;
            tokens[i] = 1 + (uint32_t)random_below(&random, most);
            cut[i] = tokens[i] < limits.tokens ? tokens[i] : (uint32_t)limits.tokens;
        }
        struct plan plan = planned(&limits, tokens, 0);
        struct plan other = planned(&limits, cut, 0);
        size_t kept = plan_full_window(&plan, &limits, tokens, NULL, texts);
        assert_int_equal(plan_full_window(&other, &limits, cut, NULL, texts), kept);
        assert_int_equal(plan.batches, other.batches);
        check(&plan, &limits, tokens, kept);
        size_t whole = 0; // batches of one text that fills them, which come first
        while (whole < plan.batches && cut[plan.order[plan.offset[whole]]] == limits.tokens) {
            whole++;
        }
        size_t at = plan.offset[whole];
        assert_int_equal(at, other.offset[whole]);
        assert_memory_equal(plan.order + at, other.order + at, (kept - at) * sizeof *plan.order);
        plan_destroy(&plan);
        plan_destroy(&other);
    }
}

static void test_windows_of_long_texts_end(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 4096, .tokens = 8192, .window = 4096, .full = true};
    assert_false(plan_window_ends(&limits, 2, 1 << 20));
    assert_true(plan_window_ends(&limits, 2, 2 << 20));
}

static void test_random(void **state) {
    (void)state;
    uint64_t random = 11;
    static uint32_t tokens[MOST];
    for (int round = 0; round < 300; round++) {
        struct plan_limits limits = {.problems = 1 + random_below(&random, 64),
                                     .window = 1 + random_below(&random, 300)};
        uint32_t longest = 1 + (uint32_t)random_below(&random, 500);
        limits.tokens = longest + random_below(&random, 2000);
        size_t texts = random_below(&random, limits.window + 1);
        for (size_t i = 0; i < texts; i++) {
            tokens[i] = 1 + (uint32_t)random_below(&random, longest);
        }
        struct plan plan = planned(&limits, tokens, texts);
        struct plan again = planned(&limits, tokens, texts);
        plan_window(&again, &limits, tokens, NULL, texts / 2); // memory left by another plan changes nothing
        plan_window(&again, &limits, tokens, NULL, texts);
        check(&plan, &limits, tokens, texts);
        assert_int_equal(plan.batches, again.batches);
        assert_memory_equal(plan.order, again.order, texts * sizeof *plan.order);
        assert_memory_equal(plan.offset, again.offset, (plan.batches + 1) * sizeof *plan.offset);
        plan_destroy(&plan);
        plan_destroy(&again);
    }
}

static void test_little_is_wasted(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 64, .tokens = 8192, .window = 1024};
    static uint32_t tokens[1024];
    uint64_t random = 5;
    size_t all = 0;
    for (size_t i = 0; i < 1024; i++) {
        tokens[i] = 60 + (uint32_t)(random_unit(&random) * random_unit(&random) * 1900);
        all += tokens[i];
    }
    struct plan plan = planned(&limits, tokens, 1024);
    check(&plan, &limits, tokens, 1024);
    size_t least = (all + limits.tokens - 1) / limits.tokens;
    printf("1,024 texts, %zu tokens: %zu batches, %zu are the least there could be\n", all, plan.batches,
           least);
    assert_true(plan.batches <= least + 1);
    plan_destroy(&plan);
}

// A standard normal number: the sum of twelve uniform ones is close enough to it.
static double random_normal(uint64_t *random) {
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        sum += random_unit(random);
    }
    return sum;
}

// Lengths spread as those of the real set's 21,456 texts: the logarithm's mean is 5.354, its deviation
// 0.5905; 257 tokens in the mean, cut at 2,048.
static void make_lengths(uint32_t *tokens, size_t texts) {
    uint64_t random = 17;
    for (size_t i = 0; i < texts; i++) {
        double length = exp(5.354 + 0.5905 * random_normal(&random));
        tokens[i] = length > 2048 ? 2048 : (uint32_t)length;
    }
}

// A whole run's windows, one after another; every one's plan is checked. Returns the batches.
static size_t plan_all(const struct plan_limits *limits, const uint32_t *tokens, size_t texts) {
    struct plan plan;
    struct error err;
    size_t batches = 0;
    assert_int_equal(plan_create(&plan, limits, &err), STATUS_OK);
    for (size_t i = 0; i < texts;) {
        size_t window = texts - i < limits->window ? texts - i : limits->window;
        if (texts - i > limits->window) {
            window = plan_full_window(&plan, limits, tokens + i, NULL, window);
        } else {
            plan_window(&plan, limits, tokens + i, NULL, window);
        }
        assert_in_range(window, 1, limits->window);
        check(&plan, limits, tokens + i, window);
        batches += plan.batches;
        i += window;
    }
    plan_destroy(&plan);
    return batches;
}

// As many texts as the real set, in windows of the default size, for whatever batch.tokens: nearly the fewest
// batches that there can be.
static void test_fill_of_a_run(void **state) {
    (void)state;
    enum { TEXTS = 21456 };
    static uint32_t tokens[TEXTS];
    const size_t budgets[] = {2048, 4096, 8192, 16384, 32768, 65536, 131072};
    size_t all = 0;
    make_lengths(tokens, TEXTS);
    for (size_t i = 0; i < TEXTS; i++) {
        all += tokens[i];
    }
    for (size_t i = 0; i < sizeof budgets / sizeof budgets[0]; i++) {
        const struct plan_limits limits = {
            .problems = MOST, .tokens = budgets[i], .window = MOST, .full = true};
        size_t batches = plan_all(&limits, tokens, TEXTS);
        size_t least = (all + budgets[i] - 1) / budgets[i];
        double fill = (double)all / ((double)batches * (double)budgets[i]);
        printf("%zu tokens: %zu batches, %.2f %% full; %zu are the least there could be\n", budgets[i],
               batches, 100 * fill, least);
        assert_true(batches - least <= 1 + least / 200);
        assert_true(fill >= (budgets[i] <= 32768 ? 0.99 : 0.97));
    }
}

// However short the limits: every window gets on, and is planned as it would be by itself.
static void test_full_windows(void **state) {
    (void)state;
    uint64_t random = 23;
    static uint32_t tokens[MOST];
    for (int round = 0; round < 300; round++) {
        struct plan_limits limits = {.problems = 1 + random_below(&random, 40), .full = true};
        uint32_t longest = 1 + (uint32_t)random_below(&random, 500);
        limits.tokens = longest + random_below(&random, 3000);
        limits.window = limits.problems + random_below(&random, 300);
        size_t texts = 1 + random_below(&random, MOST);
        for (size_t i = 0; i < texts; i++) {
            tokens[i] = 1 + (uint32_t)random_below(&random, longest);
        }
        plan_all(&limits, tokens, texts);
        size_t window = texts < limits.window ? texts : limits.window;
        struct plan full = planned(&limits, tokens, window);
        size_t whole = full.batches;
        size_t kept = plan_full_window(&full, &limits, tokens, NULL, window);
        struct plan again = planned(&limits, tokens, kept);
        assert_int_equal(full.batches, again.batches);
        assert_memory_equal(full.order, again.order, kept * sizeof *full.order);
        assert_true(kept == window || full.batches == whole - 1);
        plan_destroy(&full);
        plan_destroy(&again);
    }
}

static void test_full_window_edges(void **state) {
    (void)state;
    const struct plan_limits limits = {.problems = 3, .tokens = 10, .window = 8, .full = true};
    static const struct {
        uint32_t tokens[8];
        size_t texts, kept, batches;
    } cases[] = {
        {{0}, 0, 0, 0},
        {{10}, 1, 1, 1},
        {{1, 2}, 2, 2, 1},                   // nothing to gain with a single batch
        {{5, 5, 5, 5, 1}, 5, 4, 2},          // the last text begins the next window
        {{1, 1, 1, 1, 1, 1, 1}, 7, 6, 2},    // so does the one for which there is no place
        {{10, 10, 10}, 3, 2, 2},             // full all the same
        {{7, 7, 7, 7}, 4, 3, 3},             // no two fit together
        {{4, 4, 4, 4, 4, 4, 4, 4}, 8, 6, 3}, // of the tokens 2 are left in each
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plan plan = planned(&limits, cases[i].tokens, 0);
        assert_int_equal(plan_full_window(&plan, &limits, cases[i].tokens, NULL, cases[i].texts),
                         cases[i].kept);
        assert_int_equal(plan.batches, cases[i].batches);
        check(&plan, &limits, cases[i].tokens, cases[i].kept);
        plan_destroy(&plan);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_fullest_batch_is_taken),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_longer_than_a_batch),
        cmocka_unit_test(test_long_texts_are_full_batches),
        cmocka_unit_test(test_windows_of_long_texts_end),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_little_is_wasted),
        cmocka_unit_test(test_fill_of_a_run),
        cmocka_unit_test(test_full_windows),
        cmocka_unit_test(test_full_window_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
