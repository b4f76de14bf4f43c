// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: a processor that takes CLOCK_STINT microseconds of its
// own time for every stint of work, whatever the machine does. A thread's clock of processor time goes by
// that at each look, and a stint is looked at before and behind. The clock of the day goes by CLOCK_LOOK at
// each look besides, so that no stint is too short to be looked at.
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLOCK_LOOK = 1000000 }; // nanoseconds

typedef int read_clock(clockid_t clock, struct timespec *time);

static void put(struct timespec *time, uint64_t nanoseconds) {
    time->tv_sec = (time_t)(nanoseconds / 1000000000u);
    time->tv_nsec = (long)(nanoseconds % 1000000000u);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static _Thread_local uint64_t stints;
    static atomic_uint_fast64_t looks;
    read_clock *real;
    void *symbol = dlsym(RTLD_NEXT, "clock_gettime");
    const char *stint = getenv("CLOCK_STINT");
    memcpy(&real, &symbol, sizeof real); // C has no cast from data to function pointers
    if (stint == NULL) {
        return real(clock, time);
    }
    if (clock == CLOCK_THREAD_CPUTIME_ID) {
        put(time, ++stints * strtoull(stint, NULL, 10) * 1000);
        return 0;
    }
    uint64_t look = clock == CLOCK_MONOTONIC ? atomic_fetch_add(&looks, 1) + 1 : 0;
    int result = real(clock, time);
    put(time, (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec + look * CLOCK_LOOK);
    return result;
}
