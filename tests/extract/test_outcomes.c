// SPDX-License-Identifier: MIT
// What a commit says: texts survive the caller's, the record of a partial shard comes back as it went.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stages/outcomes.h"

static void add(struct outcomes *outcomes, uint64_t ordinal, const char *id, enum problem_state state,
                const char *reason, uint64_t batch) {
    char id_copy[64];
    char reason_copy[128];
    struct error err;
    snprintf(id_copy, sizeof id_copy, "%s", id);
    snprintf(reason_copy, sizeof reason_copy, "%s", reason == NULL ? "" : reason);
    struct ledger_problem problem = {.ordinal = ordinal,
                                     .id = id_copy,
                                     .id_size = strlen(id),
                                     .state = state,
                                     .reason = reason == NULL ? NULL : reason_copy,
                                     .batch = batch,
                                     .rows = 3,
                                     .shard = 4};
    assert_int_equal(outcomes_add(outcomes, &problem, &err), STATUS_OK);
    memset(id_copy, '?', sizeof id_copy); // the caller's memory is used again
    memset(reason_copy, '?', sizeof reason_copy);
}

static void test_texts_are_kept(void **state) {
    (void)state;
    struct outcomes outcomes = {0};
    char id[32];
    for (int pass = 0; pass < 2; pass++) { // the second time in memory that is there
        for (uint64_t i = 0; i < 1000; i++) {
            snprintf(id, sizeof id, "problem %d-%d", pass, (int)i);
            add(&outcomes, i, id, i % 3 == 0 ? PROBLEM_FAILED : PROBLEM_DONE, i % 3 == 0 ? "so it is" : NULL,
                i / 8);
        }
        const struct ledger_problem *problems = outcomes_resolve(&outcomes);
        assert_int_equal(outcomes.count, 1000);
        for (uint64_t i = 0; i < 1000; i++) {
            snprintf(id, sizeof id, "problem %d-%d", pass, (int)i);
            assert_int_equal(problems[i].ordinal, i);
            assert_int_equal(problems[i].id_size, strlen(id));
            assert_memory_equal(problems[i].id, id, strlen(id));
            assert_int_equal(problems[i].rows, 3);
            if (i % 3 == 0) {
                assert_string_equal(problems[i].reason, "so it is");
            } else {
                assert_null(problems[i].reason);
            }
        }
        outcomes_clear(&outcomes);
        assert_int_equal(outcomes.count, 0);
    }
    outcomes_destroy(&outcomes);
    outcomes_destroy(&outcomes);
}

static const struct ledger_batch batches[] = {
    {.number = 17,
     .epoch = 2,
     .problems = 5,
     .rows = 40,
     .tokens = 1234,
     .squared_lengths = 123456.75,
     .prepare_seconds = 0.1,
     .wait_seconds = 1e-9,
     .compute_seconds = 1.0 / 3,
     .write_seconds = 0,
     .predicted_seconds = 0.3,
     .score = -0.123456789012345,
     .memory_bytes = 1ull << 40,
     .overflowed = 7,
     .device = {.known = 1u << FIGURE_MEMORY_USED | 1u << FIGURE_POWER | 1u << FIGURE_XID,
                .figures = {[FIGURE_MEMORY_USED] = 0x1p40 + 1, [FIGURE_POWER] = 1.0 / 3}}},
    {.number = 18, .compute_seconds = 2.5}};

static void test_record(void **state) {
    (void)state;
    struct outcomes outcomes = {0};
    struct outcomes back = {0};
    struct outcomes_failure *failures;
    size_t count;
    struct buffer record = {0};
    struct error err;
    assert_int_equal(outcomes_add_batch(&outcomes, &batches[0], &err), STATUS_OK);
    assert_int_equal(outcomes_add_batch(&outcomes, &batches[1], &err), STATUS_OK);
    add(&outcomes, 90, "in the shard", PROBLEM_DONE, NULL, 17);
    add(&outcomes, 91, "not finite", PROBLEM_FAILED, "hidden_states[2] has 1 \"NaN\" in row 0", 18);
    add(&outcomes, 92, "before any batch", PROBLEM_FAILED, "the text is empty", UINT64_MAX);
    assert_int_equal(outcomes_write_record(&outcomes, &record, &err), STATUS_OK);
    assert_int_equal(outcomes_read_record(&back, record.data, record.size, &failures, &count, &err),
                     STATUS_OK);
    assert_int_equal(back.batch_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct ledger_batch *a = &batches[i];
        const struct ledger_batch *b = &back.batches[i];
        assert_true(a->number == b->number && a->epoch == b->epoch && a->problems == b->problems &&
                    a->rows == b->rows && a->tokens == b->tokens && a->memory_bytes == b->memory_bytes &&
                    a->overflowed == b->overflowed);
        assert_true(a->squared_lengths == b->squared_lengths && a->prepare_seconds == b->prepare_seconds &&
                    a->wait_seconds == b->wait_seconds && a->compute_seconds == b->compute_seconds &&
                    a->write_seconds == b->write_seconds && a->predicted_seconds == b->predicted_seconds &&
                    a->score == b->score);
        assert_memory_equal(&a->device, &b->device, sizeof a->device);
    }
    assert_int_equal(count, 1); // those before any batch are found again with their window
    assert_int_equal(failures[0].ordinal, 91);
    assert_string_equal(failures[0].reason, "hidden_states[2] has 1 \"NaN\" in row 0");
    free(failures);
    buffer_destroy(&record);
    outcomes_destroy(&outcomes);
    outcomes_destroy(&back);
}

static void test_empty_and_broken_records(void **state) {
    (void)state;
    struct outcomes outcomes = {0};
    struct outcomes_failure *failures;
    size_t count;
    struct buffer record = {0};
    struct error err;
    assert_int_equal(outcomes_write_record(&outcomes, &record, &err), STATUS_OK);
    assert_int_equal(outcomes_read_record(&outcomes, record.data, record.size, &failures, &count, &err),
                     STATUS_OK);
    assert_int_equal(count, 0);
    free(failures);
    assert_int_equal(outcomes_read_record(&outcomes, record.data, record.size - 1, &failures, &count, &err),
                     STATUS_DATA);
    assert_null(failures);
    buffer_destroy(&record);
    outcomes_destroy(&outcomes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_kept),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_empty_and_broken_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
