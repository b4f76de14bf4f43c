// SPDX-License-Identifier: MIT
// What a query may not use, because its rows must be the same in every pass over it, today and at a resume
// next week: chance, the present, the machine's time zone, what belongs to a connection or to the library.
// SQLite's authorizer sees functions by name, wherever they stand (a view, a common table, a subquery);
// whether a date function asks for the present only its arguments say, so those functions are replaced by
// ones that look at them and hand the rest on. Data that says 'now' stays data. For this room only.
#ifndef STRATA_PROBLEMS_REPEATABLE_H
#define STRATA_PROBLEMS_REPEATABLE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/error.h"

struct repeatable;

// Replaces the connection's date functions: before anything is read from it.
int repeatable_create(struct repeatable **out, sqlite3 *connection, struct error *err);
void repeatable_destroy(struct repeatable *repeatable); // after the connection is closed; accepts NULL

// For an authorizer: whether a function may be used. The first that may not is remembered.
bool repeatable_allows(struct repeatable *repeatable, const char *function);

// The same for a table: SQLite has some that show its own state.
bool repeatable_allows_table(struct repeatable *repeatable, const char *table);

// "random(), which is another each time": what was refused; NULL: nothing.
const char *repeatable_refusal(const struct repeatable *repeatable);

#endif
