// SPDX-License-Identifier: MIT
// The cursor over a query: values as stored, refusals in words, the read lock, ids, the problem set's hash.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "problems/source.h"
#include "scratch.h"

static struct source *opened(const char *database, const char *query, uint64_t limit) {
    struct source *source;
    struct error err = {0};
    if (source_open(&source, scratch_path(database), query, limit, NULL, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    return source;
}

static bool next(struct source *source, struct row *row) {
    struct error err = {0};
    bool found = false;
    if (source_next(source, row, &found, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    return found;
}

static void check_column(const struct row *row, size_t index, enum column_type type, const char *bytes,
                         size_t size) {
    assert_int_equal(row->columns[index].type, type);
    assert_int_equal(row->columns[index].size, size);
    assert_memory_equal(row->columns[index].bytes, bytes, size);
}

static void test_values(void **state) {
    (void)state;
    scratch_sql(
        "values.db",
        "CREATE TABLE t(a, b, c); INSERT INTO t VALUES (1, 'x', NULL), (-9223372036854775808, 0.1, ''),"
        "(CAST(x'610062' AS TEXT), x'00ff', x''), (0.1 + 0.2, 1e300 / 3, 5.0)");
    struct source *source =
        opened("values.db", "SELECT a, b AS \"the b\", c FROM t ORDER BY rowid; -- all of it", 0);
    struct row row;
    assert_int_equal(source_column_count(source), 3);
    assert_string_equal(source_column_name(source, 1), "the b");
    for (int pass = 0; pass < 2; pass++) {
        struct error err = {0};
        assert_true(next(source, &row));
        assert_int_equal(row.ordinal, 0);
        assert_int_equal(row.column_count, 3);
        check_column(&row, 0, COLUMN_INTEGER, "1", 1);
        check_column(&row, 1, COLUMN_TEXT, "x", 1);
        check_column(&row, 2, COLUMN_NULL, "", 0);
        assert_true(next(source, &row));
        check_column(&row, 0, COLUMN_INTEGER, "-9223372036854775808", 20);
        check_column(&row, 1, COLUMN_REAL, "0.1", 3);
        check_column(&row, 2, COLUMN_TEXT, "", 0);
        assert_true(next(source, &row));
        assert_int_equal(row.ordinal, 2);
        check_column(&row, 0, COLUMN_TEXT, "a\0b", 3);
        check_column(&row, 1, COLUMN_BLOB, "\0\xFF", 2);
        check_column(&row, 2, COLUMN_BLOB, "", 0);
        assert_true(next(source, &row));
        check_column(&row, 0, COLUMN_REAL, "0.30000000000000004", 19); // every digit that tells it from 0.3
        assert_true(strtod(row.columns[1].bytes, NULL) == 1e300 / 3);
        check_column(&row, 2, COLUMN_REAL, "5.0", 3);
        assert_false(next(source, &row));
        assert_false(next(source, &row)); // stays at the end
        assert_int_equal(source_rewind(source, &err), STATUS_OK);
    }
    source_close(source);
    source_close(NULL);
}

static void test_moving(void **state) {
    (void)state;
    struct error err = {0};
    struct row row;
    scratch_sql(
        "ten.db",
        "CREATE TABLE t(n); WITH RECURSIVE c(n) AS (VALUES(0) UNION ALL SELECT n + 1 FROM c WHERE n < 9)"
        "INSERT INTO t SELECT n FROM c");
    struct source *source = opened("ten.db", "SELECT n FROM t ORDER BY n", 7);
    assert_int_equal(source_skip_to(source, 5, &err), STATUS_OK);
    assert_true(next(source, &row));
    assert_int_equal(row.ordinal, 5);
    check_column(&row, 0, COLUMN_INTEGER, "5", 1);
    assert_int_equal(source_skip_to(source, 2, &err), STATUS_OK); // back
    assert_true(next(source, &row));
    check_column(&row, 0, COLUMN_INTEGER, "2", 1);
    assert_int_equal(source_skip_to(source, 7, &err), STATUS_OK);
    assert_false(next(source, &row)); // the limit
    assert_int_equal(source_skip_to(source, 8, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "the query has only 7 rows, not row 8"));
    source_close(source);
}

// Rows 4 to 6 of the ten, blocks of one row each.
static struct source *confined(const char *query, struct row_block *rows) {
    const struct row_blocks blocks = {
        .blocks = rows, .count = 10, .rows = 10, .per_block = 1, .enters = true};
    struct source *source = opened("ten.db", query, 0);
    struct error err = {0};
    for (int i = 0; i < 10; i++) {
        rows[i] = (struct row_block){.rowid = i + 1};
    }
    assert_int_equal(source_confine(source, &blocks, 4, 7, &err), STATUS_OK);
    source_accept_changes(source); // the blocks have no digests
    return source;
}

static void test_moving_in_a_part(void **state) {
    (void)state;
    static const struct {
        const char *query;
        bool enters;
        const char *first;
    } queries[] = {{"SELECT n FROM t", true, "4"}, {"SELECT n FROM t ORDER BY n DESC", false, "5"}};
    struct row_block rows[10];
    struct error err = {0};
    struct row row;
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct source *source = confined(queries[i].query, rows);
        assert_int_equal(source_entered(source), queries[i].enters);
        for (int pass = 0; pass < 2; pass++) {
            assert_true(next(source, &row));
            assert_int_equal(row.ordinal, 4);
            check_column(&row, 0, COLUMN_INTEGER, queries[i].first, 1);
            assert_true(next(source, &row) && next(source, &row));
            assert_false(next(source, &row));
            assert_int_equal(source_skip_to(source, 4, &err), STATUS_OK); // back to its first
        }
        assert_int_equal(source_skip_to(source, 6, &err), STATUS_OK);
        assert_true(next(source, &row));
        assert_int_equal(row.ordinal, 6);
        source_close(source);
    }
}

static void test_columns(void **state) {
    (void)state;
    size_t index = 9;
    struct error err = {0};
    struct source *source = opened("ten.db", "SELECT n AS a, 1 AS b FROM t", 0);
    assert_int_equal(source_column(source, "b", &index, &err), STATUS_OK);
    assert_int_equal(index, 1);
    assert_int_equal(source_column(source, "B", &index, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "ten.db: the query has no column 'B'; it has a, b"));
    source_close(source);
}

static void refused(const char *database, const char *query, const char *words) {
    struct source *source = (struct source *)1;
    struct error err = {0};
    assert_int_equal(source_open(&source, scratch_path(database), query, 0, NULL, &err), STATUS_DATA);
    assert_null(source);
    assert_int_equal(strncmp(err.message, scratch_path(database), strlen(scratch_path(database))), 0);
    assert_string_equal(err.message + strlen(scratch_path(database)), words);
}

static void test_refusals(void **state) {
    (void)state;
    scratch_file(
        "text.db",
        "this is not a database, but long enough to be read as the header of one..........................",
        90);
    refused("none.db", "SELECT 1",
            ": cannot open the database: unable to open database file (there is no such file; relative paths "
            "start at the job file's folder)");
    assert_int_not_equal(access(scratch_path("none.db"), F_OK), 0); // and was not made
    refused("text.db", "SELECT 1",
            " is text, not an SQLite database: of CSV, `sqlite3 problems.db '.import --csv FILE problems'` "
            "makes one; of "
            "JSON lines, `strata import FILE problems.db`");
    scratch_file("noise.db",
                 "\x03\x04\x01 this is no database either..........................................", 60);
    refused("noise.db", "SELECT 1", ": cannot read the database: file is not a database");
    refused("ten.db", "SELECT n FROM nowhere", ": the query is wrong: no such table: nowhere; it has t");
    refused("ten.db", "SELEC n", ": the query is wrong: near \"SELEC\": syntax error");
    static const char *const others[] = {"",
                                         ";",
                                         "-- nothing",
                                         "DELETE FROM t",
                                         "INSERT INTO t VALUES (1) RETURNING n",
                                         "PRAGMA table_info(t)",
                                         "EXPLAIN SELECT n FROM t",
                                         "SELECT n FROM t; SELECT 1",
                                         "SELECT n FROM t; garbage",
                                         "ATTACH 'x' AS y",
                                         "COMMIT",
                                         "CREATE TABLE u(a)"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        refused("ten.db", others[i], ": the query is not one SELECT");
    }
    refused("ten.db", "SELECT n FROM t ORDER BY random()",
            ": the query uses random(), whose result differs each time: its rows must be the same each time "
            "it is "
            "read");
    refused("ten.db", "SELECT n, n FROM t", ": the query has two columns 'n'; name one of them with AS");
}

static void test_selects(void **state) {
    (void)state;
    struct row row;
    static const char *const queries[] = {"WITH x AS (SELECT n FROM t) SELECT n FROM x WHERE n = 3",
                                          "VALUES ('3')", "SELECT value FROM json_each('[3]')",
                                          " /* c */ SELECT 3 AS n -- x", "SELECT max(n) - 6 FROM t;;"};
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct source *source = opened("ten.db", queries[i], 0);
        assert_true(next(source, &row));
        assert_memory_equal(row.columns[0].bytes, "3", 1);
        source_close(source);
    }
}

static void test_lock(void **state) {
    (void)state;
    struct row row;
    sqlite3 *writer;
    struct source *source = opened("ten.db", "SELECT n FROM t", 0);
    assert_int_equal(sqlite3_open(scratch_path("ten.db"), &writer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(writer, "DELETE FROM t", NULL, NULL, NULL),
                     SQLITE_BUSY); // nothing changes under a run
    assert_true(next(source, &row));
    source_close(source);
    assert_int_equal(sqlite3_exec(writer, "BEGIN; DELETE FROM t; ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(writer);
}

// A writer that ended in the middle of a transaction leaves a journal that a reader may not roll back.
static void test_cut_off_writer(void **state) {
    (void)state;
    scratch_sql("cut.db", "CREATE TABLE t(a); INSERT INTO t VALUES ('kept')");
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *writer;
        sqlite3_open(scratch_path("cut.db"), &writer);
        sqlite3_exec(
            writer,
            "PRAGMA cache_size=5; BEGIN; WITH RECURSIVE c(n) AS (VALUES(0) UNION ALL SELECT n + 1 FROM c "
            "WHERE n < 999) INSERT INTO t SELECT hex(zeroblob(500)) FROM c; UPDATE t SET a = 'changed' "
            "WHERE rowid = 1",
            NULL, NULL, NULL);
        _exit(0);
    }
    int ended = 0;
    assert_int_equal(waitpid(child, &ended, 0), child);
    refused("cut.db", "SELECT a FROM t",
            ": cannot read the database: attempt to write a readonly database (a write to it was "
            "cut off; open it once with sqlite3 so that it can be rolled back)");
    scratch_sql("cut.db", "SELECT count(*) FROM t");
    struct row row;
    struct source *source = opened("cut.db", "SELECT a FROM t", 0);
    assert_true(next(source, &row));
    check_column(&row, 0, COLUMN_TEXT, "kept", 4);
    assert_false(next(source, &row));
    source_close(source);
}

// ---- rows that are not the same each time ----

static int first_fault(const char *database, const char *query, const struct watch *watch,
                       struct error *err) {
    struct source *source = NULL;
    struct row row;
    bool found = true;
    int status = source_open(&source, scratch_path(database), query, 0, watch, err);
    while (status == STATUS_OK && found) {
        status = source_next(source, &row, &found, err);
    }
    source_close(source);
    return status;
}

static void test_not_repeatable(void **state) {
    (void)state;
    scratch_sql("now.db", "CREATE TABLE t(n, kind); INSERT INTO t VALUES (1, 'now'), (2, 'localtime');"
                          "CREATE VIEW late AS SELECT n, date('now') AS d FROM t;"
                          "CREATE VIEW odd AS SELECT n, random() AS r FROM t;"
                          "CREATE TABLE g(n, d AS (date(n)));"
                          "CREATE INDEX by_date ON t(date(n)); INSERT INTO g VALUES ('2024-02-03')");
    static const struct {
        const char *query;
        const char *words;
    } refusals[] = {
        {"SELECT strftime('%s', 'now') FROM t", "strftime(), which is the present time"},
        {"SELECT strftime('%s', 'NOW', '+1 day') FROM t", "strftime(), which"},
        {"SELECT strftime('%Y') FROM t", "strftime(), which"},
        {"SELECT n FROM t WHERE n < julianday()", "julianday(), which"},
        {"SELECT unixepoch('now', 'subsec')", "unixepoch(), which"},
        {"SELECT datetime('subsec')", "datetime(), which"},
        {"SELECT time('n' || 'ow')", "time(), which"},
        {"SELECT date(CAST('now' AS BLOB))", "date(), which"},
        {"SELECT date(kind) FROM t", "date(), which"},
        {"SELECT datetime(0, 'unixepoch', 'localtime')", "datetime(), in the machine's time zone"},
        {"SELECT datetime('2024-02-03', 'UTC')", "datetime(), in the machine's time zone"},
        {"SELECT n, CURRENT_TIMESTAMP FROM t", "CURRENT_TIMESTAMP, which is the present time"},
        {"SELECT current_date", "CURRENT_DATE, which"},
        {"SELECT n FROM t ORDER BY current_time", "CURRENT_TIME, which"},
        {"SELECT * FROM late", "date(), which"},
        {"SELECT * FROM odd", "random(), whose result differs each time"},
        {"WITH w AS (SELECT date('now') AS d) SELECT d FROM w", "date(), which"},
        {"SELECT n FROM t WHERE n IN (SELECT abs(random()) % 3)", "random(), whose"},
        {"SELECT value FROM json_each(json_array(date()))", "date(), which"},
        {"SELECT hex(randomblob(4))", "randomblob(), whose"},
        {"SELECT changes(), n FROM t", "changes(), which describes the connection"},
        {"SELECT total_changes()", "total_changes(), which"},
        {"SELECT last_insert_rowid()", "last_insert_rowid(), which"},
        {"SELECT data_version FROM pragma_data_version",
         "pragma_data_version, which describes the connection"},
        {"SELECT file FROM pragma_database_list", "pragma_database_list, which"},
        {"SELECT sqlite_version()", "sqlite_version(), which describes the SQLite library"}};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct error err = {0};
        assert_int_equal(first_fault("now.db", refusals[i].query, NULL, &err), STATUS_DATA);
        if (strstr(err.message, refusals[i].words) == NULL ||
            strstr(err.message, "its rows must be the same each time it is read") == NULL) {
            fail_msg("%s: %s", refusals[i].query, err.message);
        }
    }
}

// The functions give what SQLite's own give, and texts that say 'now' are texts.
static void test_repeatable_dates(void **state) {
    (void)state;
    struct row row;
    static const struct {
        const char *query;
        const char *value;
    } pairs[] = {
        {"SELECT name FROM pragma_table_info('t') WHERE cid = 1", "kind"},

        {"SELECT date('2024-02-28', '+2 days')", "2024-03-01"},
        {"SELECT date(n) FROM g", "2024-02-03"},
        {"SELECT d FROM g", "2024-02-03"},
        {"SELECT datetime(86400, 'unixepoch')", "1970-01-02 00:00:00"},
        {"SELECT strftime('%Y now', '2024-01-01', 'start of month', '+1 month', '-1 day')", "2024 now"},
        {"SELECT julianday('2000-01-01 12:00')", "2451545.0"},
        {"SELECT typeof(unixepoch('2024-01-01'))", "integer"},
        {"SELECT typeof(date('nonsense'))", "null"},
        {"SELECT kind FROM t WHERE kind = 'now'", "now"},
        {"SELECT 'now' || ' localtime'", "now localtime"},
        {"SELECT n FROM t WHERE date(n) = date(2)", "2"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct source *source = opened("now.db", pairs[i].query, 0);
        assert_true(next(source, &row));
        check_column(&row, 0, row.columns[0].type, pairs[i].value, strlen(pairs[i].value));
        source_close(source);
    }
}

// ---- long waits ----

struct listener {
    unsigned looks; // until it has enough; 0: never
    unsigned words;
    uint64_t rows;
};

static bool have_enough(void *context) {
    struct listener *listener = context;
    return listener->looks > 0 && --listener->looks == 0;
}

static void count_words(void *context, const char *text) {
    struct listener *listener = context;
    listener->words += strstr(text, "another program has locked the database") != NULL;
}

static void note_rows(void *context, uint64_t rows) {
    ((struct listener *)context)->rows = rows;
}

static void test_queries_without_end(void **state) {
    (void)state;
    static const char numbers[] = "WITH RECURSIVE c(n) AS (VALUES(0) UNION ALL SELECT n + 1 FROM c) SELECT ";
    static const char *const ends[] = {"count(*) FROM c", "n FROM c WHERE n < 0",
                                       "n AS id FROM c ORDER BY -n"};
    char query[256];
    struct error err = {0};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct listener listener = {.looks = 3};
        const struct watch watch = {.stopped = have_enough, .context = &listener};
        snprintf(query, sizeof query, "%s%s", numbers, ends[i]);
        assert_int_equal(first_fault("now.db", query, &watch, &err), STATUS_STOPPED);
        assert_string_equal(err.message,
                            "stopped while reading the problems; run the same command to resume");
    }
    // Rows without end are looked at, and told, until somebody has seen enough.
    struct listener listener = {.looks = 3};
    const struct watch watch = {.stopped = have_enough, .reading = note_rows, .context = &listener};
    struct source *source = NULL;
    snprintf(query, sizeof query, "%sn AS id FROM c", numbers);
    assert_int_equal(source_open(&source, scratch_path("now.db"), query, 0, &watch, &err), STATUS_OK);
    assert_int_equal(source_check_ids(source, "id", NULL, &err), STATUS_STOPPED);
    assert_true(listener.rows >= 1024);
    source_close(source);
    assert_int_equal(first_fault("now.db", "SELECT hex(zeroblob(900000000))", NULL, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "(a value may have 256 MiB)"));
}

static void test_held_database(void **state) {
    (void)state;
    sqlite3 *holder;
    struct error err = {0};
    struct listener listener = {0};
    struct watch watch = {.say = count_words, .context = &listener, .patience = 1.5};
    scratch_sql("held.db", "CREATE TABLE t(n); INSERT INTO t VALUES (1)");
    assert_int_equal(sqlite3_open(scratch_path("held.db"), &holder), SQLITE_OK);
    assert_int_equal(sqlite3_exec(holder, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(first_fault("held.db", "SELECT n FROM t", &watch, &err), STATUS_STOPPED);
    assert_non_null(strstr(err.message, "another program has locked the database for"));
    assert_int_equal(listener.words, 1);
    listener.looks = 2;
    watch = (struct watch){.stopped = have_enough, .context = &listener};
    assert_int_equal(first_fault("held.db", "SELECT n FROM t", &watch, &err), STATUS_STOPPED);
    assert_non_null(strstr(err.message, "stopped while waiting for"));
    assert_int_equal(sqlite3_exec(holder, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(first_fault("held.db", "SELECT n FROM t", &watch, &err), STATUS_OK);
    sqlite3_close(holder);
}

static void test_empty(void **state) {
    (void)state;
    struct error err = {0};
    struct source *source = opened("now.db", "SELECT n FROM t WHERE kind = 'nwo'", 0);
    assert_int_equal(source_check_ids(source, "n", NULL, &err), STATUS_OK);
    assert_int_equal(source_rows(source), 0);
    assert_int_equal(source_refuse_empty(source, &err), STATUS_DATA);
    assert_string_equal(
        strrchr(err.message, '/') + 1,
        "now.db: the query returns no rows: SELECT n FROM t WHERE kind = 'nwo' (t has 2 rows)");
    source_close(source);
    source = opened("now.db", "SELECT n FROM t", 0);
    assert_int_equal(source_check_ids(source, "n", NULL, &err), STATUS_OK);
    assert_int_equal(source_rows(source), 2);
    source_close(source);
}

static void ids(const char *query, const char *column, uint64_t limit, const char *words) {
    struct error err = {0};
    struct row row;
    struct source *source = opened("ids.db", query, limit);
    int status = source_check_ids(source, column, NULL, &err);
    if (words == NULL) {
        assert_int_equal(status, STATUS_OK);
        assert_true(next(source, &row));
        assert_int_equal(row.ordinal, 0); // back at the start
    } else {
        assert_int_equal(status, STATUS_DATA);
        assert_string_equal(strrchr(err.message, '/') + 1, words);
    }
    source_close(source);
}

static void test_ids(void **state) {
    (void)state;
    scratch_sql("ids.db", "CREATE TABLE t(good, twice, empty, missing); INSERT INTO t VALUES ('a', 1, 'a', "
                          "1), ('A', 2, 'b', 2),"
                          "('b', '1', '', NULL)");
    ids("SELECT * FROM t ORDER BY rowid", "good", 0, NULL);
    // 1 and '1' are one id: an id is its text.
    ids("SELECT * FROM t ORDER BY rowid", "twice", 0,
        "ids.db: row 3 of the query: the id 'twice' has the value '1' a second time");
    ids("SELECT * FROM t ORDER BY rowid", "twice", 2, NULL);
    ids("SELECT * FROM t ORDER BY rowid", "empty", 0, "ids.db: row 3 of the query: the id 'empty' is empty");
    ids("SELECT * FROM t ORDER BY rowid", "missing", 0,
        "ids.db: row 3 of the query: the id 'missing' is NULL");
    ids("VALUES ('a'), (NULL), (''), ('a')", "column1", 0,
        "ids.db: row 2 of the query: the id 'column1' is NULL; 2 rows have no id, of 4");
    // An id is a text: what JSON cannot carry could never be exported.
    ids("VALUES ('a'), (CAST('b' AS BLOB))", "column1", 0,
        "ids.db: row 2 of the query: the id 'column1' is a blob, not a text");
    ids("VALUES ('a'), ('b'), (CAST(x'61c328' AS TEXT))", "column1", 0,
        "ids.db: row 3 of the query: the id 'column1' is not valid UTF-8 (byte 1)");
    ids("VALUES ('\xc3\xa4'), (CAST(x'610062' AS TEXT)), (3), (4.5)", "column1", 0, NULL);
    ids("SELECT good FROM t", "id", 0, "ids.db: the query has no column 'id'; it has good");
}

static bool is_asked(void *context) {
    bool *asked = context;
    *asked = true;
    return true;
}

// Enough to be sorted on disk. The first row that repeats an id is told, not the first id; and a stop ends
// the sorting.
static void test_many_ids(void **state) {
    (void)state;
#define MANY                                                                                                 \
    "WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 499999) "                    \
    "SELECT 'id ' || (i * 7919 % 500009) || "
    ids(MANY "'.' AS id FROM n", "id", 0, NULL);
    ids(MANY "'.' AS id FROM n UNION ALL SELECT 'id 7919.'", "id", 0,
        "ids.db: row 500001 of the query: the id 'id' has the value 'id 7919.' a second time");
    ids("SELECT * FROM (VALUES ('b'), ('a'), ('b'), ('a'), ('a'), ('b'))", "column1", 0,
        "ids.db: row 3 of the query: the id 'column1' has the value 'b' a second time; 4 rows repeat an id, "
        "of 6");
    struct error err = {0};
    bool asked = false;
    const struct watch watch = {.stopped = is_asked, .context = &asked};
    struct source *source;
    assert_int_equal(source_open(&source, scratch_path("ids.db"), MANY "'.' AS id FROM n", 0, &watch, &err),
                     STATUS_OK);
    assert_int_equal(source_check_ids(source, "id", NULL, &err), STATUS_STOPPED);
    assert_true(asked);
    source_close(source);
}

static void digest_of(const char *query, char hex[DIGEST_HEX]) {
    struct error err = {0};
    struct digest *digest;
    struct row row;
    struct source *source = opened("ids.db", query, 0);
    assert_int_equal(digest_create(&digest, &err), STATUS_OK);
    while (next(source, &row)) {
        assert_int_equal(source_digest_row(digest, &row, &err), STATUS_OK);
    }
    assert_int_equal(digest_finish(digest, hex, &err), STATUS_OK);
    digest_destroy(digest);
    source_close(source);
}

static void test_digest(void **state) {
    (void)state;
    static const char *const queries[] = {
        "SELECT 'ab' AS x, 'c' AS y", "SELECT 'a' AS x, 'bc' AS y", "SELECT 'ab' AS x, 'c' AS z",
        "SELECT 'ab' AS x, CAST('c' AS BLOB) AS y", "SELECT 'ab' AS x, 'c' AS y UNION ALL VALUES (1, 2)",
        "SELECT '1' AS x", "SELECT 1 AS x", "SELECT NULL AS x",
        // Alike but for the lengths: between two fields stands the number of a type, here 3.
        "SELECT CAST(x'61030000000000000062' AS TEXT) AS x, '' AS y",
        "SELECT 'a' AS x, CAST(x'620300000000000000' AS TEXT) AS y", "SELECT '' AS x"};
    enum { COUNT = sizeof queries / sizeof queries[0] };
    char hex[COUNT][DIGEST_HEX];
    char again[DIGEST_HEX];
    for (size_t i = 0; i < COUNT; i++) {
        digest_of(queries[i], hex[i]);
        digest_of(queries[i], again);
        assert_string_equal(hex[i], again);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(hex[i], hex[k]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_moving),
        cmocka_unit_test(test_moving_in_a_part),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_selects),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_cut_off_writer),
        cmocka_unit_test(test_not_repeatable),
        cmocka_unit_test(test_repeatable_dates),
        cmocka_unit_test(test_queries_without_end),
        cmocka_unit_test(test_held_database),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_many_ids),
        cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
