// SPDX-License-Identifier: MIT
// The survey in its thread: the same counts as without, errors and stops of either side.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "extract_testing.h"
#include "start/surveyor.h"

static struct testing testing;
static const struct plan_limits limits = {.problems = 8, .tokens = 64, .window = 64};

static int open_with(void **state, const char *keys) {
    struct error err;
    scratch_make(state);
    return testing_open(&testing,
                        "CREATE TABLE problems(id, statement, steps);"
                        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1999)"
                        "INSERT INTO problems SELECT 'p' || i, 'sssss',"
                        "CASE WHEN i % 5 = 4 THEN '[]'"
                        "ELSE '[\"' || substr('xxxxxxx', 1, i % 7 + 1) || '\"]' END FROM n",
                        keys, NULL, false, 257, &err);
}

static int open_job(void **state) {
    return open_with(state, "");
}

// A query that fails in the middle.
static int open_broken(void **state) {
    return open_with(state,
                     ", query: \"SELECT *, CASE WHEN id = 'p1500' THEN abs(-9223372036854775807 - 1) END "
                     "AS wrong FROM problems\"");
}

static int close_job(void **state) {
    testing_close(&testing);
    return scratch_remove(state);
}

static bool never(void *context) {
    (void)context;
    return false;
}

static bool when_asked(void *context) {
    return atomic_load((const atomic_bool *)context);
}

static struct surveyor_options options_of(bool (*stopped)(void *context), void *context) {
    return (struct surveyor_options){.source = testing.source,
                                     .preparer = testing.preparer,
                                     .limits = limits,
                                     .stopped = stopped,
                                     .context = context};
}

static void start(struct surveyor *surveyor, const struct surveyor_options *options) {
    struct error err;
    if (surveyor_start(surveyor, options, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

static void wait_for_end(struct surveyor *surveyor) {
    while (!surveyor_wait(surveyor, 1)) {
    }
}

static void check_same(const struct survey *a, const struct survey *b) {
    assert_memory_equal(&a->totals, &b->totals, sizeof a->totals);
    assert_int_equal(a->failed, b->failed);
    assert_int_equal(a->skipped, b->skipped);
    assert_int_equal(a->largest_tokens, b->largest_tokens);
    assert_int_equal(a->largest_rows, b->largest_rows);
    assert_int_equal(a->metadata_bytes, b->metadata_bytes);
    assert_true(a->lengths.size > 0);
    assert_int_equal(a->lengths.size, b->lengths.size);
    assert_memory_equal(a->lengths.data, b->lengths.data, a->lengths.size);
    assert_int_equal(a->batch_tokens.size, b->batch_tokens.size);
    assert_memory_equal(a->batch_tokens.data, b->batch_tokens.data, a->batch_tokens.size);
}

static void test_counts(void **state) {
    (void)state;
    struct surveyor surveyor;
    struct survey alone;
    struct survey beside;
    struct error err;
    struct surveyor_options options = options_of(never, NULL);
    assert_int_equal(
        survey_make(&alone, testing.source, testing.preparer, &limits, NULL, NULL, NULL, NULL, &err),
        STATUS_OK);
    start(&surveyor, &options);
    wait_for_end(&surveyor);
    assert_true(surveyor.running);
    assert_int_equal(surveyor_problems(&surveyor), 2000);
    assert_int_equal(surveyor_finish(&surveyor, &beside, &err), STATUS_OK);
    assert_false(surveyor.running);
    check_same(&alone, &beside);
    survey_destroy(&beside);
    start(&surveyor, &options); // not waited for; the source was rewound
    assert_int_equal(surveyor_finish(&surveyor, &beside, &err), STATUS_OK);
    check_same(&alone, &beside);
    survey_destroy(&beside);
    survey_destroy(&alone);
}

// Of an earlier launch: its counts, and the hash of the rows as they are.
static void test_known(void **state) {
    (void)state;
    struct surveyor surveyor;
    struct survey alone;
    struct survey found;
    struct survey known = {.totals = {.problems = 7, .tokens = 11, .problems_sha256 = "other"}, .failed = 3};
    struct error err;
    struct surveyor_options options = options_of(never, NULL);
    assert_int_equal(
        survey_make(&alone, testing.source, testing.preparer, &limits, NULL, NULL, NULL, NULL, &err),
        STATUS_OK);
    options.known = &known;
    start(&surveyor, &options);
    assert_int_equal(surveyor_finish(&surveyor, &found, &err), STATUS_OK);
    assert_int_equal(found.totals.problems, 7);
    assert_int_equal(found.totals.tokens, 11);
    assert_int_equal(found.failed, 3);
    assert_string_equal(found.totals.problems_sha256, alone.totals.problems_sha256);
    survey_destroy(&found);
    survey_destroy(&alone);
}

static void test_stops(void **state) {
    (void)state;
    struct surveyor surveyor;
    struct survey survey;
    struct error err;
    atomic_bool asked;
    atomic_init(&asked, true);
    struct surveyor_options options = options_of(when_asked, &asked);
    start(&surveyor, &options);
    assert_int_equal(surveyor_finish(&surveyor, &survey, &err), STATUS_STOPPED);
    survey_destroy(&survey);
    assert_non_null(strstr(err.message, "stopped while surveying"));
    options.stopped = never;
    assert_int_equal(source_rewind(testing.source, &err), STATUS_OK);
    start(&surveyor, &options);
    surveyor_stop(&surveyor); // at any moment: it may be through
    assert_true(surveyor_is_stopped(&surveyor));
    int status = surveyor_finish(&surveyor, &survey, &err);
    assert_true(status == STATUS_STOPPED || status == STATUS_OK);
    survey_destroy(&survey);
}

static void test_error(void **state) {
    (void)state;
    struct surveyor surveyor;
    struct survey survey;
    struct error err;
    struct surveyor_options options = options_of(never, NULL);
    start(&surveyor, &options);
    wait_for_end(&surveyor);
    assert_int_equal(surveyor_finish(&surveyor, &survey, &err), STATUS_DATA);
    survey_destroy(&survey);
    assert_non_null(strstr(err.message, "overflow"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts, open_job, close_job),
        cmocka_unit_test_setup_teardown(test_known, open_job, close_job),
        cmocka_unit_test_setup_teardown(test_stops, open_job, close_job),
        cmocka_unit_test_setup_teardown(test_error, open_broken, close_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
