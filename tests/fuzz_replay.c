// SPDX-License-Identifier: MIT
// Runs a fuzz target without libFuzzer, so that it is compiled and run in every build: every seed of the
// folders given, cuts and one-byte changes of each, and inputs that break careless parsers. The same inputs
// every time.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
extern size_t fuzz_accepted; // each target's: the inputs that it did not refuse

enum { SEED_LIMIT = 1 << 24, CHANGES = 64, RANDOM_INPUTS = 64, RANDOM_BYTES = 256, NESTING = 20000 };

// A copy of exactly `size` bytes, so that sanitizers see a read past the end.
static void feed(const char *bytes, size_t size) {
    unsigned char *copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void feed_changed(char *bytes, size_t size, uint64_t *random) {
    for (int i = 0; i < CHANGES && size > 0; i++) {
        size_t at = (size_t)random_below(random, size);
        char before = bytes[at];
        bytes[at] = (char)random_below(random, 256);
        feed(bytes, size);
        bytes[at] = before;
        feed(bytes, at);
    }
}

static int feed_folder(const char *folder, uint64_t *random) {
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    int failures = 0;
    size_t accepted = 0; // seeds as they are
    for (int i = 0; i < count; i++) {
        struct buffer seed = {0};
        struct error err = {0};
        char path[PATH_SIZE];
        if (entries[i]->d_name[0] != '.') {
            if (path_join(path, sizeof path, folder, entries[i]->d_name, &err) != STATUS_OK ||
                file_read(&seed, path, SEED_LIMIT, &err) != STATUS_OK) {
                fprintf(stderr, "%s\n", err.message);
                failures = 1;
            } else {
                size_t before = fuzz_accepted;
                feed(seed.data, seed.size);
                accepted += fuzz_accepted - before;
                feed_changed(seed.data, seed.size, random);
            }
        }
        buffer_destroy(&seed);
        free(entries[i]);
    }
    free(entries);
    if (accepted == 0) { // no folder, an empty one, or one of seeds that are all refused at the door
        fprintf(stderr, "%s holds no seed that is accepted\n", folder);
        failures = 1;
    }
    return failures;
}

static void feed_built_in(uint64_t *random) {
    static const char *const texts[] = {"",     "{", "[", "\"", "\\", "{}",           "[]",
                                        "null", "0", "-", ": ", "- ", "\xEF\xBB\xBF", "\xFF\xFE"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        feed(texts[i], strlen(texts[i]));
    }
    static char long_text[NESTING];
    for (const char *byte = "[{\"- a\n"; *byte != 0; byte++) {
        memset(long_text, *byte, sizeof long_text);
        feed(long_text, sizeof long_text);
    }
    memset(long_text, 0, sizeof long_text);
    feed(long_text, sizeof long_text);
    for (int i = 0; i < RANDOM_INPUTS; i++) {
        char bytes[RANDOM_BYTES];
        for (size_t k = 0; k < sizeof bytes; k++) {
            bytes[k] = (char)random_below(random, 256);
        }
        feed(bytes, (size_t)random_below(random, sizeof bytes));
    }
}

int main(int argc, char **argv) {
    uint64_t random = 1;
    int failures = argc < 2;
    feed_built_in(&random);
    for (int i = 1; i < argc; i++) {
        failures |= feed_folder(argv[i], &random);
    }
    return failures;
}
