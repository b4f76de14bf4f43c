// Export: the latents of a run in the order of its query (or shuffled), in the shape training code reads.
// Failed and skipped problems are listed and left out. The target folder appears whole or not at all, with
// export.json saying what is in it and where it came from.
//
// The run is read shard after shard with one shard open and one block of rows in memory; every row's place in
// the output is known beforehand, so any order costs the same. Memory: about 110 bytes and its id for each
// problem.
#ifndef STRATA_EXPORT_EXPORT_H
#define STRATA_EXPORT_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "export/split.h"

struct export_format; // a row of the table of formats: format.h

const struct export_format *export_format_find(const char *name); // NULL when there is none

// Of the format number `index`, in the order of the help; NULL past the last.
const char *export_format_name(size_t index);
const char *export_format_help(size_t index);

struct export_request {
    const char *run;    // run directory
    const char *target; // folder to make
    const struct export_format *format;
    const int64_t *layers; // transformers indices as written, negative from the end
    size_t layer_count;    // 0: every stored layer
    bool convert;          // to `dtype`; otherwise as stored, as far as the format holds it
    enum dtype dtype;
    bool shuffle; // problems, by `shuffle_seed`
    uint64_t shuffle_seed;
    struct split_rule split;
    bool require_complete; // refuse a run that has not ended
    const char *program;   // name and version, for export.json
};

struct export_report {
    uint64_t problems; // exported
    uint64_t rows;
    uint64_t bytes; // of all files
    uint64_t files;
    uint64_t failed; // left out
    uint64_t skipped;
    uint64_t remaining; // not yet processed by the run
    uint64_t saturated; // numbers beyond float16, stored as its largest
    uint64_t unsplit;   // problems without the split column, under --split source
};

// STATUS_USAGE for a request that does not fit the run, STATUS_DATA for a run that cannot be trusted (a
// shard's hash, its problems against the ledger's), STATUS_WRITE for the target. Nothing is left of an export
// that failed.
int export_run(const struct export_request *request, struct export_report *report, struct error *err);

#endif
