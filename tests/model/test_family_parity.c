// SPDX-License-Identifier: MIT
// Every family with its flags against transformers' float32 hidden states (goldens).
#include "golden_parity.h"

static void families_match_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_FAMILIES; i++) {
        compare_golden(golden_families[i], DTYPE_F32, true);
    }
}

static void families_in_halves_are_as_exact_as_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_FAMILIES; i++) {
        compare_golden(golden_families[i], i % 2 == 0 ? DTYPE_BF16 : DTYPE_F16, true);
        if (test_on_cpu()) {
            compare_golden(golden_families[i], i % 2 == 0 ? DTYPE_F16 : DTYPE_BF16, true);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_match_transformers),
        cmocka_unit_test(families_in_halves_are_as_exact_as_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
