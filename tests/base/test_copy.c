// SPDX-License-Identifier: MIT
// Copies to another file system: what is published, and what is not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/file.h"

enum { SIZE = (3 << 20) + 17 }; // more than one block

static char folder[64];
static char from[PATH_SIZE];
static char to[PATH_SIZE];
static char aside[PATH_SIZE];

static int make_folder(void **state) {
    (void)state;
    struct error err;
    char *bytes = malloc(SIZE);
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    if (bytes == NULL || mkdtemp(folder) == NULL) {
        free(bytes);
        return 1;
    }
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 31 + i / 4096);
    }
    snprintf(from, sizeof from, "%s/from", folder);
    snprintf(to, sizeof to, "%s/to", folder);
    snprintf(aside, sizeof aside, "%s/to.tmp", folder);
    int status = file_write_atomic(from, bytes, SIZE, &err);
    free(bytes);
    return status;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void a_copy_takes_the_place_of_what_was_there(void **state) {
    (void)state;
    struct error err;
    char hex[DIGEST_HEX];
    char copied[DIGEST_HEX];
    assert_int_equal(file_write_atomic(to, "before", 6, &err), STATUS_OK);
    assert_int_equal(digest_file(from, hex, &err), STATUS_OK);
    assert_int_equal(copy_publish(from, to, hex, NULL, &err), STATUS_OK);
    assert_int_equal(digest_file(to, copied, &err), STATUS_OK);
    assert_string_equal(copied, hex);
    assert_int_equal(copy_publish(from, to, NULL, NULL, &err), STATUS_OK);
    assert_false(file_exists(aside));
    assert_true(file_exists(from));
}

static void a_source_that_changed_is_not_published(void **state) {
    (void)state;
    struct error err;
    char hex[DIGEST_HEX];
    assert_int_equal(digest_file(from, hex, &err), STATUS_OK);
    hex[0] = hex[0] == '0' ? '1' : '0';
    assert_int_equal(copy_publish(from, to, hex, NULL, &err), STATUS_WRITE);
    assert_non_null(strstr(err.message, "changed since it was synced"));
    assert_false(file_exists(to));
    assert_false(file_exists(aside));
}

static void what_cannot_be_read_or_written_is_a_failed_write(void **state) {
    (void)state;
    struct error err;
    char missing[PATH_SIZE];
    snprintf(missing, sizeof missing, "%s/missing", folder);
    assert_int_equal(copy_publish(missing, to, NULL, NULL, &err), STATUS_WRITE);
    assert_false(file_exists(to));
    snprintf(missing, sizeof missing, "%s/missing/to", folder);
    assert_int_equal(copy_publish(from, missing, NULL, NULL, &err), STATUS_WRITE);
    assert_int_equal(symlink(from, to), 0);
    assert_int_equal(copy_publish(to, aside, NULL, NULL, &err), STATUS_WRITE);
    assert_non_null(strstr(err.message, "symbolic link"));
}

static void what_was_left_aside_is_no_obstacle(void **state) {
    (void)state;
    struct error err;
    assert_int_equal(file_write_atomic(aside, "left behind", 11, &err), STATUS_OK);
    assert_int_equal(copy_publish(from, to, NULL, NULL, &err), STATUS_OK);
    assert_false(file_exists(aside));
}

static int refuse(const void *context, struct error *err) {
    assert_true(file_exists(context)); // all is there but the name
    return error_set(err, STATUS_WRITE, "somebody else's now");
}

static void what_is_somebody_elses_now_keeps_its_place(void **state) {
    (void)state;
    struct error err;
    uint64_t bytes = 0;
    char marked[PATH_SIZE + 16];
    snprintf(marked, sizeof marked, "%s.mine.tmp", to);
    const struct copy_claim claim = {.mark = "mine", .check = refuse, .context = marked};
    assert_int_equal(file_write_atomic(to, "theirs", 6, &err), STATUS_OK);
    assert_int_equal(file_write_atomic(aside, "theirs", 6, &err), STATUS_OK);
    assert_int_equal(copy_publish(from, to, NULL, &claim, &err), STATUS_WRITE);
    assert_non_null(strstr(err.message, "somebody else's now"));
    assert_int_equal(file_size(to, &bytes, &err), STATUS_OK);
    assert_int_equal(bytes, 6);
    assert_true(file_exists(aside));
    assert_false(file_exists(marked));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_takes_the_place_of_what_was_there, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_source_that_changed_is_not_published, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_or_written_is_a_failed_write, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(what_is_somebody_elses_now_keeps_its_place, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(what_was_left_aside_is_no_obstacle, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
