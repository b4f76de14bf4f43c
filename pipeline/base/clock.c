// SPDX-License-Identifier: MIT
#include "base/clock.h"

#include <errno.h>
#include <time.h>

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double clock_seconds(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

double clock_process_seconds(void) {
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

void clock_sleep(double seconds) {
    if (seconds <= 0) {
        return;
    }
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

int64_t clock_unix(void) {
    return (int64_t)time(NULL);
}

void clock_text(int64_t unix_seconds, char out[CLOCK_TEXT]) {
    time_t moment = (time_t)unix_seconds;
    struct tm parts;
    if (gmtime_r(&moment, &parts) == NULL || strftime(out, CLOCK_TEXT, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        out[0] = 0;
    }
}
