// SPDX-License-Identifier: MIT
// A folder of a test's own, and SQL run on a database in it.
#ifndef STRATA_TESTS_PROBLEMS_SCRATCH_H
#define STRATA_TESTS_PROBLEMS_SCRATCH_H

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_folder[64];

static inline int scratch_make(void **state) {
    (void)state;
    strcpy(scratch_folder, "/tmp/strata-test-XXXXXX");
    return mkdtemp(scratch_folder) == NULL;
}

static inline int scratch_remove(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch_folder);
    return system(command);
}

// A path in the folder; four of them are valid at a time.
static inline const char *scratch_path(const char *name) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline void scratch_sql(const char *database, const char *sql) {
    sqlite3 *connection = NULL;
    char *words = NULL;
    if (sqlite3_open(scratch_path(database), &connection) != SQLITE_OK ||
        sqlite3_exec(connection, sql, NULL, NULL, &words) != SQLITE_OK) {
        fail_msg("%s: %s", sql, words == NULL ? "cannot open" : words);
    }
    sqlite3_close(connection);
}

static inline void scratch_file(const char *name, const char *bytes, size_t size) {
    FILE *file = fopen(scratch_path(name), "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        fail_msg("cannot write %s", name);
    }
}

#endif
