// SPDX-License-Identifier: MIT
#include "base/id_set.h"

#include <string.h>

#include "base/memory.h"
#include "base/shortage.h"

enum { STEPS_BETWEEN_QUESTIONS = 1 << 20 }; // of SQLite's machine: fractions of a second

static int id_set_fail(const struct id_set *set, const char *what, struct error *err) {
    int code = set->connection == NULL ? SQLITE_NOMEM : sqlite3_extended_errcode(set->connection);
    if (code == SQLITE_INTERRUPT) {
        return error_set(err, STATUS_STOPPED, "stopped while the ids are compared");
    }
    return error_set(err, sqlite_is_shortage(set->connection, code) ? STATUS_INTERNAL : STATUS_WRITE,
                     "%s a temporary database: %s", what, sqlite3_errmsg(set->connection));
}

int id_set_open(struct id_set *set, struct error *err) {
    static const char schema[] = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16384;"
                                 "CREATE TABLE ids (id BLOB, number INTEGER); BEGIN";
    if (sqlite3_open_v2("", &set->connection,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK ||
        sqlite3_exec(set->connection, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(set->connection, "INSERT INTO ids VALUES (?, ?)", -1, &set->insert, NULL) !=
            SQLITE_OK) {
        return id_set_fail(set, "cannot make", err);
    }
    return STATUS_OK;
}

void id_set_close(struct id_set *set) {
    sqlite3_finalize(set->insert);
    sqlite3_close(set->connection);
}

int id_set_add(struct id_set *set, const char *bytes, size_t size, uint64_t number, struct error *err) {
    sqlite3_bind_blob64(set->insert, 1, bytes, size, SQLITE_STATIC);
    sqlite3_bind_int64(set->insert, 2, (sqlite3_int64)number);
    int code = sqlite3_step(set->insert);
    sqlite3_reset(set->insert);
    return code == SQLITE_DONE ? STATUS_OK : id_set_fail(set, "cannot write to", err);
}

static int ask(void *context) {
    const struct id_set *set = context;
    return set->stopped != NULL && set->stopped(set->context);
}

// Compares each id with the one before it.
static int compare(struct id_set *set, sqlite3_stmt *sorted, id_set_each each, void *context,
                   struct error *err) {
    struct buffer before = {0};
    int status = STATUS_OK;
    int code = SQLITE_ROW;
    for (bool first = true; status == STATUS_OK && (code = sqlite3_step(sorted)) == SQLITE_ROW;
         first = false) {
        const char *bytes = sqlite3_column_blob(sorted, 0);
        size_t size = (size_t)sqlite3_column_bytes(sorted, 0);
        if (!first && size == before.size && (size == 0 || memcmp(bytes, before.data, size) == 0)) {
            status = each(context, bytes, size, (uint64_t)sqlite3_column_int64(sorted, 1));
        } else {
            buffer_clear(&before);
            status = buffer_append(&before, bytes, size, err);
        }
    }
    buffer_destroy(&before);
    return code == SQLITE_ROW || code == SQLITE_DONE ? status : id_set_fail(set, "cannot sort", err);
}

int id_set_repeated(struct id_set *set, id_set_each each, void *context, struct error *err) {
    sqlite3_stmt *sorted = NULL;
    sqlite3_progress_handler(set->connection, STEPS_BETWEEN_QUESTIONS, ask, set);
    int status = sqlite3_prepare_v2(set->connection, "SELECT id, number FROM ids ORDER BY id, number", -1,
                                    &sorted, NULL) == SQLITE_OK
                     ? compare(set, sorted, each, context, err)
                     : id_set_fail(set, "cannot sort", err);
    sqlite3_finalize(sorted);
    return status;
}
