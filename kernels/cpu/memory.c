// How much RAM this process may use: the machine's figures and those of every control group above the
// process.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"

// The number after `key` at the start of a line of a file, times `unit`; false when it is not there.
static bool read_number(const char *path, const char *key, uint64_t unit, uint64_t *out) {
    FILE *file = fopen(path, "re");
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

struct group_files { // of one control group version
    const char *root;
    const char *limit;
    const char *usage;
    const char *cache[2]; // lines of memory.stat that are page cache
};

static const struct group_files versions[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file ", "active_file "}},
    {"/sys/fs/cgroup/memory",
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
};

static void apply_group(const struct group_files *files, const char *group, uint64_t *total,
                        uint64_t *available) {
    char path[1400];
    uint64_t limit;
    uint64_t used;
    snprintf(path, sizeof path, "%s%s/%s", files->root, group, files->limit);
    if (!read_number(path, "", 1, &limit)) {
        return; // "max", or no such group
    }
    snprintf(path, sizeof path, "%s%s/%s", files->root, group, files->usage);
    if (!read_number(path, "", 1, &used)) {
        return;
    }
    snprintf(path, sizeof path, "%s%s/memory.stat", files->root, group);
    for (int i = 0; i < 2; i++) {
        uint64_t cache;
        if (read_number(path, files->cache[i], 1, &cache)) {
            used -= cache < used ? cache : used;
        }
    }
    uint64_t left = limit > used ? limit - used : 0;
    *total = limit < *total ? limit : *total;
    *available = left < *available ? left : *available;
}

// A group and all above it, up to the root ("").
static void apply_groups(const struct group_files *files, char *group, uint64_t *total, uint64_t *available) {
    for (;;) {
        char *slash = strrchr(group, '/');
        if (slash != NULL && slash[1] == 0) { // "/" is the root itself
            *slash = 0;
            continue;
        }
        apply_group(files, group, total, available);
        if (slash == NULL) {
            return;
        }
        *slash = 0;
    }
}

void cpu_memory(uint64_t *total, uint64_t *available) {
    *total = UINT64_MAX;
    *available = UINT64_MAX;
    read_number("/proc/meminfo", "MemTotal:", 1024, total);
    read_number("/proc/meminfo", "MemAvailable:", 1024, available);
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) {
        return;
    }
    char line[1100];
    while (fgets(line, sizeof line, file) != NULL) { // "0::/a/b" (version 2) or "4:memory:/a/b" (version 1)
        line[strcspn(line, "\n")] = 0;
        char *memory = strstr(line, ":memory:");
        if (strncmp(line, "0::", 3) == 0) {
            apply_groups(&versions[0], line + 3, total, available);
        } else if (memory != NULL) {
            apply_groups(&versions[1], memory + strlen(":memory:"), total, available);
        }
    }
    fclose(file);
}
