// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_sql.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

static int kind_of(const struct ledger *ledger, int result, int number) {
    if (result == SQLITE_IOERR_NOMEM || error_is_shortage(number)) {
        return STATUS_INTERNAL;
    }
    switch (result & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_ERROR: // our statements are fixed: one that does not fit the schema meets a damaged one
        return STATUS_DATA;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISUSE:
    case SQLITE_NOMEM:
    case SQLITE_RANGE:
        return STATUS_INTERNAL;
    case SQLITE_BUSY: // another program holds it, for longer than anybody waits: nothing is wrong
        return STATUS_STOPPED;
    default:
        return ledger->read_only && !ledger->for_runner ? STATUS_DATA : STATUS_WRITE;
    }
}

void ledger_clean_text(char *text) {
    for (; *text != 0; text++) {
        if (*text < 0x20 || *text > 0x7e) {
            *text = '?';
        }
    }
}

int ledger_failed(struct ledger *ledger, const char *what, struct error *err) {
    int result = sqlite3_extended_errcode(ledger->db);
    int number = sqlite3_system_errno(ledger->db);
    int primary = result & 0xff;
    char text[512];
    bool system =
        number != 0 && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN || primary == SQLITE_FULL);
    snprintf(text, sizeof text, "%s", sqlite3_errmsg(ledger->db));
    ledger_clean_text(text);
    if (ledger->read_only && (primary == SQLITE_BUSY || primary == SQLITE_LOCKED)) {
        return error_set(err, STATUS_STOPPED,
                         "ledger %s: another program has locked it for %d s; try again (%s)", ledger->path,
                         LEDGER_READER_SECONDS, text);
    }
    char limit[FILE_LIMIT_TEXT] = ""; // of a write within COMMIT SQLite keeps no errno
    return error_set(err, kind_of(ledger, result, system ? number : 0), "ledger %s: %s: %s (SQLite %d%s%s)%s",
                     ledger->path, what, text, result, system ? ", " : "", system ? strerror(number) : "",
                     result == SQLITE_IOERR_WRITE ? file_limit_words(limit) : "");
}

int ledger_execute(struct ledger *ledger, const char *sql, struct error *err) {
    if (sqlite3_exec(ledger->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        char what[64];
        snprintf(what, sizeof what, "'%.40s' failed", sql);
        return ledger_failed(ledger, what, err);
    }
    return STATUS_OK;
}

// One busy timeout is five seconds. A reader that was stopped with its lock held must not end a run of two
// days at once.
int ledger_execute_patiently(struct ledger *ledger, const char *sql, struct error *err) {
    enum { TRIES = 12 };
    int status = ledger_execute(ledger, sql, err);
    for (int i = 1; i < TRIES && !ledger->hurried && status != STATUS_OK &&
                    (sqlite3_errcode(ledger->db) & 0xff) == SQLITE_BUSY;
         i++) {
        status = ledger_execute(ledger, sql, err);
    }
    return status;
}

int ledger_number(struct ledger *ledger, const char *sql, int64_t *value, struct error *err) {
    struct query query;
    bool row = false;
    *value = 0;
    query_begin(&query, ledger, sql);
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    if (row) {
        *value = query_i64(&query, 0);
    }
done:
    query_end(&query);
    return status;
}

int ledger_has_format(struct ledger *ledger, int64_t format, bool *has, struct error *err) {
    int status = ledger->format >= format
                     ? STATUS_OK
                     : ledger_number(ledger, "PRAGMA user_version", &ledger->format, err);
    *has = status == STATUS_OK && ledger->format >= format;
    return status;
}

// The epoch keeps out a runner whose lock was lost (invariant 1).
int ledger_transaction(struct ledger *ledger, struct error *err) {
    if (ledger->read_only) {
        return error_set(err, STATUS_INTERNAL, "ledger %s: was opened for reading", ledger->path);
    }
    int64_t epoch = 0;
    TRY(ledger_execute_patiently(ledger, "BEGIN IMMEDIATE", err));
    int status;
    TRY_TO(done, status = ledger_number(ledger, "SELECT ifnull(max(epoch), 0) FROM launch", &epoch, err));
    if ((uint64_t)epoch != ledger->epoch) {
        status = error_set(err, STATUS_WRITE,
                           "ledger %s: launch %lld has started since launch %llu; this runner is superseded",
                           ledger->path, (long long)epoch, (unsigned long long)ledger->epoch);
    }
done:
    if (status != STATUS_OK) {
        sqlite3_exec(ledger->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

int ledger_transaction_end(struct ledger *ledger, int status, struct error *err) {
    if (status == STATUS_OK) {
        status = ledger_execute_patiently(ledger, "COMMIT", err);
    }
    if (status != STATUS_OK && sqlite3_get_autocommit(ledger->db) == 0) {
        sqlite3_exec(ledger->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

void query_begin(struct query *query, struct ledger *ledger, const char *sql) {
    *query = (struct query){.ledger = ledger};
    query->result = sqlite3_prepare_v2(ledger->db, sql, -1, &query->statement, NULL);
}

static void keep(struct query *query, int result) {
    if (query->result == SQLITE_OK) {
        query->result = result;
    }
}

void query_bind_u64(struct query *query, int place, uint64_t value) {
    if (query->result == SQLITE_OK) {
        keep(query, value == UINT64_MAX ? sqlite3_bind_null(query->statement, place)
                                        : sqlite3_bind_int64(query->statement, place, (sqlite3_int64)value));
    }
}

void query_bind_i64(struct query *query, int place, int64_t value) {
    if (query->result == SQLITE_OK) {
        keep(query, sqlite3_bind_int64(query->statement, place, value));
    }
}

void query_bind_f64(struct query *query, int place, double value) {
    if (query->result == SQLITE_OK) {
        keep(query, isnan(value) ? sqlite3_bind_null(query->statement, place)
                                 : sqlite3_bind_double(query->statement, place, value));
    }
}

void query_bind_text(struct query *query, int place, const char *text) {
    if (query->result == SQLITE_OK) {
        keep(query, sqlite3_bind_text(query->statement, place, text, -1, SQLITE_STATIC));
    }
}

void query_bind_bytes(struct query *query, int place, const void *bytes, size_t size) {
    if (query->result == SQLITE_OK) {
        keep(query,
             sqlite3_bind_blob64(query->statement, place, size == 0 ? "" : bytes, size, SQLITE_STATIC));
    }
}

void query_bind_id(struct query *query, int place, const char *id, size_t size) {
    if (query->result != SQLITE_OK) {
        return;
    }
    if (size > 0 && memchr(id, 0, size) != NULL) {
        query_bind_bytes(query, place, id, size);
    } else {
        keep(query, sqlite3_bind_text64(query->statement, place, size == 0 ? "" : id, size, SQLITE_STATIC,
                                        SQLITE_UTF8));
    }
}

int query_next(struct query *query, bool *row, struct error *err) {
    *row = false;
    if (query->result != SQLITE_OK) {
        return ledger_failed(query->ledger, "a statement could not be prepared", err);
    }
    int result = sqlite3_step(query->statement);
    if (result == SQLITE_ROW) {
        *row = true;
        return STATUS_OK;
    }
    if (result == SQLITE_DONE) {
        return STATUS_OK;
    }
    char what[96];
    snprintf(what, sizeof what, "'%.60s' failed", sqlite3_sql(query->statement));
    return ledger_failed(query->ledger, what, err);
}

int query_run(struct query *query, struct error *err) {
    bool row;
    int status;
    do {
        status = query_next(query, &row, err);
    } while (status == STATUS_OK && row);
    sqlite3_reset(query->statement);
    return status;
}

void query_end(struct query *query) {
    sqlite3_finalize(query->statement);
    query->statement = NULL;
}

uint64_t query_u64(struct query *query, int column) {
    return sqlite3_column_type(query->statement, column) == SQLITE_NULL
               ? UINT64_MAX
               : (uint64_t)sqlite3_column_int64(query->statement, column);
}

int64_t query_i64(struct query *query, int column) {
    return sqlite3_column_int64(query->statement, column);
}

double query_f64(struct query *query, int column) {
    return sqlite3_column_type(query->statement, column) == SQLITE_NULL
               ? (double)NAN
               : sqlite3_column_double(query->statement, column);
}

const char *query_bytes(struct query *query, int column, size_t *size) {
    const char *bytes = sqlite3_column_type(query->statement, column) == SQLITE_TEXT
                            ? (const char *)sqlite3_column_text(query->statement, column)
                            : sqlite3_column_blob(query->statement, column);
    *size = (size_t)sqlite3_column_bytes(query->statement, column);
    if (bytes == NULL && sqlite3_column_type(query->statement, column) != SQLITE_NULL) {
        return ""; // an empty blob has no address
    }
    return bytes;
}

void query_text(struct query *query, int column, char *out, size_t size) {
    size_t length = 0;
    const char *bytes = query_bytes(query, column, &length);
    length = bytes == NULL ? 0 : size_min(length, size - 1);
    if (length > 0) {
        memcpy(out, bytes, length);
    }
    out[length] = 0;
}
