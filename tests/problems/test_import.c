// SPDX-License-Identifier: MIT
// Import: every kind of value, columns from later lines, faults by line number, and nothing half imported.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "problems/import.h"
#include "scratch.h"

// Lines are written into `told` as "LINE: WHAT;".
static char told[8192];

static void tell(void *context, uint64_t line, const char *what) {
    (void)context;
    size_t used = strlen(told);
    snprintf(told + used, sizeof told - used, "%llu: %s;", (unsigned long long)line, what);
}

static int import_text(const char *text, size_t size, const char *database, bool append,
                       struct import_report *report, struct error *err) {
    const struct import_options options = {.table = "problems", .id = "id", .append = append};
    scratch_file("lines.jsonl", text, size);
    told[0] = 0;
    *err = (struct error){0};
    return import_jsonl(scratch_path("lines.jsonl"), scratch_path(database), &options, tell, NULL, report,
                        err);
}

// One value of a query, as text.
static void answers(const char *database, const char *query, const char *wanted) {
    sqlite3 *connection;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open_v2(scratch_path(database), &connection, SQLITE_OPEN_READONLY, NULL),
                     SQLITE_OK);
    if (sqlite3_prepare_v2(connection, query, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", query, sqlite3_errmsg(connection));
    }
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    const char *text = (const char *)sqlite3_column_text(statement, 0);
    assert_string_equal(text == NULL ? "NULL" : text, wanted);
    sqlite3_finalize(statement);
    sqlite3_close(connection);
}

static void test_values(void **state) {
    (void)state;
    struct import_report report;
    struct error err;
    static const char text[] =
        "\xEF\xBB\xBF{\"id\": \"a\", \"n\": 9223372036854775807, \"r\": 0.1, \"yes\": true, \"no\": false, "
        "\"none\": null}\r\n"
        "\n  \r\n"
        "{\"later\": [1, \"x\", {\"k\": null}], \"id\": 7, \"text\": \"a\\u0000b\", \"od\\\"d\": {}}\n"
        "{\"id\": \"\xC3\xA9\", \"n\": \"text now\", \"later\": \"\\ud83d\\ude00\"}";
    if (import_text(text, sizeof text - 1, "values.db", false, &report, &err) != STATUS_OK) {
        fail_msg("%s %s", err.message, told);
    }
    assert_int_equal(report.rows, 3);
    assert_int_equal(report.columns, 9);
    answers("values.db", "SELECT group_concat(name) FROM pragma_table_info('problems')",
            "id,n,r,yes,no,none,later,text,od\"d");
    answers("values.db", "SELECT group_concat(typeof(n) || ' ' || n) FROM problems",
            "integer 9223372036854775807,text text now");
    answers("values.db", "SELECT typeof(id) FROM problems WHERE id = 7", "integer");
    answers("values.db",
            "SELECT r = 0.1 AND typeof(r) = 'real' AND yes = 1 AND no = 0 AND none IS NULL FROM problems "
            "WHERE id = 'a'",
            "1");
    answers("values.db", "SELECT later FROM problems WHERE id = 7", "[1,\"x\",{\"k\":null}]");
    answers("values.db", "SELECT hex(CAST(text AS BLOB)) || typeof(text) FROM problems WHERE id = 7",
            "610062text");
    answers("values.db", "SELECT \"od\"\"d\" FROM problems WHERE id = 7", "{}");
    answers("values.db", "SELECT hex(id) || later FROM problems WHERE rowid = 3", "C3A9\xF0\x9F\x98\x80");
    assert_int_not_equal(access(scratch_path("values.db.tmp"), F_OK), 0);
}

static void fails(const char *text, const char *database, bool append, const char *faults,
                  const char *message) {
    struct import_report report;
    struct error err;
    assert_int_equal(import_text(text, strlen(text), database, append, &report, &err), STATUS_DATA);
    assert_string_equal(told, faults);
    assert_non_null(strstr(err.message, message));
    assert_int_equal(report.rows, 0);
}

static void test_faults(void **state) {
    (void)state;
    fails("{\"id\": 1}\n{\"id\": 2\n\n[3]\n{\"x\": 1}\n{\"id\": 1}\n{\"id\": \"\"}\n{\"id\": 1.5}\n{\"id\": "
          "null}\n{\"id\": 3, \"ID\": 4}\n"
          "{\"id\": 4, \"a\": 1, \"a\": 2}\n{\"id\": 5, \"\": 1}\n{\"id\": 6, \"n\": "
          "99999999999999999999}\n\"text\"\n{\"id\": 8} x\n",
          "new.db", false,
          "2: column 8: '}' expected near end of file;4: not a JSON object;5: there is no 'id';6: id 1 is "
          "there already;"
          "7: 'id' is empty;8: 'id' is not a text or a whole number;9: there is no 'id';"
          "10: 'ID' differs from the column 'id' in letters' case only;11: column 21: duplicate object key "
          "near '\"a\"';"
          "12: a member has no name;14: not a JSON object;"
          "15: column 11: end of file expected near 'x';",
          "lines.jsonl: 12 broken lines; nothing was imported");
    assert_int_not_equal(access(scratch_path("new.db"), F_OK), 0);
    assert_int_not_equal(access(scratch_path("new.db.tmp"), F_OK), 0);
    fails("{\"id\": \"\xFF\"}", "new.db", false, "1: column 8: unable to decode byte 0xff near '\"';",
          "lines.jsonl: 1 broken line; nothing was imported");
    fails("", "new.db", false, "", "lines.jsonl is empty");
    fails(" \n\n", "new.db", false, "", "lines.jsonl: there are no lines");
}

static void test_many_faults(void **state) {
    (void)state;
    char text[200] = "";
    for (int i = 0; i < 50; i++) {
        strcat(text, "x\n");
    }
    struct import_report report;
    struct error err;
    assert_int_equal(import_text(text, strlen(text), "new.db", false, &report, &err), STATUS_DATA);
    assert_non_null(strstr(told, ";20: "));
    assert_null(strstr(told, ";21: "));
    assert_non_null(strstr(err.message, "50 broken lines"));
}

static void test_append(void **state) {
    (void)state;
    struct import_report report;
    struct error err;
    static const char first[] = "{\"id\": 1, \"a\": \"x\"}\n";
    static const char second[] = "{\"id\": 2, \"b\": \"y\"}\n";
    fails(first, "append.db", true, "", "append.db does not exist: there is nothing to append to");
    assert_int_equal(import_text(first, sizeof first - 1, "append.db", false, &report, &err), STATUS_OK);
    fails(second, "append.db", false, "", "append.db has a table 'problems' already (--append adds to it)");
    fails("{\"id\": 3, \"c\": 1}\n{\"id\": 1}\n", "append.db", true, "2: id 1 is there already;",
          "1 broken line");
    answers("append.db",
            "SELECT count(*) || (SELECT group_concat(name) FROM pragma_table_info('problems')) FROM problems",
            "1id,a");
    assert_int_equal(import_text(second, sizeof second - 1, "append.db", true, &report, &err), STATUS_OK);
    assert_int_equal(report.rows, 1);
    assert_int_equal(report.columns, 3);
    answers("append.db", "SELECT group_concat(id || coalesce(a, '-') || coalesce(b, '-')) FROM problems",
            "1x-,2-y");
}

static void test_foreign_table(void **state) {
    (void)state;
    struct import_report report;
    struct error err;
    static const char line[] = "{\"id\": 1}\n";
    scratch_sql("foreign.db",
                "CREATE TABLE other(a); CREATE TABLE problems(id, must CHECK (must IS NULL OR must > 0))");
    assert_int_equal(import_text(line, sizeof line - 1, "foreign.db", true, &report, &err), STATUS_OK);
    fails(line, "foreign.db", true, "",
          "the table 'problems' has id 1 more than once or NULL; nothing was imported");
    answers("foreign.db", "SELECT count(*) FROM problems", "1");
    fails("{\"id\": 2, \"must\": 0}\n", "foreign.db", true,
          "1: CHECK constraint failed: must IS NULL OR must > 0;", "1 broken line");
    scratch_sql("empty.db", "CREATE TABLE problems(name)");
    fails(line, "empty.db", true, "", "the table 'problems' has no column 'id'");
    scratch_sql("tableless.db", "CREATE TABLE other(a)");
    fails(line, "tableless.db", true, "", "has no table 'problems' to append to");
    assert_int_equal(import_text(line, sizeof line - 1, "tableless.db", false, &report, &err), STATUS_OK);
    scratch_file(
        "text.db",
        "not a database, but long enough to look like the header of one, which has one hundred bytes....",
        90);
    fails(line, "text.db", false, "", "text.db is text, not an SQLite database");
}

// What Python's json.dumps writes and JSON does not have, and other files than JSON lines.
static void test_odd_lines(void **state) {
    (void)state;
    struct import_report report;
    struct error err;
    static const char odd[] =
        "{\"id\": 1, \"a\": \"fine\"}\n{\"id\": 2, \"a\": NaN, \"b\": [-Infinity, 1e999, {\"k\": "
        "99999999999999999999}]}\n"
        "{\"id\": 3, \"a\": \"x\\ud83d\\u0041\\udc00 \\ud83d\\ude00 NaN\"}\n{\"id\": 4, \"a\": -1e999}\n"
        "{\"id\": 5, \"a\": 18446744073709551615}\n{\"a\": -9223372036854775809, \"id\": 6}\n"
        "{\"id\": 7, \"a\": -9223372036854775808}\n";
    assert_int_equal(import_text(odd, sizeof odd - 1, "mended.db", false, &report, &err), STATUS_OK);
    assert_string_equal(told, "");
    assert_int_equal(report.rows, 7);
    assert_int_equal(report.mended, 5);
    assert_int_equal(report.first_mended, 2);
    assert_int_equal(report.mended_values.halves, 2);
    assert_int_equal(report.mended_values.not_finite, 4);
    assert_int_equal(report.mended_values.beyond, 3);
    answers("mended.db", "SELECT group_concat(typeof(a)) FROM problems",
            "text,null,text,null,text,text,integer");
    answers("mended.db", "SELECT a FROM problems WHERE id = 3",
            "x\xEF\xBF\xBD"
            "A\xEF\xBF\xBD \xF0\x9F\x98\x80 NaN");
    answers("mended.db", "SELECT b FROM problems WHERE id = 2",
            "[null,null,{\"k\":\"99999999999999999999\"}]");
    answers("mended.db", "SELECT group_concat(a) FROM problems WHERE id > 4",
            "18446744073709551615,-9223372036854775809,-9223372036854775808");
    // Neither the id nor a name is mended, and what is wrong besides stays wrong.
    fails("{\"id\": 18446744073709551616, \"a\": 1}\n{\"id\": \"x\\ud83d\"}\n{\"id\": NaN}\n{\"id\": 1, "
          "\"\\ud83d\": "
          "NaN}\n{\"id\": 2, \"a\": NaN, \"b\": oops}\n{\"id\": 3, \"a\": 0099999999999999999999}\n"
          "{\"id\": 4, 99999999999999999999: 1}\n{\"id\": 5, \"a\": NaN, \"a\": 1}\n{\"id\": null, \"a\": "
          "NaN}\n"
          "{\"id\": \"\xEF\xBF\xBD\", \"a\": NaN}\n",
          "odd.db", false,
          "1: 'id' is an integer beyond 64 bits (in quotes, as a text, it may stay);"
          "2: 'id' is a text with half of a surrogate pair, which is not a character;3: there is no 'id';"
          "4: column 18: half of a surrogate pair, which is not a character, in a member's name;"
          "5: invalid token near 'oops';6: column 16: invalid token near '0';"
          "7: column 30: too big integer near '99999999999999999999';8: duplicate object key near '\"a\"';"
          "9: there is no 'id';",
          "9 broken lines; nothing was imported (--skip-broken leaves such lines out)");
    fails("[{\"id\": 1},\n {\"id\": 2}]\n", "odd.db", false, "",
          "it begins as one JSON array: `jq -c '.[]' FILE`");
    fails("{\n \"id\": 1\n}\n", "odd.db", false, "", "it begins as a JSON object over several lines");
    fails("id,statement\n1,a\n", "odd.db", false, "", "it begins as CSV");
    fails("{\"id\": 1, \"a\": -}\n{\"id\": -x}\n- id: a, -Infinity\n{\"id\": -Infinity}\n", "odd.db", false,
          "1: column 16: invalid token near '-';2: column 8: invalid token near '-';3: column 1: invalid "
          "token near '-';"
          "4: there is no 'id';",
          "4 broken lines");
    fails("\x03,\x04,b\n", "odd.db", false, "1: column 1: invalid token near '\x03';", "1 broken line");
    fails("\x28\xB5\x2F\xFD zstd", "odd.db", false, "", "is compressed with zstd");
}

static void test_skipped_lines(void **state) {
    (void)state;
    struct import_options options = {.table = "problems", .id = "id", .skip_broken = true};
    struct import_report report;
    struct error err = {0};
    struct buffer text = {0};
    for (int i = 0; i < 30; i++) { // more than are listed otherwise
        assert_int_equal(
            buffer_printf(&text, &err, "{\"id\": %d}\n{\"id\": %d, \"a\": oops}\n{\"id\": 0}\n", i, i),
            STATUS_OK);
    }
    scratch_file("lines.jsonl", text.data, text.size);
    told[0] = 0;
    assert_int_equal(import_jsonl(scratch_path("lines.jsonl"), scratch_path("skipped.db"), &options, tell,
                                  NULL, &report, &err),
                     STATUS_OK);
    assert_int_equal(report.rows, 30);
    assert_int_equal(report.skipped, 60);
    assert_non_null(strstr(told, ";90: id 0 is there already;"));
    answers("skipped.db", "SELECT count(*) || ' ' || sum(id) FROM problems", "30 435");
    scratch_file("lines.jsonl", "{\"id\": NaN}\n", 12);
    assert_int_equal(import_jsonl(scratch_path("lines.jsonl"), scratch_path("none.db"), &options, tell, NULL,
                                  &report, &err),
                     STATUS_DATA);
    assert_non_null(strstr(err.message, "every line is broken; nothing was imported"));
    assert_int_not_equal(access(scratch_path("none.db"), F_OK), 0);
    buffer_destroy(&text);
}

// The member that was taken, or the message.
static const char *taken_id(const char *text, struct error *err) {
    static struct import_report report;
    const struct import_options options = {.table = "problems"};
    scratch_file("lines.jsonl", text, strlen(text));
    unlink(scratch_path("ids.db"));
    *err = (struct error){0};
    told[0] = 0;
    int status =
        import_jsonl(scratch_path("lines.jsonl"), scratch_path("ids.db"), &options, tell, NULL, &report, err);
    return status == STATUS_OK ? report.id : err->message;
}

static void test_usual_ids(void **state) {
    (void)state;
    struct error err;
    assert_string_equal(taken_id("{\"id\": 1, \"problem_id\": 2}\n", &err), "problem_id");
    assert_string_equal(taken_id("{\"a\": 1, \"task_id\": \"x\"}\n{\"task_id\": \"y\"}\n", &err), "task_id");
    assert_string_equal(taken_id("\n{\"Idx\": 7}\n", &err), "Idx");
    answers("ids.db", "SELECT Idx FROM problems", "7");
    // The better name is not unique, or not in every line, or no id.
    assert_string_equal(taken_id("{\"id\": 1, \"uuid\": \"x\"}\n{\"id\": 1, \"uuid\": \"y\"}\n", &err),
                        "uuid");
    assert_string_equal(taken_id("{\"id\": 1, \"uuid\": \"x\"}\n{\"uuid\": \"y\"}\n", &err), "uuid");
    assert_string_equal(taken_id("{\"id\": [1], \"idx\": 3}\n", &err), "idx");
    const char *message = taken_id("{\"question\": \"x\", \"answer\": 1}\n", &err);
    assert_non_null(strstr(message, "with --id; the first line has question, answer"));
    message = taken_id("{\"id\": 1}\n{\"id\": 1}\n", &err);
    assert_non_null(strstr(message, "'id' is not in every line and unique"));
    assert_non_null(strstr(message, "or leave the lines at fault out with --id 'id' --skip-broken"));
    // A broken line is a broken line, whatever names it.
    message = taken_id("{\"id\": 1}\n{oops\n", &err);
    assert_non_null(strstr(message, "1 broken line"));
}

static void test_files(void **state) {
    (void)state;
    const struct import_options options = {.table = "odd \"table\"", .id = "id"};
    struct import_report report;
    struct error err = {0};
    told[0] = 0;
    assert_int_equal(
        import_jsonl(scratch_path("none.jsonl"), scratch_path("x.db"), &options, tell, NULL, &report, &err),
        STATUS_DATA);
    assert_non_null(strstr(err.message, "none.jsonl: No such file or directory"));
    assert_int_equal(import_jsonl(scratch_folder, scratch_path("x.db"), &options, tell, NULL, &report, &err),
                     STATUS_DATA);
    assert_non_null(strstr(err.message, "is not a regular file: it is a folder"));
    scratch_file("one.jsonl", "{\"id\": 1}", 9);
    assert_int_equal(
        import_jsonl(scratch_path("one.jsonl"), scratch_path("no/x.db"), &options, tell, NULL, &report, &err),
        STATUS_WRITE);
    assert_int_equal(
        import_jsonl(scratch_path("one.jsonl"), scratch_path("x.db"), &options, tell, NULL, &report, &err),
        STATUS_OK);
    answers("x.db", "SELECT id FROM \"odd \"\"table\"\"\"", "1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_many_faults),   cmocka_unit_test(test_append),
        cmocka_unit_test(test_foreign_table), cmocka_unit_test(test_files),
        cmocka_unit_test(test_odd_lines),     cmocka_unit_test(test_skipped_lines),
        cmocka_unit_test(test_usual_ids),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
