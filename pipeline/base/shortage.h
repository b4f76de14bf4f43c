// SPDX-License-Identifier: MIT
// What SQLite reports when the machine has run out of something, which is no fault of a database.
#ifndef STRATA_BASE_SHORTAGE_H
#define STRATA_BASE_SHORTAGE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/error.h"

// `code` is what the last call on the connection (NULL: none could be made) returned, extended or not.
static inline bool sqlite_is_shortage(sqlite3 *connection, int code) {
    int primary = code & 0xFF;
    if (primary == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM) {
        return true;
    }
    return connection != NULL && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN) &&
           error_is_shortage(sqlite3_system_errno(connection));
}

#endif
