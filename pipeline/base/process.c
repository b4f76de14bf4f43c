// SPDX-License-Identifier: MIT
#include "base/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
    bool repeats;
} stop_signals[] = {
    {SIGTERM, "SIGTERM", false}, // kill, slurmstepd, systemd, docker
    {SIGINT, "SIGINT", false},   // ^C
    {SIGQUIT, "SIGQUIT", false}, // ^\, some container runtimes
    {SIGUSR1, "SIGUSR1", false}, // Slurm's --signal, Grid Engine's -notify
    {SIGUSR2, "SIGUSR2", false}, // Grid Engine's -notify, LSF
    {SIGHUP, "SIGHUP", true},    // the terminal is gone
    {SIGXCPU, "SIGXCPU", true},  // a limit of processor time
    {SIGALRM, "SIGALRM", true},  // timers that a wrapper set before it became this program
    {SIGVTALRM, "SIGVTALRM", true}, {SIGPROF, "SIGPROF", true},
    {SIGPWR, "SIGPWR", true}, // the power supply fails
};
enum { STOP_SIGNALS = sizeof stop_signals / sizeof stop_signals[0] };

void process_prepare(void) {
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        // The lowest free number is taken. O_PATH: reads and writes fail with EBADF, as on a closed
        // descriptor, so that output which reaches nobody still counts as such.
        if (fcntl(descriptor, F_GETFD) < 0 && open("/", O_PATH) < 0) {
            break;
        }
    }
    signal(SIGXFSZ, SIG_IGN);
}

void process_stop_signals(sigset_t *out) {
    sigemptyset(out);
    for (size_t i = 0; i < STOP_SIGNALS; i++) {
        struct sigaction action;
        if (sigaction(stop_signals[i].number, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
            sigaddset(out, stop_signals[i].number);
        }
    }
}

void process_hold_stop_signals(void) {
    sigset_t signals;
    process_stop_signals(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}

int process_take_stop(double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds};
    sigset_t signals;
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    process_stop_signals(&signals);
    int number = sigtimedwait(&signals, NULL, &time);
    return number > 0 ? number : 0;
}

const char *process_signal_name(int number) {
    for (size_t i = 0; i < STOP_SIGNALS; i++) {
        if (stop_signals[i].number == number) {
            return stop_signals[i].name;
        }
    }
    return "";
}

bool process_signal_repeats(int number) {
    for (size_t i = 0; i < STOP_SIGNALS; i++) {
        if (stop_signals[i].number == number) {
            return stop_signals[i].repeats;
        }
    }
    return false;
}

uint64_t process_memory(void) {
    uint64_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1) {
        pages = 0;
    }
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t process_memory_peak(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}
