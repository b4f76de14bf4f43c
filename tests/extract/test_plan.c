// The batch plan: limits hold, every text once, the same input gives the same plan, and little room is
// wasted.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "extract/plan.h"

enum { MOST = 2000 };

static struct plan planned(const struct plan_limits *limits, const uint32_t *tokens, size_t texts) {
    struct plan plan;
    struct error err;
    assert_int_equal(plan_create(&plan, limits, &err), STATUS_OK);
    plan_window(&plan, limits, tokens, texts);
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
        assert_in_range(sum, 1, limits->tokens);
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
    plan_window(&plan, &limits, tokens, 0);
    assert_int_equal(plan.batches, 0);
    plan_window(&plan, &limits, tokens, 1);
    assert_int_equal(plan.batches, 1);
    plan_destroy(&plan);
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
        plan_window(&again, &limits, tokens, texts / 2); // memory left by another plan changes nothing
        plan_window(&again, &limits, tokens, texts);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_fullest_batch_is_taken),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_little_is_wasted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
