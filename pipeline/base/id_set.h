// A set of byte strings in an SQLite database of its own that has no name: it spills to disk and goes with
// its connection, so that memory does not grow with it.
#ifndef STRATA_BASE_ID_SET_H
#define STRATA_BASE_ID_SET_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct id_set {
    sqlite3 *connection;
    sqlite3_stmt *insert;
};

// STATUS_WRITE when the temporary database cannot be written. id_set_close also after an error.
int id_set_open(struct id_set *set, struct error *err);
int id_set_add(struct id_set *set, const char *bytes, size_t size, bool *is_new, struct error *err);
void id_set_close(struct id_set *set); // accepts zeros

#endif
