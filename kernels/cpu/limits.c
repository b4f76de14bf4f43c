// SPDX-License-Identifier: MIT
#include "kernels/cpu/limits.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

enum { PATH_BYTES = 2048, LINE_BYTES = 1200 };

static FILE *open_under(const char *root, const char *folder, const char *group, const char *name) {
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s%s%s/%s", root, folder, group, name);
    return length > 0 && (size_t)length < sizeof path ? fopen(path, "re") : NULL;
}

struct place { // of a control group's files
    const char *root;
    const char *folder; // of the hierarchy, "/sys/fs/cgroup"
    const char *group;  // "/a/b", "" for the topmost
};

// The number after `key` at the start of a line of a file, times `unit`; false when it is not there.
static bool read_number(const struct place *place, const char *name, const char *key, uint64_t unit,
                        uint64_t *out) {
    FILE *file = open_under(place->root, place->folder, place->group, name);
    if (file == NULL) {
        return false;
    }
    char line[256];
    bool found = false;
    size_t length = strlen(key);
    while (!found && fgets(line, sizeof line, file) != NULL) {
        uint64_t number;
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%" SCNu64, &number) == 1) {
            *out = number * unit;
            found = true;
        }
    }
    fclose(file);
    return found;
}

// ---- the groups of this process ----

typedef void visit_group(const struct place *place, int version, void *context);

// A group and all above it, up to the topmost (""). group is cut on the way.
static void visit_upwards(const char *root, const char *folder, char *group, int version, visit_group *visit,
                          void *context) {
    for (;;) {
        char *slash = strrchr(group, '/');
        if (slash != NULL && slash[1] == 0) { // "/" is the topmost itself
            *slash = 0;
            continue;
        }
        visit(&(struct place){root, folder, group}, version, context);
        if (slash == NULL) {
            return;
        }
        *slash = 0;
    }
}

static void visit_version_1(const char *root, const char *controller, char *group, visit_group *visit,
                            void *context) {
    char folder[64];
    snprintf(folder, sizeof folder, "/sys/fs/cgroup/%s", controller);
    visit_upwards(root, folder, group, 1, visit, context);
}

// Whether `name` is one of the controllers "cpu,cpuacct".
static bool lists(const char *controllers, const char *name) {
    size_t length = strlen(name);
    for (const char *at = controllers; at != NULL;
         at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == 0)) {
            return true;
        }
    }
    return false;
}

// Every group above this process that may limit what `controller` shares out. Lines of /proc/self/cgroup are
// "0::/a/b" (version 2) and "4:cpu,cpuacct:/a/b" (version 1, mounted under the controller's name).
static void visit_groups(const char *root, const char *controller, visit_group *visit, void *context) {
    FILE *file = open_under(root, "/proc/self", "", "cgroup");
    char line[LINE_BYTES];
    if (file == NULL) { // /proc may be hidden: a container's own group is the topmost that it sees
        char topmost[] = "/";
        visit_version_1(root, controller, topmost, visit, context);
        visit_upwards(root, "/sys/fs/cgroup", topmost, 2, visit, context);
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) {
            continue;
        }
        *group++ = 0;
        controllers++;
        if (*controllers == 0) {
            visit_upwards(root, "/sys/fs/cgroup", group, 2, visit, context);
        } else if (lists(controllers, controller)) {
            visit_version_1(root, controller, group, visit, context);
        }
    }
    fclose(file);
}

// ---- memory ----

struct memory {
    uint64_t total;
    uint64_t available;
};

static void apply_memory(const struct place *place, int version, void *context) {
    static const char *const cache[2][2] = {{"total_inactive_file ", "total_active_file "},
                                            {"inactive_file ", "active_file "}};
    struct memory *memory = context;
    uint64_t limit;
    uint64_t used;
    if (!read_number(place, version == 2 ? "memory.max" : "memory.limit_in_bytes", "", 1, &limit)) {
        return; // "max", or no such group
    }
    if (!read_number(place, version == 2 ? "memory.current" : "memory.usage_in_bytes", "", 1, &used)) {
        used = 0; // not known
    }
    for (int i = 0; i < 2; i++) {
        uint64_t bytes;
        if (read_number(place, "memory.stat", cache[version - 1][i], 1, &bytes)) {
            used -= bytes < used ? bytes : used;
        }
    }
    uint64_t left = limit > used ? limit - used : 0;
    memory->total = limit < memory->total ? limit : memory->total;
    memory->available = left < memory->available ? left : memory->available;
}

void limits_memory(const char *root, uint64_t *total, uint64_t *available) {
    struct memory memory = {UINT64_MAX, UINT64_MAX};
    const struct place machine = {root, "/proc", ""};
    struct sysinfo info;
    if (!read_number(&machine, "meminfo", "MemTotal:", 1024, &memory.total) && *root == 0 &&
        sysinfo(&info) == 0) { // /proc may be hidden
        memory.total = (uint64_t)info.totalram * info.mem_unit;
    }
    read_number(&machine, "meminfo", "MemAvailable:", 1024, &memory.available);
    visit_groups(root, "memory", apply_memory, &memory);
    *total = memory.total;
    *available = memory.available < memory.total ? memory.available : memory.total;
}

// ---- processors ----

// Microseconds of processor time in each period of so many. "max" and, in version 1, -1 are no quota.
static bool read_quota(const struct place *place, int version, uint64_t *quota, uint64_t *period) {
    if (version == 1) {
        return read_number(place, "cpu.cfs_period_us", "", 1, period) &&
               read_number(place, "cpu.cfs_quota_us", "", 1, quota);
    }
    FILE *file = open_under(place->root, place->folder, place->group, "cpu.max");
    bool found = file != NULL && fscanf(file, "%" SCNu64 " %" SCNu64, quota, period) == 2;
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

static void apply_quota(const struct place *place, int version, void *context) {
    double *processors = context;
    uint64_t quota;
    uint64_t period;
    // Negative numbers read as huge ones.
    if (read_quota(place, version, &quota, &period) && quota > 0 && quota <= INT64_MAX && period > 0) {
        *processors = fmin(*processors, (double)quota / (double)period);
    }
}

double limits_processors(const char *root) {
    double processors = INFINITY;
    visit_groups(root, "cpu", apply_quota, &processors);
    return processors;
}
