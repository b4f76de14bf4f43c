// SPDX-License-Identifier: MIT
// Bytes for people, at the edges where units change.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/amount.h"

static void small_amounts_are_not_nothing(void **state) {
    char out[AMOUNT_TEXT];
    (void)state;
    assert_string_equal(amount_text(0, out), "0 B");
    assert_string_equal(amount_text(999, out), "999 B");
    assert_string_equal(amount_text(1000, out), "1.00 kB");
    assert_string_equal(amount_text(20480, out), "20.48 kB");
    assert_string_equal(amount_text(999994, out), "999.99 kB");
    assert_string_equal(amount_text(999996, out), "1.00 MB");
    assert_string_equal(amount_text(999.996e6, out), "1.00 GB");
    assert_string_equal(amount_text(1.5e9, out), "1.50 GB");
    assert_string_equal(amount_text(1e15, out), "1000000.00 GB");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_amounts_are_not_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
