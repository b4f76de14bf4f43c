#include "problems/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/first_bytes.h"

enum { BLOCK_BYTES = 1 << 18, LINE_LIMIT = 256 << 20 };

struct lines {
    gzFile file; // zlib hands through what does not begin with gzip's magic bytes
    const char *path;
    uint64_t number;
    size_t at, filled; // of block
    bool ended;
    bool looked_at; // the first bytes, as they come out of gzip
    char block[BLOCK_BYTES];
};

static int open_descriptor(int *descriptor, const char *path, struct error *err) {
    if (strcmp(path, "-") != 0) {
        return file_open_stream(descriptor, path, err);
    }
    *descriptor = dup(STDIN_FILENO);
    return *descriptor < 0 ? error_set_errno(err, STATUS_DATA, "cannot open standard input") : STATUS_OK;
}

int lines_open(struct lines **out, const char *path, struct error *err) {
    *out = NULL;
    struct lines *lines = NULL;
    int descriptor = -1;
    int status = memory_zeroed((void **)&lines, 1, sizeof *lines, err);
    if (status != STATUS_OK) {
        return status;
    }
    lines->path = strcmp(path, "-") == 0 ? "standard input" : path;
    status = open_descriptor(&descriptor, path, err);
    if (status == STATUS_OK && (lines->file = gzdopen(descriptor, "rb")) == NULL) {
        close(descriptor);
        status = error_set(err, STATUS_INTERNAL, "out of memory for %s", lines->path);
    }
    if (status != STATUS_OK) {
        free(lines);
        return status;
    }
    *out = lines;
    return STATUS_OK;
}

void lines_close(struct lines *lines) {
    if (lines != NULL) {
        gzclose_r(lines->file);
        free(lines);
    }
}

// zlib reports a file cut off in the middle of its compressed data only through gzerror, after the last byte.
static int check_stream(const struct lines *lines, int count, struct error *err) {
    int code = Z_OK;
    const char *words = gzerror(lines->file, &code);
    if (count >= 0 && (code == Z_OK || code == Z_STREAM_END)) {
        return STATUS_OK;
    }
    if (code == Z_ERRNO) {
        return error_set_errno(err, STATUS_DATA, "cannot read %s", lines->path);
    }
    return error_set(err, code == Z_MEM_ERROR ? STATUS_INTERNAL : STATUS_DATA,
                     "cannot read %s: after line %llu: %s", lines->path, (unsigned long long)lines->number,
                     code == Z_BUF_ERROR ? "the compressed data ends too early" : words);
}

static int fill(struct lines *lines, struct error *err) {
    int count = gzread(lines->file, lines->block, BLOCK_BYTES);
    int status = check_stream(lines, count, err);
    lines->at = 0;
    lines->filled = count > 0 ? (size_t)count : 0;
    lines->ended = count <= 0;
    if (status == STATUS_OK && !lines->looked_at) {
        lines->looked_at = true;
        status = first_bytes_check(lines->block, lines->filled, lines->filled, lines->path, FIRST_BYTES_LINES,
                                   err);
    }
    return status;
}

int lines_next(struct lines *lines, struct buffer *line, bool *found, struct error *err) {
    buffer_clear(line);
    *found = false;
    for (;;) {
        if (lines->at == lines->filled) {
            int status = lines->ended ? STATUS_OK : fill(lines, err);
            if (status != STATUS_OK) {
                return status;
            }
            if (lines->ended) {
                lines->number += *found;
                return STATUS_OK;
            }
        }
        const char *start = lines->block + lines->at;
        const char *end = memchr(start, '\n', lines->filled - lines->at);
        size_t size = end == NULL ? lines->filled - lines->at : (size_t)(end - start);
        if (line->size + size > LINE_LIMIT) {
            return error_set(err, STATUS_DATA, "%s: line %llu is longer than %d MiB", lines->path,
                             (unsigned long long)lines->number + 1, LINE_LIMIT >> 20);
        }
        int status = buffer_append(line, start, size, err);
        if (status != STATUS_OK) {
            return status;
        }
        *found = true;
        lines->at += size + (end != NULL);
        if (end != NULL) {
            lines->number += 1;
            return STATUS_OK;
        }
    }
}

uint64_t lines_number(const struct lines *lines) {
    return lines->number;
}
