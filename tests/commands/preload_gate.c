// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: holds it in the middle of its work, however slow the
// machine. While the file GATE is there, a file gets the name GATE_NAME only once that is gone; GATE.reached
// says that it waits.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int rename_file(const char *from, const char *to);

int rename(const char *from, const char *to) {
    rename_file *real;
    void *symbol = dlsym(RTLD_NEXT, "rename");
    memcpy(&real, &symbol, sizeof real); // C has no cast from data to function pointers
    const char *gate = getenv("GATE");
    const char *name = getenv("GATE_NAME");
    const char *last = strrchr(to, '/');
    if (gate != NULL && name != NULL && strcmp(last == NULL ? to : last + 1, name) == 0) {
        char reached[4096];
        snprintf(reached, sizeof reached, "%s.reached", gate);
        while (access(gate, F_OK) == 0) {
            close(open(reached, O_CREAT | O_WRONLY, 0644));
            usleep(10000);
        }
    }
    return real(from, to);
}
