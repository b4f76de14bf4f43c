// SPDX-License-Identifier: MIT
// Which ends of a part's process lead to another launch, after what pause, and which exit code stands for
// all.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "parts/policy.h"

static const struct restart_policy policy = {.most = 3, .pause = 2, .longest = 60};

static void test_what_another_launch_may_cure(void **state) {
    (void)state;
    static const int cured[] = {69, 70, 75, 1, 134};
    static const int never[] = {64, 65, 73, 78, 80};
    assert_int_equal(policy_judge(&policy, W_EXITCODE(0, 0), 3), VERDICT_FINISHED);
    for (size_t i = 0; i < sizeof cured / sizeof cured[0]; i++) {
        assert_int_equal(policy_judge(&policy, W_EXITCODE(cured[i], 0), 0), VERDICT_AGAIN);
        assert_int_equal(policy_judge(&policy, W_EXITCODE(cured[i], 0), 2), VERDICT_AGAIN);
        assert_int_equal(policy_judge(&policy, W_EXITCODE(cured[i], 0), 3), VERDICT_FAILED);
    }
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        assert_int_equal(policy_judge(&policy, W_EXITCODE(never[i], 0), 0), VERDICT_FAILED);
    }
    assert_int_equal(policy_judge(&policy, W_EXITCODE(0, SIGKILL), 0), VERDICT_AGAIN);
    assert_int_equal(policy_judge(&policy, W_EXITCODE(0, SIGSEGV), 3), VERDICT_FAILED);
    assert_int_equal(policy_exit_code(W_EXITCODE(0, SIGSEGV)), 70);
    assert_int_equal(policy_exit_code(W_EXITCODE(65, 0)), 65);
}

static void test_pauses_grow_up_to_a_limit(void **state) {
    (void)state;
    static const double pauses[] = {2, 4, 8, 16, 32, 60, 60};
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        assert_float_equal(policy_pause(&policy, i), pauses[i], 0);
    }
    assert_float_equal(policy_pause(&policy, SIZE_MAX), 60, 0);
}

static void test_what_a_person_must_see_counts_more(void **state) {
    (void)state;
    static const int order[] = {0, 75, 70, 69, 80, 73, 65, 64, 78};
    for (size_t i = 1; i < sizeof order / sizeof order[0]; i++) {
        assert_int_equal(policy_worse(order[i - 1], order[i]), order[i]);
        assert_int_equal(policy_worse(order[i], order[i - 1]), order[i]);
        assert_int_equal(policy_status(order[i]), -order[i]);
    }
    assert_int_equal(policy_status(1), -70);
    assert_int_equal(policy_worse(0, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_another_launch_may_cure),
        cmocka_unit_test(test_pauses_grow_up_to_a_limit),
        cmocka_unit_test(test_what_a_person_must_see_counts_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
