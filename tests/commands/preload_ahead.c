// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: the clock of the day is an hour ahead, so that files
// which a test has just written were last changed an hour ago.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

time_t time(time_t *out) {
    time_t now = (time_t)syscall(SYS_time, NULL) + 3600;
    if (out != NULL) {
        *out = now;
    }
    return now;
}
