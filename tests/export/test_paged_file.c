// SPDX-License-Identifier: MIT
// An array in a file without a name: it keeps what was written as it grows, moves and lets go of its pages,
// and takes little memory.
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "checkpoints/ledger_testing.h"
#include "export/paged_file.h"

static void open_one(struct paged_file *file, char folder[PATH_SIZE]) {
    char path[PATH_SIZE];
    struct error err;
    fixture_folder(folder);
    ok(path_join(path, sizeof path, folder, ".plan", &err), &err);
    ok(paged_file_open(file, path, &err), &err);
    assert_false(file_exists(path));
}

static void it_keeps_what_was_written(void **state) {
    (void)state;
    enum { STEPS = 64, STEP = 4096 + 13 };
    char folder[PATH_SIZE];
    struct paged_file file;
    struct error err;
    open_one(&file, folder);
    for (uint64_t step = 0; step < STEPS; step++) {
        ok(paged_file_reserve(&file, (step + 1) * STEP, sizeof step, &err), &err);
        uint64_t *numbers = file.data;
        for (size_t i = step * STEP; i < (step + 1) * STEP; i++) {
            assert_true(numbers[i] == 0);
            numbers[i] = i * 0x9E3779B97F4A7C15u;
        }
        if (step % 7 == 0) {
            paged_file_release(&file);
        }
    }
    paged_file_release(&file);
    const uint64_t *numbers = file.data;
    for (size_t i = 0; i < (size_t)STEPS * STEP; i++) {
        assert_true(numbers[i] == i * 0x9E3779B97F4A7C15u);
    }
    ok(paged_file_reserve(&file, 1, 1, &err), &err); // there already
    assert_ptr_equal(numbers, file.data);
    paged_file_close(&file);
    paged_file_close(&file);
    assert_null(file.data);
    fixture_folder_remove(folder);
}

static void it_lets_go_of_memory(void **state) {
    (void)state;
    enum { BYTES = 96 << 20 };
    char folder[PATH_SIZE];
    struct paged_file file;
    struct error err;
    open_one(&file, folder);
    ok(paged_file_reserve(&file, BYTES, 1, &err), &err);
    memset(file.data, 1, BYTES);
    uint64_t before = process_memory();
    paged_file_release(&file);
    if (before > 0) { // resident memory is known
        assert_true(process_memory() + BYTES / 2 < before);
    }
    paged_file_close(&file);
    fixture_folder_remove(folder);
}

static void a_disk_without_room_is_said(void **state) {
    (void)state;
    struct rlimit before;
    struct rlimit limit;
    char folder[PATH_SIZE];
    struct paged_file file;
    struct error err;
    open_one(&file, folder);
    signal(SIGXFSZ, SIG_IGN);
    ok(paged_file_reserve(&file, 1000, 1, &err), &err);
    memset(file.data, 7, 1000);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int status = paged_file_reserve(&file, 4 << 20, 1, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, STATUS_WRITE);
    assert_int_equal(((const char *)file.data)[999], 7);
    assert_int_equal(paged_file_reserve(&file, SIZE_MAX / 2, 4, &err), STATUS_INTERNAL);
    paged_file_close(&file);
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_keeps_what_was_written),
        cmocka_unit_test(it_lets_go_of_memory),
        cmocka_unit_test(a_disk_without_room_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
