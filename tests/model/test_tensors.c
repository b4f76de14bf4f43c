// SPDX-License-Identifier: MIT
// The tensor directory: found by name, listed by file and place, whatever the order in which it was filled.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/tensors.h"

static const struct tensor_type numbers = {"F32", 32};

static void add(struct tensors *tensors, const char *name, size_t file, size_t begin, size_t end) {
    struct error err;
    assert_int_equal(tensors_reserve(tensors, 1, &err), STATUS_OK);
    struct tensor *tensor = &tensors->entries[tensors->count++];
    *tensor = (struct tensor){.type = &numbers, .file = file, .begin = begin, .end = end};
    assert_int_equal(memory_text(&tensor->name, name, &err), STATUS_OK);
}

static void many_are_found_and_listed_in_file_order(void **state) {
    (void)state;
    enum { COUNT = 1000, FILES = 7 };
    struct tensors tensors = {0};
    struct error err = {0};
    char name[32];
    const struct tensor *twice;
    for (size_t i = 0; i < COUNT; i++) {
        size_t scattered = i * 617 % COUNT; // 617 and 1000 have no common factor
        snprintf(name, sizeof name, "tensor.%zu", scattered);
        add(&tensors, name, scattered % FILES, scattered * 8, scattered * 8 + 8);
    }
    assert_int_equal(tensors_order(&tensors, &twice, &err), STATUS_OK);
    assert_null(twice);
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "tensor.%zu", i);
        const struct tensor *found = tensors_find(&tensors, name);
        assert_non_null(found);
        assert_string_equal(found->name, name);
        assert_int_equal(found->begin, i * 8);
        assert_true(i == 0 || strcmp(tensors.entries[i - 1].name, tensors.entries[i].name) < 0);
        const struct tensor *before = i == 0 ? NULL : tensors.in_files[i - 1];
        const struct tensor *listed = tensors.in_files[i];
        assert_true(before == NULL || before->file < listed->file ||
                    (before->file == listed->file && before->begin < listed->begin));
    }
    assert_null(tensors_find(&tensors, "tensor.1000"));
    assert_null(tensors_find(&tensors, ""));
    tensors_destroy(&tensors);
    assert_null(tensors.entries);
}

static void empty_tensors_come_before_what_begins_at_the_same_place(void **state) {
    (void)state;
    struct tensors tensors = {0};
    struct error err = {0};
    const struct tensor *twice;
    add(&tensors, "a", 1, 8, 24);
    add(&tensors, "z", 1, 8, 8);
    add(&tensors, "m", 0, 8, 16);
    add(&tensors, "b", 1, 8, 8);
    assert_int_equal(tensors_order(&tensors, &twice, &err), STATUS_OK);
    static const char *const expected[] = {"m", "b", "z", "a"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(tensors.in_files[i]->name, expected[i]);
    }
    tensors_destroy(&tensors);
}

static void a_name_in_two_files_is_told(void **state) {
    (void)state;
    struct tensors tensors = {0};
    struct error err = {0};
    const struct tensor *twice;
    add(&tensors, "b", 2, 0, 8);
    add(&tensors, "a", 0, 0, 8);
    add(&tensors, "b", 1, 0, 8);
    assert_int_equal(tensors_order(&tensors, &twice, &err), STATUS_OK);
    assert_non_null(twice);
    assert_string_equal(twice->name, "b");
    assert_int_equal(twice->file, 2);
    assert_int_equal(twice[-1].file, 1);
    tensors_destroy(&tensors);
}

static void an_empty_directory_is_one(void **state) {
    (void)state;
    struct tensors tensors = {0};
    struct error err = {0};
    const struct tensor *twice;
    assert_int_equal(tensors_order(&tensors, &twice, &err), STATUS_OK);
    assert_null(twice);
    assert_null(tensors_find(&tensors, "a"));
    tensors_destroy(&tensors);
    tensors_destroy(&tensors);
}

static void forgotten_entries_leave_the_others(void **state) {
    (void)state;
    struct tensors tensors = {0};
    add(&tensors, "a", 0, 0, 8);
    add(&tensors, "b", 1, 0, 8);
    add(&tensors, "c", 1, 8, 16);
    tensors_truncate(&tensors, 1);
    assert_int_equal(tensors.count, 1);
    add(&tensors, "d", 1, 0, 8);
    assert_string_equal(tensors.entries[1].name, "d");
    tensors_destroy(&tensors);
}

static void shapes_are_written_as_python_writes_them(void **state) {
    (void)state;
    const size_t shape[TENSOR_RANK] = {2, 3, 0, 1, 5, 6, 7, SIZE_MAX};
    char text[TENSOR_SHAPE_TEXT];
    tensor_shape_text(shape, 0, text);
    assert_string_equal(text, "[]");
    tensor_shape_text(shape, 1, text);
    assert_string_equal(text, "[2]");
    tensor_shape_text(shape, TENSOR_RANK, text);
    assert_string_equal(text, "[2, 3, 0, 1, 5, 6, 7, 18446744073709551615]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_are_found_and_listed_in_file_order),
        cmocka_unit_test(empty_tensors_come_before_what_begins_at_the_same_place),
        cmocka_unit_test(a_name_in_two_files_is_told),
        cmocka_unit_test(an_empty_directory_is_one),
        cmocka_unit_test(forgotten_entries_leave_the_others),
        cmocka_unit_test(shapes_are_written_as_python_writes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
