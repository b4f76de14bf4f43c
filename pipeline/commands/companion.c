#include "commands/companion.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXECUTABLE_PATH = PATH_MAX + 64 };

// The path of `name` in the folder that this program lies in; false when that is not known.
static bool beside(char out[EXECUTABLE_PATH], const char *name) {
    ssize_t size = readlink("/proc/self/exe", out, PATH_MAX);
    if (size <= 0 || size >= PATH_MAX) {
        return false;
    }
    out[size] = 0;
    char *slash = strrchr(out, '/');
    if (slash == NULL) {
        return false;
    }
    size_t room = EXECUTABLE_PATH - (size_t)(slash + 1 - out);
    return snprintf(slash + 1, room, "%s", name) < (int)room;
}

int companion_become(const char *name, const char *purpose, const char *words[], struct error *err) {
    char path[EXECUTABLE_PATH];
    words[0] = name;
    fflush(NULL);
    if (beside(path, name)) {
        execv(path, (char *const *)(uintptr_t)words);
    }
    execvp(name, (char *const *)(uintptr_t)words);
    if (errno != ENOENT) {
        return error_set_errno(err, STATUS_DEVICE, "%s %s, which could not be started", purpose, name);
    }
    return error_set(err, STATUS_DEVICE, "%s %s, which is not on this machine: pip install strata-latents",
                     purpose, name);
}
