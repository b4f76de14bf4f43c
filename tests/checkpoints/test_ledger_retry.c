// SPDX-License-Identifier: MIT
// Trying failed problems again: which ones, a retry as a part of the run, new outcomes in the place of failed
// ones, and a chain that covers both.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoints/fixture.h"
#include "checkpoints/ledger_behind.h"

enum { SHARD = 6, PROBLEMS = 2 * SHARD }; // of the main part: in two shards

// Of each shard's problems: 2 was not finite (transient), 3 has a bad row, 4 met a parser without memory.
static const char *const reasons[SHARD] = {NULL,
                                           NULL,
                                           "hidden_states[1] has 3 values that are NaN",
                                           "byte 7 of the text is NUL",
                                           "steps: line -1, column -1: ",
                                           NULL};

static void ok(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%s", err->message);
    }
}

// An outcome to be committed: of one problem, by its ordinal.
struct wanted {
    uint64_t ordinal;
    const char *reason; // NULL: done
    bool computed;      // it reached a batch
};

// Commits one batch of outcomes; a shard is sealed when it holds any problem.
static int commit(struct ledger *ledger, const struct wanted *wanted, size_t count, bool finished,
                  struct error *err) {
    struct ledger_commit record = {.problem_count = count, .batch_count = 1, .finished = finished};
    struct shard_sealed sealed = {.sha256 = "0123", .bytes = 1000};
    struct ledger_problem problems[SHARD];
    struct shard_problem made;
    char text[SHARD][FIXTURE_ID + FIXTURE_METADATA];
    int32_t tokens[FIXTURE_TOKENS_MOST];
    bool durable;
    ok(ledger_position(ledger, &record.position, err), err);
    struct ledger_batch batch = {.number = record.position.batches, .epoch = 1, .compute_seconds = 0.25};
    for (size_t i = 0; i < count; i++) {
        fixture_problem(&made, wanted[i].ordinal, FIXTURE_MEAN, text[i], tokens);
        problems[i] = (struct ledger_problem){
            .ordinal = wanted[i].ordinal,
            .id = made.id,
            .id_size = made.id_size,
            .state = wanted[i].reason == NULL ? PROBLEM_DONE : PROBLEM_FAILED,
            .reason = wanted[i].reason,
            .batch = wanted[i].computed ? batch.number : UINT64_MAX,
            .tokens = made.token_count,
            .rows = wanted[i].reason == NULL,
            .steps = made.step_count,
            .index = wanted[i].reason == NULL ? (uint32_t)sealed.problems : 0,
        };
        sealed.problems += problems[i].state == PROBLEM_DONE;
        sealed.rows += problems[i].rows;
        sealed.tokens += problems[i].state == PROBLEM_DONE ? made.token_count : 0;
    }
    run_folder_shard_name(sealed.name, record.position.shards, false);
    record.shard = sealed.problems > 0 ? &sealed : NULL;
    record.position.shards += sealed.problems > 0;
    record.position.batches++;
    record.problems = problems;
    record.batches = &batch;
    int status = ledger_commit(ledger, &record, &durable, err);
    assert_int_equal(durable, status == STATUS_OK);
    return status;
}

// A run of PROBLEMS problems, all accounted for unless `open`.
static struct ledger *run_in(char folder[PATH_SIZE], bool open) {
    struct error err;
    struct ledger *ledger;
    struct identity identity = {0};
    struct ledger_survey survey = {.problems = PROBLEMS, .problems_sha256 = "abc"};
    uint64_t epoch;
    fixture_folder(folder);
    ok(ledger_open(&ledger, folder, &err), &err);
    ok(identity_add(&identity, "model.dtype", "float32", &err), &err);
    ok(ledger_begin(ledger, &identity, &survey, &err), &err);
    ok(ledger_launch(ledger, 1, &epoch, &err), &err);
    identity_destroy(&identity);
    for (uint64_t shard = 0; shard < 2; shard++) {
        struct wanted wanted[SHARD];
        for (uint64_t i = 0; i < SHARD; i++) {
            wanted[i] = (struct wanted){shard * SHARD + i, reasons[i], i <= 2 || i == 5};
        }
        ok(commit(ledger, wanted, SHARD, shard == 1 && !open, &err), &err);
    }
    return ledger;
}

static void end(struct ledger *ledger, const char *folder) {
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void begin(struct ledger *ledger, enum ledger_retry_scope scope, size_t count) {
    struct error err;
    struct ledger_retry retry;
    ok(ledger_retry_candidates(ledger, scope, &retry, &err), &err);
    assert_int_equal(retry.count, count);
    ok(ledger_retry_begin(ledger, &retry, &err), &err);
    ledger_retry_destroy(&retry);
}

static void check_counts(struct ledger *ledger, uint64_t done, uint64_t transient, uint64_t tried,
                         uint64_t succeeded, uint64_t waiting, bool finished) {
    struct error err;
    struct ledger_totals totals;
    struct ledger_retry_counts counts;
    ok(ledger_totals(ledger, &totals, &err), &err);
    ok(ledger_retry_counts(ledger, &counts, &err), &err);
    assert_int_equal(totals.done, done);
    assert_int_equal(totals.failed, PROBLEMS - done);
    assert_int_equal(totals.finished, finished);
    assert_int_equal(counts.transient, transient);
    assert_int_equal(counts.tried, tried);
    assert_int_equal(counts.succeeded, succeeded);
    assert_int_equal(counts.waiting, waiting);
    ok(ledger_check_chain(ledger, &err), &err);
}

static void candidates_by_their_reason(void **state) {
    (void)state;
    static const uint64_t transient[] = {2, 4, 8, 10};
    static const uint64_t all[] = {2, 3, 4, 8, 9, 10};
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_retry retry;
    bool is;
    bool found;
    struct ledger *ledger = run_in(folder, false);
    check_counts(ledger, 6, 4, 0, 0, 0, true);
    ok(ledger_retry_candidates(ledger, RETRY_TRANSIENT, &retry, &err), &err);
    assert_int_equal(retry.count, 4);
    assert_memory_equal(retry.ordinals, transient, sizeof transient);
    assert_true(ledger_retry_has(&retry, 8) && !ledger_retry_has(&retry, 9) && !ledger_retry_has(&retry, 0));
    ledger_retry_destroy(&retry);
    ok(ledger_retry_candidates(ledger, RETRY_ALL, &retry, &err), &err);
    assert_int_equal(retry.count, 6);
    assert_memory_equal(retry.ordinals, all, sizeof all);
    ledger_retry_destroy(&retry);
    for (uint64_t i = 0; i < SHARD; i++) {
        ok(ledger_is_transient(ledger, i, &is, &err), &err);
        assert_int_equal(is, i == 2 || i == 4);
    }
    ok(ledger_retry_open(ledger, &retry, &found, &err), &err);
    assert_false(found);
    end(ledger, folder);
}

static void begins_on_a_finished_run_only(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    uint64_t ordinals[] = {2, 5};
    struct ledger_retry retry = {.ordinals = ordinals, .count = 1};
    struct ledger *ledger = run_in(folder, true);
    assert_int_equal(ledger_retry_begin(ledger, &retry, &err), STATUS_INTERNAL);
    end(ledger, folder);

    ledger = run_in(folder, false);
    retry.count = 0;
    assert_int_equal(ledger_retry_begin(ledger, &retry, &err), STATUS_INTERNAL);
    retry.count = 2; // 5 is done
    assert_int_equal(ledger_retry_begin(ledger, &retry, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "row 5"));
    check_counts(ledger, 6, 4, 0, 0, 0, true);
    retry.count = 1;
    ok(ledger_retry_begin(ledger, &retry, &err), &err);
    assert_int_equal(ledger_retry_begin(ledger, &retry, &err), STATUS_INTERNAL); // one at a time
    check_counts(ledger, 6, 4, 1, 0, 1, false);
    end(ledger, folder);
}

static int see_problem(void *context, const struct ledger_problem *problem) {
    assert_int_equal(problem->ordinal, 2);
    assert_int_equal(problem->shard, 2);
    ++*(size_t *)context;
    return STATUS_OK;
}

struct seen {
    struct ledger *reader;
    size_t problems;
    size_t failed;
};

static int count_seen(void *context, const struct ledger_problem *problem) {
    struct seen *seen = context;
    struct ledger_problem same;
    struct buffer memory = {0};
    struct error err;
    bool found = false;
    assert_true(problem->ordinal == seen->problems++);
    seen->failed += problem->state == PROBLEM_FAILED;
    ok(ledger_find_problem(seen->reader, problem->id, problem->id_size, &same, &memory, &found, &err), &err);
    assert_true(found && same.ordinal == problem->ordinal && same.state == problem->state);
    buffer_destroy(&memory);
    return STATUS_OK;
}

static int count_failed(void *context, const struct ledger_problem *problem) {
    assert_int_equal(problem->state, PROBLEM_FAILED);
    ++*(size_t *)context;
    return STATUS_OK;
}

// Every problem once, as of the reader's moment, whatever was acknowledged since.
static void check_seen(struct ledger *reader, size_t failed) {
    static const enum problem_state of_failed = PROBLEM_FAILED;
    struct error err;
    struct seen seen = {.reader = reader};
    struct ledger_totals totals;
    size_t listed = 0;
    ok(ledger_each_problem(reader, NULL, count_seen, &seen, &err), &err);
    assert_int_equal(seen.problems, PROBLEMS);
    assert_int_equal(seen.failed, failed);
    ok(ledger_each_problem(reader, &of_failed, count_failed, &listed, &err), &err);
    assert_int_equal(listed, failed);
    ok(ledger_totals(reader, &totals, &err), &err);
    assert_int_equal(totals.failed, failed);
    assert_int_equal(totals.done, PROBLEMS - failed);
    ok(ledger_check_chain(reader, &err), &err);
    ok(ledger_check_totals(reader, &err), &err);
}

static void new_outcomes_take_the_place_of_failed_ones(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_position position;
    struct ledger_retry retry;
    struct ledger *before;
    struct ledger *reader;
    struct buffer earlier = {0};
    size_t count = 0;
    bool found;
    struct ledger *ledger = run_in(folder, false);
    ok(ledger_open_read(&before, folder, &err), &err);
    begin(ledger, RETRY_TRANSIENT, 4);
    ok(ledger_position(ledger, &position, &err), &err);
    assert_true(position.shards == 2 && position.batches == 2 && position.window == 0 &&
                position.window_batch == 2);

    const struct wanted first[] = {{2, NULL, true}, {4, "still not finite", true}};
    ok(commit(ledger, first, 2, false, &err), &err);
    check_counts(ledger, 7, 3, 4, 1, 2, false);
    ok(ledger_open_read(&reader, folder, &err), &err);
    check_seen(before, 6);
    check_seen(reader, 5);
    ok(ledger_retry_open(reader, &retry, &found, &err), &err);
    assert_true(found && retry.count == 4 && retry.waiting == 2 && retry.ordinals[3] == 10);
    ledger_retry_destroy(&retry);
    ok(ledger_each_problem_of_shard(reader, 2, see_problem, &count, &err), &err);
    assert_int_equal(count, 1);

    // Twice, not tried by this retry, done before it; and an end with two to come: nothing is recorded.
    static const struct wanted wrong[] = {{2, NULL, true}, {4, NULL, true}, {3, NULL, true}, {0, NULL, true}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(commit(ledger, &wrong[i], 1, false, &err), STATUS_INTERNAL);
        assert_non_null(strstr(err.message, "is not one to try again"));
    }
    assert_int_equal(commit(ledger, &(struct wanted){8, NULL, true}, 1, true, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "were not tried again"));
    check_counts(ledger, 7, 3, 4, 1, 2, false);

    const struct wanted last[] = {{8, NULL, true}, {10, "the text is empty", false}};
    ok(commit(ledger, last, 2, true, &err), &err);
    check_counts(ledger, 8, 1, 4, 2, 0, true);
    ok(ledger_retry_open(reader, &retry, &found, &err), &err);
    assert_false(found);
    ok(ledger_earlier_reasons(reader, 4, &earlier, &count, &err), &err);
    assert_int_equal(count, 1);
    assert_string_equal(earlier.data, reasons[4]);
    buffer_clear(&earlier);

    // And again: 4 alone is transient now.
    begin(ledger, RETRY_TRANSIENT, 1);
    ok(commit(ledger, &(struct wanted){4, NULL, true}, 1, true, &err), &err);
    check_counts(ledger, 9, 0, 1, 1, 0, true);
    ok(ledger_earlier_reasons(before, 4, &earlier, &count, &err), &err);
    assert_int_equal(count, 0); // then it was the outcome itself
    ok(ledger_earlier_reasons(ledger, 4, &earlier, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_string_equal(earlier.data + strlen(reasons[4]) + 1, "still not finite");
    check_seen(before, 6);
    check_seen(reader, 5);
    ledger_close(reader);
    ok(ledger_open_read(&reader, folder, &err), &err);
    check_seen(reader, 3);
    buffer_destroy(&earlier);
    ledger_close(reader);
    ledger_close(before);
    end(ledger, folder);
}

static void the_chain_covers_what_was_set_aside(void **state) {
    (void)state;
    static const char *const changes[] = {
        "UPDATE superseded SET reason = 'other' WHERE ordinal = 2",
        "UPDATE superseded SET state = 0 WHERE ordinal = 2",
        "UPDATE superseded SET checkpoint = 2 WHERE ordinal = 2",
        "UPDATE superseded SET checkpoint = 77 WHERE ordinal = 2",
        "DELETE FROM superseded WHERE ordinal = 2",
        "DELETE FROM retry WHERE ordinal = 2",
        "UPDATE retry SET ordinal = 3 WHERE ordinal = 2",
        "UPDATE retry_source SET problems_sha256 = 'other'",
        "DELETE FROM retry_source",
        "INSERT INTO retry_source VALUES(4, 'abc')",
        "INSERT INTO retry VALUES(3, 3)",
        "INSERT INTO retry VALUES(1, 3)",
        "INSERT INTO retry VALUES(77, 3)",
        // A failed problem that is gone from sight, and a new outcome taken back: each in one move.
        "INSERT INTO superseded SELECT * FROM problem WHERE ordinal = 3; DELETE FROM problem WHERE ordinal = "
        "3",
        "DELETE FROM problem WHERE ordinal = 2; INSERT INTO problem SELECT * FROM superseded WHERE ordinal = "
        "2; "
        "DELETE FROM superseded WHERE ordinal = 2",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char folder[PATH_SIZE];
        struct error err;
        struct ledger *ledger = run_in(folder, false);
        begin(ledger, RETRY_TRANSIENT, 4);
        const struct wanted wanted[] = {
            {2, NULL, true}, {4, NULL, true}, {8, NULL, true}, {10, "again", true}};
        ok(commit(ledger, wanted, 4, true, &err), &err);
        ok(ledger_check_chain(ledger, &err), &err);
        ledger_close(ledger);
        assert_int_equal(ledger_behind(folder, changes[i]), 1);
        ok(ledger_open_read(&ledger, folder, &err), &err);
        if (ledger_check_chain(ledger, &err) != STATUS_DATA) {
            fail_msg("unseen: %s", changes[i]);
        }
        end(ledger, folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_by_their_reason),
        cmocka_unit_test(begins_on_a_finished_run_only),
        cmocka_unit_test(new_outcomes_take_the_place_of_failed_ones),
        cmocka_unit_test(the_chain_covers_what_was_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
