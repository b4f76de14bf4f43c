// SPDX-License-Identifier: MIT
// Windows, the feeder and the survey where texts go on from each other and from a head: what is packed gives
// every text and every span again, from any window on, and is what the survey counts; and when it is worth
// it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/size.h"
#include "extract_testing.h"
#include "stages/feeder.h"
#include "start/survey.h"

enum { ROWS = 120, LONGEST = 512, HEAD = 40 };

static struct testing testing;
static const struct plan_limits whole = {.problems = 6, .tokens = 200, .window = 16, .full = true};
static const struct prefix_wish wish = {
    .allowed = true, .least = 8, .head_most = SIZE_MAX, .rows_most = UINT64_MAX};
static struct survey survey;
static struct plan_limits limits;

// By steps, whose spans lie behind the head; of whole texts and of each of their tokens, which lie anywhere.
static const char *pooling = "step_mean";

static bool by_step(void) {
    return strcmp(pooling, "step_mean") == 0;
}

// Behind 46 letters three texts each have a statement in common, then steps of their own. Every tenth has no
// steps, every 17th, with the first, other letters, and one is longer than a batch.
static int open_job(void **state) {
    struct error err;
    scratch_make(state);
    int status = testing_open(
        &testing,
        "CREATE TABLE problems(id, statement, steps);"
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 119)"
        "INSERT INTO problems SELECT 'p' || i,"
        "CASE WHEN i % 17 = 0 THEN 'other ' || i ELSE 'abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrst'"
        " || printf('%03d', i / 3) || 'the statement of a few' END,"
        "CASE WHEN i % 10 = 9 THEN '[]' WHEN i = 52 THEN '[\"' || printf('%.300c', 'y') || '\"]'"
        "ELSE '[\"' || substr('xyzxyzxyzxyzxyz', 1 + i % 3, 1 + i % 11) || '\",\"z\"]' END FROM n",
        "", pooling, false, 257, &err);
    assert_int_equal(status, STATUS_OK);
    status = survey_make(&survey, testing.source, testing.preparer, &whole, &wish, NULL, NULL, NULL, &err);
    assert_int_equal(status, STATUS_OK);
    limits = whole;
    survey_limit(&survey, &wish, &limits);
    return 0;
}

static int close_job(void **state) {
    survey_destroy(&survey);
    testing_close(&testing);
    return scratch_remove(state);
}

// Ids of text i of a batch, put together from what it and its origins have; returns how many.
static size_t whole_text(const struct model_batch *batch, size_t i, int32_t ids[LONGEST]) {
    size_t before = batch->origins != NULL ? (size_t)batch->origins[i].before : 0;
    size_t own = (size_t)(batch->starts[i + 1] - batch->starts[i]);
    if (before > 0 && batch->origins[i].parent == DEVICE_HEAD) {
        assert_in_range(before, 1, limits.head_tokens);
        memcpy(ids, limits.head, before * sizeof *ids);
    } else if (before > 0) {
        assert_in_range(batch->origins[i].parent, 0, i - 1);
        assert_true(whole_text(batch, (size_t)batch->origins[i].parent, ids) >= before);
    }
    assert_in_range(own, 1, LONGEST - before);
    memcpy(ids + before, batch->ids + batch->starts[i], own * sizeof *ids);
    return before + own;
}

// The span of tokens [start, end) of a text, whose last one is computed by text `owner` or in the head.
static void check_span(const struct model_batch *batch, struct device_span span, const int32_t *ids,
                       const struct shard_row *row) {
    int32_t other[LONGEST];
    size_t length = row->token_end - row->token_start;
    int64_t first = 0; // where the first token of the text, or the head, would lie
    assert_int_equal(span.end - span.start, length);
    if (span.end <= 0) {
        first = -(int64_t)limits.head_tokens;
        memcpy(other, limits.head, limits.head_tokens * sizeof *other);
    } else {
        size_t owner = 0;
        while (batch->starts[owner + 1] < span.end) {
            owner++;
        }
        first = batch->starts[owner] - (batch->origins != NULL ? batch->origins[owner].before : 0);
        whole_text(batch, owner, other);
    }
    assert_int_equal(span.start - first, row->token_start);
    assert_memory_equal(other, ids, row->token_end * sizeof *ids);
}

static void check_work(const struct work *work, bool *done, struct survey *counted) {
    const struct model_batch *batch = &work->batch;
    size_t row = 0;
    double squares = 0;
    bool goes_on = false;
    for (size_t i = 0; i < batch->texts; i++) {
        int32_t ids[LONGEST];
        const struct window_problem *problem = window_batch_problem(work->window, work->index, i);
        const struct shard_row *rows = window_rows(work->window, problem);
        assert_false(done[problem->ordinal]);
        done[problem->ordinal] = true;
        size_t tokens = whole_text(batch, i, ids);
        assert_int_equal(tokens, problem->token_count);
        assert_memory_equal(ids, window_tokens(work->window, problem), tokens * sizeof *ids);
        for (size_t r = 0; r < problem->row_count; r++) {
            check_span(batch, batch->spans[row++], ids, &rows[r]);
        }
        size_t own = (size_t)(batch->starts[i + 1] - batch->starts[i]);
        goes_on |= own < tokens;
        squares += (double)(tokens * tokens) - (double)((tokens - own) * (tokens - own));
        counted->text_tokens += tokens;
        counted->longest_own = size_max(counted->longest_own, own);
    }
    assert_int_equal(batch->origins != NULL, goes_on);
    assert_int_equal(batch->rows, row);
    assert_int_equal(batch->starts[batch->texts], batch->tokens);
    assert_true(work->squared_lengths == squares);
    assert_true(batch->texts == 1 || batch->tokens <= limits.tokens);
    counted->totals.tokens += batch->tokens;
    counted->totals.squared_lengths += squares;
    counted->totals.batches++;
    counted->largest_rows = size_max(counted->largest_rows, row);
}

struct seen {
    size_t texts, tokens;
    uint64_t first;
};

static size_t walk(const struct ledger_position *position, struct seen *seen, bool *done,
                   struct survey *counted) {
    static struct feeder feeder;
    const struct feeder_limits all = {.plan = limits,
                                      .tokens = limits.tokens,
                                      .rows = ROWS * LONGEST,
                                      .works = 3,
                                      .windows = FEEDER_WINDOWS};
    struct error err;
    struct work *work;
    size_t works = 0;
    bool complete;
    assert_int_equal(feeder_start(&feeder, &all, testing.source, testing.preparer, NULL, position, &err),
                     STATUS_OK);
    while ((work = feeder_next(&feeder)) != NULL) {
        if (feeder_pauses(&feeder, work)) {
            continue;
        }
        if (work->computes) {
            check_work(work, done, counted);
            seen[works++] = (struct seen){work->batch.texts, work->batch.tokens, work->window->first};
        }
        feeder_release(&feeder, work);
    }
    assert_int_equal(feeder_finish(&feeder, &complete, &err), STATUS_OK);
    assert_true(complete);
    feeder_destroy(&feeder);
    assert_int_equal(source_rewind(testing.source, &err), STATUS_OK);
    return works;
}

static void test_walk(void **state) {
    (void)state;
    struct seen seen[ROWS];
    bool done[ROWS] = {false};
    struct survey counted = {.longest_own = limits.head_tokens};
    size_t works = walk(&(struct ledger_position){0}, seen, done, &counted);
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(done[i], i % 10 != 9 || !by_step());
    }
    assert_true(survey.reuses);
    assert_int_equal(survey.totals.batches, works);
    assert_int_equal(survey.totals.tokens, counted.totals.tokens);
    assert_true(survey.totals.squared_lengths == counted.totals.squared_lengths);
    assert_int_equal(survey.text_tokens, counted.text_tokens);
    assert_int_equal(survey.longest_own, counted.longest_own);
    assert_int_equal(survey.largest_rows, counted.largest_rows);
    assert_int_equal(survey.long_texts, 1);
    assert_true(survey.totals.longest > survey.longest_own);
    assert_int_equal(survey.head_rows, !by_step());
    uint64_t lengths = 0;
    for (size_t i = 0; i < survey.totals.texts; i++) {
        lengths += ((const uint32_t *)(const void *)survey.lengths.data)[i];
    }
    assert_int_equal(lengths, survey.totals.tokens);
}

// A window is a function of the rows from its first one on.
static void test_resumed_walks(void **state) {
    (void)state;
    struct seen all[ROWS];
    struct seen rest[ROWS];
    struct survey counted = {0};
    bool done[ROWS] = {false};
    size_t works = walk(&(struct ledger_position){0}, all, done, &counted);
    for (size_t from = 0; from < works; from++) {
        struct ledger_position position = {.batches = from, .window = all[from].first};
        while (all[position.window_batch].first < position.window) {
            position.window_batch++;
        }
        bool done_again[ROWS] = {false};
        assert_int_equal(walk(&position, rest, done_again, &counted), works - from);
        assert_memory_equal(rest, all + from, (works - from) * sizeof *rest);
    }
}

static struct survey surveyed(const struct prefix_wish *as) {
    struct survey found;
    struct error err;
    int status = survey_make(&found, testing.source, testing.preparer, &whole, as, NULL, NULL, NULL, &err);
    assert_int_equal(status, STATUS_OK);
    return found;
}

static void check_head(const struct prefix_wish *as, size_t tokens) {
    struct survey found = surveyed(as);
    assert_true(found.reuses);
    assert_int_equal(found.head.size, tokens * sizeof(int32_t));
    for (size_t i = 0; i < tokens; i++) {
        assert_int_equal(((const int32_t *)(const void *)found.head.data)[i], i < 46 ? 'a' + i % 26 : '0');
    }
    struct survey plain = surveyed(NULL);
    assert_string_equal(found.totals.problems_sha256, plain.totals.problems_sha256);
    assert_memory_equal(&found.markup, &plain.markup, sizeof plain.markup);
    survey_destroy(&plain);
    assert_int_equal(found.totals.problems, ROWS);
    assert_int_equal(found.totals.rows, survey.totals.rows);
    assert_int_equal(found.text_tokens, survey.text_tokens);
    survey_destroy(&found);
}

// The bytes that are in common: 46, and the first 0 of the numbers.
static void test_heads(void **state) {
    (void)state;
    struct prefix_wish other = wish;
    check_head(&wish, 47);
    other.head_only = true;
    check_head(&other, 47);
    other.head_most = HEAD;
    check_head(&other, HEAD);
    other = wish;
    other.head_most = 0; // from each other alone
    check_head(&other, 0);
    other.head_most = other.least - 1;
    check_head(&other, 0);
}

// The counts of whole texts, where nothing is wished, allowed, in common or long enough, or a batch would
// have a row too many.
static void test_not_worth_it(void **state) {
    (void)state;
    const struct prefix_wish wishes[] = {
        {.least = 8, .head_most = SIZE_MAX, .rows_most = UINT64_MAX},
        {.allowed = true, .least = 400, .head_most = SIZE_MAX, .rows_most = UINT64_MAX},
        {.allowed = true, .least = 8, .shared_most = 20, .head_most = SIZE_MAX, .rows_most = UINT64_MAX},
        {.allowed = true, .least = 8, .head_only = true, .rows_most = UINT64_MAX},
        {.allowed = true, .least = 8, .head_most = SIZE_MAX, .rows_most = survey.largest_rows - 1}};
    struct survey plain = surveyed(NULL);
    assert_false(plain.reuses);
    assert_int_equal(plain.totals.tokens, plain.text_tokens);
    assert_true(survey.totals.tokens < plain.totals.tokens / 2);
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        struct survey found = surveyed(&wishes[i]);
        assert_false(found.reuses);
        assert_int_equal(found.head.size, 0);
        assert_memory_equal(&found.totals, &plain.totals, sizeof plain.totals);
        assert_int_equal(found.longest_own, plain.longest_own);
        assert_int_equal(found.rows_beyond, i == 4 ? survey.largest_rows : 0); // what held it back alone
        survey_destroy(&found);
    }
    struct prefix_wish just = wish;
    just.rows_most = survey.largest_rows;
    check_head(&just, 47);
    survey_destroy(&plain);
}

// By the limits of a run, as when its failed problems are tried again: no second count, whatever it saves.
static void test_as_limits_say(void **state) {
    (void)state;
    uint64_t ordinals[] = {3, 17, 60};
    const struct ledger_retry retry = {.ordinals = ordinals, .count = 3};
    struct survey found;
    struct error err;
    int status =
        survey_make(&found, testing.source, testing.preparer, &limits, NULL, &retry, NULL, NULL, &err);
    assert_int_equal(status, STATUS_OK);
    assert_true(found.reuses);
    assert_int_equal(found.totals.texts, 3);
    assert_int_equal(found.text_tokens - found.totals.tokens, 2 * limits.head_tokens);
    survey_destroy(&found);
}

// Half of 400 texts of 100 bytes begin with as many bytes in common as make a share of all.
static struct survey survey_of_share(size_t bytes) {
    struct testing other;
    struct survey found;
    struct error err;
    char sql[512];
    snprintf(sql, sizeof sql,
             "CREATE TABLE problems(id, statement, steps);"
             "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 399)"
             "INSERT INTO problems SELECT i, CASE WHEN i %% 2 THEN '' ELSE printf('%%.%zuc', 'q') END ||"
             "printf('%%03d', i) || printf('%%.%zuc', 'r') ||"
             "CASE WHEN i %% 2 THEN printf('%%.%zuc', 's') ELSE '' END, '[\"t\"]' FROM n",
             bytes, 95 - bytes, bytes);
    assert_int_equal(testing_open(&other, sql, "", NULL, false, 257, &err), STATUS_OK);
    const struct prefix_wish as = {
        .allowed = true, .least = 4, .head_most = SIZE_MAX, .rows_most = UINT64_MAX};
    const struct plan_limits few = {.problems = 64, .tokens = 6400, .window = 512, .full = true};
    int status = survey_make(&found, other.source, other.preparer, &few, &as, NULL, NULL, NULL, &err);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(found.text_tokens, 400 * 100);
    testing_close(&other);
    return found;
}

static void test_five_percent(void **state) {
    (void)state;
    struct survey found = survey_of_share(9);
    assert_false(found.reuses);
    survey_destroy(&found);
    found = survey_of_share(11);
    assert_true(found.reuses);
    survey_destroy(&found);
}

// What fewer than half of the texts begin with is no head, though the one in the middle of all does.
static void test_a_minority(void **state) {
    (void)state;
    struct testing other;
    struct survey found;
    struct error err;
    int status = testing_open(&other,
                              "CREATE TABLE problems(id, statement, steps);"
                              "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)"
                              "INSERT INTO problems SELECT i, CASE WHEN i % 5 < 2 THEN printf('%.50c', 'q')"
                              "WHEN i % 5 = 2 THEN '' ELSE 'z' END || printf('%03d', i), '[\"t\"]' FROM n",
                              "", NULL, false, 257, &err);
    assert_int_equal(status, STATUS_OK);
    status = survey_make(&found, other.source, other.preparer, &whole, &wish, NULL, NULL, NULL, &err);
    assert_int_equal(status, STATUS_OK);
    assert_true(found.reuses);
    assert_int_equal(found.head.size, 0);
    survey_destroy(&found);
    testing_close(&other);
}

// The first windows begin otherwise than most.
static void test_a_late_head(void **state) {
    (void)state;
    struct testing other;
    struct survey found;
    struct error err;
    const struct plan_limits few = {.problems = 8, .tokens = 400, .window = 16};
    int status = testing_open(&other,
                              "CREATE TABLE problems(id, statement, steps);"
                              "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)"
                              "INSERT INTO problems SELECT i, CASE WHEN i < 60 THEN printf('%03d', i)"
                              "ELSE printf('%.50c', 'q') || i END, '[\"t\"]' FROM n",
                              "", NULL, false, 257, &err);
    assert_int_equal(status, STATUS_OK);
    status = survey_make(&found, other.source, other.preparer, &few, &wish, NULL, NULL, NULL, &err);
    assert_int_equal(status, STATUS_OK);
    assert_true(found.reuses);
    assert_int_equal(found.head.size, 50 * sizeof(int32_t));
    survey_destroy(&found);
    testing_close(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),          cmocka_unit_test(test_resumed_walks),
        cmocka_unit_test(test_heads),         cmocka_unit_test(test_not_worth_it),
        cmocka_unit_test(test_as_limits_say), cmocka_unit_test(test_five_percent),
        cmocka_unit_test(test_a_minority),    cmocka_unit_test(test_a_late_head),
    };
    int failures = cmocka_run_group_tests_name("steps", tests, open_job, close_job);
    pooling = "mean";
    failures += cmocka_run_group_tests_name("texts", tests, open_job, close_job);
    pooling = "tokens";
    return failures + cmocka_run_group_tests_name("tokens", tests, open_job, close_job);
}
