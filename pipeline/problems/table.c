// SPDX-License-Identifier: MIT
#include "problems/table.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/shortage.h"
#include "problems/patience.h"

struct table {
    sqlite3 *connection;
    sqlite3_stmt *insert; // NULL: to be prepared for the columns there are now
    char *path;
    const char *name;
    struct patience patience;
    const char *id;
    bool append;
    char **columns;
    size_t column_count;
    const json_t **values; // [column_count] of the object at hand
    char **texts;          // [column_count] JSON text made for arrays and objects
};

static bool may_be_refused(const struct table *table, int code) {
    int primary = code & 0xFF;
    bool is_named = table->path[0] != 0; // a temporary one is not
    return is_named && (primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY || primary == SQLITE_PERM);
}

static int fail(const struct table *table, int code, const char *what, struct error *err) {
    int status;
    if (sqlite_is_shortage(table->connection, code)) {
        return error_set(err, STATUS_INTERNAL, "%s: %s: out of memory or open files", table->path, what);
    }
    if (patience_is_due(code)) {
        return patience_over(&table->patience, what, err);
    }
    switch (code & 0xFF) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        status = STATUS_WRITE;
        break;
    default:
        status = STATUS_DATA;
    }
    // SQLite tries to open a file that may not be written once more for reading, and keeps the errno of that.
    int number = may_be_refused(table, code) ? file_refusal(table->path, true) : 0;
    number = number != 0 ? number : sqlite3_system_errno(table->connection);
    bool system = number != 0 && status == STATUS_WRITE;
    char limit[FILE_LIMIT_TEXT] = "";
    bool full = (code & 0xFF) == SQLITE_IOERR || (code & 0xFF) == SQLITE_FULL;
    return error_set(err, status, "%s: %s: %s%s%s%s", table->path, what, sqlite3_errmsg(table->connection),
                     system ? ": " : "", system ? strerror(number) : "", full ? file_limit_words(limit) : "");
}

// Runs SQL made by sqlite3_mprintf's rules (%w inside double quotes quotes a name).
static int execute(struct table *table, const char *what, struct error *err, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    if (sql == NULL) {
        return error_set(err, STATUS_INTERNAL, "%s: out of memory", table->path);
    }
    int code = sqlite3_exec(table->connection, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    return code == SQLITE_OK ? STATUS_OK : fail(table, code, what, err);
}

// ---- columns ----

// Remembers a column; its place is the parameter of INSERT.
static int remember_column(struct table *table, const char *name, struct error *err) {
    size_t count = table->column_count + 1;
    void *columns = table->columns;
    TRY(memory_resize(&columns, count, sizeof *table->columns, err));
    table->columns = columns;
    void *values = table->values;
    TRY(memory_resize(&values, count, sizeof *table->values, err));
    table->values = values;
    void *texts = table->texts;
    TRY(memory_resize(&texts, count, sizeof *table->texts, err));
    table->texts = texts;
    TRY(memory_text(&table->columns[table->column_count], name, err));
    table->values[table->column_count] = NULL;
    table->texts[table->column_count] = NULL;
    table->column_count = count;
    sqlite3_finalize(table->insert);
    table->insert = NULL;
    return STATUS_OK;
}

// SQLite's names differ in more than ASCII case; `hint` is where it probably is (objects of a file look
// alike).
static size_t find_column(const struct table *table, const char *name, size_t hint) {
    if (hint < table->column_count && strcmp(table->columns[hint], name) == 0) {
        return hint;
    }
    for (size_t i = 0; i < table->column_count; i++) {
        if (sqlite3_stricmp(table->columns[i], name) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static int prepare_insert(struct table *table, struct error *err) {
    struct buffer sql = {0};
    char *start = sqlite3_mprintf("INSERT INTO \"%w\" (", table->name);
    int status = buffer_printf(&sql, err, "%s", start == NULL ? "" : start);
    sqlite3_free(start);
    TRY_TO(done, status);
    for (size_t i = 0; i < table->column_count; i++) {
        char *column = sqlite3_mprintf("%s\"%w\"", i == 0 ? "" : ", ", table->columns[i]);
        status = buffer_printf(&sql, err, "%s", column == NULL ? "" : column);
        sqlite3_free(column);
        TRY_TO(done, status);
    }
    TRY_TO(done, status = buffer_printf(&sql, err, ") VALUES (?"));
    for (size_t i = 1; i < table->column_count; i++) {
        TRY_TO(done, status = buffer_printf(&sql, err, ", ?"));
    }
    TRY_TO(done, status = buffer_printf(&sql, err, ")"));
    int code =
        sqlite3_prepare_v3(table->connection, sql.data, -1, SQLITE_PREPARE_PERSISTENT, &table->insert, NULL);
    status = code == SQLITE_OK ? STATUS_OK : fail(table, code, "cannot write to the table", err);
done:
    buffer_destroy(&sql);
    return status;
}

// ---- opening ----

// SQLite asks at each try that was refused, counting from 0.
static int wait_busy(void *context, int tries) {
    struct table *table = context;
    if (tries == 0) {
        patience_renew(&table->patience);
    }
    return patience_wait(&table->patience);
}

static int open_connection(struct table *table, bool aside, struct error *err) {
    TRY(file_check_database(table->path, err));
    int code = sqlite3_open_v2(table->path, &table->connection,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (table->connection == NULL) {
        return error_set(err, STATUS_INTERNAL, "%s: out of memory", table->path);
    }
    if (code != SQLITE_OK) {
        return fail(table, code, "cannot open the database", err);
    }
    sqlite3_busy_handler(table->connection, wait_busy, table);
    if (aside) {
        TRY(execute(table, "cannot set up the database", err,
                    "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF"));
    }
    return execute(table, "cannot write to the database", err, "BEGIN IMMEDIATE");
}

// Reads the columns of the table there is; none when there is no such table.
static int read_columns(struct table *table, struct error *err) {
    sqlite3_stmt *statement = NULL;
    int code =
        sqlite3_prepare_v2(table->connection, "SELECT name FROM pragma_table_info(?)", -1, &statement, NULL);
    int status = STATUS_OK;
    if (code == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, table->name, -1, SQLITE_STATIC);
        while (status == STATUS_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
            status = remember_column(table, (const char *)sqlite3_column_text(statement, 0), err);
        }
    }
    sqlite3_finalize(statement);
    if (status == STATUS_OK && code != SQLITE_DONE) {
        status = fail(table, code, "cannot read the database", err);
    }
    return status;
}

static int set_up(struct table *table, struct error *err) {
    TRY(read_columns(table, err));
    if (table->append && table->column_count == 0) {
        return error_set(err, STATUS_DATA, "%s has no table '%s' to append to", table->path, table->name);
    }
    if (table->append && find_column(table, table->id, 0) == SIZE_MAX) {
        return error_set(err, STATUS_DATA, "%s: the table '%s' has no column '%s'", table->path, table->name,
                         table->id);
    }
    if (table->append) {
        return STATUS_OK;
    }
    if (table->column_count > 0) {
        return error_set(err, STATUS_DATA, "%s has a table '%s' already (--append adds to it)", table->path,
                         table->name);
    }
    // No type: a column takes each value as it is, whatever came before it.
    TRY(execute(table, "cannot make the table", err, "CREATE TABLE \"%w\" (\"%w\" NOT NULL UNIQUE)",
                table->name, table->id));
    return remember_column(table, table->id, err);
}

int table_open(struct table **out, const char *database, bool aside, const char *name, const char *id,
               bool append, const struct watch *watch, struct error *err) {
    void *block;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct table *table = block;
    table->name = name;
    table->id = id;
    table->append = append;
    int status;
    TRY_TO(done, status = memory_text(&table->path, database, err));
    table->patience = (struct patience){.watch = watch, .path = table->path};
    TRY_TO(done, status = open_connection(table, aside, err));
    TRY_TO(done, status = set_up(table, err));
done:
    if (status != STATUS_OK) {
        table_close(table);
        return status;
    }
    *out = table;
    return STATUS_OK;
}

void table_close(struct table *table) {
    if (table == NULL) {
        return;
    }
    sqlite3_finalize(table->insert);
    sqlite3_close(table->connection); // rolls back what was not committed
    for (size_t i = 0; i < table->column_count; i++) {
        free(table->columns[i]);
    }
    free(table->columns);
    free(table->values);
    free(table->texts);
    free(table->path);
    free(table);
}

size_t table_column_count(const struct table *table) {
    return table->column_count;
}

// ---- rows ----

__attribute__((format(printf, 3, 4))) static void say(char *what, size_t size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, size, format, arguments);
    va_end(arguments);
}

static bool check_id(const struct table *table, const json_t *object, char *what, size_t size) {
    const json_t *id = json_object_get(object, table->id);
    if (id == NULL || json_is_null(id)) {
        say(what, size, "there is no '%.100s'", table->id);
        return false;
    }
    if (!json_is_string(id) && !json_is_integer(id)) {
        say(what, size, "'%.100s' is not a text or a whole number", table->id);
        return false;
    }
    if (json_is_string(id) && json_string_length(id) == 0) {
        say(what, size, "'%.100s' is empty", table->id);
        return false;
    }
    return true;
}

// Puts each member beside its column, adding columns that are new. *good false when a name cannot be a
// column's.
static int lay_out(struct table *table, const json_t *object, bool *good, char *what, size_t size,
                   struct error *err) {
    size_t hint = 0;
    *good = false;
    memset(table->values, 0, table->column_count * sizeof(const json_t *));
    for (void *at = json_object_iter((json_t *)(uintptr_t)object); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        const char *name = json_object_iter_key(at);
        if (name[0] == 0) {
            say(what, size, "a member has no name");
            return STATUS_OK;
        }
        size_t place = find_column(table, name, hint);
        if (place == SIZE_MAX) {
            TRY(execute(table, "cannot add a column", err, "ALTER TABLE \"%w\" ADD COLUMN \"%w\"",
                        table->name, name));
            TRY(remember_column(table, name, err));
            place = table->column_count - 1;
        } else if (strcmp(table->columns[place], name) != 0) {
            say(what, size, "'%.100s' differs from the column '%.100s' in letters' case only", name,
                table->columns[place]);
            return STATUS_OK;
        }
        table->values[place] = json_object_iter_value(at);
        hint = place + 1;
    }
    *good = true;
    return STATUS_OK;
}

static int bind_value(struct table *table, size_t index, struct error *err) {
    const json_t *value = table->values[index];
    sqlite3_stmt *insert = table->insert;
    int place = (int)index + 1;
    int code;
    if (value == NULL || json_is_null(value)) {
        code = sqlite3_bind_null(insert, place);
    } else if (json_is_string(value)) {
        code = sqlite3_bind_text64(insert, place, json_string_value(value), json_string_length(value),
                                   SQLITE_STATIC, SQLITE_UTF8);
    } else if (json_is_integer(value)) {
        code = sqlite3_bind_int64(insert, place, json_integer_value(value));
    } else if (json_is_real(value)) {
        code = sqlite3_bind_double(insert, place, json_real_value(value));
    } else if (json_is_boolean(value)) {
        code = sqlite3_bind_int(insert, place, json_is_true(value));
    } else {
        table->texts[index] = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17));
        if (table->texts[index] == NULL) {
            return error_set(err, STATUS_INTERNAL, "%s: out of memory", table->path);
        }
        code = sqlite3_bind_text64(insert, place, table->texts[index], strlen(table->texts[index]),
                                   SQLITE_STATIC, SQLITE_UTF8);
    }
    return code == SQLITE_OK ? STATUS_OK : fail(table, code, "cannot write a value", err);
}

static void free_texts(struct table *table) {
    for (size_t i = 0; i < table->column_count; i++) {
        free(table->texts[i]);
        table->texts[i] = NULL;
    }
}

static void say_repeated(const struct table *table, const json_t *object, char *what, size_t size) {
    const json_t *id = json_object_get(object, table->id);
    if (json_is_string(id)) {
        say(what, size, "%.100s '%.200s' is there already", table->id, json_string_value(id));
    } else {
        say(what, size, "%.100s %lld is there already", table->id, (long long)json_integer_value(id));
    }
}

int table_insert(struct table *table, const json_t *object, bool *taken, char *what, size_t what_size,
                 struct error *err) {
    bool good = false;
    *taken = false;
    if (!check_id(table, object, what, what_size)) {
        return STATUS_OK;
    }
    TRY(lay_out(table, object, &good, what, what_size, err));
    if (!good) {
        return STATUS_OK;
    }
    if (table->insert == NULL) {
        TRY(prepare_insert(table, err));
    }
    int status = STATUS_OK;
    for (size_t i = 0; i < table->column_count; i++) {
        TRY_TO(done, status = bind_value(table, i, err));
    }
    int code = sqlite3_step(table->insert);
    if (code == SQLITE_DONE) {
        *taken = true;
    } else if (sqlite3_extended_errcode(table->connection) == SQLITE_CONSTRAINT_UNIQUE ||
               sqlite3_extended_errcode(table->connection) == SQLITE_CONSTRAINT_PRIMARYKEY) {
        say_repeated(table, object, what, what_size);
    } else if ((code & 0xFF) == SQLITE_CONSTRAINT) { // a table that was there may want more than we know
        say(what, what_size, "%s", sqlite3_errmsg(table->connection));
    } else {
        status = fail(table, code, "cannot write a row", err);
    }
done:
    sqlite3_reset(table->insert);
    sqlite3_clear_bindings(table->insert);
    free_texts(table);
    return status;
}

// A table made elsewhere need not keep its ids unique; its rows are looked through once.
static int check_appended(struct table *table, struct error *err) {
    char *sql = sqlite3_mprintf(
        "SELECT quote(\"%w\") FROM \"%w\" GROUP BY \"%w\" HAVING count(*) > 1 OR \"%w\" IS NULL LIMIT 1",
        table->id, table->name, table->id, table->id);
    sqlite3_stmt *statement = NULL;
    int status = STATUS_OK;
    int code = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(table->connection, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    if (code == SQLITE_ROW) {
        status = error_set(
            err, STATUS_DATA, "%s: the table '%s' has %s %.200s more than once or NULL; nothing was imported",
            table->path, table->name, table->id, (const char *)sqlite3_column_text(statement, 0));
    } else if (code != SQLITE_DONE) {
        status = fail(table, code, "cannot look through the ids", err);
    }
    sqlite3_finalize(statement);
    sqlite3_free(sql);
    return status;
}

int table_commit(struct table *table, struct error *err) {
    if (table->append) {
        TRY(check_appended(table, err));
    }
    return execute(table, "cannot write to the database", err, "COMMIT");
}
