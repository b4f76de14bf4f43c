// SPDX-License-Identifier: MIT
#include "problems/part.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ROWID_FUNCTION "strata_rowid"

// ---- entering a query ----

static int fail(sqlite3 *connection, struct error *err) {
    return error_set(err, STATUS_DATA, "cannot divide the query: %s", sqlite3_errmsg(connection));
}

// One step, by rowid: nothing is sorted, put together or asked twice.
static bool is_plain(const char *detail, bool searched) {
    return searched ? strncmp(detail, "SEARCH ", 7) == 0 &&
                          strstr(detail, " USING INTEGER PRIMARY KEY (rowid>") != NULL
                    : strncmp(detail, "SCAN ", 5) == 0 && strstr(detail, " INDEX ") == NULL;
}

static bool has_plain_plan(sqlite3 *connection, const char *query, bool searched) {
    sqlite3_stmt *plan = NULL;
    char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", query);
    size_t steps = 0;
    bool plain = true;
    if (sql == NULL || sqlite3_prepare_v2(connection, sql, -1, &plan, NULL) != SQLITE_OK) {
        sqlite3_free(sql);
        return false;
    }
    while (sqlite3_step(plan) == SQLITE_ROW) {
        const char *detail = (const char *)sqlite3_column_text(plan, 3);
        plain = plain && detail != NULL && is_plain(detail, searched);
        steps++;
    }
    sqlite3_finalize(plan);
    sqlite3_free(sql);
    return plain && steps == 1;
}

static bool make_view(sqlite3 *connection, const char *table, const char *condition) {
    char *sql = sqlite3_mprintf("CREATE TEMP VIEW \"%w\" AS SELECT * FROM main.\"%w\" WHERE %s", table, table,
                                condition);
    bool made = sql != NULL && sqlite3_exec(connection, sql, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_free(sql);
    return made;
}

static int drop_view(sqlite3 *connection, const char *table, struct error *err) {
    char *sql = sqlite3_mprintf("DROP VIEW temp.\"%w\"", table);
    int code = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(connection, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    return code == SQLITE_OK ? STATUS_OK : fail(connection, err);
}

// The query without the words at its end that ask for the order of rowids, which a scan has anyway and a view
// knows nothing of. NULL where it does not end so.
static char *without_order(const char *query) {
    static const char *const words[] = {"order", "by", "rowid"};
    size_t length = strlen(query);
    while (length > 0 && (isspace((unsigned char)query[length - 1]) || query[length - 1] == ';')) {
        length--;
    }
    for (size_t i = 3; i-- > 0;) {
        size_t word = strlen(words[i]);
        if (length <= word || strncasecmp(query + length - word, words[i], word) != 0 ||
            !isspace((unsigned char)query[length - word - 1])) {
            return NULL;
        }
        length -= word;
        while (length > 0 && isspace((unsigned char)query[length - 1])) {
            length--;
        }
    }
    return strndup(query, length);
}

static void prepare_plain(sqlite3_stmt **out, sqlite3 *connection, const char *query, bool searched) {
    if (has_plain_plan(connection, query, searched) &&
        sqlite3_prepare_v3(connection, query, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) != SQLITE_OK) {
        *out = NULL;
    }
}

static int enter(sqlite3_stmt **out, sqlite3 *connection, const char *table, const char *query,
                 const char *condition, bool searched, struct error *err) {
    *out = NULL;
    if (!make_view(connection, table, condition)) {
        return STATUS_OK; // a table without rowids, or one whose name is taken
    }
    char *shorter = without_order(query);
    prepare_plain(out, connection, shorter == NULL ? query : shorter, searched);
    free(shorter);
    return *out == NULL ? drop_view(connection, table, err) : STATUS_OK;
}

int part_enter(sqlite3_stmt **out, sqlite3 *connection, const char *table, const char *query, int64_t first,
               bool bounded, int64_t end, struct error *err) {
    char condition[96];
    int length = snprintf(condition, sizeof condition, "rowid >= %" PRId64, first);
    if (bounded) {
        snprintf(condition + length, sizeof condition - (size_t)length, " AND rowid < %" PRId64, end);
    }
    return enter(out, connection, table, query, condition, true, err);
}

// Called by the scan for every row that it comes to: of a query that only scans, the last one is the row at
// hand.
static void note_rowid(sqlite3_context *context, int count, sqlite3_value **values) {
    int64_t *rowid = sqlite3_user_data(context);
    (void)count;
    *rowid = sqlite3_value_int64(values[0]);
    sqlite3_result_int(context, 1);
}

int part_follow(sqlite3_stmt **out, sqlite3 *connection, const char *table, const char *query, int64_t *rowid,
                struct error *err) {
    if (sqlite3_create_function(connection, ROWID_FUNCTION, 1, SQLITE_UTF8, rowid, note_rowid, NULL, NULL) !=
        SQLITE_OK) {
        return fail(connection, err);
    }
    return enter(out, connection, table, query, ROWID_FUNCTION "(rowid)", false, err);
}

// ---- rows against their survey ----

void part_restart(struct part *part) {
    digest_destroy(part->digest);
    part->digest = NULL;
    part->begun = false;
}

void part_destroy(struct part *part) {
    if (part != NULL) {
        digest_destroy(part->digest);
    }
    free(part);
}

static int compare(struct part *part, uint64_t block, const char *database, struct error *err) {
    char hex[DIGEST_HEX];
    TRY(digest_finish(part->digest, hex, err));
    if (strcmp(hex, part->blocks.blocks[block].sha256) == 0) {
        return STATUS_OK;
    }
    uint64_t first = block * part->blocks.per_block;
    uint64_t last = first + part->blocks.per_block < part->blocks.rows ? first + part->blocks.per_block
                                                                       : part->blocks.rows;
    return error_set(err, STATUS_DATA,
                     "%s: rows %" PRIu64 " to %" PRIu64
                     " of the query are not those that the survey of the parts found",
                     database, first + 1, last);
}

int part_check(struct part *part, const struct row *row, const char *database, struct error *err) {
    uint64_t block = row->ordinal / part->blocks.per_block;
    uint64_t place = row->ordinal % part->blocks.per_block;
    if (!part->checks || block >= part->blocks.count) {
        return STATUS_OK;
    }
    part->begun = part->begun || place == 0;
    if (!part->begun) { // entered in its midst
        return STATUS_OK;
    }
    if (part->digest == NULL) {
        TRY(digest_create(&part->digest, err));
    }
    if (place == 0) {
        TRY(source_digest_names(part->digest, row, err));
    }
    TRY(source_digest_values(part->digest, row, err));
    bool is_last = place + 1 == part->blocks.per_block || row->ordinal + 1 == part->blocks.rows;
    return is_last ? compare(part, block, database, err) : STATUS_OK;
}
