// SPDX-License-Identifier: MIT
// Asking for the GPUs in a process of its own, with a driver of the test's own: one that dies, hangs,
// answers.
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/process.h"
#include "kernels/device.h"
#include "parts/gpus.h"

enum { HANGS = 120 };

// ---- the driver: as the environment says, in the place of the room's own ----

static bool acts(const char *as) {
    return strcmp(getenv("GPUS_DRIVER"), as) == 0;
}

size_t device_gpus(struct error *why) {
    if (acts("dies")) {
        raise(SIGKILL);
    } else if (acts("ends")) {
        _exit(3);
    } else if (acts("hangs")) {
        sleep(HANGS);
    } else if (acts("none")) {
        error_set(why, STATUS_DEVICE, "no driver is installed");
        return 0;
    }
    return 3;
}

int device_memory_node(const char *name) {
    return name[5] - '0';
}

static int ask(const char *driver, struct gpus *gpus, struct error *err) {
    setenv("GPUS_DRIVER", driver, 1);
    int status = gpus_ask(gpus, err);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); // no process is left, not even a dead one
    assert_int_equal(errno, ECHILD);
    return status;
}

static void test_an_answer(void **state) {
    (void)state;
    struct gpus gpus;
    struct error err;
    assert_int_equal(ask("answers", &gpus, &err), STATUS_OK);
    assert_int_equal(gpus.count, 3);
    assert_int_equal(gpus.nodes[2], 2);
    assert_int_equal(ask("none", &gpus, &err), STATUS_OK);
    assert_int_equal(gpus.count, 0);
    assert_string_equal(gpus.why, "no driver is installed");
}

static void test_a_driver_that_ends_the_process(void **state) {
    (void)state;
    struct gpus gpus;
    struct error err;
    assert_int_equal(ask("dies", &gpus, &err), STATUS_DEVICE);
    assert_string_equal(err.message,
                        "the process that asks the driver of the GPUs was killed by signal 9 (Killed)");
    assert_int_equal(ask("ends", &gpus, &err), STATUS_DEVICE);
    assert_string_equal(err.message, "the process that asks the driver of the GPUs ended with exit code 3");
}

static void test_a_stop_meanwhile(void **state) {
    (void)state;
    struct gpus gpus;
    struct error err;
    process_hold_stop_signals();
    raise(SIGTERM);
    assert_int_equal(ask("hangs", &gpus, &err), STATUS_STOPPED);
    assert_string_equal(err.message, "stopped by SIGTERM; run the same command to resume");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer),
        cmocka_unit_test(test_a_driver_that_ends_the_process),
        cmocka_unit_test(test_a_stop_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
