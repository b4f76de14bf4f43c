// SPDX-License-Identifier: MIT
// Which cuBLASLt is loaded, by the real loader, and what is said when none is: libraries of this test's own
// (fake_cublaslt.c), of a CUDA that no machine has.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cublaslt_places.h"

enum { PATH_ROOM = 512 };

// The folder of one test, with [ in its name: a place is a pattern, a user's folder is not.
struct rig {
    char folder[PATH_ROOM];
};

static const char *const variables[] = {"STRATA_CUBLASLT", "CUDA_HOME", "CUDA_PATH",      "CONDA_PREFIX",
                                        "VIRTUAL_ENV",     "HOME",      "PYTHONUSERBASE", "PATH"};

static void in_folder(const struct rig *rig, char out[PATH_ROOM], const char *path) {
    assert_true(snprintf(out, PATH_ROOM, "%s/%s", rig->folder, path) < PATH_ROOM);
}

static void set(const struct rig *rig, const char *variable, const char *path) {
    char full[PATH_ROOM];
    in_folder(rig, full, path);
    assert_int_equal(setenv(variable, full, 1), 0);
}

static void make_parents(const char *path) {
    char part[PATH_ROOM];
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        mkdir(part, 0777);
    }
}

// Puts a copy of the library FAKES/kind/libcublasLt.so.99 at `path`: of one file the loader keeps the first
// name.
static void put(const struct rig *rig, const char *kind, const char *path) {
    char full[PATH_ROOM];
    char source[PATH_ROOM];
    struct file_map map;
    struct error err;
    in_folder(rig, full, path);
    make_parents(full);
    snprintf(source, sizeof source, "%s/%s/libcublasLt.so.99", FAKES, kind);
    assert_int_equal(file_map(&map, source, &err), STATUS_OK);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(map.data, 1, map.size, file), map.size);
    assert_int_equal(fclose(file), 0);
    file_unmap(&map);
}

static void put_text(const struct rig *rig, const char *path, mode_t mode) {
    char full[PATH_ROOM];
    in_folder(rig, full, path);
    make_parents(full);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n# What stands here is no library, whatever its name says, however long it is "
                  "made to be.\n");
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(full, mode), 0);
}

// Expects the library at `path` to be the one that is taken.
static void takes(const struct rig *rig, const char *path) {
    struct cublaslt lt;
    struct error err = {0};
    char file[PATH_ROOM];
    char full[PATH_ROOM];
    in_folder(rig, full, path);
    int status = cublaslt_open(&lt, &err);
    if (status != STATUS_OK) {
        print_message("%s\n", err.message);
    }
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(lt.GetVersion(), 990102);
    library_file(lt.library, file, sizeof file);
    assert_string_equal(file, full);
    cublaslt_close(&lt);
}

// Expects none to be taken, and every one of the words (NULL at the end) in the reason.
static void refuses(const char *const words[]) {
    struct cublaslt lt;
    struct error err = {0};
    assert_int_equal(cublaslt_open(&lt, &err), STATUS_DEVICE);
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strstr(err.message, words[i]) == NULL) {
            fail_msg("'%s' is not in: %s", words[i], err.message);
        }
    }
    cublaslt_close(&lt);
}

#define REFUSES(...) refuses((const char *const[]){__VA_ARGS__, NULL})

static int setup(void **state) {
    static struct rig rig;
    snprintf(rig.folder, sizeof rig.folder, "/tmp/strata-test-[cublaslt]-XXXXXX");
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        unsetenv(variables[i]);
    }
    *state = &rig;
    return mkdtemp(rig.folder) == NULL ? -1 : 0;
}

static int teardown(void **state) {
    const struct rig *rig = *state;
    char command[PATH_ROOM + 32];
    snprintf(command, sizeof command, "PATH=/usr/bin:/bin rm -rf '%s'", rig->folder);
    return system(command);
}

// ---- named ----

static void test_named_file_and_folder(void **state) {
    const struct rig *rig = *state;
    put(rig, "good", "here/some other name");
    put(rig, "good", "there/libcublasLt.so.99");
    put(rig, "good", "home/lib64/libcublasLt.so.99");
    set(rig, "CUDA_HOME", "home");
    set(rig, "STRATA_CUBLASLT", "here/some other name");
    takes(rig, "here/some other name");
    set(rig, "STRATA_CUBLASLT", "there");
    takes(rig, "there/libcublasLt.so.99");
}

// Without a slash it is a file of the working folder, not one of the loader's.
static void test_named_without_a_slash(void **state) {
    const struct rig *rig = *state;
    char before[PATH_ROOM];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(rig->folder), 0);
    setenv("STRATA_CUBLASLT", "libc.so.6", 1);
    REFUSES("STRATA_CUBLASLT names it: ./libc.so.6: cannot open shared object file");
    assert_int_equal(chdir(before), 0);
}

static void test_named_and_wrong(void **state) {
    const struct rig *rig = *state;
    put(rig, "good", "home/lib64/libcublasLt.so.99"); // is not gone to
    set(rig, "CUDA_HOME", "home");
    set(rig, "STRATA_CUBLASLT", "absent");
    REFUSES("cuBLASLt could not be loaded, and STRATA_CUBLASLT names it: /tmp/",
            "absent: cannot open shared object file");
    set(rig, "STRATA_CUBLASLT", "home");
    REFUSES("home/libcublasLt.so.99: cannot open shared object file");
    put_text(rig, "text/libcublasLt.so.99", 0644);
    set(rig, "STRATA_CUBLASLT", "text");
    REFUSES("text/libcublasLt.so.99: invalid ELF header");
    put(rig, "other", "other/libcublasLt.so.99");
    set(rig, "STRATA_CUBLASLT", "other");
    REFUSES("other/libcublasLt.so.99: is of CUDA 98, this program of CUDA 99");
    put(rig, "short", "short/libcublasLt.so.99");
    set(rig, "STRATA_CUBLASLT", "short/libcublasLt.so.99");
    REFUSES("short/libcublasLt.so.99: has no function cublasLtMatmul");
}

// ---- looked for ----

static void test_every_place_is_named(void **state) {
    const struct rig *rig = *state;
    setenv("STRATA_CUBLASLT", "", 1); // as if it was not there
    set(rig, "CUDA_HOME", "home");
    set(rig, "CUDA_PATH", "home");
    set(rig, "CONDA_PREFIX", "conda");
    set(rig, "VIRTUAL_ENV", "venv");
    set(rig, "HOME", "me");
    put_text(rig, "python/bin/python3", 0755);
    set(rig, "PATH", "python/bin");
    REFUSES("STRATA_CUBLASLT may name its file or folder. Looked for libcublasLt.so.99: cannot open",
            "/tests/lib; not in ", "/lib*/python3*/*-packages/nvidia/cu*/lib; not in /built/with; not in ",
            "/home/lib*; not in ", "/conda/lib; not in /usr/local/cuda*/lib*; not in /opt/cuda/lib*; ",
            "/venv/lib*/python3*/*-packages/nvidia/cu*/lib; not in ", "/conda/lib*/python3*/",
            "/python/lib*/python3*/", "/me/.local/lib*/python3*/", "; not in /usr/local/lib*/python3*/");
    set(rig, "PYTHONUSERBASE", "base");
    REFUSES("/base/lib*/python3*/*-packages");
}

// The order, and that what cannot be loaded is passed over.
static void test_places_in_turn(void **state) {
    const struct rig *rig = *state;
    static const struct {
        const char *variable;
        const char *value;
        const char *library;
    } places[] = {
        {"HOME", "me", "me/.local/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.99"},
        {"PATH", "conda/bin", "conda/lib/python3.13/site-packages/nvidia/cu99/lib/libcublasLt.so.99"},
        {"VIRTUAL_ENV", "venv", "venv/lib64/python3.9/site-packages/nvidia/cu99/lib/libcublasLt.so.99"},
        {"CONDA_PREFIX", "env", "env/lib/libcublasLt.so.99"},
        {"CUDA_PATH", "cuda", "cuda/lib/libcublasLt.so.99"},
        {"CUDA_HOME", "home", "home/lib64/libcublasLt.so.99"},
    };
    put_text(rig, "conda/bin/python3", 0755);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        set(rig, places[i].variable, places[i].value);
        put(rig, "good", places[i].library);
        takes(rig, places[i].library);
    }
    set(rig, "CUDA_HOME", "text");
    put_text(rig, "text/lib64/libcublasLt.so.99", 0644);
    set(rig, "CUDA_PATH", "other");
    put(rig, "other", "other/lib64/libcublasLt.so.99");
    takes(rig, "env/lib/libcublasLt.so.99");
}

static void test_python_on_path(void **state) {
    const struct rig *rig = *state;
    char path[4 * PATH_ROOM];
    char venv[PATH_ROOM];
    static const char library[] = "base/lib/python3/dist-packages/nvidia/cu99/lib/libcublasLt.so.99";
    put_text(rig, "base/bin/python3.12", 0755);
    put(rig, "good", library);
    put_text(rig, "none/python3", 0644); // cannot be started
    in_folder(rig, venv, "venv/bin/python3");
    make_parents(venv);
    assert_int_equal(symlink("../../base/bin/python3.12", venv), 0);
    snprintf(path, sizeof path, "::relative:%s/none:%s/venv/bin", rig->folder, rig->folder);
    setenv("PATH", path, 1);
    takes(rig, library); // the virtual environment has none: those that it was made with
    put(rig, "good", "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.99");
    takes(rig, "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.99");
}

static void test_pyenv(void **state) {
    const struct rig *rig = *state;
    static const char library[] =
        "versions/3.12.1/lib/python3.12/site-packages/nvidia/cu99/lib/libcublasLt.so.99";
    put_text(rig, "shims/python3", 0755);
    put(rig, "good", library);
    set(rig, "PATH", "shims");
    takes(rig, library);
}

// A folder that only the working folder makes a path of is no place.
static void test_relative_places(void **state) {
    const struct rig *rig = *state;
    char before[PATH_ROOM];
    assert_non_null(getcwd(before, sizeof before));
    put(rig, "good", "lib/libcublasLt.so.99");
    put(rig, "good", "lib/python3.12/site-packages/nvidia/cu99/lib/libcublasLt.so.99");
    put_text(rig, "bin/python3", 0755);
    assert_int_equal(chdir(rig->folder), 0);
    for (size_t i = 1; i < sizeof variables / sizeof variables[0]; i++) {
        setenv(variables[i], strcmp(variables[i], "PATH") == 0 ? "bin" : ".", 1);
    }
    REFUSES("cuBLASLt could not be loaded");
    assert_int_equal(chdir(before), 0);
}

static void test_places_once(void **state) {
    const struct rig *rig = *state;
    struct buffer places = {0};
    struct error err = {0};
    set(rig, "CUDA_HOME", "one");
    set(rig, "CUDA_PATH", "one");
    assert_int_equal(cublaslt_places(&places, NULL, &err), STATUS_OK);
    const char *first = strstr(places.data, "/one/lib*\n");
    assert_non_null(first);
    assert_null(strstr(first + 1, "/one/lib*\n"));
    buffer_destroy(&places);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_named_file_and_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_named_without_a_slash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_named_and_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_place_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places_in_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_python_on_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pyenv, setup, teardown),
        cmocka_unit_test_setup_teardown(test_relative_places, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
