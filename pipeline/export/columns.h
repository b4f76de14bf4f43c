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
    COLUMN_ID, // HDF5 alone
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

// The arrays of one split. `hdf5`: names are paths as in a shard, ids and metadata are arrays too.
int column_set_make(struct column_set *set, const struct export_plan *plan, const struct export_split *split,
                    bool hdf5, struct error *err);
void column_set_destroy(struct column_set *set); // accepts zeros; leaves zeros

// Writes a column of problems from the plan. `members`: the split's problems in order.
int column_write_problems(const struct column_set *set, enum export_column column, struct array_store *store,
                          const struct export_plan *plan, const size_t *members, size_t count,
                          struct error *err);

#endif
