// SPDX-License-Identifier: MIT
// The rows' ids, and what there is to say where there are no rows.
#include <string.h>

#include "base/id_set.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "problems/source_internal.h"

enum { ROWS_BETWEEN_WORDS = 1024 };

// Rows without an id: the message of the first, and how many there are.
struct missing {
    struct error first;
    uint64_t count;
};

// Rows whose id an earlier one has.
struct repeated {
    char id[200]; // of the first, as much of it as is shown
    size_t size;
    uint64_t ordinal; // UINT64_MAX: none
    uint64_t count;
};

static int check_id(struct source *source, struct id_set *set, struct missing *missing, const struct row *row,
                    size_t index, struct error *err) {
    const struct source_column *column = &row->columns[index];
    unsigned long long number = (unsigned long long)row->ordinal + 1;
    if (column->size == 0) {
        if (missing->count++ == 0) {
            error_set(&missing->first, STATUS_DATA, "%s: row %llu of the query: the id '%s' is %s",
                      source->path, number, column->name, column->type == COLUMN_NULL ? "NULL" : "empty");
        }
        return STATUS_OK;
    }
    // An id is written into JSON: one that is no text would make a finished run impossible to export.
    size_t bad = 0;
    if (column->type == COLUMN_BLOB) {
        return error_set(err, STATUS_DATA, "%s: row %llu of the query: the id '%s' is a blob, not a text",
                         source->path, number, column->name);
    }
    if (!utf8_valid(column->bytes, column->size, &bad)) {
        return error_set(err, STATUS_DATA,
                         "%s: row %llu of the query: the id '%s' is not valid UTF-8 (byte %zu)", source->path,
                         number, column->name, bad);
    }
    return id_set_add(set, column->bytes, column->size, row->ordinal, err);
}

static int note_repeated(void *context, const char *bytes, size_t size, uint64_t ordinal) {
    struct repeated *repeated = context;
    repeated->count += 1;
    if (ordinal < repeated->ordinal) {
        repeated->size = size < sizeof repeated->id ? size : sizeof repeated->id;
        repeated->ordinal = ordinal;
        memcpy(repeated->id, bytes, repeated->size); // no id is empty
    }
    return STATUS_OK;
}

// Sorting a thousand million ids takes minutes: whoever waits hears that it goes on.
static bool sorting(void *context) {
    const struct source *source = context;
    const struct watch *watch = source->patience.watch;
    if (watch != NULL && watch->reading != NULL) {
        watch->reading(watch->context, source->next);
    }
    return watch != NULL && watch->stopped != NULL && watch->stopped(watch->context);
}

static int refuse_repeated(struct source *source, struct id_set *set, const char *id_column,
                           struct error *err) {
    struct repeated repeated = {.ordinal = UINT64_MAX};
    set->stopped = sorting;
    set->context = source;
    TRY(id_set_repeated(set, note_repeated, &repeated, err));
    if (repeated.ordinal == UINT64_MAX) {
        return STATUS_OK;
    }
    error_set(err, STATUS_DATA, "%s: row %llu of the query: the id '%s' has the value '%.*s' a second time",
              source->path, (unsigned long long)repeated.ordinal + 1, id_column, (int)repeated.size,
              repeated.id);
    return repeated.count == 1
               ? STATUS_DATA
               : error_append(err, "; %llu rows repeat an id, of %llu", (unsigned long long)repeated.count,
                              (unsigned long long)source->next);
}

static int check_rows(struct source *source, struct id_set *set, size_t index, struct digest *digest,
                      struct error *err) {
    const struct watch *watch = source->patience.watch;
    struct missing missing = {0};
    struct row row;
    bool found = true;
    int status;
    while (found) {
        TRY_TO(done, status = source_next(source, &row, &found, err));
        if (found) {
            TRY_TO(done, status = check_id(source, set, &missing, &row, index, err));
        }
        if (found && digest != NULL) {
            TRY_TO(done, status = source_digest_row(digest, &row, err));
        }
        if (watch != NULL && watch->reading != NULL && source->next % ROWS_BETWEEN_WORDS == 0) {
            watch->reading(watch->context, source->next);
        }
    }
    if (missing.count > 0) {
        *err = missing.first;
        status = missing.count == 1
                     ? STATUS_DATA
                     : error_append(err, "; %llu rows have no id, of %llu", (unsigned long long)missing.count,
                                    (unsigned long long)source->next);
    }
done:
    source->found = source->next;
    return status;
}

int source_check_ids(struct source *source, const char *id_column, struct digest *digest, struct error *err) {
    struct id_set set = {0};
    size_t index = 0;
    int status;
    TRY_TO(done, status = source_column(source, id_column, &index, err));
    TRY_TO(done, status = source_rewind(source, err));
    TRY_TO(done, status = id_set_open(&set, err));
    TRY_TO(done, status = check_rows(source, &set, index, digest, err));
    status = refuse_repeated(source, &set, id_column, err);
done:
    id_set_close(&set);
    TRY(status);
    return source_rewind(source, err);
}

uint64_t source_rows(const struct source *source) {
    return source->found;
}

// "problems has 24 rows": of a table, not of a view, which may take long.
static int count_table(struct source *source, const char *name, struct buffer *out, struct error *err) {
    sqlite3_stmt *statement = NULL;
    char *sql =
        sqlite3_mprintf("SELECT (SELECT count(*) FROM \"%w\") WHERE (SELECT type FROM sqlite_schema WHERE "
                        "name = %Q) = 'table'",
                        name, name);
    int status = STATUS_OK;
    if (sql != NULL && sqlite3_prepare_v2(source->connection, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        status = buffer_printf(out, err, "%s%s has %lld rows", out->size == 0 ? " (" : ", ", name,
                               (long long)sqlite3_column_int64(statement, 0));
    }
    sqlite3_finalize(statement);
    sqlite3_free(sql);
    return status;
}

int source_refuse_empty(struct source *source, struct error *err) {
    struct buffer tables = {0};
    const char *query = sqlite3_sql(source->statement);
    int status;
    for (size_t i = 0; i < source->table_count; i++) {
        TRY_TO(done, status = count_table(source, source->tables[i], &tables, err));
    }
    bool counted = tables.size > 0;
    status = error_set(err, STATUS_DATA, "%s: the query returns no rows: %.800s%.600s%s", source->path,
                       query == NULL ? "" : query, counted ? tables.data : "", counted ? ")" : "");
done:
    buffer_destroy(&tables);
    return status;
}
