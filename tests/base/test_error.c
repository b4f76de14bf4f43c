// SPDX-License-Identifier: MIT
// Errors: what a message holds as it rises, where it is cut, and the ways that pass one on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { ROOM = sizeof((struct error *)0)->message };

static void a_message_and_its_status_are_kept(void **state) {
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, STATUS_DATA, "row %d of %s", 7, "table"), STATUS_DATA);
    assert_int_equal(err.status, STATUS_DATA);
    assert_string_equal(err.message, "row 7 of table");
    assert_false(err.lines);
    assert_int_equal(error_set_lines(&err, STATUS_JOB, "one\n%s", "two"), STATUS_JOB);
    assert_string_equal(err.message, "one\ntwo");
    assert_true(err.lines);
    error_set(&err, STATUS_DATA, "of one line again");
    assert_false(err.lines);
}

// The text of a message of `length` letters, set from them.
static void set_letters(struct error *err, size_t length) {
    char text[2 * ROOM];
    assert_true(length < sizeof text);
    memset(text, 'x', length);
    text[length] = 0;
    error_set(err, STATUS_DATA, "%s", text);
}

static void a_long_message_is_cut_and_says_so(void **state) {
    (void)state;
    struct error err;
    set_letters(&err, ROOM - 1); // the longest that fits
    assert_int_equal(strlen(err.message), ROOM - 1);
    assert_null(strstr(err.message, "..."));
    set_letters(&err, ROOM);
    assert_int_equal(strlen(err.message), ROOM - 1);
    assert_string_equal(err.message + ROOM - 5, "x...");
    set_letters(&err, 2 * ROOM - 1);
    assert_int_equal(strlen(err.message), ROOM - 1);
    assert_string_equal(err.message + ROOM - 5, "x...");
}

static void context_comes_before_the_message(void **state) {
    (void)state;
    struct error err;
    error_set(&err, STATUS_DATA, "ends at byte 12");
    assert_int_equal(error_wrap(&err, "tensor %s", "a.weight"), STATUS_DATA);
    assert_string_equal(err.message, "tensor a.weight: ends at byte 12");
    assert_int_equal(error_wrap(&err, "%s", "model"), STATUS_DATA);
    assert_string_equal(err.message, "model: tensor a.weight: ends at byte 12");
    assert_int_equal(err.status, STATUS_DATA);
}

// What a context quotes may hold line feeds of others.
static void a_wrapped_message_is_one_line(void **state) {
    (void)state;
    struct error err;
    error_set_lines(&err, STATUS_JOB, "one\ntwo");
    assert_int_equal(error_first_line(&err), strlen("one"));
    error_wrap(&err, "a job");
    assert_int_equal(error_first_line(&err), strlen("a job: one\ntwo"));
    assert_string_equal(err.message, "a job: one\ntwo");
    assert_false(err.lines);
}

static void a_wrapped_message_is_cut_at_its_end(void **state) {
    (void)state;
    struct error err;
    set_letters(&err, ROOM - 1);
    error_wrap(&err, "context");
    assert_int_equal(strlen(err.message), ROOM - 1);
    assert_int_equal(strncmp(err.message, "context: xxx", 12), 0);
    assert_string_equal(err.message + ROOM - 5, "x...");
}

// However long what a context quotes: the message behind it is not lost, and the cut is told.
static void a_long_context_is_cut_and_says_so(void **state) {
    (void)state;
    struct error err;
    char long_name[2 * ROOM];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    error_set(&err, STATUS_DATA, "ends at byte 12");
    error_wrap(&err, "%s", long_name);
    assert_true(strlen(err.message) < ROOM - 1);
    assert_non_null(strstr(err.message, "nn...: ends at byte 12"));
    errno = ENOENT;
    error_set_errno(&err, STATUS_DATA, "%s", long_name);
    assert_true(strlen(err.message) < ROOM - 1);
    assert_non_null(strstr(err.message, "nn...: No such file or directory"));
    // One that fits has no dots.
    error_set(&err, STATUS_DATA, "ends at byte 12");
    error_wrap(&err, "%.300s", long_name);
    assert_int_equal(strlen(err.message), 300 + strlen(": ends at byte 12"));
    assert_null(strstr(err.message, "..."));
}

// Of a write somebody can do something about; of data that cannot be read, other words may help.
static void a_servers_errors_say_what_to_do(void **state) {
    (void)state;
    static const struct {
        int number;
        const char *words;
    } remedies[] = {{ENOSPC, "make room"},
                    {EDQUOT, "the quota is used up"},
                    {ESTALE, "no longer knows it"},
                    {ETIMEDOUT, "does not answer"},
                    {EIO, "failed: the kernel's log"}};
    struct error err;
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        errno = remedies[i].number;
        assert_int_equal(error_set_errno(&err, STATUS_WRITE, "cannot sync a"), STATUS_WRITE);
        assert_non_null(strstr(err.message, remedies[i].words));
        assert_non_null(strstr(err.message, "the same command again"));
        errno = remedies[i].number;
        error_set_errno(&err, STATUS_DATA, "cannot read a");
        assert_null(strstr(err.message, "again"));
    }
    errno = EACCES;
    error_set_errno(&err, STATUS_WRITE, "cannot sync a");
    assert_null(strstr(err.message, "again"));
}

static void errno_is_told_and_a_shortage_is_nobodys_fault(void **state) {
    (void)state;
    static const int shortages[] = {ENOMEM, EMFILE, ENFILE};
    struct error err;
    errno = ENOENT;
    assert_int_equal(error_set_errno(&err, STATUS_DATA, "cannot open %s", "a"), STATUS_DATA);
    assert_string_equal(err.message, "cannot open a: No such file or directory");
    assert_int_equal(err.status, STATUS_DATA);
    for (size_t i = 0; i < sizeof shortages / sizeof shortages[0]; i++) {
        assert_true(error_is_shortage(shortages[i]));
        errno = shortages[i];
        assert_int_equal(error_set_errno(&err, STATUS_DATA, "cannot open a"), STATUS_INTERNAL);
        assert_int_equal(err.status, STATUS_INTERNAL);
    }
    static const int others[] = {0, ENOENT, EACCES, ENOSPC, EIO, EDQUOT, EAGAIN};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(error_is_shortage(others[i]));
    }
}

static void exit_codes_are_those_of_the_table(void **state) {
    (void)state;
    assert_int_equal(error_exit_code(STATUS_OK), 0);
    assert_int_equal(error_exit_code(STATUS_USAGE), 64);
    assert_int_equal(error_exit_code(STATUS_DATA), 65);
    assert_int_equal(error_exit_code(STATUS_DEVICE), 69);
    assert_int_equal(error_exit_code(STATUS_INTERNAL), 70);
    assert_int_equal(error_exit_code(STATUS_WRITE), 73);
    assert_int_equal(error_exit_code(STATUS_STOPPED), 75);
    assert_int_equal(error_exit_code(STATUS_JOB), 78);
    assert_int_equal(error_exit_code(STATUS_DRIFT), 80);
    assert_int_equal(error_exit_code(3), 70); // no status: a broken invariant
}

static int count_and_give(int *calls, int status) {
    ++*calls;
    return status;
}

static int try_three(const int given[3], int *calls) {
    for (int i = 0; i < 2; i++) {
        TRY(count_and_give(calls, given[i]));
    }
    if (*calls == 2)
        TRY(count_and_give(calls, given[2])); // one statement, also where braces are left out
    else
        return STATUS_USAGE;
    return STATUS_OK;
}

static void try_returns_the_first_failure_and_evaluates_once(void **state) {
    (void)state;
    int calls = 0;
    assert_int_equal(try_three((const int[]){STATUS_OK, STATUS_OK, STATUS_OK}, &calls), STATUS_OK);
    assert_int_equal(calls, 3);
    calls = 0;
    assert_int_equal(try_three((const int[]){STATUS_OK, STATUS_DATA, STATUS_WRITE}, &calls), STATUS_DATA);
    assert_int_equal(calls, 2);
    calls = 0;
    assert_int_equal(try_three((const int[]){STATUS_OK, STATUS_OK, STATUS_DRIFT}, &calls), STATUS_DRIFT);
    assert_int_equal(calls, 3);
}

static int try_and_give_back(const int given[2], int *calls, int *freed) {
    int status;
    void *block = malloc(1);
    TRY_TO(done, status = count_and_give(calls, given[0]));
    TRY_TO(done, status = count_and_give(calls, given[1]));
done:
    free(block);
    ++*freed;
    return status;
}

static void try_to_gives_back_whatever_comes(void **state) {
    (void)state;
    int calls = 0;
    int freed = 0;
    assert_int_equal(try_and_give_back((const int[]){STATUS_OK, STATUS_OK}, &calls, &freed), STATUS_OK);
    assert_int_equal(calls, 2);
    assert_int_equal(try_and_give_back((const int[]){STATUS_JOB, STATUS_DATA}, &calls, &freed), STATUS_JOB);
    assert_int_equal(calls, 3);
    assert_int_equal(try_and_give_back((const int[]){STATUS_OK, STATUS_WRITE}, &calls, &freed), STATUS_WRITE);
    assert_int_equal(calls, 5);
    assert_int_equal(freed, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_and_its_status_are_kept),
        cmocka_unit_test(a_long_message_is_cut_and_says_so),
        cmocka_unit_test(context_comes_before_the_message),
        cmocka_unit_test(a_wrapped_message_is_one_line),
        cmocka_unit_test(a_wrapped_message_is_cut_at_its_end),
        cmocka_unit_test(a_long_context_is_cut_and_says_so),
        cmocka_unit_test(a_servers_errors_say_what_to_do),
        cmocka_unit_test(errno_is_told_and_a_shortage_is_nobodys_fault),
        cmocka_unit_test(exit_codes_are_those_of_the_table),
        cmocka_unit_test(try_returns_the_first_failure_and_evaluates_once),
        cmocka_unit_test(try_to_gives_back_whatever_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
