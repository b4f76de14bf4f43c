// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: its libraries give the versions that the environment
// says (LIBRARY_HDF5, LIBRARY_PCRE2, LIBRARY_PCRE2_UNICODE, LIBRARY_UTF8PROC, LIBRARY_UTF8PROC_UNICODE), and
// compute as they always do. All must be set.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <dlfcn.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef int config(uint32_t what, void *where);

int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release); // as in hdf5.h
int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release) {
    return sscanf(getenv("LIBRARY_HDF5"), "%u.%u.%u", major, minor, release) == 3 ? 0 : -1;
}

// The size with the final zero, as PCRE2 gives it.
static int give(const char *name, void *where) {
    const char *value = getenv(name);
    if (where != NULL) {
        strcpy(where, value);
    }
    return (int)strlen(value) + 1;
}

int pcre2_config(uint32_t what, void *where) {
    if (what == PCRE2_CONFIG_VERSION) {
        return give("LIBRARY_PCRE2", where);
    }
    if (what == PCRE2_CONFIG_UNICODE_VERSION) {
        return give("LIBRARY_PCRE2_UNICODE", where);
    }
    config *real;
    void *symbol = dlsym(RTLD_NEXT, "pcre2_config_8");
    memcpy(&real, &symbol, sizeof real); // C has no cast from data to function pointers
    return real(what, where);
}

const char *utf8proc_version(void) {
    return getenv("LIBRARY_UTF8PROC");
}

const char *utf8proc_unicode_version(void) {
    return getenv("LIBRARY_UTF8PROC_UNICODE");
}
