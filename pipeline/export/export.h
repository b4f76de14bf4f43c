// SPDX-License-Identifier: MIT
// Export: the latents of a run, or of a set of parts, in the order of the query (or shuffled), in the shape
// training code reads. Failed and skipped problems are listed and left out. The target folder appears whole
// or not at all, with export.json saying what is in it and where it came from; until then it is TARGET.tmp,
// in which a killed export's finished files stay (progress.h).
//
// The runs are read shard after shard with one shard open and one block of rows in memory; every row's place
// in the output is known beforehand, so any order costs the same. What is known of each problem, 112 bytes
// and its id, lies in files without a name in the folder that is made (paged_file.h), so that memory grows
// with the shards (some 250 bytes each) and the problems that are left out (0.6 KB each), not with those that
// are exported: the peak over 0.1, 1 and 4 million of them is 32, 43 and 47 MB. A shuffle touches the files
// at random: as long as they fit into memory, which the kernel takes back when it is wanted elsewhere, it
// costs little more.
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

// A layer as it was asked for. Shards do not name a model's modules, so that any family's name is taken.
enum export_layer_kind {
    EXPORT_LAYER_INDEX,        // transformers' hidden_states, negative from the end
    EXPORT_LAYER_PRE_NORM,     // the last block's output before the final norm
    EXPORT_LAYER_BEFORE_BLOCK, // what the block reads, blocks from 0
    EXPORT_LAYER_BEHIND_BLOCK, // its output: of the last block pre_norm
};

struct export_layer {
    enum export_layer_kind kind;
    int64_t number;
};

enum export_normalization { NORMALIZATION_NONE, NORMALIZATION_STANDARD, NORMALIZATION_EXPECTED_NORM };

struct export_request {
    const char *const *runs; // a run directory, the folder of a set, or several parts of one (run_list.h)
    size_t run_count;
    const char *target; // folder to make
    const struct export_format *format;
    const struct export_layer *layers;
    size_t layer_count; // 0: every stored layer
    bool convert;       // to `dtype`; otherwise as stored, as far as the format holds it
    enum dtype dtype;
    bool shuffle; // problems, by `shuffle_seed`
    uint64_t shuffle_seed;
    bool shuffle_rows; // each by itself, by `row_seed`
    uint64_t row_seed;
    uint64_t file_bytes; // of a file at most, if its first problem lets it; 0: a file holds a split
    enum export_normalization normalization;
    struct split_rule split;
    bool require_complete; // refuse a run or set that has not ended
    const char *program;   // name and version, for export.json
    // Adds to the folder's files before it gets its name; NULL: nothing is added.
    int (*complete)(const char *folder, struct error *err);
    const char *completes; // how the names of those files end; an export that lacks them gets them later
};

enum { EXPORT_PARTS_TEXT = 256 };

struct export_report {
    uint64_t problems; // exported
    uint64_t rows;
    uint64_t bytes; // of all files
    uint64_t files;
    uint64_t failed; // left out
    uint64_t skipped;
    uint64_t remaining; // not yet processed
    bool at_least;      // how many rows missing parts have is not known
    // "parts 2, 5 and 7 of 8 are not complete", of a set; empty when all are, and of a run by itself.
    char incomplete[EXPORT_PARTS_TEXT];
    uint64_t saturated; // numbers beyond float16, stored as its largest
    uint64_t kept;      // pieces that an earlier call had finished
    bool was_there;     // the target is this export already: nothing was done, and the counts are 0
    uint64_t unsplit;   // problems without the split column, under --split source
};

// A target that is there is STATUS_USAGE unless it is what this call would make, of the same shards.
// STATUS_USAGE for a request that does not fit the run, STATUS_DATA for a run that cannot be trusted (a
// shard's hash, its problems against the ledger's), STATUS_WRITE for the target. Of an export that failed
// TARGET.tmp is left with the files that were finished, if there are any.
int export_run(const struct export_request *request, struct export_report *report, struct error *err);

#endif
