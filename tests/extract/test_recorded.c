// SPDX-License-Identifier: MIT
// What shards say and an identity does not: kept from the first launch, also from ledgers of earlier
// versions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "checkpoints/run_folder.h"
#include "start/recorded.h"

static struct error err;

static void ok(int status) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err.message);
    }
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *path;
        const char *name;
    } cases[] = {
        {"/none/Qwen3-8B", "Qwen3-8B"},
        {"Qwen3-8B", "Qwen3-8B"},
        {"/none/models--Qwen--Qwen3-8B/snapshots/0123", "Qwen3-8B"},
        {"/none/models--gpt2/snapshots/0123", "gpt2"},
        {"/none/models--a--b--c/snapshots/0123", "c"},
        {"/none/snapshots/0123", "0123"},
        {"/none/models--/snapshots/0123", "0123"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[RECORDED_NAME];
        recorded_model_name(name, cases[i].path);
        assert_string_equal(name, cases[i].name);
    }
}

// A file of the Hub's cache is a link to one that is named by its hash.
static void test_name_of_a_file(void **state) {
    (void)state;
    char folder[] = "/tmp/strata-test-XXXXXX";
    char blob[64];
    char link[64];
    char name[RECORDED_NAME];
    assert_non_null(mkdtemp(folder));
    snprintf(blob, sizeof blob, "%s/0123456789abcdef", folder);
    snprintf(link, sizeof link, "%s/tiny-Q8_0.gguf", folder);
    ok(file_write_atomic(blob, "GGUF", 4, &err));
    assert_int_equal(symlink(blob, link), 0);
    recorded_model_name(name, link);
    assert_string_equal(name, "tiny-Q8_0.gguf");
    unlink(link);
    unlink(blob);
    rmdir(folder);
}

// A run begins as `first` and goes on elsewhere; what is recorded stays.
static void settle(struct ledger *ledger, const struct identity *stored, const char *path,
                   const char *warnings, const char *model, const char *recorded_warnings) {
    struct recorded recorded;
    struct inputs inputs = {.job = {.model_path = (char *)(uintptr_t)path}};
    ok(buffer_append(&inputs.warnings, warnings, strlen(warnings), &err));
    ok(recorded_settle(&recorded, &inputs, ledger, stored, &err));
    assert_string_equal(recorded.model, model);
    assert_string_equal(recorded.warnings.data == NULL ? "" : recorded.warnings.data, recorded_warnings);
    recorded_destroy(&recorded);
    buffer_destroy(&inputs.warnings);
}

static void test_first_launch_counts(void **state) {
    (void)state;
    char folder[] = "/tmp/strata-test-XXXXXX";
    char command[64];
    struct ledger *ledger;
    struct identity none = {0};
    assert_non_null(mkdtemp(folder));
    ok(ledger_open(&ledger, folder, &err));
    settle(ledger, NULL, "/none/crashed-before-it-began", "", "crashed-before-it-began", "");
    settle(ledger, NULL, "/none/first", "a warning\n", "first", "a warning\n");
    settle(ledger, &none, "/none/second", "another\n", "first", "a warning\n");
    ledger_close(ledger);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

// Identities held the folder's name once: it stays in theirs, is not compared, and is what their shards say.
static void test_earlier_ledgers(void **state) {
    (void)state;
    char folder[] = "/tmp/strata-test-XXXXXX";
    char command[64];
    struct ledger *ledger;
    struct identity stored = {0};
    struct identity now = {0};
    struct buffer lines = {0};
    size_t differences = 1;
    assert_non_null(mkdtemp(folder));
    ok(ledger_open(&ledger, folder, &err));
    ok(identity_add(&stored, "model.dtype", "float32", &err));
    ok(identity_add(&stored, "model.name", "first", &err));
    ok(identity_add(&now, "model.dtype", "float32", &err));
    settle(ledger, &stored, "/none/second", "a warning\n", "first", "");
    ok(recorded_carry(&stored, &now, &err));
    ok(identity_compare(&stored, &now, &lines, &differences, &err));
    assert_int_equal(differences, 0);
    char before[DIGEST_HEX];
    char after[DIGEST_HEX];
    ok(identity_hash(&stored, before, &err));
    ok(identity_hash(&now, after, &err));
    assert_string_equal(before, after);
    identity_destroy(&stored);
    identity_destroy(&now);
    buffer_destroy(&lines);
    ledger_close(ledger);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_name_of_a_file),
        cmocka_unit_test(test_first_launch_counts),
        cmocka_unit_test(test_earlier_ledgers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
