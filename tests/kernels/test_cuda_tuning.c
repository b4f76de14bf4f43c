// SPDX-License-Identifier: MIT
// What choosing an algorithm costs on the CUDA back end, in runs of matmuls: the emulation counts them
// (its algorithms: test_cuda_matmuls.c).
#include "cuda_matmuls.h"

enum { MANY_ROWS = 2400 }; // matmuls of a millisecond: waiting for the host is nothing beside them

static char report[] = "/tmp/strata-products-XXXXXX"; // of the emulation

static unsigned long matmuls_run(struct rig *rig) {
    char text[2048] = "";
    unsigned long matmuls = 0;
    rig_finish(rig);
    FILE *file = fopen(report, "r");
    REQUIRE(file != NULL && fgets(text, sizeof text, file) != NULL && strstr(text, "\"products\": ") != NULL);
    REQUIRE(sscanf(strstr(text, "\"products\": "), "\"products\": %lu", &matmuls) == 1);
    fclose(file);
    return matmuls;
}

// Of 80 candidates, ten of each variant: 13, 15, 19, 66, 31, 11, 6, 24, 12 and 7. The first 16 are proved, by
// 3 runs or, with a workspace, 9, of which 13, 15 and 19 fail in the first 6 (31 has none): 42 runs of the
// first variant, 24 of the second. Once each runs what is fit of them, 6, and once more the largest group, 6,
// 12 and 7; and twice what runs of the 16 others that are looked at, 15. Then 13, 15, 19 and 66 of the third
// variant are proved, which are faster than what is fit, 13 and 15 of the fourth, which come close, and what
// comes close and is fit, 11 and 6, is measured three times. Nothing runs of the 48 candidates behind.
static void runs_of_a_choice(struct rig *rig) {
    struct shape shape;
    const char *lines[] = {"24x96 ", "2400x96 store bias=0 tokens=40 bfloat16 id=6 "};
    open_shape(rig, DTYPE_BF16, &shape);
    tune(rig, &shape, false, DEVICE_STORE); // warms up
    struct shape large = take_shape(rig, MANY_ROWS, true);
    unsigned long before = matmuls_run(rig);
    tune(rig, &large, false, DEVICE_STORE);
    unsigned long runs = matmuls_run(rig) - before;
    REQUIRE(runs == 42 + 24 + (6 + 3) + 2 * 15 + (6 + 6 + 6 + 3) + (6 + 6) + 2 * 3);
    tune(rig, &large, false, DEVICE_STORE); // costs nothing
    REQUIRE(matmuls_run(rig) - before == runs);
    require_algorithms(rig, lines, 2);
}

// One that is named is proved, and nothing else runs.
static void runs_of_a_name(struct rig *rig) {
    struct shape shape;
    char *named = remember(rig);
    open_named(rig, &shape, named);
    unsigned long before = matmuls_run(rig);
    tune(rig, &shape, true, DEVICE_ADD);
    tune(rig, &shape, false, DEVICE_STORE);
    REQUIRE(matmuls_run(rig) - before == 2 * 3);
    free(named);
}

// The first 40 candidates do not run: those behind them are looked at.
static void late_ones(struct rig *rig) {
    struct shape shape;
    open_shape(rig, DTYPE_BF16, &shape);
    tune(rig, &shape, false, DEVICE_STORE);
    const char *line = " swizzle=4 ";
    require_algorithms(rig, &line, 1);
}

static void none_runs(struct rig *rig) {
    struct shape shape;
    open_shape(rig, DTYPE_BF16, &shape);
    REFUSED(
        device_matmul_tune(rig->device, shape.out, shape.x, &shape.matrix, NULL, DEVICE_STORE, &rig->error),
        STATUS_DEVICE, "is batch-invariant");
}

static void test_cost(void **state) {
    char settings[128];
    int descriptor = mkstemp(report);
    (void)state;
    assert_true(descriptor >= 0);
    close(descriptor);
    snprintf(settings, sizeof settings, "SEED=0 VARIANTS=8:0 REPORT=%s", report);
    in_child(settings, runs_of_a_choice);
    in_child(settings, runs_of_a_name);
    assert_int_equal(unlink(report), 0);
    in_child("SEED=0 VARIANTS=8:4", late_ones);
    in_child("SEED=0 VARIANTS=8:8", none_runs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
