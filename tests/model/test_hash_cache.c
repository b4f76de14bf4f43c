// SPDX-License-Identifier: MIT
// Hashes that are kept between loads, where the cases need calls of their own: a file that changes while it
// is loaded, and more hashes than are kept. pread is this file's own, so that something happens to the file
// right behind a read; the clock of the day is an hour ahead, so that files which were just written have not
// changed for long.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "golden.h"
#include "kernels/device.h"
#include "model/hash_cache.h"
#include "model/model.h"

static void (*behind_read)(int descriptor); // called once

ssize_t pread(int descriptor, void *out, size_t size, off_t begin) {
    ssize_t got = syscall(SYS_pread64, descriptor, out, size, begin);
    if (behind_read != NULL && size > 4096) { // not for headers
        void (*call)(int) = behind_read;
        behind_read = NULL;
        call(descriptor);
    }
    return got;
}

time_t time(time_t *out) {
    time_t now = (time_t)syscall(SYS_time, NULL) + 3600;
    if (out != NULL) {
        *out = now;
    }
    return now;
}

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

// ---- a model on a RAM disk, whose files tell the time of their change, and a cache there

struct rig {
    struct golden golden;
    char folder[64];
    char weights[80];
};

static int open_rig(void **state) {
    struct rig *rig = test_calloc(1, sizeof *rig);
    struct buffer content = {0};
    struct error err;
    char beside[GOLDEN_PATH + 32];
    golden_open(&rig->golden, "qwen3");
    strcpy(rig->folder, "/dev/shm/strata-hashes-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    snprintf(rig->weights, sizeof rig->weights, "%s/weights", rig->folder);
    snprintf(beside, sizeof beside, "%s/model.safetensors", rig->golden.folder);
    must(file_read(&content, beside, 1 << 24, &err), &err);
    golden_write(rig->folder, "weights", content.data, content.size);
    assert_int_equal(unlink(beside), 0);
    assert_int_equal(symlink(rig->weights, beside), 0);
    assert_int_equal(setenv("XDG_CACHE_HOME", rig->folder, 1), 0);
    buffer_destroy(&content);
    *state = rig;
    return 0;
}

static int close_rig(void **state) {
    struct rig *rig = *state;
    golden_remove(rig->folder);
    golden_close(&rig->golden);
    test_free(rig);
    return 0;
}

static int load(const struct rig *rig, char fingerprint[DIGEST_HEX], struct error *err) {
    const struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    const struct model_load_options loading = {.hashes = MODEL_HASHES_KEPT};
    const size_t last = rig->golden.layers;
    const struct model_limits limits = {.layers = &last,
                                        .layer_count = 1,
                                        .tokens = 8,
                                        .texts = 1,
                                        .rows = 8,
                                        .longest = 8,
                                        .stored = DTYPE_F32,
                                        .slots = 1};
    struct device *device;
    struct model *model;
    struct model_plan plan;
    must(device_open(&device, "cpu", &options, err), err);
    must(model_open(&model, rig->golden.folder, err), err);
    must(model_add_device(model, device, "cpu", err), err);
    must(model_plan(model, &limits, &plan, err), err);
    must(model_reserve(model, &plan, err), err);
    int status = model_load(model, &limits, &loading, err);
    strcpy(fingerprint, status == STATUS_OK ? model_fingerprint(model) : "");
    model_close(model);
    return status;
}

static bool is_known(const struct rig *rig) {
    unsigned char hashes[1][DIGEST_BYTES];
    struct hash_stamp stamp;
    struct hash_cache *cache = hash_cache_open();
    int descriptor = open(rig->weights, O_RDONLY);
    struct stat info;
    assert_int_equal(fstat(descriptor, &info), 0);
    hash_stamp_take(&stamp, descriptor, (size_t)info.st_size);
    bool known = hash_cache_find(cache, rig->weights, &stamp, hashes, 1);
    close(descriptor);
    hash_cache_close(cache);
    return known;
}

// ---- a file that changes while it is loaded

static void change_mode(int descriptor) {
    assert_int_equal(fchmod(descriptor, 0600), 0);
}

static void change_byte(int descriptor) {
    char path[64];
    unsigned char byte;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int again = open(path, O_RDWR);
    off_t last = lseek(again, -1, SEEK_END);
    assert_int_equal(syscall(SYS_pread64, again, &byte, 1, last), 1);
    byte ^= 1;
    assert_int_equal(pwrite(again, &byte, 1, last), 1);
    close(again);
}

static void a_change_of_the_stamp_alone_is_none(void **state) {
    const struct rig *rig = *state;
    struct error err = {0};
    char first[DIGEST_HEX];
    char second[DIGEST_HEX];
    must(load(rig, first, &err), &err);
    assert_true(is_known(rig));
    behind_read = change_mode;
    must(load(rig, second, &err), &err);
    assert_null(behind_read);
    assert_string_equal(first, second);
    assert_false(is_known(rig)); // under the new stamp
    must(load(rig, second, &err), &err);
    assert_string_equal(first, second);
    assert_true(is_known(rig));
}

static void a_changed_byte_behind_the_reading_ends_the_load(void **state) {
    const struct rig *rig = *state;
    struct error err = {0};
    char first[DIGEST_HEX];
    char second[DIGEST_HEX];
    must(load(rig, first, &err), &err);
    behind_read = change_byte;
    assert_int_equal(load(rig, second, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "model.safetensors changed while the run was using it"));
    must(load(rig, second, &err), &err);
    assert_string_not_equal(first, second);
}

// What was hashed before the change is not kept for what is there after it.
static void a_file_that_changes_while_it_is_hashed_is_not_kept(void **state) {
    const struct rig *rig = *state;
    struct error err = {0};
    char first[DIGEST_HEX];
    char second[DIGEST_HEX];
    behind_read = change_byte;
    must(load(rig, first, &err), &err);
    assert_false(is_known(rig));
    must(load(rig, second, &err), &err);
    assert_string_not_equal(first, second);
    assert_true(is_known(rig));
}

// ---- what is kept is bounded

static void the_oldest_go_first(void **state) {
    const struct rig *rig = *state;
    enum { FILES = 3, PIECES = 200000 }; // 12.8 MB of digits each, of 32 MiB
    static const char *const names[FILES] = {"first", "second", "third"};
    static unsigned char hashes[PIECES][DIGEST_BYTES];
    char paths[FILES][96];
    for (size_t i = 0; i < FILES; i++) {
        const struct hash_stamp stamp = {.text = "a stamp", .settled = true};
        struct hash_cache *cache = hash_cache_open();
        hashes[7][0] = (unsigned char)i;
        golden_write(rig->folder, names[i], "x", 1);
        snprintf(paths[i], sizeof paths[i], "%s/%s", rig->folder, names[i]);
        hash_cache_put(cache, paths[i], &stamp, (const unsigned char(*)[DIGEST_BYTES])hashes, PIECES);
        hash_cache_save(cache, NULL);
        hash_cache_close(cache);
    }
    const struct hash_stamp stamp = {.text = "a stamp"};
    const struct hash_stamp other = {.text = "another"};
    struct hash_cache *cache = hash_cache_open();
    size_t found = 0;
    for (size_t i = 0; i < FILES; i++) { // two may be of one second
        found += hash_cache_find(cache, paths[i], &stamp, hashes, PIECES) && hashes[7][0] == i ? 1 : 0;
    }
    assert_int_equal(found, 2);
    assert_false(hash_cache_find(cache, paths[1], &other, hashes, PIECES));
    assert_false(hash_cache_find(cache, paths[2], &stamp, hashes, PIECES - 1));
    hash_cache_close(cache);
}

static void nothing_is_known_without_a_cache(void **state) {
    (void)state;
    const struct hash_stamp stamp = {.text = "a stamp", .settled = true};
    unsigned char hashes[1][DIGEST_BYTES] = {{0}};
    assert_false(hash_cache_find(NULL, "/dev/null", &stamp, hashes, 1));
    hash_cache_put(NULL, "/dev/null", &stamp, (const unsigned char(*)[DIGEST_BYTES])hashes, 1);
    hash_cache_drop(NULL, "/dev/null");
    hash_cache_save(NULL, NULL);
    hash_cache_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_of_the_stamp_alone_is_none, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(a_changed_byte_behind_the_reading_ends_the_load, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(a_file_that_changes_while_it_is_hashed_is_not_kept, open_rig,
                                        close_rig),
        cmocka_unit_test_setup_teardown(the_oldest_go_first, open_rig, close_rig),
        cmocka_unit_test(nothing_is_known_without_a_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
