// SPDX-License-Identifier: MIT
// The problems: a cursor over any SELECT on an SQLite database, opened read-only inside one read transaction,
// so that the rows cannot change under a run. Memory does not grow with the number of rows.
#ifndef STRATA_PROBLEMS_SOURCE_H
#define STRATA_PROBLEMS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/row_block.h"
#include "problems/watch.h"

struct source;

enum column_type { COLUMN_NULL, COLUMN_INTEGER, COLUMN_REAL, COLUMN_TEXT, COLUMN_BLOB };

struct source_column {
    const char *name; // as the query names it; valid while the source is open
    enum column_type type;
    const char *bytes; // text as stored (numbers as SQLite prints them, with more digits where a real needs
                       // them), NUL bytes possible; valid until the next row
    size_t size;
};

struct row {
    uint64_t ordinal; // of the query's result, from 0
    bool is_first;    // of those that the source gives
    const struct source_column *columns;
    size_t column_count;
};

// Opens `database` and prepares `query`. STATUS_DATA with SQLite's words when the file is missing, not a
// database, corrupt, or the query is wrong (not one SELECT, duplicate column names, something whose rows
// would not be the same each time; some of that shows only while rows are read). STATUS_STOPPED when another
// program holds the database for too long, or as `watch` (NULL: nobody; otherwise it outlives the source)
// asks, here and while rows are read. limit 0: all rows.
int source_open(struct source **out, const char *database, const char *query, uint64_t limit,
                const struct watch *watch, struct error *err);
void source_close(struct source *source); // accepts NULL

size_t source_column_count(const struct source *source);
const char *source_column_name(const struct source *source, size_t index);
// Index of a column; STATUS_DATA naming the column and those there are.
int source_column(const struct source *source, const char *name, size_t *index, struct error *err);

// The next row; *found false after the last one.
int source_next(struct source *source, struct row *row, bool *found, struct error *err);

// Back before the first row.
int source_rewind(struct source *source, struct error *err);

// Steps over rows without reading their text, up to `ordinal`.
int source_skip_to(struct source *source, uint64_t ordinal, struct error *err);

// STATUS_DATA naming the row when the column has an empty, NULL or repeated value, a blob, or text that is
// not valid UTF-8. Bounded memory: SQLite sorts, on disk if need be. Adds every row to `digest`, if it is not
// NULL.
int source_check_ids(struct source *source, const char *id_column, struct digest *digest, struct error *err);

// How many there were, after source_check_ids.
uint64_t source_rows(const struct source *source);

// STATUS_DATA: that the query finds no rows, with what is in the tables that it reads.
int source_refuse_empty(struct source *source, struct error *err);

// Adds every column of a row to a digest, and at the first row their names: summed over all rows it names the
// problem set. Its two parts alone, for digests of other rows.
int source_digest_row(struct digest *digest, const struct row *row, struct error *err);
int source_digest_names(struct digest *digest, const struct row *row, struct error *err);
int source_digest_values(struct digest *digest, const struct row *row, struct error *err);

// ---- a part of the rows, by a survey of all ----

// Before the first row: has the source tell the rowid of every row, where the query may be entered by them
// (*can): it reads one table in their order, with nothing but conditions.
int source_follow(struct source *source, bool *can, struct error *err);
int64_t source_rowid(const struct source *source);

// Confines a source that stands before its first row to the rows [first, end), which begin with a block and
// end with one. Where blocks->enters says so it begins there; otherwise the rows before are stepped over,
// without their text. Every block that is read from its first row on must be what it was, and nothing may
// have come in between or behind: STATUS_DATA, also later. source_rows is that of the part. blocks->blocks is
// the caller's and outlives the source.
int source_confine(struct source *source, const struct row_blocks *blocks, uint64_t first, uint64_t end,
                   struct error *err);

// Whether it begins at its part's first row, without those before.
bool source_entered(const struct source *source);

// From now on rows of the part may be other ones than the survey's.
void source_accept_changes(struct source *source);

// The ordinal of the first row: 0, unless the source is confined.
uint64_t source_first(const struct source *source);

// Version of the SQLite library.
const char *source_library(void);

#endif
