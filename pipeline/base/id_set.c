#include "base/id_set.h"

#include "base/shortage.h"

static int id_set_fail(const struct id_set *set, const char *what, struct error *err) {
    int code = set->connection == NULL ? SQLITE_NOMEM : sqlite3_extended_errcode(set->connection);
    return error_set(err, sqlite_is_shortage(set->connection, code) ? STATUS_INTERNAL : STATUS_WRITE,
                     "%s a temporary database: %s", what, sqlite3_errmsg(set->connection));
}

int id_set_open(struct id_set *set, struct error *err) {
    static const char schema[] = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16384;"
                                 "CREATE TABLE ids (id BLOB PRIMARY KEY) WITHOUT ROWID; BEGIN";
    if (sqlite3_open_v2("", &set->connection,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK ||
        sqlite3_exec(set->connection, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(set->connection, "INSERT OR IGNORE INTO ids VALUES (?)", -1, &set->insert, NULL) !=
            SQLITE_OK) {
        return id_set_fail(set, "cannot make", err);
    }
    return STATUS_OK;
}

void id_set_close(struct id_set *set) {
    sqlite3_finalize(set->insert);
    sqlite3_close(set->connection);
}

int id_set_add(struct id_set *set, const char *bytes, size_t size, bool *is_new, struct error *err) {
    sqlite3_bind_blob64(set->insert, 1, bytes, size, SQLITE_STATIC);
    int code = sqlite3_step(set->insert);
    *is_new = sqlite3_changes(set->connection) > 0;
    sqlite3_reset(set->insert);
    if (code != SQLITE_DONE) {
        return id_set_fail(set, "cannot write to", err);
    }
    return STATUS_OK;
}
