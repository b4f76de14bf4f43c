#include "extract/drift_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                               .quota = read_quota()};
}
