// SPDX-License-Identifier: MIT
// All tests of a device in one program, for the bundle: each of them alone has all kernels in it. Which one
// it is, the name that it is called by says (bundle.sh gives it a name for each).
#include <stdio.h>
#include <string.h>

#include "device_tests.h" // of the build: DEVICE_TESTS, and a prototype of each

static const struct {
    const char *name;
    int (*run)(void);
} tests[] = {
#define ENTRY(test) {#test, test},
    DEVICE_TESTS(ENTRY)};

int main(int argc, char **argv) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "";
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (strcmp(tests[i].name, name) == 0) {
            return tests[i].run();
        }
    }
    fprintf(stderr, "device_tests: called by the name of one of its tests it runs that; '%s' is none\n",
            name);
    return 64;
}
