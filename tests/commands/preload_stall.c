// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: once the file STALL_WHEN exists, reads of files that
// end with STALL_PATH, but for the token of a launch before .tmp, do not come back, as on a network file
// system whose server is gone.
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef ssize_t read_on(int descriptor, void *out, size_t size);
typedef ssize_t read_at(int descriptor, void *out, size_t size, off_t begin);

static bool is_meant(int descriptor) {
    const char *end = getenv("STALL_PATH");
    const char *when = getenv("STALL_WHEN");
    char link[64];
    char path[4096];
    if (end == NULL || when == NULL || access(when, F_OK) != 0) {
        return false;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t tail = strlen(end);
    const size_t token = 33; // with its dot
    if (length > (ssize_t)token + 4 && path[length - 4] == '.' && path[length - 37] == '.') {
        memmove(path + length - 37, path + length - 4, 4);
        length -= (ssize_t)token;
    }
    return length >= (ssize_t)tail && memcmp(path + length - tail, end, tail) == 0;
}

static void stall(int descriptor) {
    while (is_meant(descriptor)) {
        usleep(20000); // no processor time to speak of
    }
}

ssize_t read(int descriptor, void *out, size_t size) {
    read_on *real;
    void *symbol = dlsym(RTLD_NEXT, "read");
    memcpy(&real, &symbol, sizeof real);
    stall(descriptor);
    return real(descriptor, out, size);
}

ssize_t pread(int descriptor, void *out, size_t size, off_t begin) {
    read_at *real;
    void *symbol = dlsym(RTLD_NEXT, "pread");
    memcpy(&real, &symbol, sizeof real); // C has no cast from data to function pointers
    stall(descriptor);
    return real(descriptor, out, size, begin);
}
