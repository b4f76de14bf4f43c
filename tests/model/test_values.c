// SPDX-License-Identifier: MIT
// The key/value view of a config.json: kinds, getters and what they refuse, lists and maps below a key.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/values.h"

static const char document[] =
    "{\"count\": 3, \"whole\": 4.0, \"part\": 2.5, \"yes\": true, \"name\": \"silu\", \"nothing\": null,"
    " \"list\": [\"a\", 1, \"b\"], \"map\": {\"z\": 1, \"a\": {\"deep\": 7}, \"m\": null}, \"empty\": {}}";

static struct values opened(void) {
    struct values values;
    struct error err = {0};
    if (values_open_json(&values, document, sizeof document - 1, "config.json", &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    return values;
}

static void values_are_read_by_their_type(void **state) {
    (void)state;
    struct values values = opened();
    struct error err = {0};
    int64_t integer = -1;
    double number = -1;
    bool boolean = false;
    const char *text = "kept";
    assert_int_equal(values_integer(&values, "count", 1, 3, &integer, &err), STATUS_OK);
    assert_int_equal(integer, 3);
    assert_int_equal(values_integer(&values, "whole", 0, 9, &integer, &err), STATUS_OK);
    assert_int_equal(integer, 4);
    assert_int_equal(values_number(&values, "part", &number, &err), STATUS_OK);
    assert_true(number == 2.5);
    assert_int_equal(values_boolean(&values, "yes", &boolean, &err), STATUS_OK);
    assert_true(boolean);
    assert_int_equal(values_text(&values, "absent", &text, &err), STATUS_OK);
    assert_int_equal(values_text(&values, "nothing", &text, &err), STATUS_OK);
    assert_string_equal(text, "kept");
    assert_int_equal(values_text(&values, "name", &text, &err), STATUS_OK);
    assert_string_equal(text, "silu");
    values_close(&values);
}

static void other_types_are_refused_by_the_keys_name(void **state) {
    (void)state;
    struct values values = opened();
    struct error err = {0};
    int64_t integer = 5;
    double number = 5;
    bool boolean = false;
    const char *text = NULL;
    assert_int_equal(values_integer(&values, "count", 4, 9, &integer, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "'count' is 3, outside 4 to 9"));
    assert_int_equal(values_integer(&values, "part", 0, 9, &integer, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "'part'"));
    assert_int_equal(values_number(&values, "name", &number, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "'name'"));
    assert_int_equal(values_boolean(&values, "count", &boolean, &err), STATUS_DATA);
    assert_int_equal(values_text(&values, "list", &text, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "'list'"));
    assert_int_equal(integer, 5);
    assert_null(text);
    values_close(&values);
}

static void kinds_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *key;
        enum value_kind kind;
    } keys[] = {{"absent", VALUE_ABSENT}, {"nothing", VALUE_NULL}, {"count", VALUE_PLAIN},
                {"yes", VALUE_PLAIN},     {"list", VALUE_LIST},    {"map", VALUE_MAP}};
    struct values values = opened();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_int_equal(values_kind(&values, keys[i].key), keys[i].kind);
        assert_int_equal(values_has(&values, keys[i].key), keys[i].kind > VALUE_NULL);
    }
    values_close(&values);
}

static void lists_and_maps_are_views_of_their_own(void **state) {
    (void)state;
    struct values values = opened();
    struct error err = {0};
    struct values list = values_member(&values, "list");
    assert_int_equal(values_count(&list), 3);
    assert_string_equal(values_text_at(&list, 0), "a");
    assert_null(values_text_at(&list, 1));
    assert_string_equal(values_text_at(&list, 2), "b");
    assert_null(values_text_at(&list, 3));
    int64_t entry = 9;
    assert_false(values_integer_at(&list, 0, &entry));
    assert_false(values_integer_at(&list, 3, &entry));
    assert_int_equal(entry, 9);
    assert_true(values_integer_at(&list, 1, &entry));
    assert_int_equal(entry, 1);
    struct values map = values_member(&values, "map");
    struct values deep = values_member(&map, "a");
    int64_t integer = 0;
    assert_int_equal(values_integer(&deep, "deep", 0, 9, &integer, &err), STATUS_OK);
    assert_int_equal(integer, 7);
    static const char *const keys[] = {"z", "a", "m"};
    size_t count = 0;
    for (const char *key = values_next_key(&map, NULL); key != NULL; key = values_next_key(&map, key)) {
        assert_true(count < 3);
        assert_string_equal(key, keys[count++]);
    }
    assert_int_equal(count, values_count(&map));
    struct values empty = values_member(&values, "empty");
    assert_null(values_next_key(&empty, NULL));
    values_close(&values);
}

static void below_a_plain_value_there_is_nothing(void **state) {
    (void)state;
    static const char *const keys[] = {"absent", "nothing", "count", "name"};
    struct values values = opened();
    struct error err = {0};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct values none = values_member(&values, keys[i]);
        double number = 1;
        assert_int_equal(values_count(&none), 0);
        assert_null(values_text_at(&none, 0));
        assert_null(values_next_key(&none, NULL));
        assert_int_equal(values_kind(&none, "count"), VALUE_ABSENT);
        assert_int_equal(values_number(&none, "count", &number, &err), STATUS_OK);
        assert_true(number == 1);
    }
    values_close(&values);
}

static void only_an_object_is_opened(void **state) {
    (void)state;
    struct values values;
    struct error err = {0};
    assert_int_equal(values_open_json(&values, "[1]", 3, "config.json", &err), STATUS_DATA);
    assert_string_equal(err.message, "config.json: not a JSON object");
    assert_int_equal(values_open_json(&values, "{", 1, "config.json", &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "config.json: line 1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_by_their_type),
        cmocka_unit_test(other_types_are_refused_by_the_keys_name),
        cmocka_unit_test(kinds_are_told_apart),
        cmocka_unit_test(lists_and_maps_are_views_of_their_own),
        cmocka_unit_test(below_a_plain_value_there_is_nothing),
        cmocka_unit_test(only_an_object_is_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
