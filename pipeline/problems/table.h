// SPDX-License-Identifier: MIT
// The table an import writes, for this room only: one transaction, columns added as members turn up.
#ifndef STRATA_PROBLEMS_TABLE_H
#define STRATA_PROBLEMS_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "problems/watch.h"

struct table;

// Opens the database and begins the transaction. aside: the file is a new one that the caller syncs and
// renames, so SQLite need not. append: the table must be there and have the id column; otherwise it must not
// be there. STATUS_DATA when that does not hold, STATUS_WRITE when the database cannot be written,
// STATUS_STOPPED when another program holds it for too long (watch: NULL, or who is told).
int table_open(struct table **out, const char *database, bool aside, const char *name, const char *id,
               bool append, const struct watch *watch, struct error *err);

// Adds one object as a row. *taken false, with the reason in `what`, when the object is at fault; the table
// is then as before.
int table_insert(struct table *table, const json_t *object, bool *taken, char *what, size_t what_size,
                 struct error *err);

size_t table_column_count(const struct table *table);

// Checks that the ids of all rows are there and unique, and ends the transaction.
int table_commit(struct table *table, struct error *err);
void table_close(struct table *table); // without a commit nothing stays; accepts NULL

#endif
