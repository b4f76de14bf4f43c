// SPDX-License-Identifier: MIT
// From a row to tokens and pooled rows: spans by hand on a tokenizer of single bytes, truncation, and every
// way in which one problem fails or is skipped alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "extract_testing.h"

#define TABLE "CREATE TABLE problems(id, statement, steps, extra); INSERT INTO problems VALUES "

static struct testing testing;

static void open_job(const char *values, const char *keys, const char *pooling, bool bos) {
    char sql[1024];
    struct error err;
    snprintf(sql, sizeof sql, TABLE "%s", values);
    if (testing_open(&testing, sql, keys, pooling, bos, 257, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

static struct prepared next(void) {
    static struct row row;
    struct prepared prepared;
    struct error err;
    bool found;
    if (source_next(testing.source, &row, &found, &err) != STATUS_OK || !found) {
        fail_msg("no row");
    }
    if (prepare_row(testing.preparer, &row, &prepared, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    return prepared;
}

static void check_row(const struct prepared *prepared, size_t index, struct shard_row expected) {
    assert_true(index < prepared->row_count);
    assert_memory_equal(&prepared->rows[index], &expected, sizeof expected);
}

static void test_step_mean(void **state) {
    (void)state;
    open_job("('a', 'ab', '[\"cd\", \"\", \"efg\"]', 0)", "", NULL, false);
    struct prepared prepared = next(); // "ab\ncd\n\nefg"
    assert_int_equal(prepared.state, PROBLEM_DONE);
    assert_int_equal(prepared.text_size, 10);
    assert_memory_equal(prepared.text, "ab\ncd\n\nefg", 10);
    assert_int_equal(prepared.token_count, 10);
    assert_int_equal(prepared.tokens[3], 'c');
    assert_false(prepared.truncated);
    assert_int_equal(prepared.step_count, 3);
    assert_int_equal(prepared.row_count,
                     2); // the empty step owns no token: it has no row, and its number is missing
    check_row(&prepared, 0, (struct shard_row){0, 3, 5, 3, 5});
    check_row(&prepared, 1, (struct shard_row){2, 7, 10, 7, 10});
    testing_close(&testing);
}

static void test_tokens_added_before_the_text(void **state) {
    (void)state;
    const struct {
        const char *pooling;
        size_t rows;
        struct shard_row first;
        struct shard_row last;
    } cases[] = {{"step_mean", 1, {0, 4, 6, 3, 5}, {0, 4, 6, 3, 5}},
                 {"mean", 1, {0, 1, 6, 0, 5}, {0, 1, 6, 0, 5}}, // without the BOS
                 {"last", 1, {0, 5, 6, 4, 5}, {0, 5, 6, 4, 5}},
                 {"tokens", 6, {0, 0, 1, 0, 0}, {5, 5, 6, 4, 5}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_job("('a', 'ab', '[\"cd\"]', 0)", "", cases[i].pooling, true);
        struct prepared prepared = next();
        assert_int_equal(prepared.token_count, 6);
        assert_int_equal(prepared.tokens[0], 256);
        assert_int_equal(prepared.row_count, cases[i].rows);
        check_row(&prepared, 0, cases[i].first);
        check_row(&prepared, cases[i].rows - 1, cases[i].last);
        testing_close(&testing);
        open_job("('a', 'ab', '[\"cd\"]', 0)", ", special_tokens: false", cases[i].pooling, true);
        assert_int_equal(next().token_count, 5);
        testing_close(&testing);
    }
}

static void test_truncation(void **state) {
    (void)state;
    const struct {
        const char *keys;
        size_t rows;
        struct shard_row last;
    } cases[] = {{", max_tokens: 9", 2, {1, 6, 9, 6, 9}}, // fits
                 {", max_tokens: 8", 2, {1, 6, 8, 6, 9}}, // the last step lost a token
                 {", max_tokens: 6", 1, {0, 3, 5, 3, 5}}, // the last step is gone: no row, never a copy
                 {", max_tokens: 4", 1, {0, 3, 4, 3, 5}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_job("('a', 'ab', '[\"cd\", \"efg\"]', 0)", cases[i].keys, NULL, false);
        struct prepared prepared = next();
        assert_int_equal(prepared.state, PROBLEM_DONE);
        assert_int_equal(prepared.truncated, i > 0);
        assert_int_equal(prepared.step_count, 2);
        assert_int_equal(prepared.row_count, cases[i].rows);
        check_row(&prepared, cases[i].rows - 1, cases[i].last);
        testing_close(&testing);
    }
    open_job("('a', 'ab', '[\"cd\", \"efg\"]', 0)", ", max_tokens: 3", NULL, false);
    struct prepared prepared = next();
    assert_int_equal(prepared.state, PROBLEM_SKIPPED);
    assert_string_equal(prepared.reason, "no step is left after cutting to problems.max_tokens");
    testing_close(&testing);
    open_job("('a', 'ab', '[\"cd\", \"efg\"]', 0)", ", max_tokens: 4", "last",
             true); // the BOS is one of the four
    prepared = next();
    check_row(&prepared, 0, (struct shard_row){0, 3, 4, 2, 3});
    testing_close(&testing);
}

static void test_steps_by_pattern(void **state) {
    (void)state;
    open_job("('a', 'Hm. Step 1: x Step  2: y', NULL, 0), ('b', 'no such word', NULL, 0)",
             ", text: '{statement}'", NULL, false);
    struct prepared prepared = next();
    assert_int_equal(prepared.row_count, 2); // what stands before the first match belongs to no step
    check_row(&prepared, 0, (struct shard_row){0, 4, 14, 4, 14});
    check_row(&prepared, 1, (struct shard_row){1, 14, 24, 14, 24});
    prepared = next();
    assert_int_equal(prepared.row_count, 1);
    check_row(&prepared, 0, (struct shard_row){0, 0, 12, 0, 12});
    testing_close(&testing);
    open_job("('a', 'x; y; z', NULL, 0)", ", text: 'Q {statement}', steps: {pattern: '[xyz]'}", NULL, false);
    prepared = next();
    assert_int_equal(prepared.row_count, 3);
    check_row(&prepared, 1, (struct shard_row){1, 5, 8, 5, 8});
    testing_close(&testing);
}

static void check_mask(const struct prepared *prepared, const char *expected) {
    assert_int_equal(prepared->token_count, strlen(expected));
    for (size_t i = 0; i < prepared->token_count; i++) {
        assert_int_equal(prepared->loss_mask[i], expected[i] - '0');
    }
}

#define CHAT                                                                                                 \
    "[{\"role\": \"user\", \"start\": 0, \"end\": 2}, {\"role\": \"assistant\", \"start\": 3, \"end\": 5},"  \
    " {\"role\": \"user\", \"start\": 5, \"end\": 6}, {\"role\": \"assistant\", \"start\": 7, \"end\": 10}]"
#define SPANS ", text: '{statement}', steps: {spans: steps%s}%s"

static void test_steps_by_spans(void **state) {
    (void)state;
    const struct {
        const char *steps; // keys
        const char *more;
        const char *pooling;
        size_t rows;
        struct shard_row first;
        struct shard_row last;
        const char *roles;
        const char *mask;
    } cases[] = {
        {"", "", "step_mean", 4, {0, 1, 3, 0, 2}, {3, 8, 11, 7, 10}, "user", "01101110111"},
        {", roles: [assistant]",
         "",
         "step_mean",
         2,
         {0, 4, 6, 3, 5},
         {1, 8, 11, 7, 10},
         "assistant",
         "00001100111"},
        {", roles: [assistant]",
         "",
         "last_of_step",
         2,
         {0, 5, 6, 4, 5},
         {1, 10, 11, 9, 10},
         "assistant",
         "00001100111"},
        {", roles: [assistant]",
         ", max_tokens: 9",
         "last_of_step",
         2,
         {0, 5, 6, 4, 5},
         {1, 8, 9, 7, 8},
         "assistant",
         "000011001"}, // the last step lost two tokens
        {", roles: [assistant]",
         ", max_tokens: 8",
         "last_of_step",
         1,
         {0, 5, 6, 4, 5},
         {0, 5, 6, 4, 5},
         "assistant",
         "00001100"}, // and now all
        {", roles: [user, assistant]",
         "",
         "mean",
         1,
         {0, 1, 11, 0, 10},
         {0, 1, 11, 0, 10},
         "user",
         "01101110111"},
        {", roles: [tool]", "", "tokens", 11, {0, 0, 1, 0, 0}, {10, 10, 11, 9, 10}, NULL, "00000000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char keys[256];
        snprintf(keys, sizeof keys, SPANS, cases[i].steps, cases[i].more);
        open_job("('a', 'ab:cdef:gh', '" CHAT "', 0)", keys, cases[i].pooling, true);
        testing.job.loss_mask = true;
        struct prepared prepared = next();
        assert_int_equal(prepared.state, PROBLEM_DONE);
        assert_int_equal(prepared.row_count, cases[i].rows);
        check_row(&prepared, 0, cases[i].first);
        check_row(&prepared, cases[i].rows - 1, cases[i].last);
        check_mask(&prepared, cases[i].mask);
        if (cases[i].roles != NULL) {
            assert_string_equal(prepared.roles, cases[i].roles);
        }
        assert_non_null(strstr(prepared.metadata, "assistant")); // the roles stay with the problem
        testing_close(&testing);
    }
}

static void test_spans_that_do_not_fit(void **state) {
    (void)state;
    static const char values[] =
        "('null', 'ab', NULL, 0), ('json', 'ab', '[[0, 2]', 0), ('long', 'ab', '[[0, 3]]', 0), "
        "('inside', 'aé', '[[0, 2]]', 0), ('role', 'ab', '[[0, 2]]', 0), ('none', 'ab', '[]', 0), "
        "('empty', 'ab', '[{\"role\": \"assistant\", \"start\": 1, \"end\": 1}]', 0), "
        "('good', 'ab', '[{\"role\": \"assistant\", \"start\": 1, \"end\": 2}]', 0)";
    static const struct {
        enum problem_state state;
        const char *word; // of the reason
    } expected[] = {{PROBLEM_FAILED, "column 'steps' is not a JSON array of spans"},
                    {PROBLEM_FAILED, "spans"},
                    {PROBLEM_FAILED, "spans: item 1: bytes 0 to 3 are no span of a text of 2 bytes"},
                    {PROBLEM_FAILED, "spans: item 1: byte 2 is inside a character"},
                    {PROBLEM_FAILED, "spans: item 1: it has no role"},
                    {PROBLEM_SKIPPED, "the problem has no steps"},
                    {PROBLEM_SKIPPED, "no step owns a token"},
                    {PROBLEM_DONE, ""}};
    open_job(values, ", text: '{statement}', steps: {spans: steps, roles: [assistant]}", NULL, false);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct prepared prepared = next();
        assert_int_equal(prepared.state, expected[i].state);
        if (strstr(prepared.reason, expected[i].word) == NULL) {
            fail_msg("row %zu: '%s' lacks '%s'", i, prepared.reason, expected[i].word);
        }
    }
    testing_close(&testing);
}

static void test_each_fails_alone(void **state) {
    (void)state;
    open_job("('null', NULL, '[\"x\"]', 0), ('blob', x'41', '[\"x\"]', 0), ('nul', CAST(x'610062' AS TEXT), "
             "'[\"x\"]', 0),"
             "('bytes', CAST(x'61ff' AS TEXT), '[\"x\"]', 0), ('array', 'a', '[1]', 0), ('json', 'a', "
             "'[\"x\"', 0),"
             "('none', 'a', NULL, 0), ('nosteps', 'a', '[]', 0), ('big', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', "
             "'[\"x\"]', 0),"
             "('meta', 'a', '[\"x\"]', CAST(x'ff' AS TEXT)), (12, 34, '[\"x\"]', 0)",
             ", max_text_bytes: 30", NULL, false);
    const struct {
        enum problem_state state;
        const char *word; // of the reason
    } expected[] = {{PROBLEM_FAILED, "column 'statement' is NULL"},
                    {PROBLEM_FAILED, "column 'statement' is a blob"},
                    {PROBLEM_FAILED, "byte 1 of the text is NUL"},
                    {PROBLEM_FAILED, "byte 1 of the text is not valid UTF-8"},
                    {PROBLEM_FAILED, "item 1 of the array"},
                    {PROBLEM_FAILED, ""},
                    {PROBLEM_FAILED, "column 'steps' is not a JSON array"},
                    {PROBLEM_SKIPPED, "the problem has no steps"},
                    {PROBLEM_FAILED, "the text has 34 bytes, more than problems.max_text_bytes 30"},
                    {PROBLEM_FAILED, "column 'extra' is not valid UTF-8"},
                    {PROBLEM_DONE, NULL}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct prepared prepared = next();
        assert_int_equal(prepared.state, expected[i].state);
        if (expected[i].word != NULL && strstr(prepared.reason, expected[i].word) == NULL) {
            fail_msg("row %zu: '%s' lacks '%s'", i, prepared.reason, expected[i].word);
        }
        if (expected[i].word == NULL) { // the failures before it left nothing behind; numbers are text
            assert_memory_equal(prepared.text, "34\nx", 4);
            assert_memory_equal(prepared.id, "12", 2);
            assert_int_equal(prepared.row_count, 1);
        }
    }
    testing_close(&testing);
    open_job("('empty', '', NULL, 0)", ", text: '{statement}'", "mean", false);
    struct prepared prepared = next();
    assert_int_equal(prepared.state, PROBLEM_FAILED);
    assert_string_equal(prepared.reason, "the text is empty");
    testing_close(&testing);
}

static void test_ids_beyond_the_vocabulary(void **state) {
    (void)state;
    struct error err;
    assert_int_equal(testing_open(&testing, TABLE "('a', 'a~', '[\"x\"]', 0), ('b', 'aa', '[\"x\"]', 0)", "",
                                  NULL, false, 126, &err),
                     STATUS_OK); // '~' is 126
    struct prepared prepared = next();
    assert_int_equal(prepared.state, PROBLEM_FAILED);
    assert_string_equal(prepared.reason, "token 1 has id 126, outside the model's vocabulary of 126");
    assert_int_equal(next().state, PROBLEM_DONE);
    testing_close(&testing);
}

static void check_metadata(const struct prepared *prepared, const char *expected) {
    assert_int_equal(prepared->metadata_size, strlen(expected));
    assert_memory_equal(prepared->metadata, expected, prepared->metadata_size);
}

static void test_metadata(void **state) {
    (void)state;
    const char *values = "('a', 's', '[\"x\"]', 7), ('b', 's', '[\"x\"]', 0.5), ('c', 's', '[\"x\"]', NULL),"
                         "('d', 's', '[\"x\"]', 'say \"ö\"'), ('e', 's', '[\"x\"]', 9e999)";
    open_job(values, "", NULL, false); // every column that id, text and steps do not use
    const char *expected[] = {"{\"extra\":7}", "{\"extra\":0.5}", "{\"extra\":null}",
                              "{\"extra\":\"say \\\"ö\\\"\"}", "{\"extra\":\"Inf\"}"};
    for (size_t i = 0; i < 5; i++) {
        struct prepared prepared = next();
        check_metadata(&prepared, expected[i]);
    }
    testing_close(&testing);
    open_job(values, ", metadata: [statement, id]", NULL, false);
    struct prepared prepared = next();
    check_metadata(&prepared, "{\"statement\":\"s\",\"id\":\"a\"}");
    testing_close(&testing);
    open_job(values, ", metadata: []", NULL, false);
    prepared = next();
    check_metadata(&prepared, "{}");
    testing_close(&testing);
}

static void test_refused_jobs(void **state) {
    (void)state;
    const struct {
        const char *keys;
        int status;
        const char *word;
    } cases[] = {{", text: '{nothing}'", STATUS_DATA, "nothing"},
                 {", text: '{statement}{steps}{steps}'", STATUS_JOB, "once"},
                 {", text: 'none', steps: {column: steps}", STATUS_JOB, "once"},
                 {", steps: {column: gone}", STATUS_DATA, "gone"},
                 {", text: '{statement}', steps: {pattern: '('}", STATUS_JOB, "problems.steps.pattern"},
                 {", text: '{statement}', steps: {spans: gone}", STATUS_DATA, "problems.steps.spans"},
                 {", metadata: [gone]", STATUS_DATA, "problems.metadata"},
                 {", text: '{statement'", STATUS_JOB, "problems.text"},
                 {", query: 'SELECT statement, steps FROM problems'", STATUS_DATA, "problems.id"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err;
        int status =
            testing_open(&testing, TABLE "('a', 'a', '[]', 0)", cases[i].keys, NULL, false, 257, &err);
        if (status != cases[i].status || strstr(err.message, cases[i].word) == NULL) {
            fail_msg("%s: status %d, '%s'", cases[i].keys, status, status == STATUS_OK ? "" : err.message);
        }
        testing_close(&testing);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_mean),        cmocka_unit_test(test_tokens_added_before_the_text),
        cmocka_unit_test(test_truncation),       cmocka_unit_test(test_steps_by_pattern),
        cmocka_unit_test(test_each_fails_alone), cmocka_unit_test(test_ids_beyond_the_vocabulary),
        cmocka_unit_test(test_steps_by_spans),   cmocka_unit_test(test_spans_that_do_not_fit),
        cmocka_unit_test(test_metadata),         cmocka_unit_test(test_refused_jobs),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
