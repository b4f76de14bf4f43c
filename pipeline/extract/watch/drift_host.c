// SPDX-License-Identifier: MIT
#include "watch/drift_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { SMALL_FILE = 4096 };

// The number after `mark`.
static double number_after(const char *text, const char *mark) {
    const char *at = text == NULL ? NULL : strstr(text, mark);
    char *end;
    if (at == NULL) {
        return DRIFT_HOST_UNKNOWN;
    }
    at += strlen(mark);
    double value = strtod(at, &end);
    return end == at || !(value >= 0) ? DRIFT_HOST_UNKNOWN : value;
}

double drift_host_pressure(const char *text) {
    return number_after(text, "some avg10=");
}

double drift_host_quota(const char *text) {
    double microseconds = number_after(text, "throttled_usec ");
    return microseconds >= 0 ? microseconds * 1e-6 : DRIFT_HOST_UNKNOWN;
}

// Column `column` of the "cpu" line, from 0 (user).
static double ticks_of(const char *text, int column) {
    const char *at = text == NULL || strncmp(text, "cpu ", 4) != 0 ? NULL : text + 4;
    double value = DRIFT_HOST_UNKNOWN;
    for (int i = 0; at != NULL && i <= column; i++) {
        char *end;
        value = strtod(at, &end);
        at = end == at ? NULL : end;
    }
    long each = sysconf(_SC_CLK_TCK);
    return at == NULL || !(value >= 0) || each <= 0 ? DRIFT_HOST_UNKNOWN : value / (double)each;
}

double drift_host_busy(const char *text) {
    static const int columns[] = {0, 1, 2, 5, 6}; // user, nice, system, irq, softirq
    double busy = 0;
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        double seconds = ticks_of(text, columns[i]);
        if (seconds < 0) {
            return DRIFT_HOST_UNKNOWN;
        }
        busy += seconds;
    }
    return busy;
}

double drift_host_stolen(const char *text) {
    return ticks_of(text, 7);
}

static double process_seconds(void) {
    struct timespec time;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0
               ? (double)time.tv_sec + 1e-9 * (double)time.tv_nsec
               : DRIFT_HOST_UNKNOWN;
}

static double read_number(const char *path, double (*parse)(const char *text)) {
    struct buffer text = {0};
    struct error ignored;
    double value = DRIFT_HOST_UNKNOWN;
    if (file_read(&text, path, SMALL_FILE, &ignored) == STATUS_OK &&
        buffer_append(&text, "", 1, &ignored) == STATUS_OK) {
        value = parse(text.data);
    }
    buffer_destroy(&text);
    return value;
}

// The group this process is in (the unified hierarchy's line of /proc/self/cgroup is "0::/path"), or, within
// a container, the group that is mounted as the root.
static double read_quota(void) {
    struct buffer text = {0};
    struct error ignored;
    char path[PATH_SIZE];
    double quota = DRIFT_HOST_UNKNOWN;
    if (file_read(&text, "/proc/self/cgroup", SMALL_FILE, &ignored) == STATUS_OK &&
        buffer_append(&text, "", 1, &ignored) == STATUS_OK) {
        const char *group = strstr(text.data, "0::/");
        if (group != NULL) {
            group += strlen("0::/");
            snprintf(path, sizeof path, "/sys/fs/cgroup/%.*s/cpu.stat", (int)strcspn(group, "\n"), group);
            quota = read_number(path, drift_host_quota);
        }
    }
    buffer_destroy(&text);
    return quota >= 0 ? quota : read_number("/sys/fs/cgroup/cpu.stat", drift_host_quota);
}

void drift_host_read(struct drift_host *out) {
    *out = (struct drift_host){.cpu = read_number("/proc/pressure/cpu", drift_host_pressure),
                               .memory = read_number("/proc/pressure/memory", drift_host_pressure),
                               .io = read_number("/proc/pressure/io", drift_host_pressure),
                               .quota = read_quota(),
                               .busy = read_number("/proc/stat", drift_host_busy),
                               .stolen = read_number("/proc/stat", drift_host_stolen),
                               .own = process_seconds()};
}
