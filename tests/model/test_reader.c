// SPDX-License-Identifier: MIT
// The reader of weight files: every byte in order whatever the threads, the digest of the pieces, a read that
// hangs, a file that is cut. pread is this file's own, so that a disk can stop answering.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/size.h"
#include "model/reader.h"

enum { LONG = 45 * (1 << 20) + 4321, SHORT = 777, SPARE = 3 << 20 }; // bytes of the files

static atomic_llong stuck_at; // reads that begin here or later wait; -1: none
static int stuck_descriptor;

ssize_t pread(int descriptor, void *out, size_t size, off_t begin) {
    while (atomic_load(&stuck_at) >= 0 && descriptor == stuck_descriptor && begin >= atomic_load(&stuck_at)) {
        usleep(1000);
    }
    return syscall(SYS_pread64, descriptor, out, size, begin);
}

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

struct files {
    unsigned char *bytes[4];
    struct reader_part parts[4];
    char paths[4][40];
};

static int make_files(void **state) {
    static const size_t sizes[] = {SHORT, LONG, 0, SPARE};
    struct files *files = test_calloc(1, sizeof *files);
    uint64_t seed = 1;
    atomic_store(&stuck_at, -1);
    for (size_t i = 0; i < 4; i++) {
        strcpy(files->paths[i], "/tmp/strata-reader-XXXXXX");
        files->bytes[i] = malloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++) {
            files->bytes[i][k] = (unsigned char)random_next(&seed);
        }
        int descriptor = mkstemp(files->paths[i]);
        assert_true(descriptor >= 0);
        assert_int_equal(write(descriptor, files->bytes[i], sizes[i]), sizes[i]);
        files->parts[i] =
            (struct reader_part){.descriptor = descriptor, .size = sizes[i], .name = files->paths[i]};
    }
    *state = files;
    return 0;
}

static int remove_files(void **state) {
    struct files *files = *state;
    for (size_t i = 0; i < 4; i++) {
        close(files->parts[i].descriptor);
        unlink(files->paths[i]);
        free(files->bytes[i]);
    }
    test_free(files);
    return 0;
}

static bool count_progress(void *context, uint64_t done, uint64_t all, double seconds) {
    uint64_t *last = context;
    assert_true(done >= *last && done <= all && seconds >= 0);
    *last = done;
    return true;
}

// As the header of reader.h defines it, by one call a piece.
static void expected_digest(const struct files *files, char hex[DIGEST_HEX]) {
    struct error err = {0};
    struct digest *all;
    struct digest *piece;
    must(digest_create(&all, &err), &err);
    must(digest_create(&piece, &err), &err);
    must(digest_field(all, "before", 6, &err), &err);
    for (size_t i = 0; i < 4; i++) {
        size_t size = files->parts[i].size;
        must(digest_number(all, size, &err), &err);
        for (size_t begin = 0; begin < size; begin += READER_PIECE) {
            unsigned char hash[DIGEST_BYTES];
            must(digest_update(piece, files->bytes[i] + begin, size_min(READER_PIECE, size - begin), &err),
                 &err);
            must(digest_finish_bytes(piece, hash, &err), &err);
            must(digest_update(all, hash, sizeof hash, &err), &err);
        }
    }
    must(digest_finish(all, hex, &err), &err);
    digest_destroy(all);
    digest_destroy(piece);
}

static void finish(const struct files *files, struct reader *reader, char hex[DIGEST_HEX]) {
    struct error err = {0};
    struct digest *digest;
    must(digest_create(&digest, &err), &err);
    must(digest_field(digest, "before", 6, &err), &err);
    must(reader_finish(reader, &err), &err);
    for (size_t i = 0; i < 4; i++) {
        size_t count;
        const unsigned char(*hashes)[DIGEST_BYTES] = reader_hashes(reader, i, &count);
        must(digest_number(digest, files->parts[i].size, &err), &err);
        must(digest_update(digest, hashes, count * DIGEST_BYTES, &err), &err);
    }
    must(digest_finish(digest, hex, &err), &err);
    digest_destroy(digest);
}

// Ranges of every length, across pieces, across the end of the ring and longer than the ring, with gaps.
static void bytes_come_in_order_and_are_hashed(void **state) {
    struct files *files = *state;
    static const size_t lengths[] = {1, 4096, 1 << 20, 3 << 20, 9 << 20, 30 << 20, 12345};
    char wanted[DIGEST_HEX];
    expected_digest(files, wanted);
    for (int threads = 1; threads <= 5; threads += 2) {
        struct error err = {0};
        struct reader *reader;
        char found[DIGEST_HEX];
        uint64_t done = 0;
        struct reader_options options = {.threads = threads, .progress = count_progress, .context = &done};
        must(reader_start(&reader, files->parts, 4, &options, &err), &err);
        size_t turn = 0;
        for (size_t part = 0; part < 4; part++) {
            for (size_t begin = part; begin < files->parts[part].size;) {
                size_t end = size_min(begin + lengths[turn++ % 7], files->parts[part].size);
                const unsigned char *bytes;
                must(reader_bytes(reader, part, begin, end, &bytes, &err), &err);
                assert_memory_equal(bytes, files->bytes[part] + begin, end - begin);
                begin = end + (turn % 3 == 0 ? 5 << 20 : 0);
            }
        }
        finish(files, reader, found);
        reader_close(reader);
        assert_string_equal(found, wanted);
        assert_int_equal(done, LONG + SHORT + SPARE);
    }
}

static void files_are_hashed_without_being_asked_for(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct reader *reader;
    struct reader_options options = {0};
    char wanted[DIGEST_HEX];
    char found[DIGEST_HEX];
    expected_digest(files, wanted);
    must(reader_start(&reader, files->parts, 4, &options, &err), &err);
    finish(files, reader, found);
    reader_close(reader);
    assert_string_equal(found, wanted);

    must(reader_start(&reader, files->parts, 4, &options, &err), &err);
    reader_close(reader); // before the end
}

static void a_file_that_is_cut_is_an_error(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct reader *reader;
    struct reader_options options = {.threads = 3};
    const unsigned char *bytes;
    assert_int_equal(truncate(files->paths[1], 30 << 20), 0);
    must(reader_start(&reader, files->parts, 4, &options, &err), &err);
    must(reader_bytes(reader, 1, (26 << 20) + 5, 28 << 20, &bytes, &err), &err);
    assert_memory_equal(bytes, files->bytes[1] + (26 << 20) + 5, (2 << 20) - 5);
    assert_int_equal(reader_bytes(reader, 1, 28 << 20, 31 << 20, &bytes, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, files->paths[1]));
    assert_non_null(strstr(err.message, "ends at byte 31457280 of 47190241: it was cut"));
    reader_close(reader);
}

// ---- ranges, held to what was read first ----

enum { RANGES = 4 };

// Ranges of whole pieces, in no order, one twice, and the last one to the end of the file.
static void make_ranges(const struct files *files, struct reader_part ranges[static RANGES]) {
    static const size_t begins[RANGES] = {4, 0, 4, 8};
    static const size_t ends[RANGES] = {6, 1, 5, 12};
    for (size_t i = 0; i < RANGES; i++) {
        size_t end = size_min(ends[i] * READER_PIECE, files->parts[1].size);
        ranges[i] = files->parts[1];
        ranges[i].begin = begins[i] * READER_PIECE;
        ranges[i].size = end - ranges[i].begin;
    }
    assert_int_equal(ranges[3].begin + ranges[3].size, LONG);
}

static void expect_first_reading(const struct files *files, struct reader_part ranges[static RANGES],
                                 unsigned char (*kept)[DIGEST_BYTES]) {
    struct error err = {0};
    struct reader_options options = {.threads = 2};
    struct reader *reader;
    char hex[DIGEST_HEX];
    size_t count;
    must(reader_start(&reader, files->parts, 4, &options, &err), &err);
    finish(files, reader, hex);
    const unsigned char(*hashes)[DIGEST_BYTES] = reader_hashes(reader, 1, &count);
    assert_int_equal(count, LONG / READER_PIECE + 1);
    memcpy(kept, hashes, count * DIGEST_BYTES);
    reader_close(reader);
    for (size_t i = 0; i < RANGES; i++) {
        ranges[i].expected = (const unsigned char(*)[DIGEST_BYTES])kept + ranges[i].begin / READER_PIECE;
    }
}

static int read_ranges(const struct files *files, const struct reader_part *ranges, size_t ring,
                       struct error *err) {
    struct reader_options options = {.threads = 3, .ring = ring};
    struct reader *reader;
    int status = STATUS_OK;
    must(reader_start(&reader, ranges, RANGES, &options, err), err);
    for (size_t part = 0; part < RANGES && status == STATUS_OK; part++) {
        const unsigned char *bytes;
        for (size_t begin = part; begin < ranges[part].size && status == STATUS_OK; begin += 3 << 20) {
            size_t end = size_min(begin + (3 << 20), ranges[part].size);
            status = reader_bytes(reader, part, begin, end, &bytes, err);
            if (status == STATUS_OK) {
                assert_memory_equal(bytes, files->bytes[1] + ranges[part].begin + begin, end - begin);
            }
        }
    }
    reader_close(reader);
    return status;
}

static void ranges_have_the_bytes_of_the_first_reading(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct reader_part ranges[RANGES];
    unsigned char kept[LONG / READER_PIECE + 1][DIGEST_BYTES];
    make_ranges(files, ranges);
    must(read_ranges(files, ranges, 0, &err), &err); // held to nothing
    expect_first_reading(files, ranges, kept);
    must(read_ranges(files, ranges, 0, &err), &err);
    must(read_ranges(files, ranges, 30 << 20, &err), &err);

    unsigned char other = (unsigned char)(files->bytes[1][9 * READER_PIECE + 5] + 1);
    assert_int_equal(pwrite(files->parts[1].descriptor, &other, 1, 9 * READER_PIECE + 5), 1);
    assert_int_equal(read_ranges(files, ranges, 0, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, files->paths[1]));
    assert_non_null(
        strstr(err.message, "changed while the run was using it: bytes 37748736 to 41943040 are"));
    assert_int_equal(
        pwrite(files->parts[1].descriptor, &files->bytes[1][9 * READER_PIECE + 5], 1, 9 * READER_PIECE + 5),
        1);
    must(read_ranges(files, ranges, 0, &err), &err);

    assert_int_equal(truncate(files->paths[1], 10 * READER_PIECE), 0);
    assert_int_equal(read_ranges(files, ranges, 0, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "ends at byte 41943040 of 47190241: it was cut"));
}

// Of a part whose hashes are believed every so many-th piece of the file is looked at, wherever the part
// begins.
static void believed_hashes_are_looked_at_here_and_there(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct reader_options options = {.threads = 2};
    struct reader_part ranges[RANGES];
    unsigned char kept[LONG / READER_PIECE + 1][DIGEST_BYTES];
    make_ranges(files, ranges);
    expect_first_reading(files, ranges, kept);
    for (size_t piece = 0; piece <= LONG / READER_PIECE; piece++) {
        struct reader_part part = files->parts[1];
        struct reader *reader;
        size_t count;
        part.begin = READER_PIECE;
        part.size -= READER_PIECE;
        part.expected = (const unsigned char(*)[DIGEST_BYTES])kept + 1;
        part.hashed_every = 4;
        kept[piece][3] ^= 1;
        must(reader_start(&reader, &part, 1, &options, &err), &err);
        int status = reader_finish(reader, &err);
        assert_int_equal(status, piece == 4 || piece == 8 ? STATUS_DATA : STATUS_OK);
        if (status == STATUS_OK) {
            assert_memory_equal(reader_hashes(reader, 0, &count), kept + 1, (sizeof kept) - DIGEST_BYTES);
            assert_int_equal(count, LONG / READER_PIECE);
        } else {
            assert_non_null(strstr(err.message, "are not those that an earlier launch hashed"));
        }
        reader_close(reader);
        kept[piece][3] ^= 1;
    }
}

// As many pieces as are read ahead, and no more than there are.
static void a_ring_is_as_large_as_is_said(void **state) {
    (void)state;
    const struct reader_options one = {.threads = 1};
    const struct reader_options ahead = {.threads = 1, .ring = 20 * READER_PIECE + 1};
    size_t usual = reader_ring_bytes(&one, 100);
    assert_true(usual > 0 && usual < 20 * READER_PIECE && usual % READER_PIECE == 0);
    assert_int_equal(reader_ring_bytes(&ahead, 100), 21 * READER_PIECE);
    assert_int_equal(reader_ring_bytes(&ahead, 5), 5 * READER_PIECE);
    assert_int_equal(reader_ring_bytes(&one, 0), READER_PIECE);
}

static bool refuse_progress(void *context, uint64_t done, uint64_t all, double seconds) {
    (void)context;
    (void)done;
    (void)all;
    return seconds < 0;
}

static void a_stop_ends_the_wait(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct reader *reader;
    struct reader_options options = {.threads = 2, .progress = refuse_progress};
    const unsigned char *bytes;
    stuck_descriptor = files->parts[1].descriptor;
    atomic_store(&stuck_at, 8 << 20);
    must(reader_start(&reader, files->parts, 4, &options, &err), &err);
    assert_int_equal(reader_bytes(reader, 1, 0, 9 << 20, &bytes, &err), STATUS_STOPPED);
    atomic_store(&stuck_at, -1);
    reader_close(reader);
}

static bool stop_at_once(void *context, uint64_t done, uint64_t all, double seconds) {
    *(uint64_t *)context = done;
    (void)all;
    return seconds < 0;
}

// Nor does a disk that answers all the time keep a stop waiting: 16 GB of nothing take seconds to hash.
static void a_stop_ends_a_long_wait(void **state) {
    (void)state;
    struct error err = {0};
    struct reader *reader;
    uint64_t done = 0;
    struct reader_options options = {.threads = 1, .progress = stop_at_once, .context = &done};
    struct reader_part part = {.size = (size_t)16 << 30, .name = "zeros"};
    part.descriptor = memfd_create("zeros", MFD_CLOEXEC);
    assert_true(part.descriptor >= 0);
    assert_int_equal(ftruncate(part.descriptor, (off_t)part.size), 0);
    must(reader_start(&reader, &part, 1, &options, &err), &err);
    assert_int_equal(reader_finish(reader, &err), STATUS_STOPPED);
    assert_true(done < part.size);
    reader_close(reader);
    close(part.descriptor);
}

// ---- a disk that does not answer ----

static bool log_says(const char *path, const char *text) {
    struct buffer log = {0};
    struct error err;
    bool found = file_read(&log, path, 1 << 20, &err) == STATUS_OK && log.data != NULL &&
                 strstr(log.data, text) != NULL;
    buffer_destroy(&log);
    return found;
}

enum { ANSWERED = 4194304 }; // bytes of the piece before the one that is waited for

// Lets the disk answer as soon as the log says what is waited for. A machine may be so busy that the reader
// has waited for the piece before, too, and said so.
static void *relieve(void *path) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "after byte %d of %d", ANSWERED, LONG);
    while (!log_says(path, wanted)) {
        clock_sleep(0.01);
    }
    atomic_store(&stuck_at, -1);
    return NULL;
}

static void a_stall_is_named_and_survived(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct log log;
    struct reader *reader;
    pthread_t helper;
    char path[] = "/tmp/strata-reader-log-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    must(log_open(&log, path, &err), &err);
    log.echo_level = LOG_LEVEL_ERROR;
    struct reader_options options = {.threads = 2, .notice_seconds = 0.1, .log = &log};
    stuck_descriptor = files->parts[1].descriptor;
    atomic_store(&stuck_at, (6 << 20) + 1); // within the second piece
    assert_int_equal(pthread_create(&helper, NULL, relieve, path), 0);
    must(reader_start(&reader, files->parts, 4, &options, &err), &err);
    const unsigned char *bytes;
    must(reader_bytes(reader, 1, 0, 9 << 20, &bytes, &err), &err);
    assert_memory_equal(bytes, files->bytes[1], 9 << 20);
    reader_close(reader);
    pthread_join(helper, NULL);
    assert_true(log_says(path, "loading is waiting for /tmp/strata-reader-"));
    log_close(&log);
    unlink(path);
}

// What a hanging thread may still touch stays; this keeps it reachable for the leak checker.
static struct reader *hung_reader;

static void a_stall_beyond_the_timeout_ends_the_wait(void **state) {
    struct files *files = *state;
    struct error err = {0};
    struct reader_options options = {.threads = 2, .notice_seconds = 30, .timeout_seconds = 0.3};
    const unsigned char *bytes;
    stuck_descriptor = files->parts[1].descriptor;
    atomic_store(&stuck_at, 6 << 20);
    must(reader_start(&hung_reader, files->parts, 4, &options, &err), &err);
    assert_int_equal(reader_bytes(hung_reader, 1, 0, 9 << 20, &bytes, &err), STATUS_DEVICE);
    assert_non_null(strstr(err.message, files->paths[1]));
    assert_non_null(strstr(err.message, "no byte for"));
    double began = clock_seconds();
    reader_close(hung_reader);
    assert_true(clock_seconds() - began >= 1); // it waited for the thread, and left it
    atomic_store(&stuck_at, -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_come_in_order_and_are_hashed, make_files, remove_files),
        cmocka_unit_test_setup_teardown(files_are_hashed_without_being_asked_for, make_files, remove_files),
        cmocka_unit_test_setup_teardown(a_file_that_is_cut_is_an_error, make_files, remove_files),
        cmocka_unit_test_setup_teardown(ranges_have_the_bytes_of_the_first_reading, make_files, remove_files),
        cmocka_unit_test_setup_teardown(believed_hashes_are_looked_at_here_and_there, make_files,
                                        remove_files),
        cmocka_unit_test(a_ring_is_as_large_as_is_said),
        cmocka_unit_test_setup_teardown(a_stop_ends_the_wait, make_files, remove_files),
        cmocka_unit_test(a_stop_ends_a_long_wait),
        cmocka_unit_test_setup_teardown(a_stall_is_named_and_survived, make_files, remove_files),
        cmocka_unit_test_setup_teardown(a_stall_beyond_the_timeout_ends_the_wait, make_files, remove_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
