// SPDX-License-Identifier: MIT
// What is seen of a ledger that was changed, that is none, or that a runner is writing.
#include "checkpoints/ledger_behind.h"
#include "checkpoints/ledger_testing.h"

// Changes one row by plain SQL, as a hand or an unlucky bit would: integrity_check sees nothing wrong with
// these.
static void chain_sees_changed_rows(void **state) {
    (void)state;
    static const char *const changes[] = {
        "UPDATE problem SET tokens = tokens + 1 WHERE ordinal = 4",
        "UPDATE problem SET id = 'other' WHERE ordinal = 4",
        "UPDATE problem SET reason = 'NaN in hidden_states[34]' WHERE ordinal = 2",
        "UPDATE problem SET state = 0, reason = NULL WHERE ordinal = 2",
        "DELETE FROM problem WHERE ordinal = 5",
        "UPDATE problem SET checkpoint = 2 WHERE ordinal = 5",
        "UPDATE problem SET checkpoint = 77 WHERE ordinal = 5",
        "UPDATE shard SET sha256 = '0124' WHERE number = 0",
        "UPDATE shard SET name = 'part-000007.h5' WHERE number = 0",
        "UPDATE batch SET tokens = 1 WHERE number = 0",
        "UPDATE checkpoint SET batches = 9 WHERE number = 1",
        "UPDATE checkpoint SET chain = iif(chain LIKE '0%', '1', '0') || substr(chain, 2) WHERE number = 1",
        "DELETE FROM checkpoint WHERE number = 1",
        "UPDATE identity SET value = 'float16' WHERE key = 'model.dtype'",
        "UPDATE survey SET problems = 101",
        "INSERT INTO problem VALUES(90, 'extra', 2, 'none', NULL, NULL, NULL, 0, 0, 0, 0, 0)",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char folder[PATH_SIZE];
        struct error err;
        struct ledger *ledger;
        fixture_folder(folder);
        ledger = begin_at(folder, 100);
        ok(commit(ledger, 0, 0, false, &err), &err);
        ok(commit(ledger, 1, PROBLEMS, false, &err), &err);
        ok(ledger_check_chain(ledger, &err), &err);
        ledger_close(ledger);
        assert_int_equal(ledger_behind(folder, changes[i]), 1);
        ok(ledger_open_read(&ledger, folder, &err), &err);
        if (ledger_check_chain(ledger, &err) != STATUS_DATA) {
            fail_msg("unseen: %s", changes[i]);
        }
        ledger_close(ledger);
        fixture_folder_remove(folder);
    }
}

static void refuses_what_is_no_ledger(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    fixture_folder(folder);
    ok(run_folder_file(path, folder, "ledger.sqlite", &err), &err);
    assert_int_equal(ledger_open_read(&ledger, folder, &err), STATUS_DATA);
    assert_false(file_exists(path));
    ok(file_write_atomic(path, "", 0, &err), &err);
    assert_int_equal(ledger_open_read(&ledger, folder, &err), STATUS_DATA);
    ok(file_write_atomic(path, "no database, only a text of some length", 39, &err), &err);
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_int_equal(ledger_open_read(&ledger, folder, &err), STATUS_DATA);
    ok(file_remove(path, &err), &err);
    (void)ledger_behind(folder, "CREATE TABLE problems(id)");
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "not a ledger"));
    fixture_folder_remove(folder);

    fixture_folder(folder);
    ledger_close(begin_at(folder, 1));
    (void)ledger_behind(folder, "PRAGMA user_version = 9");
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "format 9"));
    fixture_folder_remove(folder);
}

// A tail whose rows were changed stops a runner at once.
static void opening_checks_the_tail(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    fixture_folder(folder);
    ledger = begin_at(folder, 100);
    ok(commit(ledger, 0, 0, false, &err), &err);
    ledger_close(ledger);
    assert_int_equal(ledger_behind(folder, "DELETE FROM problem WHERE ordinal = 1"), 1);
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "part-000000.h5"));
    fixture_folder_remove(folder);
}

static int slow_reader(void *context, const struct ledger_shard *shard) {
    struct error err;
    (void)shard;
    // The runner commits while a listing is half given out.
    return ledger_event(context, "warn", "written while a reader waits", &err);
}

static void readers_hold_no_lock(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *reader;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, 100);
    ok(commit(ledger, 0, 0, false, &err), &err);
    ok(ledger_open_read(&reader, folder, &err), &err);
    ok(ledger_each_shard(reader, slow_reader, ledger, &err), &err);
    ledger_close(reader);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

// What a reader is told is of the moment it looked first; between two calls it may look anew.
static void readers_see_one_moment(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_totals totals;
    struct ledger_position position;
    struct ledger_problem problem;
    struct ledger *reader;
    struct buffer memory = {0};
    bool found = true;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, 3 * PROBLEMS);
    ok(commit(ledger, 0, 0, false, &err), &err);
    ok(ledger_open_read(&reader, folder, &err), &err);
    ok(commit(ledger, 1, PROBLEMS, false, &err), &err);
    ok(ledger_event(ledger, "warn", "later", &err), &err);
    uint64_t count = 0;
    ok(ledger_each_shard(reader, count_shard, &count, &err), &err);
    assert_int_equal(count, 1);
    count = 0;
    ok(ledger_each_problem(reader, NULL, count_problem, &count, &err), &err);
    assert_int_equal(count, PROBLEMS);
    count = 0;
    ok(ledger_each_problem_of_shard(reader, 1, count_problem, &count, &err), &err);
    assert_int_equal(count, 0);
    count = 0;
    ok(ledger_each_event(reader, count_event, &count, &err), &err);
    assert_int_equal(count, 0);
    ok(ledger_totals(reader, &totals, &err), &err);
    assert_true(totals.shards == 1 && totals.done + totals.failed == PROBLEMS && totals.batches == 1);
    ok(ledger_position(reader, &position, &err), &err);
    assert_int_equal(position.shards, 1);
    ok(ledger_check_chain(reader, &err), &err);
    ok(ledger_check_totals(reader, &err), &err);

    ok(ledger_read_begin(reader, &err), &err);
    ok(ledger_totals(reader, &totals, &err), &err);
    assert_int_equal(totals.shards, 2);
    ok(ledger_each_event(reader, count_event, &count, &err), &err);
    assert_int_equal(count, 1);
    ok(ledger_read_end(reader, &err), &err);
    ok(commit(ledger, 2, 2 * PROBLEMS, true, &err), &err); // nobody is in the way
    ok(ledger_find_problem(reader, "aufgabe-\xc3\xbc-13", strlen("aufgabe-\xc3\xbc-13"), &problem, &memory,
                           &found, &err),
       &err);
    assert_false(found);
    ledger_close(reader);
    buffer_destroy(&memory);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

// A ledger that another program holds is nothing wrong with the run.
static void a_held_ledger_is_a_passing_condition(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct ledger_totals totals;
    struct ledger *reader;
    sqlite3 *db;
    fixture_folder(folder);
    ledger_close(begin_at(folder, PROBLEMS));
    ok(ledger_open_read(&reader, folder, &err), &err);
    ledger_hurry(reader); // half a second, not half a minute
    ok(run_folder_file(path, folder, "ledger.sqlite", &err), &err);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(ledger_totals(reader, &totals, &err), STATUS_STOPPED);
    assert_non_null(strstr(err.message, "try again"));
    sqlite3_close(db);
    ok(ledger_totals(reader, &totals, &err), &err);
    ledger_close(reader);
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_sees_changed_rows), cmocka_unit_test(refuses_what_is_no_ledger),
        cmocka_unit_test(opening_checks_the_tail), cmocka_unit_test(readers_hold_no_lock),
        cmocka_unit_test(readers_see_one_moment),  cmocka_unit_test(a_held_ledger_is_a_passing_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
