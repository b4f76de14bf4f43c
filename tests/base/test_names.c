// SPDX-License-Identifier: MIT
// Names one behind another, however many, and cut where there is no room.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/names.h"

static void listed(size_t count, size_t size, const char *expected) {
    static const char *const names[] = {"one", "two", "three", "four"};
    char out[32] = "";
    for (size_t i = 0; i < count; i++) {
        names_append(out, size, names[i], i, count);
    }
    assert_string_equal(out, expected);
}

static void the_last_two_are_joined_by_and(void **state) {
    (void)state;
    listed(0, 32, "");
    listed(1, 32, "one");
    listed(2, 32, "one and two");
    listed(3, 32, "one, two and three");
    listed(4, 32, "one, two, three and four");
}

static void what_has_no_room_is_cut(void **state) {
    (void)state;
    listed(3, 10, "one, two ");
    listed(4, 1, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_two_are_joined_by_and),
        cmocka_unit_test(what_has_no_room_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
