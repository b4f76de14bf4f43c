// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: shows it another machine's memory. What it reads of
// /proc/meminfo, /proc/self/cgroup and /sys/fs/cgroup comes from the same paths under MACHINE_ROOT, and is
// not there where they are not.
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef FILE *open_stream(const char *path, const char *mode);

static bool is_of_machine(const char *path) {
    static const char *const prefixes[] = {"/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup/"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

FILE *fopen(const char *restrict path, const char *restrict mode) {
    char whole[4096];
    open_stream *real;
    void *symbol = dlsym(RTLD_NEXT, "fopen");
    const char *root = getenv("MACHINE_ROOT");
    memcpy(&real, &symbol, sizeof real); // C has no cast from data to function pointers
    if (root == NULL || !is_of_machine(path)) {
        return real(path, mode);
    }
    int length = snprintf(whole, sizeof whole, "%s%s", root, path);
    if (length < 0 || (size_t)length >= sizeof whole) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return real(whole, mode);
}
