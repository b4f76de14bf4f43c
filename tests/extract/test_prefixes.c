// SPDX-License-Identifier: MIT
// Plans whose texts go on from each other and from a head, over random trees of texts: limits hold, what a
// text goes on from has its tokens, and together they compute each node of their tree once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/size.h"
#include "stages/prefixes.h"

enum { TEXTS = 96, LENGTH = 64, WINDOW = 4096, LONG = 2000 };

struct texts {
    int32_t numbers[TEXTS][LENGTH];
    const int32_t *ids[TEXTS];
    uint32_t tokens[TEXTS];
    size_t count;
};

// Each begins as some text before it does, up to anywhere, and goes on by itself; some are the same, or end
// where they would go on.
static void grow(struct texts *texts, size_t count, uint64_t *random) {
    texts->count = count;
    for (size_t i = 0; i < count; i++) {
        int32_t *ids = texts->numbers[i];
        size_t length = 1 + random_below(random, LENGTH);
        size_t shared = 0;
        if (i > 0 && random_below(random, 8) > 0) {
            size_t other = random_below(random, i);
            shared = 1 + random_below(random, texts->tokens[other]);
            memcpy(ids, texts->numbers[other], shared * sizeof *ids);
            length = random_below(random, 4) == 0 ? shared : size_max(length, shared);
        }
        for (size_t k = shared; k < length; k++) {
            ids[k] = (int32_t)random_below(random, 3);
        }
        texts->ids[i] = ids;
        texts->tokens[i] = (uint32_t)length;
    }
}

static bool has_head(const struct plan_limits *limits, const struct texts *texts, size_t i) {
    return limits->head_tokens > 0 && texts->tokens[i] > limits->head_tokens &&
           (limits->shared_most == 0 || texts->tokens[i] <= limits->shared_most) &&
           memcmp(texts->ids[i], limits->head, limits->head_tokens * sizeof(int32_t)) == 0;
}

static size_t common(const struct texts *texts, size_t i, size_t j) {
    size_t most = size_min(texts->tokens[i], texts->tokens[j]) - 1;
    return prefixes_common(texts->ids[i], texts->ids[j], most);
}

// The text of the batch that a text goes on from in the end, by its place in the plan's order.
static size_t root_of(const struct plan *plan, size_t batch, size_t i) {
    while (plan->origins[i].parent != DEVICE_HEAD) {
        i = plan->offset[batch] + (size_t)plan->origins[i].parent;
    }
    return i;
}

static void check_origin(const struct plan *plan, const struct plan_limits *limits, const struct texts *texts,
                         size_t batch, size_t i) {
    uint32_t text = plan->order[i];
    struct device_origin origin = plan->origins[i];
    size_t head = has_head(limits, texts, text) ? limits->head_tokens : 0;
    assert_in_range(origin.before, head, texts->tokens[text] - 1);
    if (origin.parent == DEVICE_HEAD) {
        assert_int_equal(origin.before, head);
        return;
    }
    size_t parent = plan->offset[batch] + (size_t)origin.parent;
    uint32_t other = plan->order[parent];
    assert_false(limits->head_only);
    assert_in_range(parent, plan->offset[batch], i - 1);
    assert_true((size_t)origin.before >= head + limits->least);
    assert_int_equal(has_head(limits, texts, other), head > 0);
    assert_in_range(origin.before, (uint32_t)plan->origins[parent].before + 1, texts->tokens[other]);
    assert_memory_equal(texts->ids[text], texts->ids[other], (size_t)origin.before * sizeof(int32_t));
    assert_true(limits->shared_most == 0 || texts->tokens[text] <= limits->shared_most);
    assert_true(limits->shared_most == 0 || texts->tokens[other] <= limits->shared_most);
}

// Nodes of the tree of a text and those before it that go on from the same one which are the text's alone.
// Its last token is a node by itself.
static size_t nodes(const struct plan *plan, const struct texts *texts, size_t head, size_t batch, size_t i) {
    size_t count = 1;
    for (size_t length = head + 1; length < texts->tokens[plan->order[i]]; length++) {
        bool found = false;
        for (size_t j = plan->offset[batch]; j < i && !found; j++) {
            found = root_of(plan, batch, j) == root_of(plan, batch, i) &&
                    common(texts, plan->order[i], plan->order[j]) >= length;
        }
        count += !found;
    }
    return count;
}

// Returns the tokens that are computed.
static size_t check(const struct plan *plan, const struct plan_limits *limits, const struct texts *texts,
                    size_t count) {
    bool seen[TEXTS] = {false};
    size_t computed = 0;
    assert_int_equal(plan->offset[plan->batches], count);
    for (size_t b = 0; b < plan->batches; b++) {
        size_t sum = 0;
        assert_in_range(plan->offset[b + 1] - plan->offset[b], 1, limits->problems);
        for (size_t i = plan->offset[b]; i < plan->offset[b + 1]; i++) {
            uint32_t text = plan->order[i];
            assert_true(text < count && !seen[text]);
            assert_true(i == plan->offset[b] || text > plan->order[i - 1]);
            seen[text] = true;
            check_origin(plan, limits, texts, b, i);
            size_t head = has_head(limits, texts, text) ? limits->head_tokens : 0;
            size_t own = texts->tokens[text] - (size_t)plan->origins[i].before;
            assert_int_equal(own, nodes(plan, texts, head, b, i));
            sum += own;
        }
        bool alone = plan->offset[b + 1] - plan->offset[b] == 1;
        assert_in_range(sum, 1, alone ? LENGTH : limits->tokens);
        computed += sum;
    }
    return computed;
}

static void random_limits(struct plan_limits *limits, const struct texts *texts, uint64_t *random) {
    *limits = (struct plan_limits){.problems = 1 + random_below(random, 40),
                                   .tokens = 1 + random_below(random, random_below(random, 2) ? 80 : 1500),
                                   .window = TEXTS,
                                   .full = true,
                                   .reuses = true,
                                   .least = 1 + random_below(random, 12),
                                   .head_only = random_below(random, 6) == 0};
    limits->shared_most = random_below(random, 4) == 0 ? random_below(random, LENGTH) : 0;
    if (random_below(random, 2) == 0) { // longer than some texts
        size_t text = random_below(random, texts->count);
        limits->head = texts->ids[text];
        limits->head_tokens = 1 + random_below(random, texts->tokens[text]);
    }
}

static struct plan create(const struct plan_limits *limits) {
    struct plan plan;
    struct error err;
    assert_int_equal(plan_create(&plan, limits, &err), STATUS_OK);
    return plan;
}

static void check_same(const struct plan *a, const struct plan *b, size_t count) {
    assert_int_equal(a->batches, b->batches);
    assert_memory_equal(a->offset, b->offset, (a->batches + 1) * sizeof *a->offset);
    assert_memory_equal(a->order, b->order, count * sizeof *a->order);
    assert_memory_equal(a->origins, b->origins, count * sizeof *a->origins);
}

// Whole windows and full ones; memory left by another plan changes nothing.
static void test_random_trees(void **state) {
    (void)state;
    static struct texts texts;
    uint64_t random = 31;
    for (int round = 0; round < 400; round++) {
        struct plan_limits limits;
        grow(&texts, 1 + random_below(&random, TEXTS), &random);
        random_limits(&limits, &texts, &random);
        struct plan plan = create(&limits);
        struct plan again = create(&limits);
        plan_window(&plan, &limits, texts.tokens, texts.ids, texts.count);
        check(&plan, &limits, &texts, texts.count);
        size_t batches = plan.batches;
        size_t kept = plan_full_window(&plan, &limits, texts.tokens, texts.ids, texts.count);
        assert_in_range(kept, 1, texts.count);
        assert_true(kept == texts.count || plan.batches < batches);
        check(&plan, &limits, &texts, kept);
        plan_window(&again, &limits, texts.tokens, texts.ids, texts.count / 2);
        assert_int_equal(plan_full_window(&again, &limits, texts.tokens, texts.ids, texts.count), kept);
        check_same(&plan, &again, kept);
        plan_destroy(&plan);
        plan_destroy(&again);
    }
}

// Nodes of the trees that texts form which have `least` tokens in common, counted one by one.
static size_t forest(const struct texts *texts, size_t least) {
    size_t count = 0;
    for (size_t i = 0; i < texts->count; i++) {
        count++;
        for (size_t length = 1; length < texts->tokens[i]; length++) {
            bool found = false;
            for (size_t j = 0; j < i && !found; j++) {
                found = common(texts, i, j) >= size_max(length, least);
            }
            count += !found;
        }
    }
    return count;
}

// In one batch, whatever the order of the texts, every node once; and as many were foretold.
static void test_one_batch(void **state) {
    (void)state;
    static struct texts texts;
    uint64_t random = 32;
    for (int round = 0; round < 100; round++) {
        grow(&texts, 1 + random_below(&random, TEXTS), &random);
        const struct plan_limits limits = {.problems = TEXTS,
                                           .tokens = TEXTS * LENGTH,
                                           .window = TEXTS,
                                           .reuses = true,
                                           .least = 1 + random_below(&random, 12)};
        struct plan plan = create(&limits);
        size_t expected = forest(&texts, limits.least);
        for (int shuffle = 0; shuffle < 3; shuffle++) {
            plan_window(&plan, &limits, texts.tokens, texts.ids, texts.count);
            assert_int_equal(plan.batches, 1);
            assert_int_equal(check(&plan, &limits, &texts, texts.count), expected);
            prefixes_find(plan.prefixes, &limits, texts.tokens, texts.ids, texts.count);
            prefixes_follow(plan.prefixes, texts.count);
            size_t foretold = 0;
            for (size_t i = 0; i < texts.count; i++) {
                foretold += texts.tokens[i] - plan.prefixes->most[i];
            }
            assert_int_equal(foretold, expected);
            for (size_t i = texts.count - 1; i > 0; i--) {
                size_t j = random_below(&random, i + 1);
                const int32_t *ids = texts.ids[i];
                uint32_t tokens = texts.tokens[i];
                texts.ids[i] = texts.ids[j];
                texts.tokens[i] = texts.tokens[j];
                texts.ids[j] = ids;
                texts.tokens[j] = tokens;
            }
        }
        plan_destroy(&plan);
    }
}

static void test_known(void **state) {
    (void)state;
    static const int32_t head[] = {7, 7, 7};
    static const int32_t ids[][8] = {{7, 7, 7, 1, 2, 3, 4, 5},  // from the head
                                     {7, 7},                    // the head is longer
                                     {7, 7, 7, 1, 2, 3, 4, 5},  // the same: the last token again
                                     {7, 7, 7, 1, 2, 3},        // ends in another
                                     {7, 7, 7},                 // the head itself: nothing would be its own
                                     {7, 7, 7, 1, 2, 9, 9, 9},  // from the first, which computes token 4
                                     {7, 7, 7, 1, 8, 8, 8, 8},  // too little in common
                                     {7, 7, 7, 1, 2, 9, 9, 4}}; // from the one that computes token 6
    static const uint32_t tokens[] = {8, 2, 8, 6, 3, 8, 8, 8};
    static const struct device_origin origins[] = {
        {DEVICE_HEAD, 3}, {DEVICE_HEAD, 0}, {0, 7},           {0, 5},
        {DEVICE_HEAD, 0}, {0, 5},           {DEVICE_HEAD, 3}, {5, 7}};
    struct plan_limits limits = {
        .problems = 8, .tokens = 64, .window = 8, .reuses = true, .least = 2, .head = head, .head_tokens = 3};
    const int32_t *pointers[8];
    for (size_t i = 0; i < 8; i++) {
        pointers[i] = ids[i];
    }
    struct plan plan = create(&limits);
    plan_window(&plan, &limits, tokens, pointers, 8);
    assert_int_equal(plan.batches, 1);
    assert_memory_equal(plan.origins, origins, sizeof origins);
    plan_window(&plan, &limits, tokens, pointers, 0);
    assert_int_equal(plan.batches, 0);
    plan_window(&plan, &limits, tokens, pointers, 1);
    assert_int_equal(plan.batches, 1);
    assert_memory_equal(plan.origins, origins, sizeof origins[0]);
    static const uint32_t few_tokens[] = {8, 8, 6, 8, 8};
    const int32_t *few[] = {ids[0], ids[2], ids[3], ids[5], ids[7]};
    limits.tokens = 11; // 5 + 1 + 1 + 3 + 1: they fill a batch
    plan_window(&plan, &limits, few_tokens, few, 5);
    assert_int_equal(plan.batches, 1);
    assert_int_equal(plan.tokens, 11);
    limits.tokens = 10;
    plan_window(&plan, &limits, few_tokens, few, 5);
    assert_int_equal(plan.batches, 2);
    limits.tokens = 4; // the first is longer even behind the head: it is one by itself, and nobody's origin
    plan_window(&plan, &limits, tokens, pointers, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(plan.origins[i].parent, DEVICE_HEAD);
    }
    plan_destroy(&plan);
    limits.reuses = false;
    plan = create(&limits);
    plan_window(&plan, &limits, tokens, NULL, 8);
    assert_null(plan.origins);
    plan_destroy(&plan);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Eight texts each that have all but their last 250 tokens in common, behind a head of 1,000.
static void test_large_window(void **state) {
    (void)state;
    static int32_t numbers[WINDOW][LONG];
    static const int32_t *ids[WINDOW];
    static uint32_t tokens[WINDOW];
    uint64_t random = 33;
    for (size_t i = 0; i < WINDOW; i++) {
        for (size_t k = 0; k < LONG; k++) {
            bool is_shared = i > 0 && k < (i % 8 == 0 ? 1000 : LONG - 250);
            numbers[i][k] = is_shared ? numbers[i - 1][k] : (int32_t)random_below(&random, 50000);
        }
        ids[i] = numbers[i];
        tokens[i] = LONG;
    }
    struct plan_limits limits = {
        .problems = WINDOW, .tokens = 8192, .window = WINDOW, .full = true, .reuses = true, .least = 64};
    struct plan plan = create(&limits);
    for (int with_head = 0; with_head < 2; with_head++) {
        double began = seconds();
        limits.head = numbers[0];
        limits.head_tokens = with_head ? 1000 : 0;
        size_t kept = plan_full_window(&plan, &limits, tokens, ids, WINDOW);
        size_t computed = 0;
        for (size_t i = 0; i < kept; i++) {
            computed += LONG - (size_t)plan.origins[i].before;
        }
        printf("%d texts of %d tokens: %zu of %zu are computed, %zu batches, %.1f %% full, in %.0f ms\n",
               (int)kept, LONG, computed, kept * LONG, plan.batches,
               100 * (double)computed / (double)(plan.batches * limits.tokens), 1e3 * (seconds() - began));
        assert_true(computed < kept * (with_head ? 400 : 700));
        assert_true(20 * computed > 19 * plan.batches * limits.tokens); // pieces are cut to fill the batches
    }
    plan_destroy(&plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_random_trees),
        cmocka_unit_test(test_one_batch),
        cmocka_unit_test(test_large_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
