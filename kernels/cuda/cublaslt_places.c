// SPDX-License-Identifier: MIT
#include "kernels/cuda/cublaslt_places.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A folder of PyPI's wheels: nvidia/cu13, or nvidia/cublas before CUDA 13.
#define WHEELS "/lib*/python3*/*-packages/nvidia/cu*/lib"

// Whether the last line of `text`, which begins at `line`, stands in an earlier one, too.
static bool stands_before(const struct buffer *text, size_t line) {
    size_t length = text->size - line;
    for (size_t i = 0; i + length <= line; i++) {
        if ((i == 0 || text->data[i - 1] == '\n') && memcmp(text->data + i, text->data + line, length) == 0) {
            return true;
        }
    }
    return false;
}

// `folder` as it is, then `pattern`. What is no absolute path (a variable that is not set or empty among
// them) is no place: whoever made the working folder does not choose the library.
static int add(struct buffer *out, const char *folder, const char *pattern, struct error *err) {
    size_t line = out->size;
    if (folder == NULL || folder[0] != '/' || strchr(folder, '\n') != NULL) {
        return STATUS_OK;
    }
    for (const char *c = folder; *c != 0; c++) {
        TRY(buffer_printf(out, err, strchr("*?[]\\", *c) != NULL ? "\\%c" : "%c", *c));
    }
    TRY(buffer_printf(out, err, "%s\n", pattern));
    if (stands_before(out, line)) {
        out->size = line;
        out->data[line] = 0;
    }
    return STATUS_OK;
}

// Cuts the last part of a path off: the folder that it is in.
static void to_folder(char *path) {
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = 0;
    }
}

// The folder of this program, or "".
static void find_program(char folder[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    folder[length > 0 ? length : 0] = 0;
    to_folder(folder);
}

struct python {
    char prefix[PATH_MAX]; // where it is installed; "": there is none
    char real[PATH_MAX];   // where the file behind its link is: a virtual environment may use its packages
    const char *wheels;    // below the prefix
};

// The first python3 on PATH. pyenv has scripts there, whose pythons lie beside them.
static void find_python(struct python *python) {
    const char *rest = getenv("PATH");
    while (rest != NULL) {
        int length = (int)strcspn(rest, ":");
        int size = snprintf(python->prefix, PATH_MAX, "%.*s/python3", length, rest);
        if (rest[0] == '/' && size < PATH_MAX && access(python->prefix, X_OK) == 0) {
            bool is_script = strstr(python->prefix, "/shims/python3") != NULL;
            python->wheels = is_script ? "/versions/*" WHEELS : WHEELS;
            if (realpath(python->prefix, python->real) == NULL) {
                python->real[0] = 0;
            }
            for (int i = 0; i < 2; i++) { // bin/python3
                to_folder(python->prefix);
                to_folder(python->real);
            }
            return;
        }
        rest = rest[length] == ':' ? rest + length + 1 : NULL;
    }
    *python = (struct python){.wheels = WHEELS};
}

int cublaslt_places(struct buffer *out, const char *built_with, struct error *err) {
    char program[PATH_MAX];
    char above[PATH_MAX];
    struct python python;
    const char *base = getenv("PYTHONUSERBASE");
    bool at_home = base == NULL || base[0] == 0;
    find_program(program);
    snprintf(above, sizeof above, "%s", program);
    to_folder(above);
    find_python(&python);
    const struct {
        const char *folder;
        const char *pattern;
    } places[] = {
        {program, "/lib"},
        {above, "/lib"},
        {above, WHEELS},
        {built_with, ""},
        {getenv("CUDA_HOME"), "/lib*"},
        {getenv("CUDA_PATH"), "/lib*"},
        {getenv("CONDA_PREFIX"), "/lib"},
        {"/usr/local", "/cuda*/lib*"},
        {"/opt/cuda", "/lib*"},
        {getenv("VIRTUAL_ENV"), WHEELS},
        {getenv("CONDA_PREFIX"), WHEELS},
        {python.prefix, python.wheels},
        {python.real, python.wheels},
        {at_home ? getenv("HOME") : base, at_home ? "/.local" WHEELS : WHEELS},
        {"/usr/local", WHEELS},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        TRY(add(out, places[i].folder, places[i].pattern, err));
    }
    return STATUS_OK;
}
