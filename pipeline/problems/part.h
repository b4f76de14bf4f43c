// SPDX-License-Identifier: MIT
// A part of a query's rows: entered by rowid where the query allows that, and held against the blocks of a
// survey while it is read. For this room only; source.h has what others see.
//
// A query that reads one table in the order of its rowids is entered through a view of that table's name in
// the connection's own schema, which hides the table and has its rows from one rowid to another. Whether
// SQLite then searches by rowid, and does nothing else, its plan tells.
#ifndef STRATA_PROBLEMS_PART_H
#define STRATA_PROBLEMS_PART_H

#include <sqlite3.h>

#include "base/row_block.h"
#include "problems/source.h"

struct part {
    struct row_blocks blocks; // the caller's
    uint64_t first;           // ordinals
    uint64_t end;
    bool checks; // the rows are those of the survey, or an error
    bool begun;  // the block at hand was read from its first row on
    struct digest *digest;
};

// Gives the connection a view in the place of `table`, of rows with rowid >= first and, where bounded, < end.
// *out is `query` prepared on it, or NULL where the query cannot be entered.
int part_enter(sqlite3_stmt **out, sqlite3 *connection, const char *table, const char *query, int64_t first,
               bool bounded, int64_t end, struct error *err);

// The same with all rows; *rowid is then that of the row at hand.
int part_follow(sqlite3_stmt **out, sqlite3 *connection, const char *table, const char *query, int64_t *rowid,
                struct error *err);

void part_restart(struct part *part); // the rows are read anew
void part_destroy(struct part *part); // accepts NULL

// Adds a row to its block, and at the block's end compares. STATUS_DATA when the rows are others.
int part_check(struct part *part, const struct row *row, const char *database, struct error *err);

#endif
