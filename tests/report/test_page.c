// SPDX-License-Identifier: MIT
// Text of others in a page, reasons of one kind, and how many have which length.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "report/tallies.h"

static void check_text(const char *text, const char *expected) {
    struct error err = {0};
    struct page page;
    page_begin(&page, &err);
    page_text(&page, text);
    assert_int_equal(page.status, STATUS_OK);
    assert_string_equal(page.html.data == NULL ? "" : page.html.data, expected);
    page_free(&page);
}

static void escapes_everything(void **state) {
    (void)state;
    check_text("plain, größer 数学", "plain, größer 数学");
    check_text("<b a='\"'>&amp;", "&#60;b a=&#39;&#34;&#39;&#62;&#38;amp;");
    check_text("a\nb\033[2J\x7f", "a\\nb\\u001b[2J\\u007f");
    check_text("\xff<\xc3", "\\xff&#60;\\xc3");
    check_text("\xe2\x80\xae", "\\u202e"); // turns the direction of what follows
    check_text("", "");
    check_text(NULL, "");
}

static void cuts_what_is_too_long(void **state) {
    (void)state;
    enum { LONG = 1 << 20 };
    struct error err = {0};
    struct page page;
    char *text = malloc(LONG);
    assert_non_null(text);
    memset(text, '<', LONG - 1);
    text[LONG - 1] = 0;
    page_begin(&page, &err);
    page_text(&page, text);
    assert_int_equal(page.status, STATUS_OK);
    assert_true(page.html.size < 6 * 4096 && page.html.size > 4096);
    assert_string_equal(page.html.data + page.html.size - 3, "...");
    page_free(&page);
    free(text);
}

static void first_failure_sticks(void **state) {
    (void)state;
    struct error err = {0};
    struct page page;
    char much[2000];
    memset(much, 'x', sizeof much);
    much[sizeof much - 1] = 0;
    page_begin(&page, &err);
    page_put(&page, "a");
    page_format(&page, "%s", much);
    page_put(&page, "b");
    assert_int_equal(page.status, STATUS_INTERNAL);
    assert_string_equal(page.html.data, "a");
    page_free(&page);
}

static void check_shape(const char *reason, const char *expected) {
    char shape[FAILURE_TEXT];
    failure_shape(reason, shape);
    assert_string_equal(shape, expected);
}

static void reasons_of_one_kind(void **state) {
    (void)state;
    check_shape("byte 17 of the text is NUL", "byte 0 of the text is NUL");
    check_shape("5,123 tokens, 4096 at most", "0 tokens, 0 at most");
    check_shape("no field 'a1' in 'b'", "no field '' in ''");
    check_shape("it's 3", "it's 0");
    char reason[2 * FAILURE_TEXT];
    memset(reason, 'r', sizeof reason);
    reason[sizeof reason - 1] = 0;
    char shape[FAILURE_TEXT];
    failure_shape(reason, shape);
    assert_true(strlen(shape) < FAILURE_TEXT);
}

static void counts_lengths(void **state) {
    (void)state;
    struct tally tally = {.slots = calloc(TALLY_SLOTS, sizeof(uint64_t)), .unit = 1};
    assert_non_null(tally.slots);
    assert_int_equal(tally_quantile(&tally, 0.5), 0);
    for (uint64_t i = 0; i < 1000; i++) {
        tally_add(&tally, i);
    }
    assert_int_equal(tally_quantile(&tally, 0.5), 499);
    tally_add(&tally, 4 * TALLY_SLOTS - 1); // needs units of four
    assert_int_equal(tally.unit, 4);
    assert_int_equal(tally_between(&tally, 0, 8), 8);
    assert_int_equal(tally_between(&tally, 0, UINT64_MAX), 1001);
    assert_int_equal(tally_quantile(&tally, 0.5), 503);
    assert_int_equal(tally_quantile(&tally, 1), 4 * TALLY_SLOTS - 1);
    tally_add(&tally, UINT64_MAX);
    assert_int_equal(tally_between(&tally, 0, UINT64_MAX), 1002);
    assert_true(tally_quantile(&tally, 1) == UINT64_MAX && tally.most == UINT64_MAX);
    free(tally.slots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_everything),   cmocka_unit_test(cuts_what_is_too_long),
        cmocka_unit_test(first_failure_sticks), cmocka_unit_test(reasons_of_one_kind),
        cmocka_unit_test(counts_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
