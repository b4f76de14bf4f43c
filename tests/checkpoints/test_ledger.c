#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "checkpoints/fixture.h"

static void ok(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%s", err->message);
    }
}

static struct ledger *open_at(const char *folder) {
    struct ledger *ledger;
    struct error err;
    ok(ledger_open(&ledger, folder, &err), &err);
    return ledger;
}

static struct ledger *begin_at(const char *folder, uint64_t problems) {
    struct error err;
    struct identity identity = {0};
    struct ledger_survey survey = {.problems = problems, .squared_lengths = 12.5, .problems_sha256 = "abc"};
    uint64_t epoch;
    struct ledger *ledger = open_at(folder);
    ok(identity_add(&identity, "model.dtype", "float32", &err), &err);
    ok(identity_add_number(&identity, "batch.tokens", 8192, &err), &err);
    ok(ledger_begin(ledger, &identity, &survey, &err), &err);
    ok(ledger_launch(ledger, 2, &epoch, &err), &err);
    assert_int_equal(epoch, 1);
    identity_destroy(&identity);
    return ledger;
}

enum { PROBLEMS = 6 };

// Commits shard `shard` of PROBLEMS problems in one batch; `first` is the first ordinal.
static int commit(struct ledger *ledger, uint64_t shard, uint64_t first, bool finished, struct error *err) {
    struct shard_layout layout = fixture_layout(4, DTYPE_F32, false);
    struct fixture_batch batch;
    struct ledger_problem problems[PROBLEMS];
    struct shard_sealed sealed = {.sha256 = "0123", .bytes = 1000 + shard};
    bool durable = false;
    fixture_batch_make(&batch, &layout, shard, first, PROBLEMS, FIXTURE_STEPS);
    fixture_ledger_problems(problems, &batch.batch, 0);
    // The third one failed; the others are the shard's.
    problems[2].state = PROBLEM_FAILED;
    problems[2].reason = "NaN in hidden_states[35]";
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        problems[i].index = i > 2 ? i - 1 : i;
        sealed.problems += i != 2;
        sealed.rows += i != 2 ? problems[i].rows : 0;
        sealed.tokens += i != 2 ? problems[i].tokens : 0;
    }
    run_folder_shard_name(sealed.name, shard, false);
    struct ledger_batch figures = fixture_ledger_batch(&batch.batch, 1);
    figures.score = NAN;
    const struct ledger_commit record = {.shard = &sealed,
                                         .position = {shard + 1, shard + 1, first, shard},
                                         .problems = problems,
                                         .problem_count = PROBLEMS,
                                         .batches = &figures,
                                         .batch_count = 1,
                                         .finished = finished};
    int status = ledger_commit(ledger, &record, &durable, err);
    assert_int_equal(durable, status == STATUS_OK);
    fixture_batch_free(&batch);
    return status;
}

static void start_of_a_run(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct identity identity;
    struct ledger_survey survey;
    struct ledger_position position;
    struct buffer note = {0};
    bool found;
    fixture_folder(folder);
    struct ledger *ledger = open_at(folder);
    ok(ledger_identity(ledger, &identity, &found, &err), &err);
    assert_false(found);
    ledger_close(ledger);
    ledger = begin_at(folder, 12);
    ok(ledger_set_note(ledger, "run.output", "first", &err), &err);
    ok(ledger_set_note(ledger, "run.output", "second", &err), &err);
    ok(ledger_launch_end(ledger, 75, "SIGTERM", &err), &err);
    ledger_close(ledger);

    ledger = open_at(folder);
    ok(ledger_identity(ledger, &identity, &found, &err), &err);
    assert_true(found);
    assert_string_equal(identity_get(&identity, "batch.tokens"), "8192");
    ok(ledger_survey(ledger, &survey, &found, &err), &err);
    assert_true(found && survey.problems == 12 && survey.squared_lengths == 12.5);
    ok(ledger_note(ledger, "run.output", &note, &found, &err), &err);
    assert_string_equal(note.data, "second");
    ok(ledger_note(ledger, "nothing", &note, &found, &err), &err);
    assert_false(found);
    ok(ledger_position(ledger, &position, &err), &err);
    assert_true(position.shards == 0 && position.batches == 0);
    // A run begins once.
    struct identity other = {0};
    assert_int_equal(ledger_begin(ledger, &other, &survey, &err), STATUS_INTERNAL);
    ok(ledger_check_chain(ledger, &err), &err);
    identity_destroy(&identity);
    buffer_destroy(&note);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static int count_problem(void *context, const struct ledger_problem *problem) {
    uint64_t *count = context;
    struct shard_problem wanted;
    char text[FIXTURE_ID + FIXTURE_METADATA];
    int32_t tokens[FIXTURE_TOKENS_MOST];
    fixture_problem(&wanted, problem->ordinal, FIXTURE_STEPS, text, tokens);
    assert_int_equal(problem->id_size, wanted.id_size);
    assert_memory_equal(problem->id, wanted.id, wanted.id_size);
    assert_int_equal(problem->tokens, wanted.token_count);
    if (problem->ordinal % PROBLEMS == 2) {
        assert_int_equal(problem->state, PROBLEM_FAILED);
        assert_string_equal(problem->reason, "NaN in hidden_states[35]");
        assert_true(problem->shard == UINT64_MAX);
    } else {
        assert_null(problem->reason);
        assert_int_equal(problem->shard, problem->ordinal / PROBLEMS);
    }
    ++*count;
    return STATUS_OK;
}

static int count_batch(void *context, const struct ledger_batch *batch) {
    assert_true(isnan(batch->score));
    assert_true(batch->compute_seconds == 0.25);
    ++*(uint64_t *)context;
    return STATUS_OK;
}

static int count_shard(void *context, const struct ledger_shard *shard) {
    assert_int_equal(shard->number, *(uint64_t *)context);
    assert_int_equal(shard->first_batch, shard->number);
    assert_int_equal(shard->batches, 1);
    ++*(uint64_t *)context;
    return *(uint64_t *)context == 1000 ? -1 : STATUS_OK;
}

static int count_event(void *context, int64_t at, uint64_t epoch, const char *kind, const char *text) {
    assert_true(at > 0 && epoch > 0 && kind[0] != 0 && text[0] != 0);
    ++*(uint64_t *)context;
    return STATUS_OK;
}

// More rows than a page of the listings.
static void progress_and_reading(void **state) {
    (void)state;
    enum { SHARDS = 300 };
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_totals totals;
    struct ledger_position position;
    struct ledger *reader;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, SHARDS * PROBLEMS);
    for (uint64_t i = 0; i < SHARDS; i++) {
        ok(commit(ledger, i, i * PROBLEMS, i + 1 == SHARDS, &err), &err);
    }
    ok(ledger_open_read(&reader, folder, &err), &err);
    ok(ledger_totals(reader, &totals, &err), &err);
    assert_int_equal(totals.done, SHARDS * (PROBLEMS - 1));
    assert_int_equal(totals.failed, SHARDS);
    assert_int_equal(totals.shards, SHARDS);
    assert_true(totals.finished && totals.last_commit > 0);
    ok(ledger_position(reader, &position, &err), &err);
    assert_true(position.shards == SHARDS && position.window_batch == SHARDS - 1);
    uint64_t count = 0;
    ok(ledger_each_problem(reader, NULL, count_problem, &count, &err), &err);
    assert_int_equal(count, SHARDS * PROBLEMS);
    const enum problem_state failed = PROBLEM_FAILED;
    count = 0;
    ok(ledger_each_problem(reader, &failed, count_problem, &count, &err), &err);
    assert_int_equal(count, SHARDS);
    count = 0;
    ok(ledger_each_problem_of_shard(reader, 7, count_problem, &count, &err), &err);
    assert_int_equal(count, PROBLEMS - 1);
    count = 0;
    ok(ledger_each_batch(reader, count_batch, &count, &err), &err);
    assert_int_equal(count, SHARDS);
    count = 0;
    ok(ledger_each_shard(reader, count_shard, &count, &err), &err);
    assert_int_equal(count, SHARDS);
    assert_int_equal(ledger_event(reader, "warn", "no", &err), STATUS_INTERNAL);
    ok(ledger_check_chain(reader, &err), &err);
    ledger_close(reader);
    assert_int_equal(commit(ledger, SHARDS, SHARDS * PROBLEMS, false, &err), STATUS_INTERNAL);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void finds_problems_by_any_id(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_problem problem;
    struct buffer memory = {0};
    bool found;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, PROBLEMS);
    ok(commit(ledger, 0, 0, true, &err), &err);
    for (uint64_t ordinal = 0; ordinal < PROBLEMS; ordinal++) {
        struct shard_problem wanted;
        char text[FIXTURE_ID + FIXTURE_METADATA];
        int32_t tokens[FIXTURE_TOKENS_MOST];
        fixture_problem(&wanted, ordinal, FIXTURE_STEPS, text, tokens);
        ok(ledger_find_problem(ledger, wanted.id, wanted.id_size, &problem, &memory, &found, &err), &err);
        assert_true(found && problem.ordinal == ordinal);
        assert_memory_equal(problem.id, wanted.id, wanted.id_size);
        buffer_clear(&memory);
    }
    ok(ledger_find_problem(ledger, "nobody", 6, &problem, &memory, &found, &err), &err);
    assert_false(found);
    buffer_destroy(&memory);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void records_nothing_twice(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_totals totals;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, 100);
    ok(commit(ledger, 0, 0, false, &err), &err);
    // The same ordinals and ids in another shard; then a shard twice, one left out, and an end with problems
    // missing.
    assert_int_equal(commit(ledger, 1, 3, false, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "UNIQUE"));
    assert_int_equal(commit(ledger, 0, 50, false, &err), STATUS_INTERNAL);
    assert_int_equal(commit(ledger, 2, 50, false, &err), STATUS_INTERNAL);
    assert_int_equal(commit(ledger, 1, PROBLEMS, true, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "unaccounted"));
    ok(ledger_totals(ledger, &totals, &err), &err);
    assert_true(totals.shards == 1 && totals.done + totals.failed == PROBLEMS && !totals.finished);
    ok(commit(ledger, 1, PROBLEMS, false, &err), &err);
    ok(ledger_check_chain(ledger, &err), &err);

    const struct ledger_problem same_id = {.ordinal = 99,
                                           .id = "aufgabe-\xc3\xbc-0",
                                           .id_size = 12,
                                           .state = PROBLEM_SKIPPED,
                                           .reason = "empty text"};
    const struct ledger_commit closing = {
        .position = {2, 2, PROBLEMS, 1}, .problems = &same_id, .problem_count = 1};
    bool durable;
    assert_int_equal(ledger_commit(ledger, &closing, &durable, &err), STATUS_INTERNAL);
    assert_false(durable);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void fences_the_older_runner(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    uint64_t epoch;
    fixture_folder(folder);
    struct ledger *old = begin_at(folder, 100);
    struct ledger *young = open_at(folder);
    struct ledger *late = open_at(folder);
    ok(ledger_launch(young, 2, &epoch, &err), &err);
    assert_int_equal(epoch, 2);
    assert_int_equal(commit(old, 0, 0, false, &err), STATUS_WRITE);
    assert_non_null(strstr(err.message, "launch 2 has started"));
    assert_int_equal(ledger_event(old, "warn", "text", &err), STATUS_WRITE);
    assert_int_equal(ledger_set_progress(old, &(struct ledger_progress){0}, &err), STATUS_WRITE);
    assert_int_equal(ledger_launch(late, 2, &epoch, &err), STATUS_WRITE);
    ok(commit(young, 0, 0, false, &err), &err);
    ledger_close(old);
    ledger_close(young);
    ledger_close(late);
    fixture_folder_remove(folder);
}

static void partial_and_progress(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct buffer memory = {0};
    bool found;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, 100);
    struct ledger_partial partial = {
        .name = "part-000000.partial.h5", .sha256 = "ff", .batches = 3, .record = "a\0b", .record_size = 3};
    struct ledger_partial got;
    ok(ledger_set_partial(ledger, &partial, &err), &err);
    ok(ledger_partial(ledger, &got, &memory, &found, &err), &err);
    assert_true(found && got.batches == 3 && got.record_size == 3);
    assert_memory_equal(got.record, "a\0b", 3);
    ok(commit(ledger, 0, 0, false, &err), &err);
    ok(ledger_partial(ledger, &got, &memory, &found, &err), &err);
    assert_false(found);
    struct ledger_progress progress = {
        .epoch = 1, .stage = "running", .drift = "steady", .tokens_per_second = 12.25, .score = NAN};
    struct ledger_progress seen;
    ok(ledger_launch_works(ledger, &err), &err);
    ok(ledger_set_progress(ledger, &progress, &err), &err);
    progress.tokens = 77;
    ok(ledger_set_progress(ledger, &progress, &err), &err);
    ok(ledger_progress(ledger, &seen, &found, &err), &err);
    assert_true(found && seen.tokens == 77 && seen.tokens_per_second == 12.25 && isnan(seen.score));
    assert_string_equal(seen.drift, "steady");
    buffer_destroy(&memory);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

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
        char path[PATH_SIZE];
        struct error err;
        sqlite3 *db;
        struct ledger *ledger;
        fixture_folder(folder);
        ledger = begin_at(folder, 100);
        ok(commit(ledger, 0, 0, false, &err), &err);
        ok(commit(ledger, 1, PROBLEMS, false, &err), &err);
        ok(ledger_check_chain(ledger, &err), &err);
        ledger_close(ledger);
        ok(run_folder_file(path, folder, "ledger.sqlite", &err), &err);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_changes(db), 1);
        sqlite3_close(db);
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
    sqlite3 *db;
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
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE problems(id)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "not a ledger"));
    fixture_folder_remove(folder);

    fixture_folder(folder);
    ok(run_folder_file(path, folder, "ledger.sqlite", &err), &err);
    ledger_close(begin_at(folder, 1));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 9", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(ledger_open(&ledger, folder, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "format 9"));
    fixture_folder_remove(folder);
}

// A tail whose rows were changed stops a runner at once.
static void opening_checks_the_tail(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct error err;
    struct ledger *ledger;
    sqlite3 *db;
    fixture_folder(folder);
    ledger = begin_at(folder, 100);
    ok(commit(ledger, 0, 0, false, &err), &err);
    ledger_close(ledger);
    ok(run_folder_file(path, folder, "ledger.sqlite", &err), &err);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM problem WHERE ordinal = 1", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
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

// The live state of a launch at its start stands beside that of the last one that worked.
static void a_launch_at_its_start_replaces_nothing(void **state) {
    (void)state;
    char folder[PATH_SIZE];
    struct error err;
    struct ledger_progress seen;
    bool found;
    uint64_t epoch;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, PROBLEMS);
    ok(ledger_progress(ledger, &seen, &found, &err), &err);
    assert_false(found);
    ok(ledger_launch_works(ledger, &err), &err);
    ok(ledger_set_progress(ledger, &(struct ledger_progress){.epoch = 1, .stage = "stopped", .tokens = 7},
                           &err),
       &err);
    ledger_close(ledger);
    ledger = open_at(folder);
    ok(ledger_launch(ledger, 1, &epoch, &err), &err);
    ok(ledger_set_progress(ledger, &(struct ledger_progress){.epoch = 2, .stage = "loading"}, &err), &err);
    ok(ledger_progress(ledger, &seen, &found, &err), &err);
    assert_true(found && seen.epoch == 1 && seen.tokens == 7);
    ok(ledger_start_progress(ledger, &seen, &found, &err), &err);
    assert_true(found && seen.epoch == 2);
    assert_string_equal(seen.stage, "loading");
    ok(ledger_launch_works(ledger, &err), &err);
    ok(ledger_set_progress(ledger, &(struct ledger_progress){.epoch = 2, .stage = "running"}, &err), &err);
    ok(ledger_progress(ledger, &seen, &found, &err), &err);
    assert_true(found && seen.epoch == 2 && seen.tokens == 0);
    ledger_close(ledger);
    fixture_folder_remove(folder);
}

static void identities(void **state) {
    (void)state;
    struct error err;
    struct identity a = {0};
    struct identity b = {0};
    struct buffer lines = {0};
    char first[DIGEST_HEX];
    char second[DIGEST_HEX];
    size_t differences;
    ok(identity_add(&a, "one", "1", &err), &err);
    ok(identity_add(&a, "two", "2", &err), &err);
    ok(identity_add(&b, "two", "2", &err), &err);
    ok(identity_add(&b, "one", "1", &err), &err);
    ok(identity_hash(&a, first, &err), &err);
    ok(identity_hash(&b, second, &err), &err);
    assert_string_equal(first, second);
    ok(identity_compare(&a, &b, &lines, &differences, &err), &err);
    assert_int_equal(differences, 0);
    assert_int_equal(identity_add(&b, "one", "again", &err), STATUS_INTERNAL);
    ok(identity_add(&a, "three", "3", &err), &err);
    ok(identity_add(&b, "four", "4", &err), &err);
    free(b.entries[1].value);
    ok(memory_text(&b.entries[1].value, "uno", &err), &err);
    ok(identity_compare(&a, &b, &lines, &differences, &err), &err);
    assert_int_equal(differences, 3);
    assert_string_equal(lines.data, "one: stored '1', now 'uno'\nthree: stored '3', now missing\n"
                                    "four: stored missing, now '4'\n");
    ok(identity_hash(&b, second, &err), &err);
    assert_string_not_equal(first, second);
    buffer_destroy(&lines);
    identity_destroy(&a);
    identity_destroy(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identities),
        cmocka_unit_test(start_of_a_run),
        cmocka_unit_test(progress_and_reading),
        cmocka_unit_test(finds_problems_by_any_id),
        cmocka_unit_test(records_nothing_twice),
        cmocka_unit_test(fences_the_older_runner),
        cmocka_unit_test(partial_and_progress),
        cmocka_unit_test(chain_sees_changed_rows),
        cmocka_unit_test(refuses_what_is_no_ledger),
        cmocka_unit_test(opening_checks_the_tail),
        cmocka_unit_test(readers_hold_no_lock),
        cmocka_unit_test(readers_see_one_moment),
        cmocka_unit_test(a_held_ledger_is_a_passing_condition),
        cmocka_unit_test(a_launch_at_its_start_replaces_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
