// SPDX-License-Identifier: MIT
// The folder of a set: names of parts, and the files that appear once.
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoints/set_testing.h"

static void names_of_parts(void **state) {
    (void)state;
    static const char *const none[] = {"part-7-of-64",        "part-0064-of-0064",  "part-0007-of-0064x",
                                       "part-0001-of-0000",   "part-00007-of-0064", "part-+007-of-0064",
                                       "part-0000-of-100001", "part-000000.h5",     ""};
    char name[RUN_SET_NAME];
    struct run_part part;
    run_set_part_name(name, &(struct run_part){7, 64});
    assert_string_equal(name, "part-0007-of-0064");
    assert_true(run_set_parse_name("part-12345-of-20000", &part) && part.index == 12345 &&
                part.count == 20000);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(run_set_parse_name(none[i], &part));
    }
}

static void numbers_of_parts(void **state) {
    (void)state;
    static const char *const none[] = {"64/64", "7",     "7/",  "/64",      "07/64",
                                       "7/64 ", "-1/64", "0/0", "0/100001", ""};
    struct run_part part;
    assert_true(run_set_parse_part("7/64", &part) && part.index == 7 && part.count == 64);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(run_set_parse_part(none[i], &part));
    }
}

static void a_set_keeps_its_number(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct buffer command = {0};
    struct error err;
    uint64_t parts = 9;
    fixture_folder(folder);
    ok(run_set_parts(folder, &parts, &err), &err);
    assert_int_equal(parts, 0);
    ok(run_set_begin(folder, 3, "strata run /data/job.yaml --part", &err), &err);
    ok(run_set_begin(folder, 3, "another command", &err), &err);
    ok(run_set_parts(folder, &parts, &err), &err);
    assert_int_equal(parts, 3);
    assert_int_equal(run_set_begin(folder, 4, "strata run", &err), STATUS_JOB);
    assert_non_null(strstr(err.message, "3 parts, not 4"));
    ok(run_set_command(folder, &command, &err), &err);
    assert_string_equal(command.data, "strata run /data/job.yaml --part");
    buffer_destroy(&command);
    fixture_folder_remove(folder);
}

static void a_run_does_not_become_a_set(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    fixture_folder(folder);
    ledger_close(begin_at(folder, 6));
    assert_int_equal(run_set_begin(folder, 3, "strata run", &err), STATUS_JOB);
    assert_non_null(strstr(err.message, "not divided into parts"));
    fixture_folder_remove(folder);
}

static void a_damaged_set_file(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"format\": 1}",
                                        "{\"parts\": 3}",
                                        "{\"format\": 2, \"parts\": 3}",
                                        "{\"format\": 1, \"parts\": 0}",
                                        "{\"format\": 1, \"parts\": -3}",
                                        "{\"format\": 1, \"parts\": 100001}",
                                        "{\"format\": 1, \"parts\": \"3\"}"};
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    uint64_t parts;
    fixture_folder(folder);
    ok(path_join(path, sizeof path, folder, RUN_SET_FILE, &err), &err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_text(path, texts[i]);
        assert_int_equal(run_set_parts(folder, &parts, &err), STATUS_DATA);
        assert_int_equal(run_set_begin(folder, 3, "strata run", &err), STATUS_DATA);
    }
    ok(file_remove(path, &err), &err);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(run_set_parts(folder, &parts, &err), STATUS_DATA);
    fixture_folder_remove(folder);
}

static void make_aside(char path[PATH_SIZE], const char *folder, const char *name, time_t age) {
    const struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    struct error err;
    ok(path_join(path, PATH_SIZE, folder, name, &err), &err);
    write_text(path, "half");
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void what_a_kill_leaves_goes_after_a_day(void **state) {
    (void)state;
    static const struct {
        const char *name;
        time_t age;
        bool stays;
    } files[] = {{"set.json.a.host.77.0123456789abcdef.tmp", 90000, false},
                 {"survey.sqlite.host.1.0123456789abcdef.tmp", 90000, false},
                 {"latents.h5.host.1.0123456789abcdef.tmp", 90000, false},
                 {"identity.json.host.1.0123456789abcdef.tmp", 90000, false},
                 {"identity.json.host.1.0123456789abcde0.tmp", 80000, true},
                 {"notes.host.1.0123456789abcdef.tmp", 90000, true},
                 {"set.json.tmp", 90000, true},
                 {"set.json.host.1.0123456789abcdeg.tmp", 90000, true},
                 {"set.json.0123456789abcdef.tmp.old", 90000, true}};
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    fixture_folder(folder);
    ok(run_set_begin(folder, 3, "strata run", &err), &err);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        make_aside(path, folder, files[i].name, files[i].age);
        ok(run_set_begin(folder, 3, "strata run", &err), &err);
        assert_int_equal(file_exists(path), files[i].stays);
    }
    fixture_folder_remove(folder);
}

static struct run_set_shared shared_of(const char *value) {
    struct error err;
    struct run_set_shared shared = {.cpu_path = "avx2"};
    ok(identity_add(&shared.identity, "model.dtype", value, &err), &err);
    ok(buffer_printf(&shared.algorithms, &err, "{\"of\": \"%s\"}", value), &err);
    return shared;
}

static void the_first_settles_what_is_shared(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct run_set_shared read;
    struct run_set_shared first = shared_of("float32");
    struct run_set_shared second = shared_of("float16");
    bool found = true;
    bool is_first = false;
    fixture_folder(folder);
    ok(run_set_shared(folder, &read, &found, &err), &err);
    assert_false(found);
    ok(run_set_share(folder, &first, &is_first, &err), &err);
    assert_true(is_first);
    ok(run_set_share(folder, &second, &is_first, &err), &err);
    assert_false(is_first);
    assert_string_equal(identity_get(&second.identity, "model.dtype"), "float32");
    assert_string_equal(second.algorithms.data, "{\"of\": \"float32\"}");
    ok(run_set_shared(folder, &read, &found, &err), &err);
    assert_true(found);
    assert_string_equal(read.cpu_path, "avx2");
    run_set_shared_destroy(&read);
    run_set_shared_destroy(&first);
    run_set_shared_destroy(&second);
    fixture_folder_remove(folder);
}

static void a_damaged_identity(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"format\": 1}",
                                        "{\"format\": 1, \"identity\": []}",
                                        "{\"format\": 1, \"identity\": [[\"key\"]]}",
                                        "{\"format\": 1, \"identity\": [[\"key\", 1]]}",
                                        "{\"format\": 1, \"identity\": {\"key\": \"value\"}}",
                                        "{\"format\": 1, \"identity\": [[\"a\", \"b\"]], \"cpu_path\": 7}"};
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct run_set_shared read;
    bool found;
    fixture_folder(folder);
    ok(path_join(path, sizeof path, folder, "identity.json", &err), &err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_text(path, texts[i]);
        assert_int_equal(run_set_shared(folder, &read, &found, &err), STATUS_DATA);
        assert_int_equal(read.identity.count, 0);
    }
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_parts),         cmocka_unit_test(numbers_of_parts),
        cmocka_unit_test(a_set_keeps_its_number), cmocka_unit_test(a_run_does_not_become_a_set),
        cmocka_unit_test(a_damaged_set_file),     cmocka_unit_test(the_first_settles_what_is_shared),
        cmocka_unit_test(a_damaged_identity),     cmocka_unit_test(what_a_kill_leaves_goes_after_a_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
