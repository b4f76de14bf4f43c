// SPDX-License-Identifier: MIT
// JSON as Python writes it: odd numbers are no fault until they are asked for, and never become something
// else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static struct error err;

static json_t *parse(const char *text) {
    json_t *json = NULL;
    err = (struct error){0};
    if (json_parse_python(&json, text, strlen(text), "FILE", &err) != STATUS_OK) {
        fail_msg("%s: %s", text, err.message);
    }
    return json;
}

static void refused(const char *text) {
    json_t *json = NULL;
    err = (struct error){0};
    int status = json_parse_python(&json, text, strlen(text), "FILE", &err);
    if (status != STATUS_DATA || json != NULL) {
        fail_msg("%s: status %d", text, status);
    }
}

static void test_unused_values(void **state) {
    (void)state;
    json_t *json = parse(
        "\xEF\xBB\xBF{\"a\": NaN, \"b\": [Infinity, -Infinity, 1e999], \"n\": 3,\n"
        " \"c\": 1000000000000000019884624838656, \"d\": -99999999999999999999, \"text\": \"NaN \\\" 1e999\","
        " \"twice\": 1, \"twice\": 2}");
    int64_t number = 0;
    const char *text = NULL;
    assert_int_equal(json_get_integer(json, "n", 0, 9, &number, &err), STATUS_OK);
    assert_int_equal(number, 3);
    assert_int_equal(json_get_integer(json, "twice", 0, 9, &number, &err), STATUS_OK);
    assert_int_equal(number, 2);
    assert_int_equal(json_get_string(json, "text", &text, &err), STATUS_OK);
    assert_string_equal(text, "NaN \" 1e999");
    double real = 0;
    assert_int_equal(json_get_number(json, "c", &real, &err), STATUS_OK);
    assert_true(real == 1000000000000000019884624838656.0);
    json_decref(json);
}

static void refuses(const json_t *json, const char *key, const char *words) {
    int64_t number = 7;
    double real = 7;
    bool flag = true;
    const char *text = "7";
    assert_int_equal(json_get_integer(json, key, 0, 9, &number, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(json_get_number(json, key, &real, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(json_get_boolean(json, key, &flag, &err), STATUS_DATA);
    assert_int_equal(json_get_string(json, key, &text, &err), STATUS_DATA);
    assert_true(number == 7 && real == 7 && flag);
    assert_string_equal(text, "7");
}

// Half of a pair is no fault in a value until somebody asks for the text; of a vocabulary it is.
static void test_half_a_surrogate_pair(void **state) {
    (void)state;
    static const char text[] =
        "{\"x\": \"\\ud800\", \"y\": [\"a\\uDFFF\\uD83D\\uDE00\"], \"pair\": \"\\uD83D\\ude00\","
        " \"swapped\": \"\\ude00\\ud83d\", \"plain\": \"\\\\ud800 \\u0041\", \"n\": 3, \"odd\": NaN}";
    json_t *json = parse(text);
    const char *found = NULL;
    int64_t number = 0;
    assert_int_equal(json_get_integer(json, "n", 0, 9, &number, &err), STATUS_OK);
    assert_int_equal(number, 3);
    assert_int_equal(json_get_string(json, "pair", &found, &err), STATUS_OK);
    assert_string_equal(found, "\xF0\x9F\x98\x80");
    assert_int_equal(json_get_string(json, "plain", &found, &err), STATUS_OK);
    assert_string_equal(found, "\\ud800 A");
    assert_int_equal(json_string_length(json_array_get(json_object_get(json, "y"), 0)), 6);
    refuses(json, "x", "'x' is not");
    refuses(json, "swapped", "'swapped' is not");
    json_decref(json);
    refused("{\"\\ud800\": 1}");
    refused("{\"a\": \"\\ud800");
    refused("{\"a\": \"\\ud8\"}");
    json = NULL;
    assert_int_equal(json_parse_vocabulary(&json, text, sizeof text - 1, "FILE", &err), STATUS_DATA);
    assert_null(json);
}

static void test_used_values_are_refused_by_name(void **state) {
    (void)state;
    json_t *json =
        parse("{\"rope_theta\": NaN, \"size\": -Infinity, \"huge\": 1e400, \"long\": 36893488147419103232}");
    refuses(json, "rope_theta", "'rope_theta' is NaN");
    refuses(json, "size", "'size' is -Infinity");
    refuses(json, "huge", "'huge' is Infinity");
    int64_t number = 7;
    assert_int_equal(json_get_integer(json, "long", 0, 9, &number, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "'long' is 3.68935e+19, outside 0 to 9"));
    json_decref(json);
}

static void test_what_python_refuses_too(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "{\"a\": nan}",
                                        "{\"a\": NaNs}",
                                        "{\"a\": inf}",
                                        "{NaN: 1}",
                                        "[1,]",
                                        "[01]",
                                        "[+1]",
                                        "[1 2]",
                                        "[\"a]",
                                        "[\"\\",
                                        "[-]",
                                        "[-NaN]",
                                        "[1e]",
                                        "[Infinity1]",
                                        "[--Infinity]",
                                        "[.5]",

                                        "[1e+999+]",
                                        "[1.e5]",
                                        "{\"a\": 1} trailing"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        refused(texts[i]);
    }
    refused("{\"a\": NaN,\n \"b\": x}");
    assert_non_null(strstr(err.message, "FILE: line 2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unused_values),
        cmocka_unit_test(test_half_a_surrogate_pair),
        cmocka_unit_test(test_used_values_are_refused_by_name),
        cmocka_unit_test(test_what_python_refuses_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
