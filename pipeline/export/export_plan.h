// SPDX-License-Identifier: MIT
// What an export will contain and where each row goes, known before the first byte is written: from the
// ledger (which problems, in which shards) and one pass over the shards (metadata, splits, agreement with the
// ledger). What it knows of each problem lies in files of its own (paged_file.h).
#ifndef STRATA_EXPORT_EXPORT_PLAN_H
#define STRATA_EXPORT_EXPORT_PLAN_H

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_list.h"
#include "checkpoints/shard_reader.h"
#include "export/export.h"
#include "export/paged_file.h"

struct export_problem {
    uint64_t ordinal;
    uint64_t id_at;  // in plan->ids
    uint64_t row_at; // first row in its piece, and so on; of shuffled rows in its split
    uint64_t token_at;
    uint64_t id_out_at;
    uint64_t metadata_at;
    uint64_t line_at;
    uint32_t position; // in its split
    uint32_t piece;    // in plan->pieces; of shuffled rows the one with its line
    uint32_t shard;    // in plan->shards
    uint32_t index;    // in its shard
    uint32_t id_size;
    uint32_t metadata_size;
    uint32_t line_size; // of its line of JSON, newline included
    uint32_t rows;
    uint32_t tokens;
    uint32_t steps;
    uint16_t split; // in plan->splits
    bool truncated;
};

struct export_shard {
    size_t member;   // of plan->list
    uint64_t number; // in its run
    struct shard_sealed sealed;
    size_t first; // of its problems in plan->by_place, in shard order
    size_t problems;
    uint32_t lowest_piece, highest_piece; // that its problems' lines go to
};

struct export_counts {
    uint64_t problems, rows, tokens;
    uint64_t id_bytes, metadata_bytes, line_bytes;
};

struct export_split {
    char name[SPLIT_NAME];
    struct export_counts counts;
    uint64_t truncated;      // problems
    uint64_t missing_steps;  // cut off by truncation or without a token (where a row is a step)
    uint64_t short_of_steps; // problems that miss some
    size_t figures;          // the number of its set of figures
    size_t files;            // its pieces but that of lines
    // Of shuffled rows (row_shuffle.h).
    size_t first_piece;     // its first of rows
    uint64_t rows_before;   // its row r is number rows_before + r of plan->row_places
    uint64_t *bucket_start; // [buckets + 1] rows
    size_t buckets;
};

// What is written, and after a kill kept or made anew, as one: a set of arrays with its lines of JSON.
enum piece_kind {
    PIECE_PROBLEMS, // problems that follow each other in their split, with all their rows
    PIECE_LINES,    // of a split whose rows are shuffled: the lines alone
    PIECE_ROWS,     // rows of it, from whatever problems
};

struct export_piece {
    enum piece_kind kind;
    uint16_t split;
    uint32_t number;   // among its split's files, from 0
    size_t first, end; // its problems are those of its split in plan->problems[first, end)
    uint64_t row_at;   // PIECE_ROWS: its first row in its split
    struct export_counts counts;
};

struct export_plan {
    struct run_list list;
    bool *complete;                  // [list.count]: every problem of the part is accounted for
    struct export_problem *problems; // [count] in the order of the export; of record_file
    size_t count;
    const char *ids; // [id_bytes], of id_file
    size_t id_bytes;
    size_t *by_place;            // [count] indices of problems, shard after shard; of place_file
    struct export_piece *pieces; // [piece_count], in the order in which they begin
    size_t piece_count;
    bool by_rows;               // rows are shuffled
    const uint64_t *row_places; // [rows] where each lies in its split before its bucket is shuffled
    struct paged_file record_file, id_file, place_file, row_file;
    struct export_shard *shards; // those that hold exported problems, part after part
    size_t shard_count;
    struct export_split splits[SPLIT_MAXIMUM];
    size_t split_count;

    bool finished; // all parts are complete
    uint64_t failed, skipped;
    uint64_t remaining; // problems without an outcome yet
    bool at_least;      // and those of the last parts, which are missing as is the survey
    json_t *left_out;   // [{"id", "ordinal", "state", "reason"}]
    json_t *identity;   // key -> value
    json_t *attributes; // root attributes of the shards -> text
    json_t *whole;      // of a set: those that are each part's own, as an undivided run has them

    size_t hidden;
    size_t model_layers;   // blocks
    size_t *stored_layers; // [stored_layer_count], of all shards
    size_t stored_layer_count;
    enum dtype stored;
    enum dtype dtype; // of the export
    bool step_rows;   // pooling is step_mean or last_of_step: a row is a step
    bool token_rows;  // pooling is tokens: a row is a token
    bool has_tokens;
    bool has_mask; // of the tokens
    size_t layer_count;
    size_t *layers;       // transformers indices to export, in the order asked for
    size_t *layer_places; // their positions in the shards' list
};

struct export_figures; // figures.h

// What the ledgers say, before a shard is read. `folder`, the export's own, holds the plan's files while they
// are made.
int export_plan_begin(struct export_plan *plan, const struct export_request *request, const char *folder,
                      struct error *err);

// The rest, for which all shards are read and hashed. `figures` are of everything and, where there are
// splits, of each; they are the caller's to destroy, whatever happens.
int export_plan_make(struct export_plan *plan, const struct export_request *request,
                     struct export_figures *figures, struct error *err);
void export_plan_destroy(struct export_plan *plan); // accepts zeros; leaves zeros

// The part of the plan that the ledgers give, which export_plan_begin reads (export_plan_ledger.c).
int export_plan_read_ledgers(struct export_plan *plan, struct error *err);

// STATUS_DATA when not every problem is accounted for, with what is to be run (export_plan_missing.c).
int export_plan_require_complete(const struct export_plan *plan, struct error *err);

// Writes export_report.incomplete.
void export_plan_incomplete_parts(const struct export_plan *plan, char out[EXPORT_PARTS_TEXT]);

// What goes through many problems says here how many it has touched since; *touched begins with 0. It bounds
// the memory that their pages take.
void export_plan_touched(const struct export_plan *plan, size_t *touched, size_t problems);

// Opens shard number `shard` of the plan; STATUS_DATA when its content is not what the plan was made from.
int export_plan_open_shard(const struct export_plan *plan, size_t shard, struct shard_reader **reader,
                           struct error *err);

// "-2 = hidden_states[35] of 0..36 = output of block 35 of 36, before the final norm"
void export_layer_text(size_t layer, size_t model_layers, char *out, size_t size);

#endif
