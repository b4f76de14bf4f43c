// SPDX-License-Identifier: MIT
// The guard, in processes of their own: a batch that never ends, a suspended process, the first and the
// second signal. The seconds below are far apart, so that a busy machine changes no verdict.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "checkpoints/fixture.h"
#include "journal/journal.h"
#include "watch/guard.h"

enum { NEVER = 120 }; // seconds

struct child {
    struct log log;
    struct journal journal;
    struct guard guard;
};

static char run_folder[PATH_SIZE]; // whose ledger the child's launch is in; "": in none

static void begin_with(struct child *child, double stop_seconds, double hung_seconds,
                       double together_seconds) {
    struct error err;
    if (log_open(&child->log, NULL, &err) != STATUS_OK) {
        _exit(1);
    }
    journal_start(&child->journal, &child->log);
    if (run_folder[0] != 0 && journal_open(&child->journal, run_folder, 1, &err) != STATUS_OK) {
        _exit(8);
    }
    struct guard_options options = {.log = &child->log,
                                    .journal = &child->journal,
                                    .stop_seconds = stop_seconds,
                                    .hung_seconds = hung_seconds,
                                    .phase_seconds = hung_seconds,
                                    .together_seconds = together_seconds,
                                    .folder = "nowhere"};
    if (guard_start(&child->guard, &options, &err) != STATUS_OK) {
        _exit(2);
    }
}

static void begin(struct child *child, double stop_seconds, double hung_seconds) {
    begin_with(child, stop_seconds, hung_seconds, 0);
}

// Runs `body` in a process with its messages thrown away; returns its exit code, or 128 + a signal.
static int exit_code_of(void (*body)(struct child *child, int from_parent),
                        void (*meanwhile)(pid_t id, int to_child)) {
    int ends[2];
    int status;
    assert_int_equal(pipe(ends), 0);
    pid_t id = fork();
    if (id == 0) {
        struct child child;
        close(ends[1]);
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(3);
        }
        body(&child, ends[0]);
        _exit(4);
    }
    close(ends[0]);
    if (meanwhile != NULL) {
        meanwhile(id, ends[1]);
    }
    assert_int_equal(waitpid(id, &status, 0), id);
    close(ends[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int take_launch(void *context, const struct ledger_launch_record *launch) {
    *(struct ledger_launch_record *)context = *launch;
    return 0;
}

// Runs `body` as a launch of a fresh run: the exit code that its process must have, the one that its ledger
// must hold (-1: it shows as killed), and words of the reason there.
static void must_leave(void (*body)(struct child *child, int from_parent), int exit_code, int recorded,
                       const char *reason) {
    struct error err;
    struct ledger *ledger;
    struct ledger_launch_record launch = {0};
    fixture_folder(run_folder);
    assert_int_equal(exit_code_of(body, NULL), exit_code);
    assert_int_equal(ledger_open(&ledger, run_folder, &err), STATUS_OK);
    assert_int_equal(ledger_each_launch(ledger, take_launch, &launch, &err), STATUS_OK);
    ledger_close(ledger);
    fixture_folder_remove(run_folder);
    run_folder[0] = 0;
    assert_int_equal(launch.epoch, 1);
    assert_int_equal(launch.exit_code, recorded);
    assert_non_null(strstr(launch.reason, reason));
}

static void hang(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.5);
    guard_batch_begins(&child->guard, 7, 0.01);
    clock_sleep(NEVER);
}

static void test_hung_batch(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(hang, NULL), 80);
}

static void hang_at_start(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.1);
    guard_phase_begins(&child->guard, GUARD_DEVICE, "tuning", 0.5);
    clock_sleep(NEVER);
}

// Three times the limit, but never without a word.
static void go_on_at_start(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.1);
    guard_phase_begins(&child->guard, GUARD_DEVICE, "tuning", 2.0);
    for (int i = 0; i < 15; i++) {
        clock_sleep(0.4);
        guard_goes_on(&child->guard);
    }
    guard_batch_ends(&child->guard);
    guard_stop(&child->guard);
    _exit(0);
}

static void stop_at_start(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    guard_phase_begins(&child->guard, GUARD_DEVICE, "tuning", NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

// The main thread may be in the ledger: no record, but an end.
static void stop_between(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    guard_phase_begins(&child->guard, GUARD_DEVICE, "tuning", NEVER);
    guard_batch_ends(&child->guard);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

static void test_device_at_start(void **state) {
    (void)state;
    must_leave(hang_at_start, 80, 80, "before the first batch");
    assert_int_equal(exit_code_of(go_on_at_start, NULL), 0);
    must_leave(stop_at_start, 75, 75, "during start-up");
    must_leave(stop_between, 75, -1, "");
}

static void take_long_but_predicted(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.1);
    guard_batch_begins(&child->guard, 7, NEVER); // under 8 times its prediction
    clock_sleep(1.5);
    guard_batch_ends(&child->guard);
    guard_stop(&child->guard);
    _exit(0);
}

static void wait_between_batches(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 1.0); // so long that the two calls are one moment on any machine
    guard_batch_begins(&child->guard, 7, 0.001);
    guard_batch_ends(&child->guard);
    clock_sleep(2.5); // nothing is in flight
    guard_stop(&child->guard);
    _exit(0);
}

static void test_not_hung(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(take_long_but_predicted, NULL), 0);
    assert_int_equal(exit_code_of(wait_between_batches, NULL), 0);
}

// ---- processors that compute on this host: clocks of what their threads had

static double clock_of_few_turns(const struct model *model) {
    (void)model;
    return clock_seconds() / 20;
}

static double clock_that_stands(const struct model *model) {
    (void)model;
    return 17;
}

static double clock_at_work(const struct model *model) {
    (void)model;
    return clock_seconds();
}

// A batch of 0.05 s takes 3, eight times what hangs elsewhere.
static void take_turns(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.5);
    guard_set_clock(&child->guard, clock_of_few_turns, NULL);
    guard_batch_begins(&child->guard, 7, 0.05);
    clock_sleep(3);
    guard_batch_ends(&child->guard);
    guard_stop(&child->guard);
    _exit(0);
}

static void stand_still(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.5);
    guard_set_clock(&child->guard, clock_that_stands, NULL);
    guard_batch_begins(&child->guard, 7, 0.05);
    clock_sleep(NEVER);
}

static void work_for_ever(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.5);
    guard_set_clock(&child->guard, clock_at_work, NULL);
    guard_batch_begins(&child->guard, 7, 0.05);
    clock_sleep(NEVER);
}

static void test_busy_machine_is_not_hung(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(take_turns, NULL), 0);
    assert_int_equal(exit_code_of(stand_still, NULL), 80);
    assert_int_equal(exit_code_of(work_for_ever, NULL), 80);
}

// In flight until the parent says a word.
static void work_until_told(struct child *child, int from_parent) {
    char byte;
    begin(child, NEVER, 3);
    guard_batch_begins(&child->guard, 7, 0.01);
    if (read(from_parent, &byte, 1) != 1) {
        _exit(5);
    }
    guard_batch_ends(&child->guard);
    guard_stop(&child->guard);
    _exit(0);
}

static void suspend(pid_t id, int to_child) {
    clock_sleep(0.3);
    kill(id, SIGSTOP);
    clock_sleep(5); // longer than hung_seconds
    kill(id, SIGCONT);
    assert_int_equal(write(to_child, "x", 1), 1);
}

static void test_suspended_process_is_not_hung(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(work_until_told, suspend), 0);
}

static bool is_pending(int number) {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, number) == 1;
}

static void ask_once(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, NEVER);
    if (guard_stop_requested(&child->guard) || strcmp(guard_signal_name(&child->guard), "") != 0) {
        _exit(6);
    }
    kill(getpid(), SIGUSR1);
    guard_sleep(&child->guard, NEVER); // ends with the request
    bool asked =
        guard_stop_requested(&child->guard) && strcmp(guard_signal_name(&child->guard), "SIGUSR1") == 0;
    guard_stop(&child->guard);
    _exit(asked ? 0 : 7);
}

static void ask_twice(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, NEVER);
    kill(getpid(), SIGTERM);
    guard_sleep(&child->guard, NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

static void ask_in_two_ways(struct child *child, double together_seconds) {
    begin_with(child, NEVER, NEVER, together_seconds);
    kill(getpid(), SIGTERM);
    guard_sleep(&child->guard, NEVER);
    kill(getpid(), SIGUSR1);
    while (is_pending(SIGUSR1)) {
        clock_sleep(0.05);
    }
}

static void ask_in_two_ways_at_once(struct child *child, int from_parent) {
    (void)from_parent;
    ask_in_two_ways(child, NEVER);
    bool first = strcmp(guard_signal_name(&child->guard), "SIGTERM") == 0;
    guard_stop(&child->guard);
    _exit(first ? 0 : 7);
}

static void ask_in_another_way_later(struct child *child, int from_parent) {
    (void)from_parent;
    ask_in_two_ways(child, 0);
    clock_sleep(NEVER);
}

// The kernel says that the processor's time is over once a second, until the process is gone.
static void ask_as_the_kernel_does(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, NEVER);
    for (int i = 0; i < 3; i++) {
        kill(getpid(), SIGXCPU);
        while (is_pending(SIGXCPU)) {
            clock_sleep(0.05);
        }
    }
    bool asked = strcmp(guard_signal_name(&child->guard), "SIGXCPU") == 0;
    guard_stop(&child->guard);
    _exit(asked ? 0 : 7);
}

static void ask_and_go_on(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    guard_batch_begins(&child->guard, 7, NEVER); // a batch longer than the time to stop
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

static void test_signals(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(ask_once, NULL), 0);
    assert_int_equal(exit_code_of(ask_twice, NULL), 75);
    assert_int_equal(exit_code_of(ask_in_two_ways_at_once, NULL), 0);
    assert_int_equal(exit_code_of(ask_in_another_way_later, NULL), 75);
    assert_int_equal(exit_code_of(ask_as_the_kernel_does, NULL), 0);
    assert_int_equal(exit_code_of(ask_and_go_on, NULL), 75);
}

// A writer that is through, as the guard finds it when it leaves with a batch in flight: it ended with the
// status that `writer` points to.
static void do_not_stop(void *writer) {
    (void)writer;
}

static bool is_through(const void *writer) {
    (void)writer;
    return true;
}

static int end_of_writer(const void *writer, struct error *err) {
    int status = *(const int *)writer;
    return status == STATUS_OK ? STATUS_OK : error_set(err, status, "no space");
}

static void leave_with(struct child *child, int writer_status) {
    const struct guard_writer writer = {
        .stop = do_not_stop, .is_done = is_through, .result = end_of_writer, .writer = &writer_status};
    guard_attach(&child->guard, &writer);
    guard_batch_begins(&child->guard, 7, NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

static void leave_after_error(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    leave_with(child, STATUS_WRITE);
}

static void leave_and_record(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    leave_with(child, STATUS_OK);
}

// Another thread is in the ledger, for longer than the guard waits: no record, but an end.
static void leave_without_lock(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    journal_lock(&child->journal);
    leave_with(child, STATUS_OK);
}

static void test_leaving(void **state) {
    (void)state;
    must_leave(leave_after_error, 73, -1, ""); // what could not be kept counts more than the stop
    must_leave(leave_and_record, 75, 75, "in flight");
    must_leave(leave_without_lock, 75, -1, "");
}

// A batch hangs while the writer is there: it is asked to keep what it has, and the evidence is recorded.
static void hang_with_writer(struct child *child, int from_parent) {
    static int ended_well = STATUS_OK;
    const struct guard_writer writer = {
        .stop = do_not_stop, .is_done = is_through, .result = end_of_writer, .writer = &ended_well};
    (void)from_parent;
    begin(child, NEVER, 0.5);
    guard_attach(&child->guard, &writer);
    guard_set_device(&child->guard, "cuda:1");
    guard_batch_begins(&child->guard, 7, 0.01);
    clock_sleep(NEVER);
}

static int take_event(void *context, int64_t at, uint64_t epoch, const char *kind, const char *text) {
    (void)at;
    (void)epoch;
    bool right = strcmp(kind, "drift") == 0 && strstr(text, "\"cause\": \"batch hangs on cuda:1\"") != NULL;
    *(int *)context += right ? 1 : 100;
    return 0;
}

static void test_hung_batch_with_writer(void **state) {
    struct error err;
    struct ledger *ledger;
    struct ledger_progress live;
    bool found;
    int events = 0;
    (void)state;
    fixture_folder(run_folder);
    assert_int_equal(exit_code_of(hang_with_writer, NULL), 80);
    assert_int_equal(ledger_open(&ledger, run_folder, &err), STATUS_OK);
    assert_int_equal(ledger_each_event(ledger, take_event, &events, &err), STATUS_OK);
    assert_int_equal(ledger_start_progress(ledger, &live, &found, &err), STATUS_OK);
    ledger_close(ledger);
    fixture_folder_remove(run_folder);
    run_folder[0] = 0;
    assert_int_equal(events, 1);
    assert_true(found);
    assert_string_equal(live.stage, "drift");
    assert_string_equal(live.drift, "stopped on cuda:1");
}

// After guard_stop signals do again what they did before.
static void stop_and_die(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, NEVER);
    guard_stop(&child->guard);
    guard_stop(&child->guard);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

// Ignored from the start (nohup): it stays so, and the guard waits for the others alone.
static void ignore_some(struct child *child, int from_parent) {
    (void)from_parent;
    signal(SIGUSR2, SIG_IGN);
    begin(child, NEVER, NEVER);
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGQUIT);
    guard_sleep(&child->guard, NEVER);
    bool right = strcmp(guard_signal_name(&child->guard), "SIGQUIT") == 0;
    guard_stop(&child->guard);
    _exit(right ? 0 : 7);
}

static void test_ignored_signals(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(ignore_some, NULL), 0);
}

static void test_mask_is_restored(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(stop_and_die, NULL), 128 + SIGTERM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hung_batch),
        cmocka_unit_test(test_device_at_start),
        cmocka_unit_test(test_not_hung),
        cmocka_unit_test(test_busy_machine_is_not_hung),
        cmocka_unit_test(test_suspended_process_is_not_hung),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_hung_batch_with_writer),
        cmocka_unit_test(test_mask_is_restored),
        cmocka_unit_test(test_ignored_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
