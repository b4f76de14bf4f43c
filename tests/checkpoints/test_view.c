// SPDX-License-Identifier: MIT
// The virtual view of a run on a disk that is full: nothing stays open, and it is written when there is room.
#include <signal.h>
#include <sys/resource.h>

#include "base/file.h"
#include "checkpoints/ledger_testing.h"
#include "checkpoints/view.h"

enum { SHARDS = 2 };

// HDF5 keeps a file's own memory after the last write to it has failed, closed or not.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5";
}

static struct shard_sealed write_shard(struct shard_writer *writer, const struct fixture_batch *batch,
                                       uint64_t number) {
    struct error err;
    struct shard_sealed sealed;
    ok(shard_start(writer, number, &err), &err);
    ok(shard_append(writer, &batch->batch, &err), &err);
    ok(shard_seal(writer, false, &sealed, &err), &err);
    return sealed;
}

// A run of two shards that are there and acknowledged.
static struct ledger *make_run(const char *folder) {
    struct error err;
    char shards[PATH_SIZE];
    const struct shard_layout layout = fixture_layout(24, DTYPE_F16, true);
    struct shard_writer *writer;
    struct ledger *ledger = begin_at(folder, SHARDS * PROBLEMS);
    ok(run_folder_file(shards, folder, "shards", &err), &err);
    ok(file_make_folder(shards, &err), &err);
    ok(shard_create(&writer, folder, &layout, &err), &err);
    for (uint64_t i = 0; i < SHARDS; i++) {
        struct fixture_batch batch;
        struct ledger_problem problems[PROBLEMS];
        bool durable;
        fixture_batch_make(&batch, &layout, i, i * PROBLEMS, PROBLEMS, FIXTURE_STEPS);
        const struct shard_sealed sealed = write_shard(writer, &batch, i);
        fixture_ledger_problems(problems, &batch.batch, 0);
        const struct ledger_batch figures = fixture_ledger_batch(&batch.batch, 1);
        const struct ledger_commit record = {.shard = &sealed,
                                             .position = {i + 1, i + 1, i * PROBLEMS, i},
                                             .problems = problems,
                                             .problem_count = PROBLEMS,
                                             .batches = &figures,
                                             .batch_count = 1};
        ok(ledger_commit(ledger, &record, &durable, &err), &err);
        fixture_batch_free(&batch);
    }
    shard_destroy(writer);
    return ledger;
}

static void allow_bytes(rlim_t bytes) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// (HDF5 keeps an object of a file whose last write failed; the file itself is closed.)
static int next_descriptor(void) {
    int descriptor = dup(STDIN_FILENO);
    close(descriptor);
    return descriptor;
}

static void a_failed_view_leaves_nothing_open(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    bool written = false;
    uint64_t bytes = 0;
    char before[DIGEST_HEX];
    char after[DIGEST_HEX];
    fixture_folder(folder);
    struct ledger *ledger = make_run(folder);
    ok(run_folder_file(path, folder, "latents.h5", &err), &err);
    ok(view_write(folder, ledger, &written, &err), &err);
    ok(digest_file(path, before, &err), &err);
    ok(file_size(path, &bytes, &err), &err);
    ok(file_remove(path, &err), &err);
    assert_true(written && bytes > 1000);
    int descriptor = next_descriptor();
    signal(SIGXFSZ, SIG_IGN);
    for (int part = 0; part < 32; part++) {
        allow_bytes(bytes * (unsigned)part / 32);
        int status = view_write(folder, ledger, &written, &err);
        allow_bytes(RLIM_INFINITY);
        assert_int_equal(status, STATUS_WRITE);
        assert_false(written || file_exists(path));
        assert_int_equal(next_descriptor(), descriptor);
    }
    ok(view_write(folder, ledger, &written, &err), &err);
    ok(digest_file(path, after, &err), &err);
    assert_string_equal(after, before);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_view_leaves_nothing_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
