// SPDX-License-Identifier: MIT
// The small datasets of a shard (all but latents and statistics), written side by side: /problems, /rows,
// /tokens, /batches. The virtual view keeps the same ones for the whole run.
#ifndef STRATA_CHECKPOINTS_SHARD_COLUMNS_H
#define STRATA_CHECKPOINTS_SHARD_COLUMNS_H

#include "checkpoints/column.h"
#include "checkpoints/shard.h"

enum shard_column {
    COLUMN_ID,
    COLUMN_ID_OFFSET,
    COLUMN_METADATA,
    COLUMN_METADATA_OFFSET,
    COLUMN_ORDINAL,
    COLUMN_ROW_OFFSET,
    COLUMN_TOKEN_COUNT,
    COLUMN_TRUNCATED,
    COLUMN_STEP_COUNT,
    COLUMN_ROW_STEP,
    COLUMN_ROW_TOKEN_START,
    COLUMN_ROW_TOKEN_END,
    COLUMN_ROW_BYTE_START,
    COLUMN_ROW_BYTE_END,
    COLUMN_BATCH_NUMBER,
    COLUMN_BATCH_OFFSET,
    COLUMN_TOKEN_IDS, // the last three only when token ids are kept,
    COLUMN_TOKEN_OFFSET,
    COLUMN_LOSS_MASK, // and this one when the loss mask is
    COLUMN_COUNT
};

const char *shard_column_path(enum shard_column column);
enum hdf5_kind shard_column_kind(enum shard_column column);

struct shard_columns {
    struct column column[COLUMN_COUNT];
    size_t count;      // shard_columns_kept
    uint64_t tokens;   // of all problems, ids kept or not
    uint64_t rows_end; // of the problems appended so far
};

// How many columns, from the first on, a shard has.
size_t shard_columns_kept(bool token_ids, bool loss_mask);

size_t shard_columns_bytes(size_t kept); // of memory that shard_columns_init takes from its arena
int shard_columns_init(struct shard_columns *columns, size_t kept, struct arena *arena, struct error *err);

// Begins a file: makes the groups and writes the leading 0 of every offset.
int shard_columns_start(struct shard_columns *columns, hid_t file, struct error *err);

int shard_columns_problem(struct shard_columns *columns, hid_t file, const struct shard_problem *problem,
                          struct error *err);
int shard_columns_row(struct shard_columns *columns, hid_t file, const struct shard_row *row,
                      struct error *err);

// Ends a batch after its problems were appended.
int shard_columns_batch(struct shard_columns *columns, hid_t file, uint64_t number, struct error *err);
int shard_columns_finish(struct shard_columns *columns, hid_t file, struct error *err);

uint64_t shard_columns_problems(const struct shard_columns *columns);
uint64_t shard_columns_rows(const struct shard_columns *columns);

#endif
