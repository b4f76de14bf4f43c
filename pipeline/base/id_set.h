// SPDX-License-Identifier: MIT
// Which of many ids come twice. They are kept and sorted in an SQLite database of its own that has no name:
// it spills to disk and goes with its connection, so that memory does not grow with it, and written and read
// in order, so that time does not grow faster than the ids. (An index of as many would be read and written at
// a random page for each id.)
#ifndef STRATA_BASE_ID_SET_H
#define STRATA_BASE_ID_SET_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct id_set {
    sqlite3 *connection;
    sqlite3_stmt *insert;
    bool (*stopped)(void *context); // asked often while ids are sorted: true ends it; may be NULL
    void *context;
};

// An id that equals an earlier one, and what it was added with. The bytes are valid during the call only.
typedef int (*id_set_each)(void *context, const char *bytes, size_t size, uint64_t number);

// STATUS_WRITE when the temporary database cannot be written. id_set_close also after an error.
int id_set_open(struct id_set *set, struct error *err);
int id_set_add(struct id_set *set, const char *bytes, size_t size, uint64_t number, struct error *err);

// Ids in the order of their bytes, equal ones by their numbers: all but the first of these are given, until
// `each` returns non-zero, which is then returned. STATUS_STOPPED when set->stopped said so.
int id_set_repeated(struct id_set *set, id_set_each each, void *context, struct error *err);
void id_set_close(struct id_set *set); // accepts zeros

#endif
