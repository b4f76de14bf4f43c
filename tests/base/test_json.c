// SPDX-License-Identifier: MIT
// The getters' ground: which member counts as there, which number is odd, and whose fault it is when nothing
// was read.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static json_t *parse(const char *text) {
    struct error err;
    json_t *json = NULL;
    if (json_parse_python(&json, text, strlen(text), "FILE", &err) != STATUS_OK) {
        fail_msg("%s: %s", text, err.message);
    }
    return json;
}

static void null_is_no_member(void **state) {
    (void)state;
    json_t *json = parse("{\"none\": null, \"zero\": 0, \"false\": false, \"empty\": \"\", \"list\": []}");
    static const char *const there[] = {"zero", "false", "empty", "list"};
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++) {
        assert_non_null(json_member(json, there[i]));
        assert_ptr_equal(json_member(json, there[i]), json_object_get(json, there[i]));
    }
    assert_null(json_member(json, "none"));
    assert_null(json_member(json, "missing"));
    assert_null(json_member(json_member(json, "list"), "zero")); // not an object
    assert_null(json_member(NULL, "zero"));
    json_decref(json);
}

static void assert_odd(const json_t *object, const char *key, const char *wanted) {
    const char *odd = json_odd_number(json_object_get(object, key));
    if (wanted == NULL) {
        assert_null(odd);
    } else {
        assert_non_null(odd);
        assert_string_equal(odd, wanted);
    }
}

static void odd_numbers_are_named(void **state) {
    (void)state;
    json_t *json =
        parse("{\"nan\": NaN, \"most\": Infinity, \"least\": -Infinity, \"huge\": 1e999, \"tiny\": "
              "-1e999, \"real\": 1.7976931348623157e308, \"whole\": 3, \"long\": "
              "36893488147419103232, \"text\": \"NaN\", \"none\": null}");
    assert_odd(json, "nan", "NaN");
    assert_odd(json, "most", "Infinity");
    assert_odd(json, "least", "-Infinity");
    assert_odd(json, "huge", "Infinity");
    assert_odd(json, "tiny", "-Infinity");
    static const char *const plain[] = {"real", "whole", "long", "text", "none", "missing"};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        assert_odd(json, plain[i], NULL);
    }
    json_decref(json);
}

static void *no_memory(size_t size) {
    (void)size;
    return NULL;
}

static size_t allocations_left;

static void *memory_that_ends(size_t size) {
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return malloc(size);
}

static void want_of_memory_is_no_fault_of_the_text(void **state) {
    (void)state;
    // Without a text in it: where the memory for one ends, jansson itself calls it a wrong token.
    static const char text[] = "[[1, 2.5], [], {}, [[null, true]]]";
    json_error_t problem;
    struct error err;
    json_t *json = NULL;
    assert_null(json_loadb("[1,]", 4, 0, &problem));
    assert_false(json_lacked_memory(&problem));
    assert_null(json_loadb("", 0, 0, &problem));
    assert_false(json_lacked_memory(&problem));
    json_set_alloc_funcs(no_memory, free);
    assert_null(json_loadb(text, sizeof text - 1, 0, &problem));
    json_set_alloc_funcs(malloc, free);
    assert_true(json_lacked_memory(&problem));
    // Wherever it ends: never bad data, and never a part of the text.
    size_t refused = 0;
    for (size_t most = 0; json == NULL; most++) {
        allocations_left = most;
        json_set_alloc_funcs(memory_that_ends, free);
        int status = json_parse(&json, text, sizeof text - 1, "FILE", &err);
        json_set_alloc_funcs(malloc, free);
        assert_int_equal(status, json == NULL ? STATUS_INTERNAL : STATUS_OK);
        refused += json == NULL;
    }
    assert_true(refused > 3);
    assert_int_equal(json_array_size(json), 4);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_no_member),
        cmocka_unit_test(odd_numbers_are_named),
        cmocka_unit_test(want_of_memory_is_no_fault_of_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
