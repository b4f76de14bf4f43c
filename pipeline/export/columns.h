// The arrays of one split beside its latents, and their numbers in the split's array store.
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

// The arrays of one split. `as_shard`: names are paths as in a shard, ids and metadata are arrays too.
int column_set_make(struct column_set *set, const struct export_plan *plan, const struct export_split *split,
                    bool as_shard, struct error *err);
void column_set_destroy(struct column_set *set); // accepts zeros; leaves zeros

// Writes what a shard holds of one problem: the columns of its rows, its tokens, id and metadata.
int column_set_write_problem(const struct column_set *set, struct array_store *store,
                             const struct export_plan *plan, const struct export_problem *problem,
                             const struct shard_content *content, struct error *err);

// Writes the columns of split number `split` that the plan knows alone.
int column_set_write_plan(const struct column_set *set, struct array_store *store,
                          const struct export_plan *plan, size_t split, struct error *err);

#endif
