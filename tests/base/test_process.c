// SPDX-License-Identifier: MIT
// Signals and descriptors that a process is born with, and the log and moments it writes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

static void signals_have_names_and_machines_repeat_some(void **state) {
    (void)state;
    assert_string_equal(process_signal_name(SIGTERM), "SIGTERM");
    assert_string_equal(process_signal_name(SIGPWR), "SIGPWR");
    assert_string_equal(process_signal_name(SIGSEGV), "");
    assert_string_equal(process_signal_name(0), "");
    static const int once[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGSEGV};
    static const int often[] = {SIGHUP, SIGXCPU, SIGALRM, SIGVTALRM, SIGPROF, SIGPWR};
    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++) {
        assert_false(process_signal_repeats(once[i]));
        assert_true(process_signal_repeats(often[i]));
    }
}

static void an_ignored_or_handled_signal_asks_for_nothing(void **state) {
    (void)state;
    sigset_t signals;
    process_stop_signals(&signals);
    assert_true(sigismember(&signals, SIGTERM) && sigismember(&signals, SIGHUP));
    assert_false(sigismember(&signals, SIGSEGV));
    signal(SIGHUP, SIG_IGN);
    process_stop_signals(&signals);
    assert_true(sigismember(&signals, SIGTERM) && !sigismember(&signals, SIGHUP));
    signal(SIGHUP, SIG_DFL);
}

// The exit code of a child that does `work`.
static int in_child(int (*work)(void)) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        _exit(work());
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int hold_and_ask(void) {
    sigset_t waiting;
    process_hold_stop_signals();
    raise(SIGTERM);
    raise(SIGXCPU);
    sigpending(&waiting);
    return sigismember(&waiting, SIGTERM) == 1 && sigismember(&waiting, SIGXCPU) == 1 ? 0 : 1;
}

static void held_signals_wait(void **state) {
    (void)state;
    assert_int_equal(in_child(hold_and_ask), 0);
}

static int write_with_closed_descriptors(void) {
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    process_prepare();
    int opened = open("/dev/null", O_RDWR);
    char byte = 0;
    bool fails = write(STDOUT_FILENO, &byte, 1) < 0 && read(STDIN_FILENO, &byte, 1) < 0;
    return opened > STDERR_FILENO && fails && raise(SIGXFSZ) == 0 ? 0 : 1; // SIGXFSZ would end it
}

static void a_closed_standard_descriptor_is_no_files(void **state) {
    (void)state;
    assert_int_equal(in_child(write_with_closed_descriptors), 0);
}

static void moments_are_utc(void **state) {
    (void)state;
    char out[CLOCK_TEXT];
    clock_text(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00Z");
    clock_text(951782400, out);
    assert_string_equal(out, "2000-02-29T00:00:00Z");
    clock_text(4102444799, out);
    assert_string_equal(out, "2099-12-31T23:59:59Z");
    clock_text(INT64_MAX, out); // its year is beyond an int
    assert_string_equal(out, "");
    clock_text(INT64_C(253402300800), out); // 10000
    assert_string_equal(out, "");
    assert_true(clock_unix() > 1700000000);
    double before = clock_seconds();
    clock_sleep(-1);
    clock_sleep(0.002);
    assert_true(clock_seconds() - before >= 0.002);
}

static void a_log_keeps_one_line_an_entry(void **state) {
    (void)state;
    char folder[] = "/tmp/strata-test-XXXXXX";
    char path[64];
    struct error err;
    struct log log;
    struct buffer text = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/run.log", folder);
    assert_int_equal(log_open(&log, NULL, &err), STATUS_OK);
    log.echo_level = LOG_LEVEL_ERROR + 1;
    log_write(&log, LOG_LEVEL_ERROR, "before there is a file");
    assert_int_equal(log_add_file(&log, path, &err), STATUS_OK);
    log_write(&log, LOG_LEVEL_INFO, "batch %d\nof \x1b[2J", 3);
    log_close(&log);
    assert_int_equal(log_open(&log, path, &err), STATUS_OK); // appends
    log.echo_level = LOG_LEVEL_ERROR + 1;
    log_write(&log, LOG_LEVEL_WARN, "again");
    log_close(&log);
    assert_int_equal(file_read(&text, path, 1000, &err), STATUS_OK);
    char *second = strchr(text.data, '\n') + 1;
    assert_int_equal(strspn(text.data, "0123456789-T:Z"), CLOCK_TEXT - 1);
    assert_memory_equal(text.data + CLOCK_TEXT - 1, " info  batch 3\\nof \\u001b[2J\n",
                        (size_t)(second - text.data) - CLOCK_TEXT + 1);
    assert_string_equal(second + CLOCK_TEXT - 1, " warn  again\n");
    buffer_destroy(&text);
    assert_int_equal(log_open(&log, folder, &err), STATUS_WRITE);
    assert_int_equal(strncmp(err.message, "the log: ", 9), 0);
    log_close(&log);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_have_names_and_machines_repeat_some),
        cmocka_unit_test(an_ignored_or_handled_signal_asks_for_nothing),
        cmocka_unit_test(held_signals_wait),
        cmocka_unit_test(a_closed_standard_descriptor_is_no_files),
        cmocka_unit_test(moments_are_utc),
        cmocka_unit_test(a_log_keeps_one_line_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
