// SPDX-License-Identifier: MIT
// Numbers for people, at the edges where units change.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "commands/readable.h"

static void counts_have_separators(void **state) {
    char out[READABLE_TEXT];
    (void)state;
    assert_string_equal(readable_count(0, out), "0");
    assert_string_equal(readable_count(999, out), "999");
    assert_string_equal(readable_count(1000, out), "1,000");
    assert_string_equal(readable_count(21456, out), "21,456");
    assert_string_equal(readable_count(UINT64_MAX, out), "18,446,744,073,709,551,615");
}

static void bytes_have_units(void **state) {
    char out[READABLE_TEXT];
    (void)state;
    assert_string_equal(readable_bytes(0, out), "0 B");
    assert_string_equal(readable_bytes(1023, out), "1023 B");
    assert_string_equal(readable_bytes(1024, out), "1.0 KiB");
    assert_string_equal(readable_bytes((1 << 20) - 1, out), "1.0 MiB");
    assert_string_equal(readable_bytes(UINT64_C(3) << 29, out), "1.5 GiB");
    assert_string_equal(readable_bytes(UINT64_MAX, out), "16.0 EiB");
}

static void durations_have_two_units(void **state) {
    char out[READABLE_TEXT];
    (void)state;
    assert_string_equal(readable_duration(0, out), "0.0 s");
    assert_string_equal(readable_duration(9.94, out), "9.9 s");
    assert_string_equal(readable_duration(9.96, out), "10 s");
    assert_string_equal(readable_duration(59.6, out), "1 min 00 s");
    assert_string_equal(readable_duration(200, out), "3 min 20 s");
    assert_string_equal(readable_duration(7500, out), "2 h 05 min");
    assert_string_equal(readable_duration(86400 * 3 + 3600 * 4, out), "3 d 04 h");
    assert_string_equal(readable_duration(-1, out), "-");
    assert_string_equal(readable_duration(NAN, out), "-");
    assert_string_equal(readable_duration(INFINITY, out), "-");
}

static void rates_and_shares(void **state) {
    char out[READABLE_TEXT];
    (void)state;
    assert_string_equal(readable_rate(0, out), "0.0");
    assert_string_equal(readable_rate(999.94, out), "999.9");
    assert_string_equal(readable_rate(999.96, out), "1,000");
    assert_string_equal(readable_rate(27123.4, out), "27,123");
    assert_string_equal(readable_rate(NAN, out), "-");
    assert_string_equal(readable_rate(INFINITY, out), "-");
    assert_string_equal(readable_share(1, 0, out), "-");
    assert_string_equal(readable_share(99999, 100000, out), "99.9 %");
    assert_string_equal(readable_share(5, 5, out), "100.0 %");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_separators),
        cmocka_unit_test(bytes_have_units),
        cmocka_unit_test(durations_have_two_units),
        cmocka_unit_test(rates_and_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
