// SPDX-License-Identifier: MIT
// Files that are not read here, but by the Python package's strata-import.
#include <sys/stat.h>

#include "base/first_bytes.h"
#include "problems/import.h"
#include "problems/json_line.h"
#include "problems/lines.h"

static const char *by_first_bytes(const char *path) {
    unsigned char bytes[FIRST_BYTES_SIZE];
    size_t size;
    size_t whole;
    return first_bytes_read(path, bytes, &size, &whole) ? first_bytes_wanted(bytes, size, FIRST_BYTES_COLUMNS)
                                                        : NULL;
}

static const char *by_first_line(const char *path) {
    struct lines *lines = NULL;
    struct buffer line = {0};
    struct error ignored;
    const char *shape = NULL;
    const char *advice;
    bool found = true;
    if (lines_open(&lines, path, &ignored) == STATUS_OK) {
        while (found && json_line_blank(line.data, line.size) &&
               lines_next(lines, &line, &found, &ignored) == STATUS_OK) {
        }
        shape = json_line_shape(line.data, line.size, &advice);
    }
    buffer_destroy(&line);
    lines_close(lines);
    return shape;
}

const char *import_foreign(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) {
        return NULL;
    }
    if (S_ISDIR(info.st_mode)) {
        return "a folder";
    }
    if (!S_ISREG(info.st_mode)) {
        return NULL; // what was read of a pipe would be lost
    }
    const char *kind = by_first_bytes(path);
    return kind != NULL ? kind : by_first_line(path);
}
