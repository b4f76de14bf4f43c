// The reader of weight files: the digest of all bytes, waiting for them, and a read that hangs. A page that
// cannot be touched stands for a disk that does not answer: its fault blocks inside the handler as it would
// inside the kernel.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "model/reader.h"

enum { PART = 9 << 20 };

static unsigned char *map_bytes(size_t size, uint64_t seed) {
    unsigned char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(bytes != MAP_FAILED);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)random_next(&seed);
    }
    return bytes;
}

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static bool count_progress(void *context, uint64_t done, uint64_t all, double seconds) {
    uint64_t *last = context;
    assert_true(done >= *last && done <= all && seconds >= 0);
    *last = done;
    return true;
}

static void all_bytes_are_hashed_once(void **state) {
    (void)state;
    struct error err = {0};
    struct digest *digest;
    struct reader *reader;
    char found[DIGEST_HEX];
    char wanted[DIGEST_HEX];
    uint64_t done = 0;
    struct reader_part parts[] = {{map_bytes(PART, 1), PART, "first"}, {map_bytes(777, 2), 777, "second"}};
    struct reader_options options = {.progress = count_progress, .context = &done};
    must(digest_create(&digest, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        must(digest_field(digest, parts[i].data, parts[i].size, &err), &err);
    }
    must(digest_finish(digest, wanted, &err), &err);

    // Pages are private here: dropping them on release would lose their content, so that nothing is released.
    must(reader_start(&reader, parts, 2, digest, &options, &err), &err);
    must(reader_wait(reader, 0, 5000, &err), &err);
    must(reader_wait(reader, 0, PART, &err), &err);
    must(reader_wait(reader, 1, 777, &err), &err);
    must(reader_finish(reader, found, &err), &err);
    assert_true(reader_close(reader));
    assert_string_equal(found, wanted);
    assert_int_equal(done, PART + 777);

    // Left before the end: the thread stops.
    must(reader_start(&reader, parts, 2, digest, &options, &err), &err);
    assert_true(reader_close(reader));
    digest_destroy(digest);
    munmap((void *)(uintptr_t)parts[0].data, PART);
    munmap((void *)(uintptr_t)parts[1].data, 777);
}

// ---- a page that does not come ----

static unsigned char *missing_page;
static atomic_bool page_may_come;

static void wait_for_page(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)info;
    (void)context;
    while (!atomic_load(&page_may_come)) {
        usleep(1000);
    }
    mprotect(missing_page, (size_t)sysconf(_SC_PAGESIZE), PROT_READ);
}

static void lose_page(unsigned char *bytes) {
    struct sigaction action = {.sa_sigaction = wait_for_page, .sa_flags = SA_SIGINFO};
    atomic_store(&page_may_come, false);
    missing_page = bytes + (6 << 20);
    mprotect(missing_page, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
    sigaction(SIGSEGV, &action, NULL);
}

static bool log_says(const char *path, const char *text) {
    struct buffer log = {0};
    struct error err;
    bool found = file_read(&log, path, 1 << 20, &err) == STATUS_OK && log.data != NULL &&
                 strstr(log.data, text) != NULL;
    buffer_destroy(&log);
    return found;
}

// Lets the page come as soon as the log says what is waited for.
static void *relieve(void *path) {
    while (!log_says(path, "loading waits for slow")) {
        clock_sleep(0.01);
    }
    atomic_store(&page_may_come, true);
    return NULL;
}

static void a_stall_is_named_and_survived(void **state) {
    (void)state;
    struct error err = {0};
    struct log log;
    struct digest *digest;
    struct reader *reader;
    pthread_t helper;
    char hex[DIGEST_HEX];
    char path[] = "/tmp/strata-reader-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    must(log_open(&log, path, &err), &err);
    log.echo_level = LOG_LEVEL_ERROR;
    unsigned char *bytes = map_bytes(PART, 3);
    struct reader_part part = {bytes, PART, "slow"};
    struct reader_options options = {.notice_seconds = 0.1, .log = &log};
    lose_page(bytes);
    assert_int_equal(pthread_create(&helper, NULL, relieve, path), 0);
    must(digest_create(&digest, &err), &err);
    must(reader_start(&reader, &part, 1, digest, &options, &err), &err);
    must(reader_wait(reader, 0, PART, &err), &err);
    must(reader_finish(reader, hex, &err), &err);
    assert_true(reader_close(reader));
    pthread_join(helper, NULL);
    assert_true(log_says(path, "at byte 4194304 of 9437184"));
    digest_destroy(digest);
    munmap(bytes, PART);
    log_close(&log);
    unlink(path);
}

// What a hanging thread may still touch stays; these keep it reachable for the leak checker.
static struct reader *hung_reader;
static struct digest *hung_digest;
static struct reader_part hung_part;

static void a_stall_beyond_the_timeout_ends_the_wait(void **state) {
    (void)state;
    struct error err = {0};
    unsigned char *bytes = map_bytes(PART, 4);
    hung_part = (struct reader_part){bytes, PART, "dead"};
    struct reader_options options = {.notice_seconds = 30, .timeout_seconds = 0.3};
    lose_page(bytes);
    must(digest_create(&hung_digest, &err), &err);
    must(reader_start(&hung_reader, &hung_part, 1, hung_digest, &options, &err), &err);
    assert_int_equal(reader_wait(hung_reader, 0, PART, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "dead: no byte for"));
    assert_false(reader_close(hung_reader));
    atomic_store(&page_may_come, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bytes_are_hashed_once),
        cmocka_unit_test(a_stall_is_named_and_survived),
        cmocka_unit_test(a_stall_beyond_the_timeout_ends_the_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
