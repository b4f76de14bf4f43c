// SPDX-License-Identifier: MIT
// What devices say of themselves in the ledger: figures come back as they went in, unknown ones as NULL, the
// chain covers them; and a ledger of format 1, written by a program that knew none, is read as it is and
// raised by a runner without a change to its chain.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "checkpoints/fixture.h"
#include "checkpoints/ledger_behind.h"
#include "checkpoints/ledger_lanes.h"

static void ok(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%s", err->message);
    }
}

static int64_t number(const char *folder, const char *sql) {
    char path[PATH_SIZE];
    struct error err;
    sqlite3 *db;
    sqlite3_stmt *statement;
    ok(run_folder_file(path, folder, "ledger.sqlite", &err), &err);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

// The ledger of a run of two shards that was stopped, as a program of format 1 wrote it.
static void old_ledger(char folder[PATH_SIZE]) {
    char path[PATH_SIZE];
    struct buffer sql = {0};
    struct error err;
    fixture_folder(folder);
    snprintf(path, sizeof path, "%s/tests/checkpoints/ledger-format-1.sql", getenv("STRATA_SOURCE"));
    ok(file_read(&sql, path, 1 << 20, &err), &err);
    ok(buffer_append(&sql, "", 1, &err), &err);
    (void)ledger_behind(folder, sql.data);
    buffer_destroy(&sql);
}

static void some_figures(struct ledger_device *device) {
    *device = (struct ledger_device){0};
    ledger_device_set(device, FIGURE_DEVICE_SECONDS, 0.125);
    ledger_device_set(device, FIGURE_MEMORY_USED, 85899345920.0 + 1);
    ledger_device_set(device, FIGURE_THROTTLE_REASONS, 0x24);
    ledger_device_set(device, FIGURE_POWER, 612.5);
    ledger_device_set(device, FIGURE_XID, 0);
    ledger_device_set(device, FIGURE_SM_CLOCK, -1);
    ledger_device_set(device, FIGURE_PCIE_SENT, NAN);
}

static void check_figures(const struct ledger_device *device) {
    double value;
    assert_int_equal(device->known, 1u << FIGURE_DEVICE_SECONDS | 1u << FIGURE_MEMORY_USED |
                                        1u << FIGURE_THROTTLE_REASONS | 1u << FIGURE_POWER |
                                        1u << FIGURE_XID);
    assert_true(ledger_device_get(device, FIGURE_DEVICE_SECONDS, &value) && value == 0.125);
    assert_true(ledger_device_get(device, FIGURE_MEMORY_USED, &value) && value == 85899345921.0);
    assert_true(ledger_device_get(device, FIGURE_THROTTLE_REASONS, &value) && value == 0x24);
    assert_true(ledger_device_get(device, FIGURE_POWER, &value) && value == 612.5);
    assert_true(ledger_device_get(device, FIGURE_XID, &value) && value == 0);
    assert_false(ledger_device_get(device, FIGURE_SM_CLOCK, &value));
}

// Commits a batch without problems or a shard; the position moves by the batch.
static void commit_batch(struct ledger *ledger, const struct ledger_device *device, const char *name) {
    struct ledger_commit commit = {.batch_count = 1};
    struct ledger_batch batch = {.compute_seconds = 2.5, .device = *device};
    snprintf(batch.device_name, sizeof batch.device_name, "%s", name);
    struct error err;
    bool durable;
    ok(ledger_position(ledger, &commit.position, &err), &err);
    batch.number = commit.position.batches++;
    commit.batches = &batch;
    ok(ledger_commit(ledger, &commit, &durable, &err), &err);
}

struct seen {
    uint64_t batches;
    struct ledger_device last;
    char name[LEDGER_DEVICE_NAME]; // likewise
};

static int see_batch(void *context, const struct ledger_batch *batch) {
    struct seen *seen = context;
    assert_int_equal(batch->number, seen->batches);
    assert_true(batch->compute_seconds >= 2);
    seen->batches++;
    seen->last = batch->device;
    memcpy(seen->name, batch->device_name, sizeof seen->name);
    return STATUS_OK;
}

static struct seen see(struct ledger *ledger) {
    struct seen seen = {0};
    struct error err;
    ok(ledger_each_batch(ledger, see_batch, &seen, &err), &err);
    return seen;
}

static void columns_are_those_of_the_table(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    fixture_folder(folder);
    ok(ledger_open(&ledger, folder, &err), &err);
    ledger_close(ledger);
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        char sql[256];
        enum ledger_figure figure = (enum ledger_figure)i;
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.name IN "
                 "('batch', 'progress') AND c.name = '%s' AND c.type = '%s'",
                 ledger_figure_name(figure), ledger_figure_is_whole(figure) ? "INTEGER" : "REAL");
        assert_int_equal(number(folder, sql), 2);
    }
    fixture_folder_remove(folder);
}

static void figures_come_back(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    struct identity identity = {0};
    struct ledger_survey survey = {.problems = 3};
    struct ledger_device device;
    struct ledger_progress progress = {.stage = "running"};
    uint64_t epoch;
    bool found;
    fixture_folder(folder);
    some_figures(&device);
    ok(ledger_open(&ledger, folder, &err), &err);
    ok(identity_add(&identity, "a", "b", &err), &err);
    ok(ledger_begin(ledger, &identity, &survey, &err), &err);
    ok(ledger_launch(ledger, 1, &epoch, &err), &err);
    ok(ledger_launch_works(ledger, &err), &err);
    commit_batch(ledger, &(struct ledger_device){0}, "");
    assert_int_equal(see(ledger).last.known, 0);
    assert_string_equal(see(ledger).name, "");
    commit_batch(ledger, &device, "cuda:1");
    assert_string_equal(see(ledger).name, "cuda:1");
    progress.device = device;
    ok(ledger_set_progress(ledger, &progress, &err), &err);
    ok(ledger_progress(ledger, &progress, &found, &err), &err);
    check_figures(&progress.device);
    check_figures(&(struct seen){.last = see(ledger).last}.last);
    ok(ledger_check_chain(ledger, &err), &err);
    ledger_close(ledger);
    assert_int_equal(number(folder, "SELECT sm_clock IS NULL AND xid = 0 AND typeof(memory_used) = 'integer' "
                                    "FROM batch WHERE number = 1"),
                     1);

    // Changed, taken away, or put beside a batch whose device said nothing: the chain tells.
    static const char *const changes[][2] = {
        {"UPDATE batch SET power = 612 WHERE number = 1", "UPDATE batch SET power = 612.5 WHERE number = 1"},
        {"UPDATE batch SET xid = NULL WHERE number = 1", "UPDATE batch SET xid = 0 WHERE number = 1"},
        {"UPDATE batch SET device = 'cuda:0' WHERE number = 1",
         "UPDATE batch SET device = 'cuda:1' WHERE number = 1"},
        {"UPDATE batch SET device = NULL WHERE number = 1",
         "UPDATE batch SET device = 'cuda:1' WHERE number = 1"},
        {"UPDATE batch SET utilization = 5 WHERE number = 0",
         "UPDATE batch SET utilization = NULL WHERE number = 0"}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        (void)ledger_behind(folder, changes[i][0]);
        ok(ledger_open_read(&ledger, folder, &err), &err);
        assert_int_equal(ledger_check_chain(ledger, &err), STATUS_DATA);
        ledger_close(ledger);
        (void)ledger_behind(folder, changes[i][1]);
        ok(ledger_open_read(&ledger, folder, &err), &err);
        ok(ledger_check_chain(ledger, &err), &err);
        ledger_close(ledger);
    }
    identity_destroy(&identity);
    fixture_folder_remove(folder);
}

static void lanes_come_back(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    struct ledger_lane lanes[LEDGER_LANES] = {{.name = "cuda:0", .batches = 3, .tokens_per_second = 12.5},
                                              {.name = "cuda:1"}};
    struct ledger_lane read[LEDGER_LANES];
    uint64_t epoch;
    size_t count;
    fixture_folder(folder);
    some_figures(&lanes[1].figures);
    ok(ledger_open(&ledger, folder, &err), &err);
    ok(ledger_launch(ledger, 1, &epoch, &err), &err);
    ok(ledger_lanes(ledger, epoch, read, &count, &err), &err);
    assert_int_equal(count, 0);
    ok(ledger_set_lanes(ledger, epoch, lanes, 2, &err), &err);
    ok(ledger_lanes(ledger, epoch, read, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_string_equal(read[0].name, "cuda:0");
    assert_true(read[0].batches == 3 && read[0].tokens_per_second == 12.5 && read[0].figures.known == 0);
    assert_string_equal(read[1].name, "cuda:1");
    check_figures(&read[1].figures);
    ok(ledger_lanes(ledger, epoch + 1, read, &count, &err), &err); // another launch says nothing of these
    assert_int_equal(count, 0);
    // What is no such note says nothing either.
    static const char *const others[] = {"", "[]", "{\"launch\": 1}", "{\"launch\": 1, \"devices\": 5}"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ok(ledger_set_note(ledger, "device.lanes", others[i], &err), &err);
        ok(ledger_lanes(ledger, epoch, read, &count, &err), &err);
        assert_int_equal(count, 0);
    }
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void format_1_is_read_as_it_is(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    struct ledger_progress progress;
    bool found;
    old_ledger(folder);
    ok(ledger_open_read(&ledger, folder, &err), &err);
    struct seen seen = see(ledger);
    assert_true(seen.batches == 4 && seen.last.known == 0);
    ok(ledger_progress(ledger, &progress, &found, &err), &err);
    assert_true(found && progress.batches == 4 && progress.device.known == 0);
    ok(ledger_check_chain(ledger, &err), &err);
    ledger_close(ledger);
    assert_int_equal(number(folder, "SELECT user_version FROM pragma_user_version"), 1);
    fixture_folder_remove(folder);
}

static void format_1_is_raised_by_a_runner(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    struct ledger *reader;
    struct ledger_device device;
    uint64_t epoch;
    old_ledger(folder);
    some_figures(&device);
    ok(ledger_open_read(&reader, folder, &err), &err); // before the runner came
    ok(ledger_open(&ledger, folder, &err), &err);
    assert_int_equal(number(folder, "SELECT user_version FROM pragma_user_version"), 4);
    ok(ledger_check_chain(ledger, &err), &err);
    ok(ledger_launch(ledger, 1, &epoch, &err), &err);
    assert_int_equal(epoch, 2);
    commit_batch(ledger, &device, "");
    ok(ledger_check_chain(ledger, &err), &err);
    ok(ledger_check_chain(reader, &err), &err);
    assert_int_equal(see(reader).batches, 4); // of the moment it was opened
    ledger_close(reader);
    ledger_close(ledger);
    ok(ledger_open(&ledger, folder, &err), &err); // raised once
    check_figures(&(struct seen){.last = see(ledger).last}.last);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

// A row that was changed is found before the format is raised: a broken ledger stays as it is.
static void a_broken_ledger_is_not_raised(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    old_ledger(folder);
    (void)ledger_behind(folder, "UPDATE batch SET rows = rows + 1 WHERE number = 3");
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_int_equal(number(folder, "SELECT user_version FROM pragma_user_version"), 1);
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_those_of_the_table), cmocka_unit_test(figures_come_back),
        cmocka_unit_test(format_1_is_read_as_it_is),      cmocka_unit_test(format_1_is_raised_by_a_runner),
        cmocka_unit_test(a_broken_ledger_is_not_raised),  cmocka_unit_test(lanes_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
