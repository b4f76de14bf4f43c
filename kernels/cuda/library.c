// SPDX-License-Identifier: MIT
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>

struct library; // what dlopen returns

struct library *library_open(const char *const *names, char *why, size_t why_size) {
    size_t used = 0;
    why[0] = 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        // NODELETE: a CUDA library that is unloaded while its kernels are registered takes the process down.
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (handle != NULL) {
            return handle;
        }
        const char *said = dlerror();
        if (used < why_size) {
            used += (size_t)snprintf(why + used, why_size - used, "%s%s", i > 0 ? "; " : "",
                                     said != NULL ? said : names[i]);
        }
    }
    return NULL;
}

void library_file(struct library *library, char *out, size_t size) {
    struct link_map *map = NULL;
    bool known = dlinfo(library, RTLD_DI_LINKMAP, &map) == 0;
    snprintf(out, size, "%s", known ? map->l_name : "");
}

void library_close(struct library *library) {
    if (library != NULL) {
        dlclose(library);
    }
}

void *library_symbol(struct library *library, const char *name) {
    return dlsym(library, name);
}
