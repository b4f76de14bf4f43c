// SPDX-License-Identifier: MIT
// The arrays of one piece beside its latents, and their numbers in the piece's array store.
#ifndef STRATA_EXPORT_COLUMNS_H
#define STRATA_EXPORT_COLUMNS_H

#include "export/array_store.h"
#include "export/export_plan.h"

enum export_column {
    COLUMN_STEP, // of rows, as in a shard: step, spans of tokens and bytes
    COLUMN_TOKEN_START,
    COLUMN_TOKEN_END,
    COLUMN_BYTE_START,
    COLUMN_BYTE_END,
    COLUMN_PROBLEM,  // of rows that are shuffled: the line of their problem, from 0
    COLUMN_TOKEN_ID, // where each is of a token
    COLUMN_TOKEN_MASK,
    COLUMN_ROW_OFFSET, // of problems
    COLUMN_ORDINAL,
    COLUMN_TOKEN_COUNT,
    COLUMN_TRUNCATED,
    COLUMN_STEP_COUNT,
    COLUMN_TOKEN_OFFSET, // when the shards hold tokens
    COLUMN_TOKEN_IDS,
    COLUMN_LOSS_MASK, // and their loss mask
    COLUMN_ID,        // of a format as_shard
    COLUMN_ID_OFFSET,
    COLUMN_METADATA,
    COLUMN_METADATA_OFFSET,
    COLUMN_COUNT
};

enum { COLUMN_ABSENT = -1 };

struct column_set {
    struct array_spec *specs; // [count]: first the latents, layer by layer, then the columns
    size_t count;
    int number[COLUMN_COUNT]; // in specs, or COLUMN_ABSENT
    char (*names)[32];        // what specs point to
    char (*layers)[160];
};

struct export_format;

// The arrays of a piece with latents; a format as_shard names them by paths as in a shard, and ids and
// metadata are arrays too.
int column_set_make(struct column_set *set, const struct export_plan *plan, const struct export_piece *piece,
                    const struct export_format *format, struct error *err);
void column_set_destroy(struct column_set *set); // accepts zeros; leaves zeros

// Bytes of the file of such a piece with so many of everything: at least those that it will have.
uint64_t column_set_bytes(const struct export_plan *plan, enum piece_kind kind,
                          const struct export_counts *counts, const struct export_format *format);

// Writes what a shard holds of one problem: the columns of its rows, its tokens, id and metadata.
int column_set_write_problem(const struct column_set *set, struct array_store *store,
                             const struct export_plan *plan, const struct export_problem *problem,
                             const struct shard_content *content, struct error *err);

// Writes the columns of row `row` of the shard, a shuffled one of the problem, to row `at`.
int column_set_write_row(const struct column_set *set, struct array_store *store, uint64_t at,
                         const struct export_problem *problem, const struct shard_content *content,
                         uint64_t row, struct error *err);

// Writes the columns of a piece that the plan knows alone.
int column_set_write_plan(const struct column_set *set, struct array_store *store,
                          const struct export_plan *plan, const struct export_piece *piece,
                          struct error *err);

#endif
