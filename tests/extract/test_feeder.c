// SPDX-License-Identifier: MIT
// Windows and the feeder: batches in the plan's order from any position, what is packed, and an end at any
// moment.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "extract_testing.h"
#include "stages/feeder.h"
#include "start/survey.h"

enum { ROWS = 50, BATCH_TOKENS = 40, SHORT_BATCH = 10, WINDOW = 8 };

static struct testing testing;
// Every test is run with windows that end by rows, as batch.window gives them, and with full ones; some with
// texts that are longer than a batch, too.
static struct feeder_limits limits = {.plan = {.problems = 3, .tokens = BATCH_TOKENS, .window = WINDOW},
                                      .tokens = BATCH_TOKENS,
                                      .rows = BATCH_TOKENS,
                                      .works = 3,
                                      .windows = FEEDER_WINDOWS};

// Row i has a text of "sssss\nx..." with i % 7 + 1 of x; every fifth has no steps; a whole window (16 to 23)
// has none.
static int open_job(void **state) {
    struct error err;
    scratch_make(state);
    return testing_open(&testing,
                        "CREATE TABLE problems(id, statement, steps);"
                        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49)"
                        "INSERT INTO problems SELECT 'p' || i, 'sssss',"
                        "CASE WHEN i % 5 = 4 OR i / 8 = 2 THEN '[]'"
                        "ELSE '[\"' || substr('xxxxxxx', 1, i % 7 + 1) || '\"]' END FROM n",
                        "", NULL, false, 257, &err);
}

static int close_job(void **state) {
    testing_close(&testing);
    return scratch_remove(state);
}

static bool runs(uint64_t ordinal) {
    return ordinal % 5 != 4 && ordinal / 8 != 2;
}

struct seen {
    uint64_t number;
    size_t texts;
    size_t tokens;
    uint64_t first_ordinal;
};

static const struct ledger_retry *only; // the problems to walk; NULL: all

static struct feeder *start(const struct ledger_position *position) {
    static struct feeder feeder;
    struct error err;
    assert_int_equal(source_rewind(testing.source, &err), STATUS_OK);
    if (feeder_start(&feeder, &limits, testing.source, testing.preparer, only, position, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    return &feeder;
}

static void check_work(const struct work *work, bool *done) {
    size_t token = 0;
    assert_in_range(work->batch.texts, 1, 3);
    assert_in_range(work->batch.tokens, 1, work->batch.texts == 1 ? 13 : limits.plan.tokens);
    assert_int_equal(work->batch.rows, work->batch.texts);
    double squares = 0;
    for (size_t i = 0; i < work->batch.texts; i++) {
        const struct window_problem *problem = window_batch_problem(work->window, work->index, i);
        assert_true(runs(problem->ordinal) && !done[problem->ordinal]);
        done[problem->ordinal] = true;
        size_t length = 6 + problem->ordinal % 7 + 1;
        assert_int_equal(work->batch.starts[i], token);
        assert_int_equal(work->batch.ids[token], 's');
        assert_int_equal(work->batch.ids[token + length - 1], 'x');
        assert_int_equal(work->batch.spans[i].start, token + 6); // in the packed batch
        assert_int_equal(work->batch.spans[i].end, token + length);
        squares += (double)(length * length);
        token += length;
    }
    assert_int_equal(work->batch.starts[work->batch.texts], token);
    assert_int_equal(work->batch.tokens, token);
    assert_true(work->squared_lengths == squares);
}

// The next work; a word that none comes before others are given back is no work.
static struct work *next_work(struct feeder *feeder) {
    struct work *work;
    do {
        work = feeder_next(feeder);
    } while (feeder_pauses(feeder, work));
    return work;
}

// Everything from a position on; returns the number of works and fills `seen`.
static size_t walk(const struct ledger_position *position, struct seen *seen, size_t *outcomes, bool *done) {
    struct feeder *feeder = start(position);
    struct work *work;
    size_t works = 0;
    uint64_t number = position->batches;
    *outcomes = 0;
    while ((work = next_work(feeder)) != NULL) {
        assert_int_equal(work->number, number);
        if (work->first_of_window) {
            for (size_t i = 0; i < work->window->count; i++) {
                *outcomes += work->window->problems[i].state != PROBLEM_DONE;
            }
        }
        if (work->computes) {
            check_work(work, done);
            seen[works++] =
                (struct seen){work->number, work->batch.texts, work->batch.tokens, work->window->first};
            number++;
        }
        feeder_release(feeder, work);
    }
    bool complete;
    struct error err;
    assert_int_equal(feeder_finish(feeder, &complete, &err), STATUS_OK);
    assert_true(complete);
    feeder_destroy(feeder);
    return works;
}

static void test_whole_walk(void **state) {
    (void)state;
    struct seen seen[ROWS];
    bool done[ROWS] = {false};
    size_t outcomes;
    size_t expected = 0;
    struct survey survey;
    struct error err;
    assert_int_equal(
        survey_make(&survey, testing.source, testing.preparer, &limits.plan, NULL, NULL, NULL, NULL, &err),
        STATUS_OK);
    size_t works = walk(&(struct ledger_position){0}, seen, &outcomes, done);
    for (uint64_t i = 0; i < ROWS; i++) {
        assert_int_equal(done[i], runs(i));
        expected += runs(i);
    }
    assert_int_equal(outcomes, ROWS - expected);
    assert_int_equal(survey.totals.problems, ROWS);
    assert_int_equal(survey.totals.texts, expected);
    assert_int_equal(survey.totals.rows, expected);
    assert_int_equal(survey.skipped, ROWS - expected);
    assert_int_equal(survey.failed, 0);
    assert_int_equal(survey.totals.batches, works);
    uint64_t tokens = 0;
    uint64_t largest = 0;
    uint64_t longer = 0;
    for (size_t i = 0; i < works; i++) {
        size_t room = seen[i].tokens < limits.plan.tokens ? seen[i].tokens : limits.plan.tokens;
        tokens += seen[i].tokens;
        longer += seen[i].tokens > room;
        largest = room > largest ? room : largest;
    }
    assert_int_equal(survey.long_texts, longer);
    assert_int_equal(longer > 0, limits.plan.tokens == SHORT_BATCH);
    assert_int_equal(survey.shapes, works);
    assert_int_equal(survey.totals.tokens, tokens);
    assert_int_equal(survey.largest_tokens, largest);
    assert_int_equal(survey.largest_rows, limits.plan.tokens == SHORT_BATCH ? 1 : 3);
    assert_int_equal(survey.totals.longest, 13);
    assert_int_equal(survey.lengths.size, expected * sizeof(uint32_t));
    assert_int_equal(survey.batch_tokens.size, works * sizeof(uint32_t));
    for (size_t i = 0; i < works; i++) {
        assert_int_equal(((const uint32_t *)(const void *)survey.batch_tokens.data)[i], seen[i].tokens);
    }
    survey_destroy(&survey);
}

// Batches of three out of windows of eight: by rows windows end with a batch of what is left over; full ones
// do not, but for the last and for the one around the rows without a text, which has a single batch.
static void test_full_windows(void **state) {
    (void)state;
    struct seen seen[ROWS];
    bool done[ROWS] = {false};
    size_t outcomes;
    size_t small = 0;
    size_t works = walk(&(struct ledger_position){0}, seen, &outcomes, done);
    for (size_t i = 0; i < works; i++) {
        small += seen[i].texts < 3;
    }
    if (limits.plan.full) {
        assert_in_range(small, 0, 2);
    } else {
        assert_in_range(small, 3, works);
    }
}

// From the start of any window, at any of its batches, the rest is what the whole walk gave.
static void test_resumed_walks(void **state) {
    (void)state;
    struct seen whole[ROWS];
    struct seen rest[ROWS];
    bool done[ROWS] = {false};
    size_t outcomes;
    size_t works = walk(&(struct ledger_position){0}, whole, &outcomes, done);
    for (size_t from = 0; from < works; from++) {
        struct ledger_position position = {.batches = from, .window = whole[from].first_ordinal};
        while (position.window_batch < from && whole[position.window_batch].first_ordinal < position.window) {
            position.window_batch++;
        }
        bool done_again[ROWS] = {false};
        size_t left = walk(&position, rest, &outcomes, done_again);
        assert_int_equal(left, works - from);
        for (size_t i = 0; i < left; i++) {
            assert_int_equal(rest[i].number, whole[from + i].number);
            assert_int_equal(rest[i].texts, whole[from + i].texts);
            assert_int_equal(rest[i].tokens, whole[from + i].tokens);
            assert_int_equal(rest[i].first_ordinal, whole[from + i].first_ordinal);
        }
    }
}

// The problems of a retry alone, in windows and batches of their own that every resume finds again; the hash
// is of all rows.
static void test_walks_of_a_retry(void **state) {
    (void)state;
    uint64_t ordinals[] = {0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 16, 17, 25, 26, 27, 28, 30, 31, 48};
    const struct ledger_retry retry = {.ordinals = ordinals, .count = sizeof ordinals / sizeof ordinals[0]};
    struct seen whole[ROWS];
    bool done[ROWS] = {false};
    size_t outcomes;
    size_t expected = 0;
    struct survey survey;
    struct error err;
    only = &retry;
    size_t works = walk(&(struct ledger_position){.batches = 70, .window_batch = 70}, whole, &outcomes, done);
    for (uint64_t i = 0; i < ROWS; i++) {
        assert_int_equal(done[i], ledger_retry_has(&retry, i) && runs(i));
        expected += done[i];
    }
    assert_int_equal(outcomes, retry.count - expected);
    assert_int_equal(source_rewind(testing.source, &err), STATUS_OK);
    assert_int_equal(
        survey_make(&survey, testing.source, testing.preparer, &limits.plan, NULL, &retry, NULL, NULL, &err),
        STATUS_OK);
    assert_int_equal(survey.totals.problems, retry.count);
    assert_int_equal(survey.totals.batches, works);
    survey_destroy(&survey);
    for (size_t from = 0; from < works; from++) {
        struct ledger_position position = {.batches = 70 + from, .window = whole[from].first_ordinal};
        for (position.window_batch = 70; whole[position.window_batch - 70].first_ordinal < position.window;) {
            position.window_batch++;
        }
        struct seen rest[ROWS];
        bool done_again[ROWS] = {false};
        assert_int_equal(walk(&position, rest, &outcomes, done_again), works - from);
        for (size_t i = 0; i < works - from; i++) {
            assert_int_equal(rest[i].tokens, whole[from + i].tokens);
            assert_int_equal(rest[i].first_ordinal, whole[from + i].first_ordinal);
        }
    }
    only = NULL;
}

// What must stay as it was: not the rows of failed problems, but their ids, and all else.
static void test_hash_of_what_is_kept(void **state) {
    (void)state;
    static const struct {
        const char *change;
        bool seen;
    } changes[] = {{"SELECT 1", false},
                   {"UPDATE problems SET statement = 'other', steps = NULL WHERE id IN ('p0', 'p7')", false},
                   {"UPDATE problems SET statement = 'other' WHERE id = 'p8'", true},
                   {"UPDATE problems SET steps = NULL WHERE id = 'p49'", true},
                   {"UPDATE problems SET id = 'q7' WHERE id = 'p7'", true},
                   {"DELETE FROM problems WHERE id = 'p7'", true},
                   {"INSERT INTO problems VALUES('p50', '', '')", true},
                   {"ALTER TABLE problems RENAME COLUMN statement TO text", true}};
    uint64_t ordinals[] = {0, 7};
    const struct ledger_retry failed = {.ordinals = ordinals, .count = 2};
    char before[DIGEST_HEX];
    char after[DIGEST_HEX];
    struct error err;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct source *source;
        scratch_sql("kept.db", "DROP TABLE IF EXISTS problems; CREATE TABLE problems(id, statement, steps);"
                               "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49)"
                               "INSERT INTO problems SELECT 'p' || i, 'sssss', '[]' FROM n");
        scratch_sql("kept.db", changes[i].change);
        assert_int_equal(
            source_open(&source, scratch_path("kept.db"), "SELECT * FROM problems", 0, NULL, &err),
            STATUS_OK);
        assert_int_equal(survey_digest_kept(source, "id", &failed, i == 0 ? before : after, &err), STATUS_OK);
        source_close(source);
        if (i > 0 && (strcmp(before, after) != 0) != changes[i].seen) {
            fail_msg("%s: %s", changes[i].seen ? "unseen" : "seen", changes[i].change);
        }
    }
}

static void test_hash_of_the_rows(void **state) {
    (void)state;
    struct error err;
    char hex[DIGEST_HEX];
    uint64_t problems;
    assert_int_equal(source_rewind(testing.source, &err), STATUS_OK);
    assert_int_equal(survey_digest(testing.source, &problems, hex, &err), STATUS_OK);
    assert_int_equal(problems, ROWS);
    struct feeder *feeder = start(&(struct ledger_position){0});
    struct work *work;
    while ((work = next_work(feeder)) != NULL) {
        feeder_release(feeder, work);
    }
    bool complete;
    assert_int_equal(feeder_finish(feeder, &complete, &err), STATUS_OK);
    assert_string_equal(feeder->problems_sha256, hex);
    feeder_destroy(feeder);
}

// Ended after 0, 1, 2 ... works, given back or still held: no deadlock, and not complete.
static void test_early_ends(void **state) {
    (void)state;
    for (int taken = 0; taken < 6; taken++) {
        struct feeder *feeder = start(&(struct ledger_position){0});
        struct error err;
        bool complete = true;
        for (int i = 0; i < taken; i++) {
            struct work *work = next_work(feeder);
            assert_non_null(work);
            if (i + 2 < taken || taken % 2 == 0) {
                feeder_release(feeder, work);
            }
        }
        assert_int_equal(feeder_finish(feeder, &complete, &err), STATUS_OK);
        assert_false(complete);
        assert_int_equal(feeder_finish(feeder, &complete, &err), STATUS_OK);
        feeder_destroy(feeder);
    }
}

// Who keeps works until there are enough hears when no more can come: all windows are in use. Those that were
// kept are given back together, and all others follow.
static void test_works_that_are_kept(void **state) {
    (void)state;
    struct work *kept[ROWS];
    const struct feeder_limits usual = limits;
    limits.works = ROWS;
    struct feeder *feeder = start(&(struct ledger_position){0});
    struct work *work;
    size_t count = 0;
    size_t works = 0;
    size_t pauses = 0;
    while ((work = feeder_next(feeder)) != NULL) {
        bool pause = feeder_pauses(feeder, work);
        if (!pause) {
            kept[count++] = work;
            works += work->computes;
        }
        for (; pause && count > 0; count--) {
            feeder_release(feeder, kept[count - 1]);
        }
        pauses += pause;
    }
    bool complete;
    struct error err;
    assert_in_range(pauses, 1, ROWS);
    assert_in_range(works, pauses, ROWS);
    assert_int_equal(feeder_finish(feeder, &complete, &err), STATUS_OK);
    assert_true(complete);
    feeder_destroy(feeder);
    limits = usual;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_walk),           cmocka_unit_test(test_resumed_walks),
        cmocka_unit_test(test_full_windows),         cmocka_unit_test(test_walks_of_a_retry),
        cmocka_unit_test(test_hash_of_what_is_kept), cmocka_unit_test(test_hash_of_the_rows),
        cmocka_unit_test(test_early_ends),           cmocka_unit_test(test_works_that_are_kept),
    };
    int failures = cmocka_run_group_tests_name("windows by rows", tests, open_job, close_job);
    limits.plan.full = true;
    failures += cmocka_run_group_tests_name("full windows", tests, open_job, close_job);
    const struct CMUnitTest of_long_texts[] = {
        cmocka_unit_test(test_whole_walk),       cmocka_unit_test(test_resumed_walks),
        cmocka_unit_test(test_walks_of_a_retry), cmocka_unit_test(test_hash_of_the_rows),
        cmocka_unit_test(test_early_ends),
    };
    limits.plan.tokens = limits.tokens = SHORT_BATCH;
    return failures + cmocka_run_group_tests_name("long texts", of_long_texts, open_job, close_job);
}
