// SPDX-License-Identifier: MIT
// What a file is, by its first bytes, when it is not what it should be: pointers of Git LFS, tables,
// archives, compressed files, web pages, other checkpoints' formats. A reader asks before its parser, which
// could only complain about bytes.
#ifndef STRATA_BASE_FIRST_BYTES_H
#define STRATA_BASE_FIRST_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// What the reader wants.
enum first_bytes_use {
    FIRST_BYTES_JSON,        // config.json, tokenizer.json, an index
    FIRST_BYTES_LINES,       // JSON lines for an import, behind gzip's decompression
    FIRST_BYTES_YAML,        // a job file
    FIRST_BYTES_SAFETENSORS, // weights; asked only when there is no plausible header
    FIRST_BYTES_DATABASE,    // SQLite
    FIRST_BYTES_PATH,        // a folder, and there is a file
    FIRST_BYTES_COLUMNS,     // tables and compressed lines, which the Python package's strata-import reads
};

enum { FIRST_BYTES_SIZE = 512 }; // bytes that are enough

// Reads the first *size bytes of a file of `whole`. False: it cannot be opened or read, which is its reader's
// to say.
bool first_bytes_read(const char *path, unsigned char bytes[FIRST_BYTES_SIZE], size_t *size, size_t *whole);

// What the bytes (the first `size` of a file) are, "a Parquet table", when that is something of which the
// reader for `use` knows more than this table; NULL otherwise.
const char *first_bytes_wanted(const void *bytes, size_t size, enum first_bytes_use use);

// STATUS_DATA with what the file is and what to do, when it is empty, filled with zeros, or of a known kind
// that is not the one wanted. STATUS_OK says nothing of what it is. `size` bytes are at hand of a file of
// `whole`; `name` stands for the file in messages.
int first_bytes_check(const void *bytes, size_t size, uint64_t whole, const char *name,
                      enum first_bytes_use use, struct error *err);

// The same of a file that lies on the disk; one that cannot be opened or read is left to its reader.
int first_bytes_check_file(const char *path, enum first_bytes_use use, struct error *err);

#endif
