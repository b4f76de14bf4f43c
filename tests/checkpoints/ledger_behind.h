// SPDX-License-Identifier: MIT
// A statement on a ledger's database, behind the back of the program.
#ifndef STRATA_TESTS_CHECKPOINTS_LEDGER_BEHIND_H
#define STRATA_TESTS_CHECKPOINTS_LEDGER_BEHIND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "checkpoints/run_folder.h"

// Returns how many rows the last statement of `sql` changed.
static inline int ledger_behind(const char *folder, const char *sql) {
    char path[PATH_SIZE];
    char *message = NULL;
    struct error err;
    sqlite3 *db;
    assert_int_equal(run_folder_file(path, folder, "ledger.sqlite", &err), STATUS_OK);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) {
        fail_msg("%s: %s", sql, message);
    }
    int changed = sqlite3_changes(db);
    sqlite3_close(db);
    return changed;
}

#endif
