// SPDX-License-Identifier: MIT
#include "problems/source_internal.h"

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/first_bytes.h"
#include "base/memory.h"
#include "base/shortage.h"

enum { OPERATIONS = 100000 };     // of SQLite's machine between two looks at the watch
enum { VALUE_BYTES = 256 << 20 }; // of one value
#define FIRST_WORD 10.0           // seconds

static void remember_table(struct source *source, const char *name) {
    for (size_t i = 0; i < source->table_count; i++) {
        if (strcmp(source->tables[i], name) == 0) {
            return;
        }
    }
    bool own = strncmp(name, "sqlite_", 7) == 0;
    if (!own && source->table_count < TABLES && strlen(name) < TABLE_NAME) {
        snprintf(source->tables[source->table_count++], TABLE_NAME, "%s", name);
    }
}

// A database in WAL mode says so in its header, whatever is wrong with it.
static bool is_in_wal_mode(const char *path) {
    unsigned char header[20] = {0};
    int descriptor;
    size_t size;
    struct error ignored;
    if (file_open(&descriptor, &size, path, &ignored) != STATUS_OK) {
        return false;
    }
    bool read = size >= sizeof header &&
                file_read_at(descriptor, header, sizeof header, 0, path, &ignored) == STATUS_OK;
    close(descriptor);
    return read && header[18] == 2 && header[19] == 2;
}

// `refusal`: file_refusal's errno when the file could not be opened.
static const char *hint_of(const struct source *source, int code, int refusal) {
    int primary = code & 0xFF;
    if (refusal == ENOENT) {
        return " (there is no such file; relative paths start at the job file's folder)";
    }
    if ((primary == SQLITE_READONLY || primary == SQLITE_CANTOPEN) && is_in_wal_mode(source->path)) {
        return " (it is in WAL mode, which needs files beside it that cannot be made here: copy it to a "
               "folder that "
               "may be written, or let its owner set PRAGMA journal_mode=DELETE)";
    }
    if (primary == SQLITE_READONLY) {
        return " (a write to it was cut off; open it once with sqlite3 so that it can be rolled back)";
    }
    return primary == SQLITE_TOOBIG ? " (a value may have 256 MiB)" : "";
}

// Sorting and other work of SQLite's goes to temporary files.
static bool could_not_write(int code) {
    return (code & 0xFF) == SQLITE_FULL || code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_FSYNC ||
           code == SQLITE_IOERR_TRUNCATE;
}

static int refuse_query(const struct source *source, struct error *err) {
    return error_set(err, STATUS_DATA,
                     "%s: the query uses %s: its rows must be the same each time it is read", source->path,
                     repeatable_refusal(source->repeatable));
}

static int fail(const struct source *source, int code, const char *what, struct error *err) {
    if (sqlite_is_shortage(source->connection, code)) {
        return error_set(err, STATUS_INTERNAL, "%s: out of memory or open files", source->path);
    }
    if (source->repeatable != NULL && repeatable_refusal(source->repeatable) != NULL) {
        return refuse_query(source, err);
    }
    if ((code & 0xFF) == SQLITE_INTERRUPT) {
        return error_set(err, STATUS_STOPPED,
                         "stopped while reading the problems; run the same command to resume");
    }
    if (patience_is_due(code)) {
        return patience_over(&source->patience, what, err);
    }
    int refusal = (code & 0xFF) == SQLITE_CANTOPEN ? file_refusal(source->path, false) : 0;
    bool tell = refusal != 0 && refusal != ENOENT;
    return error_set(err, could_not_write(code) ? STATUS_WRITE : STATUS_DATA, "%s: %s: %s%s%s%s",
                     source->path, what, sqlite3_errmsg(source->connection), tell ? ": " : "",
                     tell ? strerror(refusal) : "", hint_of(source, code, refusal));
}

// What sqlite3_stmt_readonly lets through and a query must not do: settings, and what is another each time.
static int authorize(void *context, int action, const char *first, const char *second, const char *database,
                     const char *trigger) {
    struct source *source = context;
    (void)database;
    (void)trigger;
    if (action == SQLITE_FUNCTION && second != NULL) {
        return repeatable_allows(source->repeatable, second) ? SQLITE_OK : SQLITE_DENY;
    }
    if (action == SQLITE_READ && first != NULL) {
        remember_table(source, first);
        return repeatable_allows_table(source->repeatable, first) ? SQLITE_OK : SQLITE_DENY;
    }
    return action == SQLITE_PRAGMA || action == SQLITE_ATTACH || action == SQLITE_DETACH ? SQLITE_DENY
                                                                                         : SQLITE_OK;
}

// Between two rows, every few milliseconds. Anything but 0 ends the query.
static int look_up(void *context) {
    struct source *source = context;
    const struct watch *watch = source->patience.watch;
    double waited = clock_seconds() - source->asked;
    if (watch->say != NULL && waited >= source->next_word) {
        char text[256];
        snprintf(text, sizeof text,
                 "the query has returned no row for %.0f s, after %llu rows; still waiting", waited,
                 (unsigned long long)source->next);
        source->next_word *= 2;
        watch->say(watch->context, text);
    }
    return watch->stopped != NULL && watch->stopped(watch->context);
}

static int not_one_select(const struct source *source, struct error *err) {
    return error_set(err, STATUS_DATA, "%s: the query is not one SELECT", source->path);
}

// A table that is not there: those that are.
static int explain(struct source *source, int status, struct error *err) {
    sqlite3_stmt *statement = NULL;
    if (strstr(err->message, "no such table") != NULL &&
        sqlite3_prepare_v2(
            source->connection,
            "SELECT group_concat(name, ', ') FROM (SELECT name FROM sqlite_schema WHERE type IN "
            "('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name LIMIT 20)",
            -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        const char *names = (const char *)sqlite3_column_text(statement, 0);
        error_append(err, "; it has %.400s", names == NULL ? "no table" : names);
    }
    sqlite3_finalize(statement);
    return status;
}

static int prepare(struct source *source, const char *query, struct error *err) {
    const char *tail = NULL;
    sqlite3_set_authorizer(source->connection, authorize, source);
    int code = sqlite3_prepare_v3(source->connection, query, -1, SQLITE_PREPARE_PERSISTENT,
                                  &source->statement, &tail);
    // Later, at the first row, a virtual table may use a PRAGMA of its own.
    sqlite3_set_authorizer(source->connection, NULL, NULL);
    if (code == SQLITE_AUTH && repeatable_refusal(source->repeatable) == NULL) {
        return not_one_select(source, err);
    }
    if (code != SQLITE_OK) {
        return explain(source, fail(source, code, "the query is wrong", err), err);
    }
    if (source->statement == NULL || sqlite3_column_count(source->statement) == 0 ||
        !sqlite3_stmt_readonly(source->statement) || sqlite3_stmt_isexplain(source->statement) != 0) {
        return not_one_select(source, err);
    }
    while (*tail != 0) { // spaces and comments may follow
        sqlite3_stmt *more = NULL;
        code = sqlite3_prepare_v2(source->connection, tail, -1, &more, &tail);
        sqlite3_finalize(more);
        if (code != SQLITE_OK || more != NULL) {
            return not_one_select(source, err);
        }
    }
    return STATUS_OK;
}

// The read lock is taken by reading. A database that is held is asked again.
static int lock(struct source *source, struct error *err) {
    int code;
    while (
        patience_is_due(code = sqlite3_exec(source->connection, "BEGIN; SELECT count(*) FROM sqlite_schema",
                                            NULL, NULL, NULL)) &&
        patience_wait(&source->patience)) {
        sqlite3_exec(source->connection, "ROLLBACK", NULL, NULL, NULL);
    }
    return code == SQLITE_OK ? STATUS_OK : fail(source, code, "cannot read the database", err);
}

// Opens the file and takes its read lock: from here on no writer can change what the query sees.
static int begin(struct source *source, const char *database, struct error *err) {
    TRY(file_check_database(database, err));
    int code =
        sqlite3_open_v2(database, &source->connection, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (source->connection == NULL) {
        return error_set(err, STATUS_INTERNAL, "%s: out of memory", database);
    }
    sqlite3_extended_result_codes(source->connection, 1);
    if (code != SQLITE_OK) {
        return fail(source, code, "cannot open the database", err);
    }
    sqlite3_limit(source->connection, SQLITE_LIMIT_LENGTH, VALUE_BYTES);
    if (source->patience.watch != NULL) {
        sqlite3_progress_handler(source->connection, OPERATIONS, look_up, source);
    }
    TRY(repeatable_create(&source->repeatable, source->connection, err));
    return lock(source, err);
}

static int name_columns(struct source *source, struct error *err) {
    void *block;
    source->column_count = (size_t)sqlite3_column_count(source->statement);
    TRY(memory_zeroed(&block, source->column_count, sizeof *source->columns, err));
    source->columns = block;
    TRY(memory_zeroed(&block, source->column_count, sizeof *source->numbers, err));
    source->numbers = block;
    for (size_t i = 0; i < source->column_count; i++) {
        const char *name = sqlite3_column_name(source->statement, (int)i);
        if (name == NULL) {
            return fail(source, SQLITE_NOMEM, "", err);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(source->columns[k].name, name) == 0) {
                return error_set(err, STATUS_DATA,
                                 "%s: the query has two columns '%s'; name one of them with AS", source->path,
                                 name);
            }
        }
        char *copy; // SQLite's own copy may move when the statement is prepared anew
        TRY(memory_text(&copy, name, err));
        source->columns[i].name = copy;
    }
    return STATUS_OK;
}

int source_open(struct source **out, const char *database, const char *query, uint64_t limit,
                const struct watch *watch, struct error *err) {
    *out = NULL;
    void *block;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct source *source = block;
    source->limit = limit == 0 ? UINT64_MAX : limit;
    source->asked = clock_seconds();
    source->next_word = FIRST_WORD;
    int status;
    TRY_TO(done, status = memory_text(&source->path, database, err));
    source->patience = (struct patience){.watch = watch, .path = source->path};
    TRY_TO(done, status = first_bytes_check_file(database, FIRST_BYTES_DATABASE, err));
    TRY_TO(done, status = begin(source, database, err));
    TRY_TO(done, status = prepare(source, query, err));
    TRY_TO(done, status = name_columns(source, err));
done:
    if (status != STATUS_OK) {
        source_close(source);
        return status;
    }
    *out = source;
    return STATUS_OK;
}

void source_close(struct source *source) {
    if (source == NULL) {
        return;
    }
    for (size_t i = 0; source->columns != NULL && i < source->column_count; i++) {
        free((void *)(uintptr_t)source->columns[i].name);
    }
    free(source->columns);
    free(source->numbers);
    sqlite3_finalize(source->statement);
    sqlite3_close(source->connection);
    repeatable_destroy(source->repeatable);
    part_destroy(source->part);
    free(source->path);
    free(source);
}

size_t source_column_count(const struct source *source) {
    return source->column_count;
}

const char *source_column_name(const struct source *source, size_t index) {
    return source->columns[index].name;
}

int source_column(const struct source *source, const char *name, size_t *index, struct error *err) {
    struct buffer names = {0};
    int status = STATUS_OK;
    for (size_t i = 0; i < source->column_count; i++) {
        if (strcmp(source->columns[i].name, name) == 0) {
            *index = i;
            buffer_destroy(&names);
            return STATUS_OK;
        }
        TRY_TO(done,
               status = buffer_printf(&names, err, "%s%s", i == 0 ? "" : ", ", source->columns[i].name));
    }
    status = error_set(err, STATUS_DATA, "%s: the query has no column '%s'; it has %s", source->path, name,
                       names.data);
done:
    buffer_destroy(&names);
    return status;
}

// ---- rows ----

static int lacks_rows(const struct source *source, struct error *err) {
    return error_set(err, STATUS_DATA, "%s: the query has only %llu rows; the survey of the parts found %llu",
                     source->path, (unsigned long long)source->next,
                     (unsigned long long)source->part->blocks.rows);
}

static int has_more_rows(const struct source *source, struct error *err) {
    return error_set(err, STATUS_DATA,
                     "%s: the query has a row behind row %llu that the survey of the parts did not find",
                     source->path, (unsigned long long)source->next);
}

static int step(struct source *source, bool *found, struct error *err) {
    *found = false;
    if (source->ended || (source->next >= source->limit && !source->bounded)) {
        return STATUS_OK;
    }
    source->asked = clock_seconds();
    source->next_word = FIRST_WORD;
    int code = sqlite3_step(source->statement);
    if (code == SQLITE_DONE) {
        source->ended = true;
        return source->part == NULL || source->next >= source->part->end ? STATUS_OK
                                                                         : lacks_rows(source, err);
    }
    if (code == SQLITE_ROW && source->next >= source->limit) {
        return has_more_rows(source, err);
    }
    if (code != SQLITE_ROW) {
        char what[64];
        snprintf(what, sizeof what, "cannot read row %llu of the query",
                 (unsigned long long)source->next + 1);
        return fail(source, code, what, err);
    }
    source->next += 1;
    *found = true;
    return STATUS_OK;
}

// SQLite prints 15 digits; a real that does not come back from them is printed with the 17 that always do.
static void keep_digits(const struct source *source, int index, double value, struct source_column *column) {
    if (strtod(column->bytes, NULL) != value && isfinite(value)) {
        char *text = source->numbers[index].text;
        column->size = (size_t)snprintf(text, NUMBER_TEXT, "%.17g", value);
        column->bytes = text;
    }
}

static int read_column(const struct source *source, int index, struct source_column *column,
                       struct error *err) {
    static const enum column_type types[] = {[SQLITE_INTEGER] = COLUMN_INTEGER,
                                             [SQLITE_FLOAT] = COLUMN_REAL,
                                             [SQLITE_TEXT] = COLUMN_TEXT,
                                             [SQLITE_BLOB] = COLUMN_BLOB,
                                             [SQLITE_NULL] = COLUMN_NULL};
    column->type = types[sqlite3_column_type(source->statement, index)];
    column->bytes = "";
    column->size = 0;
    if (column->type == COLUMN_NULL) {
        return STATUS_OK;
    }
    double value = column->type == COLUMN_REAL ? sqlite3_column_double(source->statement, index) : 0;
    const void *bytes = column->type == COLUMN_BLOB
                            ? sqlite3_column_blob(source->statement, index)
                            : (const void *)sqlite3_column_text(source->statement, index);
    column->size = (size_t)sqlite3_column_bytes(source->statement, index);
    if (bytes == NULL && (column->type != COLUMN_BLOB || column->size > 0)) {
        return fail(source, SQLITE_NOMEM, "", err);
    }
    if (bytes != NULL) {
        column->bytes = bytes;
    }
    if (column->type == COLUMN_REAL) {
        keep_digits(source, index, value, column);
    }
    return STATUS_OK;
}

int source_next(struct source *source, struct row *row, bool *found, struct error *err) {
    if (source->next < source_first(source)) {
        TRY(source_skip_to(source, source_first(source), err));
    }
    TRY(step(source, found, err));
    if (!*found) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < source->column_count; i++) {
        TRY(read_column(source, (int)i, &source->columns[i], err));
    }
    *row = (struct row){.ordinal = source->next - 1,
                        .is_first = source->next - 1 == source_first(source),
                        .columns = source->columns,
                        .column_count = source->column_count};
    return source->part == NULL ? STATUS_OK : part_check(source->part, row, source->path, err);
}

int source_rewind(struct source *source, struct error *err) {
    (void)err;
    sqlite3_reset(source->statement); // its code repeats the last step's, which was reported then
    source->next = source->entered ? source->part->first : 0;
    source->ended = false;
    if (source->part != NULL) {
        part_restart(source->part);
    }
    return STATUS_OK;
}

int source_skip_to(struct source *source, uint64_t ordinal, struct error *err) {
    if (ordinal < source->next) {
        TRY(source_rewind(source, err));
    }
    while (source->next < ordinal) {
        bool found;
        TRY(step(source, &found, err));
        if (!found) {
            return error_set(err, STATUS_DATA, "%s: the query has only %llu rows, not row %llu", source->path,
                             (unsigned long long)source->next, (unsigned long long)ordinal);
        }
    }
    return STATUS_OK;
}

// ---- a part of the rows ----

uint64_t source_first(const struct source *source) {
    return source->part == NULL ? 0 : source->part->first;
}

// The same query through another view of its table.
static int exchange(struct source *source, sqlite3_stmt *statement) {
    sqlite3_finalize(source->statement);
    source->statement = statement;
    return STATUS_OK;
}

int source_follow(struct source *source, bool *can, struct error *err) {
    sqlite3_stmt *statement = NULL;
    *can = false;
    if (source->table_count == 1) {
        TRY(part_follow(&statement, source->connection, source->tables[0], sqlite3_sql(source->statement),
                        &source->rowid, err));
    }
    *can = statement != NULL;
    return statement == NULL ? STATUS_OK : exchange(source, statement);
}

int64_t source_rowid(const struct source *source) {
    return source->rowid;
}

// By rowid where the survey says that it can be done, and it can.
static int enter(struct source *source, const struct row_blocks *blocks, struct error *err) {
    const struct part *part = source->part;
    size_t first = (size_t)(part->first / blocks->per_block);
    size_t end = (size_t)((part->end + blocks->per_block - 1) / blocks->per_block);
    bool bounded = end < blocks->count;
    sqlite3_stmt *statement = NULL;
    if (!blocks->enters || source->table_count != 1 || part->first == part->end) {
        return STATUS_OK;
    }
    TRY(part_enter(&statement, source->connection, source->tables[0], sqlite3_sql(source->statement),
                   blocks->blocks[first].rowid, bounded, bounded ? blocks->blocks[end].rowid : 0, err));
    source->entered = statement != NULL;
    return statement == NULL ? STATUS_OK : exchange(source, statement);
}

int source_confine(struct source *source, const struct row_blocks *blocks, uint64_t first, uint64_t end,
                   struct error *err) {
    void *block;
    TRY(memory_zeroed(&block, 1, sizeof *source->part, err));
    source->part = block;
    *source->part = (struct part){.blocks = *blocks, .first = first, .end = end, .checks = true};
    TRY(enter(source, blocks, err));
    bool is_limited = source->limit != UINT64_MAX;
    source->limit = end;
    source->found = end - first;
    source->bounded = first < end && !is_limited && (source->entered || end == blocks->rows);
    return source_rewind(source, err);
}

bool source_entered(const struct source *source) {
    return source->entered;
}

void source_accept_changes(struct source *source) {
    if (source->part != NULL) {
        source->part->checks = false;
    }
}

// ---- the problem set's name ----

int source_digest_names(struct digest *digest, const struct row *row, struct error *err) {
    TRY(digest_number(digest, row->column_count, err));
    for (size_t i = 0; i < row->column_count; i++) {
        TRY(digest_field(digest, row->columns[i].name, strlen(row->columns[i].name), err));
    }
    return STATUS_OK;
}

int source_digest_row(struct digest *digest, const struct row *row, struct error *err) {
    if (row->is_first) { // the columns' names belong to the set, once
        TRY(source_digest_names(digest, row, err));
    }
    return source_digest_values(digest, row, err);
}

int source_digest_values(struct digest *digest, const struct row *row, struct error *err) {
    for (size_t i = 0; i < row->column_count; i++) {
        TRY(digest_number(digest, row->columns[i].type, err));
        TRY(digest_field(digest, row->columns[i].bytes, row->columns[i].size, err));
    }
    return STATUS_OK;
}

const char *source_library(void) {
    return sqlite3_libversion();
}
