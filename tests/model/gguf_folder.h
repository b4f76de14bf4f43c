// SPDX-License-Identifier: MIT
// A folder of GGUF files for a test.
#ifndef STRATA_TESTS_MODEL_GGUF_FOLDER_H
#define STRATA_TESTS_MODEL_GGUF_FOLDER_H

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "gguf_built.h"

struct gguf_folder {
    char path[64];
};

static int gguf_folder_make(void **state) {
    static struct gguf_folder folder;
    strcpy(folder.path, "/tmp/strata-gguf-XXXXXX");
    *state = &folder;
    return mkdtemp(folder.path) == NULL;
}

static int gguf_folder_remove(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", ((struct gguf_folder *)*state)->path);
    return system(command);
}

// Writes a file of these words (gguf_built.h); its path, which the next call overwrites.
static const char *gguf_folder_write(const struct gguf_folder *folder, const char *name, const char *words) {
    static char path[256];
    struct buffer file = {0};
    struct error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    built(&file, words);
    assert_int_equal(file_write_atomic(path, file.data, file.size, &err), STATUS_OK);
    buffer_destroy(&file);
    return path;
}

#endif
