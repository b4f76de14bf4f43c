// SPDX-License-Identifier: MIT
#include "problems/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/first_bytes.h"

enum { BLOCK_BYTES = 1 << 18, RAW_BYTES = 1 << 16, LINE_LIMIT = 256 << 20, WITH_GZIP_HEADER = 16 };

struct lines {
    int descriptor;
    const char *path;
    uint64_t number;
    size_t at, filled; // of block
    bool ended;
    bool looked_at; // the first bytes, as they come out of gzip
    bool is_gzip;   // what does not begin with gzip's magic bytes is taken as it is
    bool in_member; // of gzip: begun and not ended
    bool padded;    // zeros came behind the last member
    z_stream stream;
    unsigned char raw[RAW_BYTES]; // what the stream reads
    char block[BLOCK_BYTES];
};

static int open_descriptor(int *descriptor, const char *path, struct error *err) {
    if (strcmp(path, "-") != 0) {
        return file_open_stream(descriptor, path, err);
    }
    *descriptor = dup(STDIN_FILENO);
    return *descriptor < 0 ? error_set_errno(err, STATUS_DATA, "cannot open standard input") : STATUS_OK;
}

// As many bytes as there are until the end; a pipe gives them in pieces.
static int read_bytes(const struct lines *lines, void *out, size_t size, size_t *count, struct error *err) {
    *count = 0;
    while (*count < size) {
        ssize_t got = read(lines->descriptor, (char *)out + *count, size - *count);
        if (got < 0 && errno != EINTR) {
            return error_set_errno(err, STATUS_DATA, "cannot read %s", lines->path);
        }
        if (got == 0) {
            break;
        }
        *count += got > 0 ? (size_t)got : 0;
    }
    return STATUS_OK;
}

static int fill_raw(struct lines *lines, struct error *err) {
    size_t count;
    TRY(read_bytes(lines, lines->raw, RAW_BYTES, &count, err));
    lines->stream.next_in = lines->raw;
    lines->stream.avail_in = (uInt)count;
    return STATUS_OK;
}

static int find_form(struct lines *lines, struct error *err) {
    TRY(fill_raw(lines, err));
    lines->is_gzip = lines->stream.avail_in >= 2 && lines->raw[0] == 0x1F && lines->raw[1] == 0x8B;
    lines->in_member = lines->is_gzip;
    if (lines->is_gzip && inflateInit2(&lines->stream, MAX_WBITS + WITH_GZIP_HEADER) != Z_OK) {
        lines->is_gzip = false;
        return error_set(err, STATUS_INTERNAL, "out of memory for %s", lines->path);
    }
    return STATUS_OK;
}

int lines_open(struct lines **out, const char *path, struct error *err) {
    *out = NULL;
    void *block;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct lines *lines = block;
    lines->path = strcmp(path, "-") == 0 ? "standard input" : path;
    int status = open_descriptor(&lines->descriptor, path, err);
    if (status != STATUS_OK) {
        free(lines);
        return status;
    }
    status = find_form(lines, err);
    if (status != STATUS_OK) {
        lines_close(lines);
        return status;
    }
    *out = lines;
    return STATUS_OK;
}

void lines_close(struct lines *lines) {
    if (lines != NULL) {
        if (lines->is_gzip) {
            inflateEnd(&lines->stream);
        }
        close(lines->descriptor);
        free(lines);
    }
}

static int fail(const struct lines *lines, int status, const char *what, struct error *err) {
    return error_set(err, status, "cannot read %s: after line %llu: %s", lines->path,
                     (unsigned long long)lines->number, what);
}

// Behind a member: another one, or the zeros that fill up a tape's block. Whatever else there is may be a
// member whose beginning is damaged: its rows would be lost.
static int next_member(struct lines *lines, struct error *err) {
    z_stream *stream = &lines->stream;
    if (!lines->padded && *stream->next_in == 0x1F) {
        lines->in_member = true;
        inflateReset(stream);
        return STATUS_OK;
    }
    for (; stream->avail_in > 0; stream->avail_in--) {
        if (*stream->next_in++ != 0) {
            return fail(lines, STATUS_DATA, "bytes after the end of the compressed data", err);
        }
    }
    lines->padded = true;
    return STATUS_OK;
}

// *count stays below the block's size at the end only.
static int inflate_block(struct lines *lines, size_t *count, struct error *err) {
    z_stream *stream = &lines->stream;
    stream->next_out = (Bytef *)lines->block;
    stream->avail_out = BLOCK_BYTES;
    while (stream->avail_out > 0) {
        if (stream->avail_in == 0) {
            TRY(fill_raw(lines, err));
        }
        if (stream->avail_in == 0 && lines->in_member) {
            return fail(lines, STATUS_DATA, "the compressed data ends too early", err);
        }
        if (stream->avail_in == 0) {
            break;
        }
        if (lines->in_member) {
            int code = inflate(stream, Z_NO_FLUSH);
            lines->in_member = code != Z_STREAM_END;
            if (code != Z_OK && code != Z_STREAM_END) {
                return fail(lines, code == Z_MEM_ERROR ? STATUS_INTERNAL : STATUS_DATA,
                            stream->msg == NULL ? zError(code) : stream->msg, err);
            }
        } else {
            TRY(next_member(lines, err));
        }
    }
    *count = BLOCK_BYTES - stream->avail_out;
    return STATUS_OK;
}

// The first of the bytes were read to find the form.
static int copy_block(struct lines *lines, size_t *count, struct error *err) {
    size_t had = lines->stream.avail_in;
    memcpy(lines->block, lines->raw, had);
    lines->stream.avail_in = 0;
    TRY(read_bytes(lines, lines->block + had, BLOCK_BYTES - had, count, err));
    *count += had;
    return STATUS_OK;
}

static int fill(struct lines *lines, struct error *err) {
    size_t count;
    TRY((lines->is_gzip ? inflate_block : copy_block)(lines, &count, err));
    lines->at = 0;
    lines->filled = count;
    lines->ended = count == 0;
    if (!lines->looked_at) {
        lines->looked_at = true;
        TRY(first_bytes_check(lines->block, lines->filled, lines->filled, lines->path, FIRST_BYTES_LINES,
                              err));
    }
    return STATUS_OK;
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
