// SPDX-License-Identifier: MIT
// Import of JSON lines into a problem database: scalars become columns, arrays and objects JSON text.
#ifndef STRATA_PROBLEMS_IMPORT_H
#define STRATA_PROBLEMS_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "problems/watch.h"

struct import_options {
    const char *table; // "problems"
    const char *id; // member that must be there and unique; NULL: problem_id, or another usual name of an id
    bool append;    // add to an existing table; otherwise an existing table is refused
    bool skip_broken;          // leave broken lines out, each of them told
    const struct watch *watch; // who is told of a long wait; NULL: nobody
};

#define IMPORT_STANDARD_ID "problem_id"

struct import_report {
    uint64_t rows;
    uint64_t columns;
    uint64_t skipped;                 // broken lines
    uint64_t mended;                  // lines of `rows` that hold what JSON, or 64 bits, do not have
    uint64_t first_mended;            // the number of the first of these
    struct json_mended mended_values; // how many there were, by kind
    char id[128];                     // the member that was taken
};

// Reads `path` (.jsonl, or .jsonl.gz by its magic bytes; "-" is standard input) into `database`. All or
// nothing: one transaction. Broken lines (up to 20 of them) are each given to `fault` with their line number,
// and nothing is imported: STATUS_DATA; unless they are to be skipped.
int import_jsonl(const char *path, const char *database, const struct import_options *options,
                 void (*fault)(void *context, uint64_t line, const char *what), void *context,
                 struct import_report *report, struct error *err);

// What a file is, or a folder, that is not read here and that the Python package's strata-import reads ("a
// Parquet table", "CSV"); NULL otherwise, also when it cannot be opened, or is a pipe.
const char *import_foreign(const char *path);

#endif
