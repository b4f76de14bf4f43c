// SPDX-License-Identifier: MIT
// Files: what is opened and refused, what is published, and who holds a lock.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

// A path in the folder; four of them are valid at a time.
static const char *at(const char *name) {
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text) {
    struct error err;
    assert_int_equal(file_write_atomic(at(name), text, strlen(text), &err), STATUS_OK);
}

static void holds(const char *name, const char *text) {
    struct error err;
    struct buffer found = {0};
    assert_int_equal(file_read_own(&found, at(name), 1000, &err), STATUS_OK);
    assert_string_equal(found.size == 0 ? "" : found.data, text);
    buffer_destroy(&found);
}

static void says(const struct error *err, const char *words) {
    if (strstr(err->message, words) == NULL) {
        fail_msg("'%s' is not in '%s'", words, err->message);
    }
}

// ---- opening ----

// A file, a link to it, a folder, a pipe: what stands in a place where a file is looked for.
static void make_kinds(void) {
    put("file", "text");
    assert_int_equal(symlink("file", at("link")), 0);
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(mkdir(at("folder"), 0700), 0);
}

static void opens(int (*open_one)(int *, size_t *, const char *, struct error *), const char *name,
                  const char *refusal) {
    struct error err;
    int descriptor = -7;
    size_t size = 99;
    int status = open_one(&descriptor, &size, at(name), &err);
    if (refusal == NULL) {
        assert_int_equal(status, STATUS_OK);
        assert_int_equal(size, 4);
        assert_int_equal(fcntl(descriptor, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fcntl(descriptor, F_GETFL) & O_NONBLOCK, 0);
        close(descriptor);
        return;
    }
    assert_int_equal(status, STATUS_DATA);
    assert_int_equal(descriptor, -1);
    says(&err, refusal);
}

static void only_regular_files_are_opened(void **state) {
    (void)state;
    make_kinds();
    opens(file_open, "file", NULL);
    opens(file_open, "link", NULL);
    opens(file_open_own, "file", NULL);
    opens(file_open_own, "link", "is a symbolic link, which is not followed here");
    opens(file_open, "pipe", "it is a pipe (FIFO)"); // and does not wait for its writer
    opens(file_open, "folder", "it is a folder");
    opens(file_open, "nothing", "No such file or directory");
}

static void a_stream_may_be_a_pipe_that_was_given(void **state) {
    (void)state;
    struct error err;
    struct buffer text = {0};
    int ends[2];
    char name[32];
    int descriptor;
    make_kinds();
    assert_int_equal(file_open_stream(&descriptor, at("pipe"), &err), STATUS_DATA);
    says(&err, "give it as standard input: /dev/stdin < ");
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "through", 7), 7);
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(file_read_stream(&text, name, 100, &err), STATUS_OK);
    assert_string_equal(text.data, "through");
    buffer_clear(&text);
    assert_int_equal(file_read_stream(&text, at("file"), 100, &err), STATUS_OK);
    assert_string_equal(text.data, "text");
    close(ends[0]);
    buffer_destroy(&text);
}

static void checks_come_before_libraries(void **state) {
    (void)state;
    struct error err;
    make_kinds();
    assert_int_equal(file_check_own(at("file"), &err), STATUS_OK);
    assert_int_equal(file_check_own(at("nothing"), &err), STATUS_OK);
    assert_int_equal(file_check_own(at("link"), &err), STATUS_DATA);
    assert_int_equal(file_check_own(at("folder"), &err), STATUS_DATA);
    assert_int_equal(file_check_database(at("file"), &err), STATUS_OK);
    assert_int_equal(file_check_database(at("link"), &err), STATUS_OK);
    assert_int_equal(file_check_own_database(at("file"), &err), STATUS_OK);
    assert_int_equal(file_check_own_database(at("link"), &err), STATUS_DATA);
    static const char *const journals[] = {"file-journal", "file-wal", "file-shm"};
    for (size_t i = 0; i < sizeof journals / sizeof journals[0]; i++) {
        assert_int_equal(symlink("elsewhere", at(journals[i])), 0);
        assert_int_equal(file_check_own_database(at("file"), &err), STATUS_DATA);
        says(&err, journals[i]);
        assert_int_equal(file_check_database(at("file"), &err), STATUS_OK); // a link to what is not there
        assert_int_equal(file_remove(at(journals[i]), &err), STATUS_OK);
    }
}

// ---- reading ----

static void reading_stops_at_the_limit_and_at_the_end(void **state) {
    (void)state;
    struct error err;
    struct buffer text = {0};
    char bytes[8] = "";
    int descriptor;
    size_t size;
    put("file", "0123456789");
    assert_int_equal(file_read(&text, at("file"), 10, &err), STATUS_OK);
    assert_int_equal(file_read(&text, at("file"), 10, &err), STATUS_OK); // appended
    assert_string_equal(text.data, "01234567890123456789");
    assert_int_equal(file_read(&text, at("file"), 9, &err), STATUS_DATA);
    says(&err, "is longer than the limit of 9 bytes");
    buffer_destroy(&text);
    assert_int_equal(file_open(&descriptor, &size, at("file"), &err), STATUS_OK);
    assert_int_equal(size, 10);
    assert_int_equal(file_read_at(descriptor, bytes, 4, 6, "the file", &err), STATUS_OK);
    assert_memory_equal(bytes, "6789", 4);
    assert_int_equal(file_read_at(descriptor, bytes, 0, 100, "the file", &err), STATUS_OK);
    assert_int_equal(file_read_at(descriptor, bytes, 4, 7, "the file", &err), STATUS_DATA);
    says(&err, "the file ends at byte 10");
    close(descriptor);
}

static void a_map_holds_the_file(void **state) {
    (void)state;
    struct error err;
    struct file_map map;
    uint64_t size = 0;
    put("file", "mapped");
    put("empty", "");
    assert_int_equal(file_map(&map, at("file"), &err), STATUS_OK);
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "mapped", 6);
    file_unmap(&map);
    assert_null(map.data);
    file_unmap(&map);
    assert_int_equal(file_map(&map, at("empty"), &err), STATUS_OK);
    assert_true(map.data == NULL && map.size == 0);
    assert_int_equal(file_map(&map, at("nothing"), &err), STATUS_DATA);
    assert_int_equal(file_size(at("file"), &size, &err), STATUS_OK);
    assert_int_equal(size, 6);
    assert_int_equal(file_size(at("nothing"), &size, &err), STATUS_DATA);
}

// ---- writing ----

static void a_file_is_made_in_the_place_of_whatever_had_its_name(void **state) {
    (void)state;
    struct error err;
    struct stat info;
    int descriptor;
    make_kinds();
    mode_t before = umask(027);
    assert_int_equal(file_create(&descriptor, at("link"), &err), STATUS_OK);
    umask(before);
    assert_int_equal(write(descriptor, "new", 3), 3);
    assert_true(fstat(descriptor, &info) == 0 && (info.st_mode & 0777) == 0640);
    close(descriptor);
    holds("link", "new");
    holds("file", "text"); // what the link led to stays
    assert_int_equal(file_create(&descriptor, at("folder"), &err), STATUS_WRITE);
    assert_int_equal(descriptor, -1);
    assert_int_equal(file_create(&descriptor, at("nowhere/file"), &err), STATUS_WRITE);
}

static void what_is_appended_stays(void **state) {
    (void)state;
    struct error err;
    FILE *file;
    make_kinds();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(file_append(&file, at("log"), &err), STATUS_OK);
        assert_true(fputs("line\n", file) >= 0 && fclose(file) == 0);
    }
    holds("log", "line\nline\n");
    assert_int_equal(file_append(&file, at("link"), &err), STATUS_WRITE);
    assert_null(file);
    assert_int_equal(file_append(&file, at("pipe"), &err), STATUS_WRITE);
    assert_null(file);
}

static void a_file_is_published_whole(void **state) {
    (void)state;
    struct error err;
    put("file", "first");
    put("file", "second");
    holds("file", "second");
    assert_false(file_exists(at("file.tmp")));
    put("aside", "third");
    assert_int_equal(file_sync(at("aside"), &err), STATUS_OK);
    assert_int_equal(file_publish(at("aside"), at("file"), &err), STATUS_OK);
    holds("file", "third");
    assert_false(file_exists(at("aside")));
    assert_int_equal(file_publish(at("aside"), at("file"), &err), STATUS_WRITE);
    holds("file", "third");
    assert_int_equal(file_write_atomic(at("nowhere/file"), "x", 1, &err), STATUS_WRITE);
    assert_int_equal(file_sync_folder(folder, &err), STATUS_OK);
    assert_int_equal(file_sync_folder(at("file"), &err), STATUS_WRITE);
    assert_int_equal(file_sync(at("nothing"), &err), STATUS_WRITE);
    assert_int_equal(symlink("file", at("link")), 0);
    assert_int_equal(file_sync(at("link"), &err), STATUS_WRITE);
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    struct error err;
    assert_int_equal(file_make_folder(at("a/b/c"), &err), STATUS_OK);
    assert_int_equal(file_make_folder(at("a/b/c"), &err), STATUS_OK);
    assert_true(file_exists(at("a/b/c")));
    put("file", "");
    assert_int_equal(file_make_folder(at("file"), &err), STATUS_WRITE);
    assert_int_equal(file_make_folder(at("file/inside"), &err), STATUS_WRITE);
    assert_int_equal(file_make_folder("", &err), STATUS_WRITE);
    assert_int_equal(file_remove(at("file"), &err), STATUS_OK);
    assert_int_equal(file_remove(at("file"), &err), STATUS_OK); // missing is fine
    assert_int_equal(file_remove(at("a"), &err), STATUS_WRITE);
}

// ---- locks ----

// Whether another process could take the lock.
static bool others_get(const char *name) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct error err;
        int descriptor;
        bool held = true;
        int result = file_lock(at(name), &descriptor, &held, &err);
        _exit(result != STATUS_OK ? 2 : held ? 1 : descriptor == -1 ? 0 : 3);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    assert_true(WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 1;
}

static void a_lock_is_held_by_one_until_it_is_closed(void **state) {
    (void)state;
    struct error err;
    int descriptor = -1;
    int second = -1;
    bool held = false;
    assert_int_equal(file_lock(at("lock"), &descriptor, &held, &err), STATUS_OK);
    assert_true(held && descriptor >= 0);
    assert_int_equal(fcntl(descriptor, F_GETFD), FD_CLOEXEC);
    assert_false(others_get("lock"));
    assert_int_equal(file_lock(at("lock"), &second, &held, &err), STATUS_OK); // nor does this process again
    assert_true(!held && second == -1);
    close(descriptor);
    assert_true(others_get("lock")); // and it died with its lock
    assert_int_equal(file_lock(at("lock"), &descriptor, &held, &err), STATUS_OK);
    assert_true(held);
    close(descriptor);
}

static void a_lock_is_a_file_of_its_own(void **state) {
    (void)state;
    struct error err;
    int descriptor = -7;
    bool held = true;
    make_kinds();
    static const char *const wrong[] = {"link", "folder", "pipe", "nowhere/lock"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(file_lock(at(wrong[i]), &descriptor, &held, &err), STATUS_WRITE);
        assert_true(!held && descriptor == -1);
    }
}

// ---- what a file system says ----

static void file_systems_are_known_by_name(void **state) {
    (void)state;
    struct error err;
    uint64_t bytes = 0;
    assert_int_equal(file_space(folder, &bytes, &err), STATUS_OK);
    assert_true(bytes > 0);
    assert_int_equal(file_space(at("nothing"), &bytes, &err), STATUS_WRITE);
    assert_string_equal(file_kernel_system("/proc/self"), "proc");
    assert_null(file_kernel_system(folder));
    assert_null(file_kernel_system(at("nothing")));
    assert_null(file_network_system("/proc/self"));
    assert_null(file_network_system(at("nothing")));
}

static void a_refusal_has_its_errno(void **state) {
    (void)state;
    put("file", "");
    assert_int_equal(file_refusal(at("file"), false), 0);
    assert_int_equal(file_refusal(at("file"), true), 0);
    assert_int_equal(file_refusal(at("new"), true), 0); // could be made
    assert_int_equal(file_refusal(at("new"), false), ENOENT);
    assert_int_equal(file_refusal(at("nowhere/new"), true), ENOENT);
    assert_int_equal(file_refusal(at("file/inside"), false), ENOTDIR);
}

static void a_limit_of_file_sizes_is_told(void **state) {
    (void)state;
    char words[FILE_LIMIT_TEXT];
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    if (before.rlim_cur == RLIM_INFINITY) {
        assert_string_equal(file_limit_words(words), "");
    }
    struct rlimit limit = {.rlim_cur = 20480, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_string_equal(file_limit_words(words), " (files may have 20480 bytes at most here: ulimit -f)");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static void paths_are_joined_and_taken_apart(void **state) {
    (void)state;
    struct error err;
    char out[8];
    assert_int_equal(path_join(out, sizeof out, "abc", "def", &err), STATUS_OK);
    assert_string_equal(out, "abc/def");
    assert_int_equal(path_join(out, sizeof out, "abcd", "def", &err), STATUS_INTERNAL);
    assert_int_equal(path_join(out, sizeof out, "abc", "/x", &err), STATUS_OK);
    assert_string_equal(out, "/x");
    assert_int_equal(path_join(out, sizeof out, "", "x", &err), STATUS_OK);
    assert_string_equal(out, "x");
    static const char *const folders[][2] = {{"a/b", "a"},       {"a", "."},  {"/a", "/"},
                                             {"/a/b/c", "/a/b"}, {"a/", "a"}, {"1234567/x", "1234567"}};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        assert_int_equal(path_folder(out, sizeof out, folders[i][0], &err), STATUS_OK);
        assert_string_equal(out, folders[i][1]);
    }
    assert_int_equal(path_folder(out, sizeof out, "12345678/x", &err), STATUS_INTERNAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(only_regular_files_are_opened),
        TEST(a_stream_may_be_a_pipe_that_was_given),
        TEST(checks_come_before_libraries),
        TEST(reading_stops_at_the_limit_and_at_the_end),
        TEST(a_map_holds_the_file),
        TEST(a_file_is_made_in_the_place_of_whatever_had_its_name),
        TEST(what_is_appended_stays),
        TEST(a_file_is_published_whole),
        TEST(folders_are_made_with_their_parents),
        TEST(a_lock_is_held_by_one_until_it_is_closed),
        TEST(a_lock_is_a_file_of_its_own),
        TEST(file_systems_are_known_by_name),
        TEST(a_refusal_has_its_errno),
        TEST(a_limit_of_file_sizes_is_told),
        TEST(paths_are_joined_and_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
