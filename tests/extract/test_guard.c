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
#include "extract/guard.h"
#include "extract/writer.h"

enum { NEVER = 120 }; // seconds

struct child {
    struct log log;
    struct guard guard;
};

static void begin(struct child *child, double stop_seconds, double hung_seconds) {
    struct error err;
    if (log_open(&child->log, NULL, &err) != STATUS_OK) {
        _exit(1);
    }
    struct guard_options options = {
        .log = &child->log, .stop_seconds = stop_seconds, .hung_seconds = hung_seconds, .folder = "nowhere"};
    if (guard_start(&child->guard, &options, &err) != STATUS_OK) {
        _exit(2);
    }
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

// Tells by an exit code of its own that an end before the first batch was recorded.
static void record_start_by_exit(void *context, const struct writer *writer, int status, const char *reason) {
    (void)context;
    bool hung = status == STATUS_DRIFT && strstr(reason, "before the first batch") != NULL;
    bool stopped = status == STATUS_STOPPED && strstr(reason, "in the middle of the start") != NULL;
    _exit(writer != NULL ? 43 : hung ? 44 : stopped ? 45 : 46);
}

static void hang_at_start(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.1);
    child->guard.options.leave = record_start_by_exit;
    guard_start_begins(&child->guard, 1, 0.5);
    clock_sleep(NEVER);
}

// Three times the limit, but never without a word.
static void go_on_at_start(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, NEVER, 0.1);
    guard_start_begins(&child->guard, 1, 2.0);
    for (int i = 0; i < 15; i++) {
        clock_sleep(0.4);
        guard_start_goes_on(&child->guard);
    }
    guard_batch_ends(&child->guard);
    guard_stop(&child->guard);
    _exit(0);
}

static void stop_at_start(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    child->guard.options.leave = record_start_by_exit;
    guard_start_begins(&child->guard, 1, NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

// The main thread may be in the ledger: no record, but an end.
static void stop_between(struct child *child, int from_parent) {
    (void)from_parent;
    begin(child, 0.5, NEVER);
    child->guard.options.leave = record_start_by_exit;
    guard_start_begins(&child->guard, 1, NEVER);
    guard_batch_ends(&child->guard);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

static void test_device_at_start(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(hang_at_start, NULL), 44);
    assert_int_equal(exit_code_of(go_on_at_start, NULL), 0);
    assert_int_equal(exit_code_of(stop_at_start, NULL), 45);
    assert_int_equal(exit_code_of(stop_between, NULL), 75);
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
    begin(child, NEVER, NEVER);
    child->guard.options.together_seconds = together_seconds;
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

// A writer that is through, as the guard finds it when it leaves with a batch in flight.
static void attach_ended_writer(struct child *child, struct writer *writer, int status) {
    queue_open(&writer->finished);
    pthread_mutex_init(&writer->lock, NULL);
    writer->status = status;
    atomic_init(&writer->stop, false);
    atomic_init(&writer->done, true);
    guard_attach(&child->guard, writer);
}

static void leave_after_error(struct child *child, int from_parent) {
    static struct writer writer;
    (void)from_parent;
    begin(child, 0.5, NEVER);
    attach_ended_writer(child, &writer, STATUS_WRITE);
    guard_batch_begins(&child->guard, 7, NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

// Tells that the end was recorded by an exit code of its own.
static void record_by_exit(void *context, const struct writer *writer, int status, const char *reason) {
    (void)context;
    bool right =
        writer->status == STATUS_OK && status == STATUS_STOPPED && strstr(reason, "in flight") != NULL;
    _exit(right ? 42 : 43);
}

static void leave_and_record(struct child *child, int from_parent) {
    static struct writer writer;
    (void)from_parent;
    begin(child, 0.5, NEVER);
    child->guard.options.leave = record_by_exit;
    attach_ended_writer(child, &writer, STATUS_OK);
    guard_batch_begins(&child->guard, 7, NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

// Another thread is in the ledger, for longer than the guard waits: no record, but an end.
static void leave_without_lock(struct child *child, int from_parent) {
    static struct writer writer;
    (void)from_parent;
    begin(child, 0.5, NEVER);
    child->guard.options.leave = record_by_exit;
    attach_ended_writer(child, &writer, STATUS_OK);
    pthread_mutex_lock(&writer.lock);
    guard_batch_begins(&child->guard, 7, NEVER);
    kill(getpid(), SIGTERM);
    clock_sleep(NEVER);
}

static void test_leaving(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(leave_after_error, NULL),
                     73); // what could not be kept counts more than the stop
    assert_int_equal(exit_code_of(leave_and_record, NULL), 42);
    assert_int_equal(exit_code_of(leave_without_lock, NULL), 75);
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
        cmocka_unit_test(test_mask_is_restored),
        cmocka_unit_test(test_ignored_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
