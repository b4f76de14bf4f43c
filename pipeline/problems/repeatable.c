// SPDX-License-Identifier: MIT
#include "problems/repeatable.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

static const char chance[] = "whose result differs each time";
static const char present[] = "which is the present time";
static const char zone[] = "in the machine's time zone";
static const char connection_of[] = "which describes the connection, not the data";
static const char library_of[] = "which describes the SQLite library, not the data";

static const struct {
    const char *name;  // as SQLite has it
    const char *shown; // as people write it
    const char *why;
} functions[] = {
    {"random", "random()", chance},
    {"randomblob", "randomblob()", chance},
    {"current_timestamp", "CURRENT_TIMESTAMP", present},
    {"current_date", "CURRENT_DATE", present},
    {"current_time", "CURRENT_TIME", present},
    {"changes", "changes()", connection_of},
    {"total_changes", "total_changes()", connection_of},
    {"last_insert_rowid", "last_insert_rowid()", connection_of},
    {"sqlite_version", "sqlite_version()", library_of},
    {"sqlite_source_id", "sqlite_source_id()", library_of},
    {"sqlite_compileoption_used", "sqlite_compileoption_used()", library_of},
    {"sqlite_compileoption_get", "sqlite_compileoption_get()", library_of},
    {"sqlite_log", "sqlite_log()", "which writes to a log"},
};

// Where the times stand among the arguments; what follows them are modifiers.
static const struct {
    const char *name;
    int first_time;
    int times; // the last one may be left out, and means the present then
} date_functions[] = {{"date", 0, 1},      {"time", 0, 1},     {"datetime", 0, 1}, {"julianday", 0, 1},
                      {"unixepoch", 0, 1}, {"strftime", 1, 1}, {"timediff", 0, 2}};
enum { DATE_FUNCTIONS = sizeof date_functions / sizeof date_functions[0] };

struct date_call {
    struct repeatable *owner;
    size_t index; // of date_functions
    sqlite3_stmt *statement;
    int count; // of the statement's parameters
};

struct repeatable {
    sqlite3 *library; // a database without content, where the library's own functions are
    struct date_call calls[DATE_FUNCTIONS];
    char refusal[128];
};

static void refuse(struct repeatable *repeatable, const char *shown, const char *why) {
    if (repeatable->refusal[0] == 0) {
        snprintf(repeatable->refusal, sizeof repeatable->refusal, "%s, %s", shown, why);
    }
}

bool repeatable_allows(struct repeatable *repeatable, const char *function) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (sqlite3_stricmp(function, functions[i].name) == 0) {
            refuse(repeatable, functions[i].shown, functions[i].why);
            return false;
        }
    }
    return true;
}

bool repeatable_allows_table(struct repeatable *repeatable, const char *table) {
    static const struct {
        const char *name;
        const char *why;
    } tables[] = {{"pragma_data_version", connection_of}, {"pragma_database_list", connection_of},
                  {"sqlite_stmt", connection_of},         {"pragma_function_list", library_of},
                  {"pragma_module_list", library_of},     {"pragma_pragma_list", library_of},
                  {"pragma_compile_options", library_of}, {"pragma_collation_list", library_of}};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (sqlite3_stricmp(table, tables[i].name) == 0) {
            refuse(repeatable, tables[i].name, tables[i].why);
            return false;
        }
    }
    return true;
}

const char *repeatable_refusal(const struct repeatable *repeatable) {
    return repeatable->refusal[0] == 0 ? NULL : repeatable->refusal;
}

// ---- dates ----

// SQLite takes a blob for a text here.
static bool says(sqlite3_value *value, const char *word) {
    int type = sqlite3_value_type(value);
    if (type != SQLITE_TEXT && type != SQLITE_BLOB) {
        return false;
    }
    const char *text = (const char *)sqlite3_value_text(value);
    return text != NULL && sqlite3_stricmp(text, word) == 0;
}

static const char *reason_against(size_t index, int count, sqlite3_value **values) {
    int first = date_functions[index].first_time;
    int last = first + date_functions[index].times;
    if (count < last) {
        return present;
    }
    for (int i = first; i < count; i++) {
        if (i < last &&
            (says(values[i], "now") || says(values[i], "subsec") || says(values[i], "subsecond"))) {
            return present;
        }
        if (i >= last && (says(values[i], "localtime") || says(values[i], "utc"))) {
            return zone;
        }
    }
    return NULL;
}

// The statement that calls the library's function with so many arguments; kept, since a query calls with as
// many each time.
static int prepare_call(struct date_call *call, int count) {
    char sql[1024];
    if (call->statement != NULL && call->count == count) {
        return SQLITE_OK;
    }
    sqlite3_finalize(call->statement);
    call->statement = NULL;
    int length = snprintf(sql, sizeof sql, "SELECT %s(", date_functions[call->index].name);
    for (int i = 0; i < count && length < (int)sizeof sql; i++) {
        length += snprintf(sql + length, sizeof sql - (size_t)length, "%s?", i == 0 ? "" : ",");
    }
    if (length + 2 > (int)sizeof sql) {
        return SQLITE_TOOBIG;
    }
    snprintf(sql + length, sizeof sql - (size_t)length, ")");
    call->count = count;
    return sqlite3_prepare_v2(call->owner->library, sql, -1, &call->statement, NULL);
}

static void hand_on(sqlite3_context *context, struct date_call *call, int count, sqlite3_value **values) {
    int code = prepare_call(call, count);
    for (int i = 0; code == SQLITE_OK && i < count; i++) {
        code = sqlite3_bind_value(call->statement, i + 1, values[i]);
    }
    if (code == SQLITE_OK && (code = sqlite3_step(call->statement)) == SQLITE_ROW) {
        sqlite3_result_value(context, sqlite3_column_value(call->statement, 0));
    } else if (code == SQLITE_NOMEM) {
        sqlite3_result_error_nomem(context);
    } else {
        sqlite3_result_error(context, sqlite3_errmsg(call->owner->library), -1);
    }
    sqlite3_reset(call->statement);
}

static void call_date_function(sqlite3_context *context, int count, sqlite3_value **values) {
    struct date_call *call = sqlite3_user_data(context);
    for (int i = 0; i < count; i++) { // a text that cannot be looked at might ask for the present
        int type = sqlite3_value_type(values[i]);
        if ((type == SQLITE_TEXT || type == SQLITE_BLOB) && sqlite3_value_text(values[i]) == NULL &&
            sqlite3_value_bytes(values[i]) > 0) {
            sqlite3_result_error_nomem(context);
            return;
        }
    }
    const char *why = reason_against(call->index, count, values);
    if (why != NULL) {
        char shown[32];
        snprintf(shown, sizeof shown, "%s()", date_functions[call->index].name);
        refuse(call->owner, shown, why);
        sqlite3_result_error(context, repeatable_refusal(call->owner), -1);
        return;
    }
    hand_on(context, call, count, values);
}

// Deterministic they are now: indices and generated columns of the database may go on using them.
static int replace_functions(struct repeatable *repeatable, sqlite3 *connection) {
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < DATE_FUNCTIONS; i++) {
        repeatable->calls[i] = (struct date_call){.owner = repeatable, .index = i};
        code = sqlite3_create_function(connection, date_functions[i].name, -1,
                                       SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                                       &repeatable->calls[i], call_date_function, NULL, NULL);
    }
    return code;
}

int repeatable_create(struct repeatable **out, sqlite3 *connection, struct error *err) {
    *out = NULL;
    void *block;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct repeatable *repeatable = block;
    *out = repeatable;
    int code = sqlite3_open_v2(":memory:", &repeatable->library,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_MEMORY, NULL);
    if (code == SQLITE_OK) {
        code = replace_functions(repeatable, connection);
    }
    return code == SQLITE_OK ? STATUS_OK
                             : error_set(err, STATUS_INTERNAL, "cannot set up a database connection: %s",
                                         sqlite3_errstr(code));
}

void repeatable_destroy(struct repeatable *repeatable) {
    if (repeatable == NULL) {
        return;
    }
    for (size_t i = 0; i < DATE_FUNCTIONS; i++) {
        sqlite3_finalize(repeatable->calls[i].statement);
    }
    sqlite3_close(repeatable->library);
    free(repeatable);
}
