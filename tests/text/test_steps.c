// SPDX-License-Identifier: MIT
// Steps: spans of a JSON array's texts, of a pattern's matches, and the tokens that belong to them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/steps.h"

enum { SPANS = 8 };

static void check_spans(const struct span_list *list, size_t count, const uint32_t (*wanted)[2]) {
    assert_int_equal(list->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list->spans[i].start, wanted[i][0]);
        assert_int_equal(list->spans[i].end, wanted[i][1]);
    }
}

static void array_gives(const char *json, const char *separator, const char *joined, size_t joined_size,
                        size_t count, const uint32_t (*wanted)[2]) {
    struct buffer text = {0};
    struct span_list list = {0};
    struct error err = {0};
    assert_int_equal(buffer_append(&text, "xyz", 3, &err),
                     STATUS_OK); // spans count from where the steps begin
    if (steps_from_array(json, strlen(json), separator, &text, &list, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(text.size, joined_size + 3);
    assert_memory_equal(text.data + 3, joined, joined_size);
    check_spans(&list, count, wanted);
    buffer_destroy(&text);
    span_list_destroy(&list);
}

static void test_array(void **state) {
    (void)state;
    array_gives("[]", "\n", "", 0, 0, NULL);
    array_gives("[\"ab\", \"\", \"c\"]", "\n", "ab\n\nc", 5, 3,
                (const uint32_t[][2]){{0, 2}, {3, 3}, {4, 5}});
    array_gives("[\"ab\", \"c\"]", "", "abc", 3, 2, (const uint32_t[][2]){{0, 2}, {2, 3}});
    array_gives("[\"\\u00e9\", \"\\ud83d\\ude00\"]", "--", "\xC3\xA9--\xF0\x9F\x98\x80", 8, 2,
                (const uint32_t[][2]){{0, 2}, {4, 8}});
    array_gives("[\"a\\u0000b\", \"c\"]", "\n", "a\0b\nc", 5, 2, (const uint32_t[][2]){{0, 3}, {4, 5}});
}

static const char SPANS_TEXT[] = "ab\xC3\xA9 cd"; // a b é space c d: 7 bytes

static int find_spans(const char *json, char *const *roles, size_t role_count, struct span_list *list,
                      struct buffer *names, struct error *err) {
    return steps_from_spans(json, strlen(json), SPANS_TEXT, sizeof SPANS_TEXT - 1, roles, role_count, list,
                            names, err);
}

static void spans_give(const char *json, char *const *roles, size_t role_count, const char *names,
                       size_t names_size, size_t count, const uint32_t (*wanted)[2]) {
    struct span_list list = {0};
    struct buffer found = {0};
    struct error err = {0};
    if (find_spans(json, roles, role_count, &list, &found, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    check_spans(&list, count, wanted);
    assert_int_equal(found.size, names_size);
    assert_memory_equal(found.data, names, names_size);
    buffer_destroy(&found);
    span_list_destroy(&list);
}

static void test_spans(void **state) {
    (void)state;
    static char user[] = "user";
    static char tool[] = "tool";
    char *const roles[] = {user, tool};
    const char *chat =
        "[{\"role\": \"system\", \"start\": 0, \"end\": 2}, {\"role\": \"user\", \"start\": 2, "
        "\"end\": 4, \"more\": null}, {\"start\": 4, \"end\": 4, \"role\": \"tool\"}]";
    spans_give("[]", NULL, 0, "", 0, 0, NULL);
    spans_give("[[0, 7]]", NULL, 0, "", 1, 1, (const uint32_t[][2]){{0, 7}});
    spans_give("[[0, 2], {\"start\": 2, \"end\": 5}]", NULL, 0, "\0", 2, 2,
               (const uint32_t[][2]){{0, 2}, {2, 5}});
    spans_give(chat, NULL, 0, "system\0user\0tool", 17, 3, (const uint32_t[][2]){{0, 2}, {2, 4}, {4, 4}});
    spans_give(chat, roles, 1, "user", 5, 1, (const uint32_t[][2]){{2, 4}});
    spans_give(chat, roles, 2, "user\0tool", 10, 2, (const uint32_t[][2]){{2, 4}, {4, 4}});
}

static void test_spans_that_are_refused(void **state) {
    (void)state;
    static char user[] = "user";
    char *const roles[] = {user};
    static const struct {
        const char *json;
        const char *message;
    } cases[] = {
        {"{}", "spans: not a JSON array"},
        {"[3]", "spans: item 1: neither an object with start and end nor [start, end]"},
        {"[[0, 1], [1]]", "spans: item 2: not [start, end], two whole numbers"},
        {"[[0, 1.5]]", "spans: item 1: not [start, end], two whole numbers"},
        {"[[0, 1, 2]]", "spans: item 1: not [start, end], two whole numbers"},
        {"[{\"start\": 0}]", "spans: item 1: start or end is missing"},
        {"[[0, 8]]", "spans: item 1: bytes 0 to 8 are no span of a text of 7 bytes"},
        {"[[-1, 2]]", "spans: item 1: bytes -1 to 2 are no span of a text of 7 bytes"},
        {"[[2, 1]]", "spans: item 1: bytes 2 to 1 are no span of a text of 7 bytes"},
        {"[[0, 9223372036854775807]]",
         "spans: item 1: bytes 0 to 9223372036854775807 are no span of a text of 7 bytes"},
        {"[[0, 2], [1, 4]]", "spans: item 2: it begins at byte 1, before the end of the one before it (2)"},
        {"[[4, 5], [0, 2]]", "spans: item 2: it begins at byte 0, before the end of the one before it (5)"},
        {"[[0, 3]]", "spans: item 1: byte 3 is inside a character (offsets are bytes of UTF-8)"},
        {"[[3, 4]]", "spans: item 1: byte 3 is inside a character (offsets are bytes of UTF-8)"},
    };
    struct span_list list = {0};
    struct buffer names = {0};
    struct error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(find_spans(cases[i].json, NULL, 0, &list, &names, &err), STATUS_DATA);
        assert_string_equal(err.message, cases[i].message);
    }
    assert_int_equal(find_spans("[[0, 1]]", roles, 1, &list, &names, &err), STATUS_DATA);
    assert_string_equal(err.message, "spans: item 1: it has no role to choose by (problems.steps.roles)");
    assert_int_equal(find_spans("[[0, 1", NULL, 0, &list, &names, &err), STATUS_DATA);
    buffer_destroy(&names);
    span_list_destroy(&list);
}

static void array_refused(const char *json, const char *message) {
    struct buffer text = {0};
    struct span_list list = {0};
    struct error err = {0};
    assert_int_equal(steps_from_array(json, strlen(json), "\n", &text, &list, &err), STATUS_DATA);
    assert_string_equal(err.message, message);
    buffer_destroy(&text);
    span_list_destroy(&list);
}

static void test_array_mistakes(void **state) {
    (void)state;
    array_refused("[\"a\", 3]", "steps: item 2 of the array is not a text");
    array_refused("{}", "steps: not a JSON array of texts");
    array_refused("[\"a\"", "steps: line 1, column 4: ']' expected near end of file");
    array_refused("[\"\xFF\"]", "steps: line 1, column 2: unable to decode byte 0xff near '\"'");
}

static void pattern_gives(const char *pattern, const char *text, size_t count, const uint32_t (*wanted)[2]) {
    struct step_pattern *compiled;
    struct span_list list = {0};
    struct error err = {0};
    assert_int_equal(step_pattern_compile(&compiled, pattern, &err), STATUS_OK);
    if (steps_from_pattern(compiled, text, strlen(text), &list, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    check_spans(&list, count, wanted);
    step_pattern_destroy(compiled);
    span_list_destroy(&list);
}

static void test_pattern(void **state) {
    (void)state;
    const char *pattern = "Step\\s+\\d+:";
    pattern_gives(pattern, "Q\nStep 1: a\nStep 2: b", 2, (const uint32_t[][2]){{2, 12}, {12, 21}});
    pattern_gives(pattern, "Step 1: a", 1, (const uint32_t[][2]){{0, 9}});
    pattern_gives(pattern, "no steps", 1, (const uint32_t[][2]){{0, 8}});
    pattern_gives(pattern, "step 1: a", 1, (const uint32_t[][2]){{0, 9}}); // letters' case counts
    pattern_gives(pattern, "", 1, (const uint32_t[][2]){{0, 0}});
    pattern_gives(pattern, "Step 1:Step 2:", 2, (const uint32_t[][2]){{0, 7}, {7, 14}});
    // Spaces and digits are Unicode's: a no-break space, an Arabic-Indic digit.
    pattern_gives(pattern, "\xC3\xA9Step\xC2\xA0\xD9\xA1: a", 1, (const uint32_t[][2]){{2, 13}});
    pattern_gives("(?=#)", "a#b#", 2, (const uint32_t[][2]){{1, 3}, {3, 4}}); // empty matches
    pattern_gives("$", "ab", 1, (const uint32_t[][2]){{0, 2}});               // nothing is left for a step
    pattern_gives("x*", "\xC3\xA9x", 2, (const uint32_t[][2]){{0, 2}, {2, 3}});
}

static void test_pattern_mistakes(void **state) {
    (void)state;
    struct step_pattern *compiled;
    struct span_list list = {0};
    struct error err = {0};
    assert_int_equal(step_pattern_compile(&compiled, "Step(\\d", &err), STATUS_JOB);
    assert_string_equal(err.message, "step pattern, byte 8: missing closing parenthesis");
    assert_null(compiled);
    step_pattern_destroy(compiled);
    assert_int_equal(step_pattern_compile(&compiled, "(a+)+$", &err), STATUS_OK);
    assert_int_equal(steps_from_pattern(compiled, "a\xFF", 2, &list, &err), STATUS_DATA);
    char text[64]; // backtracking without end is an error of this text, not a hang
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    assert_int_equal(steps_from_pattern(compiled, text, sizeof text, &list, &err), STATUS_DATA);
    assert_string_equal(err.message, "step pattern: match limit exceeded");
    step_pattern_destroy(compiled);
    span_list_destroy(&list);
}

static void owns(size_t steps, const struct byte_span *spans, size_t tokens, const int64_t *first,
                 const uint32_t (*wanted)[2]) {
    struct token_span out[SPANS];
    steps_own_tokens(spans, steps, first, tokens, out);
    for (size_t i = 0; i < steps; i++) {
        if (out[i].start == out[i].end && wanted[i][0] == wanted[i][1]) {
            continue; // a step without tokens may stand anywhere
        }
        assert_int_equal(out[i].start, wanted[i][0]);
        assert_int_equal(out[i].end, wanted[i][1]);
    }
}

static void test_tokens(void **state) {
    (void)state;
    const int64_t first[] = {-1, 0, 3, 5, 8, 9, -1};
    const struct byte_span spans[] = {{3, 8}, {8, 9}, {9, 12}};
    owns(3, spans, 7, first, (const uint32_t[][2]){{2, 4}, {4, 5}, {5, 6}});
    owns(3, spans, 3, first,
         (const uint32_t[][2]){{2, 3}, {0, 0}, {0, 0}}); // cut off: no copies of the last token
    owns(3, spans, 0, first, (const uint32_t[][2]){{0, 0}, {0, 0}, {0, 0}});
    // Gaps between steps, an empty step, a token that begins in the gap and reaches into a step.
    const struct byte_span gaps[] = {{0, 2}, {2, 2}, {4, 6}, {8, 20}};
    owns(4, gaps, 7, first, (const uint32_t[][2]){{1, 2}, {0, 0}, {3, 4}, {4, 6}});
    // Byte-fallback tokens of one character begin at the same byte.
    const int64_t bytes[] = {0, 0, 0, 3};
    const struct byte_span halves[] = {{0, 3}, {3, 4}};
    owns(2, halves, 4, bytes, (const uint32_t[][2]){{0, 3}, {3, 4}});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_array),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_spans_that_are_refused),
        cmocka_unit_test(test_array_mistakes),
        cmocka_unit_test(test_pattern),
        cmocka_unit_test(test_pattern_mistakes),
        cmocka_unit_test(test_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
