// SPDX-License-Identifier: MIT
// The trail of a run's devices: which path computed a batch, changes that come to nothing, and what the
// ledger keeps.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoints/device_trail.h"
#include "checkpoints/fixture.h"

#define FIRST "cpu path=avx512bf16 kernels=1"
#define SECOND "cpu path=avx2 kernels=1"

static void ok(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%s", err->message);
    }
}

static struct ledger *begin(char folder[PATH_SIZE]) {
    struct ledger *ledger;
    struct error err;
    struct identity identity = {0};
    struct ledger_survey survey = {.problems = 5};
    uint64_t epoch;
    fixture_folder(folder);
    ok(ledger_open(&ledger, folder, &err), &err);
    ok(ledger_launch(ledger, 1, &epoch, &err), &err);
    ok(identity_add(&identity, "device.identity", FIRST, &err), &err);
    ok(ledger_begin(ledger, &identity, &survey, &err), &err);
    identity_destroy(&identity);
    return ledger;
}

static void follow(struct device_trail *trail, uint64_t batch, const char *identity) {
    struct error err;
    ok(device_trail_follow(trail, batch, identity, &err), &err);
}

static void check_described(const struct device_trail *trail, const char *expected, bool changed) {
    struct buffer text = {0};
    struct error err;
    ok(device_trail_describe(trail, &text, &err), &err);
    assert_string_equal(text.data, expected);
    assert_int_equal(device_trail_changed(trail), changed);
    buffer_destroy(&text);
}

static void test_before_a_run(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct ledger *ledger;
    struct device_trail trail;
    struct error err;
    fixture_folder(folder);
    ok(ledger_open(&ledger, folder, &err), &err);
    ok(device_trail_read(&trail, ledger, &err), &err);
    assert_int_equal(trail.count, 0);
    assert_null(device_trail_last(&trail));
    assert_null(device_trail_at(&trail, 0));
    assert_false(device_trail_changed(&trail));
    device_trail_destroy(&trail);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void test_changes_come_back_from_the_ledger(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct ledger *ledger = begin(folder);
    struct device_trail trail;
    struct error err;
    ok(device_trail_read(&trail, ledger, &err), &err);
    check_described(&trail, "avx512bf16", false);
    follow(&trail, 12, SECOND);
    follow(&trail, 40, FIRST);
    ok(device_trail_write(&trail, ledger, &err), &err);
    device_trail_destroy(&trail);

    ok(device_trail_read(&trail, ledger, &err), &err);
    check_described(&trail, "avx512bf16, avx2 from batch 12, avx512bf16 from batch 40", true);
    assert_string_equal(device_trail_at(&trail, 11)->identity, FIRST);
    assert_string_equal(device_trail_at(&trail, 12)->identity, SECOND);
    assert_string_equal(device_trail_at(&trail, 39)->identity, SECOND);
    assert_string_equal(device_trail_at(&trail, 1000)->identity, FIRST);
    device_trail_destroy(&trail);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

// Nothing was sealed on avx2: whoever comes next takes its place, and the first path leaves no trace of it.
static void test_a_change_that_comes_to_nothing(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct ledger *ledger = begin(folder);
    struct device_trail trail;
    struct error err;
    ok(device_trail_read(&trail, ledger, &err), &err);
    follow(&trail, 12, SECOND);
    follow(&trail, 12, "cpu path=portable kernels=1");
    check_described(&trail, "avx512bf16, portable from batch 12", true);
    follow(&trail, 12, FIRST);
    check_described(&trail, "avx512bf16", false);
    ok(device_trail_write(&trail, ledger, &err), &err);
    device_trail_destroy(&trail);
    ok(device_trail_read(&trail, ledger, &err), &err);
    assert_int_equal(trail.count, 1);
    device_trail_destroy(&trail);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

// The run's identity names a path that no batch came from.
static void test_a_change_before_the_first_shard(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct ledger *ledger = begin(folder);
    struct device_trail trail;
    struct error err;
    ok(device_trail_read(&trail, ledger, &err), &err);
    follow(&trail, 0, SECOND);
    check_described(&trail, "avx2", false);
    assert_int_equal(trail.count, 2);
    assert_string_equal(device_trail_at(&trail, 0)->identity, SECOND);
    follow(&trail, 7, FIRST);
    check_described(&trail, "avx2, avx512bf16 from batch 7", true);
    device_trail_destroy(&trail);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void test_a_damaged_note_is_refused(void **state) {
    (void)state;
    static const char *const damaged[] = {"x cpu path=avx2", "12", "12 ", "12\n", "12 a\n3 b\n", " 12 a"};
    char folder[PATH_SIZE];
    struct ledger *ledger = begin(folder);
    struct error err;
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        struct device_trail trail;
        ok(ledger_set_note(ledger, "device.changes", damaged[i], &err), &err);
        if (device_trail_read(&trail, ledger, &err) != STATUS_DATA) {
            fail_msg("'%s' was taken", damaged[i]);
        }
        device_trail_destroy(&trail);
    }
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void test_only_the_path_differs(void **state) {
    (void)state;
    assert_true(device_trail_only_path_differs(FIRST, SECOND));
    assert_false(device_trail_only_path_differs(FIRST, FIRST));
    assert_false(device_trail_only_path_differs(FIRST, "cpu path=avx2 kernels=2"));
    assert_false(device_trail_only_path_differs(FIRST, "cpu path=avx512bf16 kernels=2"));
    assert_false(device_trail_only_path_differs(FIRST, "cuda H100, sm_90, kernels=1"));
    assert_false(device_trail_only_path_differs("cuda path=a x", "cuda path=b x"));
    char path[DEVICE_TRAIL_PATH];
    device_trail_path(FIRST, path);
    assert_string_equal(path, "avx512bf16");
    device_trail_path("cuda H100, sm_90, kernels=1", path);
    assert_string_equal(path, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_a_run),
        cmocka_unit_test(test_changes_come_back_from_the_ledger),
        cmocka_unit_test(test_a_change_that_comes_to_nothing),
        cmocka_unit_test(test_a_change_before_the_first_shard),
        cmocka_unit_test(test_a_damaged_note_is_refused),
        cmocka_unit_test(test_only_the_path_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
