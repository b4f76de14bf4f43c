// SPDX-License-Identifier: MIT
#include "parts/gpus.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/size.h"
#include "kernels/device.h"
#include "parts/child.h"

#define DEATH_SECONDS 1.0

enum { TICK = 100 }; // ms

_Static_assert(sizeof(struct gpus) <= 4096, "a pipe takes it in one piece");

static void answer(int to) {
    struct error why = {0};
    struct gpus gpus = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    gpus.count = size_min(device_gpus(&why), GPUS_MOST);
    for (size_t i = 0; i < gpus.count; i++) {
        char name[16];
        snprintf(name, sizeof name, "cuda:%u", (unsigned)i);
        gpus.nodes[i] = device_memory_node(name);
    }
    snprintf(gpus.why, sizeof gpus.why, "%.*s", (int)sizeof gpus.why - 1, why.message);
    _exit(write(to, &gpus, sizeof gpus) == (ssize_t)sizeof gpus ? 0 : 1);
}

static int hear(int from, struct gpus *gpus, bool *whole, struct error *err) {
    struct pollfd ready = {.fd = from, .events = POLLIN};
    double began = clock_seconds();
    while (poll(&ready, 1, TICK) <= 0) {
        int number = process_take_stop(0);
        if (number > 0) {
            return error_set(err, STATUS_STOPPED, "stopped by %s; run the same command to resume",
                             process_signal_name(number));
        }
        if (clock_seconds() - began > GPUS_SECONDS) {
            return error_set(err, STATUS_DEVICE,
                             "the driver of the GPUs does not say within %d s how many there are",
                             GPUS_SECONDS);
        }
    }
    *whole = read(from, gpus, sizeof *gpus) == (ssize_t)sizeof *gpus;
    return STATUS_OK;
}

// Of one that stays in the driver for ever only the end of this process is the end.
static void end_process(pid_t id) {
    double began = clock_seconds();
    kill(id, SIGKILL);
    while (waitpid(id, NULL, WNOHANG) == 0 && clock_seconds() - began < DEATH_SECONDS) {
        clock_sleep(0.01);
    }
}

int gpus_ask(struct gpus *gpus, struct error *err) {
    int ends[2];
    int ended = 0;
    bool whole = false;
    char end[CHILD_END];
    *gpus = (struct gpus){0};
    signal(SIGCHLD, SIG_DFL); // ignored, which is inherited, no end of a process is told
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set_errno(err, STATUS_INTERNAL, "cannot make a pipe");
    }
    pid_t id = fork();
    if (id == 0) {
        answer(ends[1]);
    }
    close(ends[1]);
    int status = id < 0 ? error_set_errno(err, STATUS_INTERNAL, "cannot start a process")
                        : hear(ends[0], gpus, &whole, err);
    close(ends[0]);
    if (id > 0 && status != STATUS_OK) {
        end_process(id);
    }
    TRY(status);
    waitpid(id, &ended, 0); // it has answered, or ended without
    child_describe_end(end, ended);
    return whole ? STATUS_OK
                 : error_set(err, STATUS_DEVICE, "the process that asks the driver of the GPUs %s", end);
}
