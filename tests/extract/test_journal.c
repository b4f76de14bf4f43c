// SPDX-License-Identifier: MIT
// The journal: figures and events from several threads at once, what status reads of them, when they are
// written, and a ledger that refuses.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "checkpoints/fixture.h"
#include "journal/journal.h"

enum { THREADS = 4, NEWS = 50 };

struct launch {
    char folder[PATH_SIZE];
    struct log log;
    struct journal journal;
};

static void ok(int status) {
    assert_int_equal(status, STATUS_OK);
}

static void begin_in(struct launch *launch, const char *folder) {
    struct error err;
    memmove(launch->folder, folder, sizeof launch->folder);
    ok(log_open(&launch->log, NULL, &err));
    journal_start(&launch->journal, &launch->log);
    ok(journal_open(&launch->journal, folder, 3, &err));
}

static void begin(struct launch *launch) {
    char folder[PATH_SIZE];
    fixture_folder(folder);
    begin_in(launch, folder);
}

static void close_journal(struct launch *launch) {
    journal_close(&launch->journal);
    log_close(&launch->log);
}

// What another process reads.
static struct ledger_progress shown(const struct launch *launch) {
    struct error err;
    struct ledger *ledger;
    struct ledger_progress live;
    bool found;
    ok(ledger_open_read(&ledger, launch->folder, &err));
    ok(ledger_start_progress(ledger, &live, &found, &err));
    ledger_close(ledger);
    assert_true(found);
    return live;
}

static void *tell_news(void *context) {
    struct journal *journal = context;
    struct error err;
    for (uint64_t i = 0; i < NEWS; i++) {
        journal_count(journal,
                      &(struct journal_counts){.batches = 1, .tokens = 10, .rows = 3, .seconds = 0.5});
        journal_drift(journal, "steady", 0.25);
        journal_rate(journal, 1000);
        if (i % 10 == 0) {
            journal_event(journal, LOG_LEVEL_INFO, "warn", "news");
        }
        if (journal_refresh(journal, &err) != STATUS_OK) {
            return journal;
        }
    }
    return NULL;
}

static int count_event(void *context, int64_t at, uint64_t epoch, const char *kind, const char *text) {
    (void)at;
    *(int *)context += epoch == 1 && strcmp(kind, "warn") == 0 && strcmp(text, "news") == 0;
    return 0;
}

static void test_news_of_several_threads(void **state) {
    struct launch launch;
    struct error err;
    pthread_t threads[THREADS];
    int events = 0;
    (void)state;
    begin(&launch);
    ok(journal_stage(&launch.journal, "running", &err));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, tell_news, &launch.journal), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    ok(journal_show(&launch.journal, &err));
    struct ledger_progress live = shown(&launch);
    assert_int_equal(live.epoch, 1);
    assert_string_equal(live.stage, "running");
    assert_int_equal(live.batches, THREADS * NEWS);
    assert_int_equal(live.tokens, THREADS * NEWS * 10);
    assert_int_equal(live.rows, THREADS * NEWS * 3);
    assert_true(live.seconds == THREADS * NEWS * 0.5);
    assert_string_equal(live.drift, "steady");
    assert_true(live.tokens_per_second == 1000);
    assert_true(live.memory_bytes > 0);
    ok(ledger_each_event(launch.journal.ledger, count_event, &events, &err));
    assert_int_equal(events, THREADS * NEWS / 10);
    close_journal(&launch);
    fixture_folder_remove(launch.folder);
}

// A stage and its first figures at once; the next ones with the end at the latest, and not before their time.
static void test_when_figures_are_written(void **state) {
    struct launch launch;
    struct error err;
    (void)state;
    begin(&launch);
    journal_loaded(&launch.journal, 1, 100);
    ok(journal_stage(&launch.journal, "loading", &err));
    assert_int_equal(shown(&launch).loaded_bytes, 1);
    journal_loaded(&launch.journal, 2, 100);
    ok(journal_refresh(&launch.journal, &err));
    assert_int_equal(shown(&launch).loaded_bytes, 2);
    launch.journal.written += 3600; // as if just written, on a machine however slow
    journal_loaded(&launch.journal, 3, 100);
    ok(journal_refresh(&launch.journal, &err));
    assert_int_equal(shown(&launch).loaded_bytes, 2);
    journal_end(&launch.journal, STATUS_OK, true, NULL);
    struct ledger_progress live = shown(&launch);
    assert_int_equal(live.loaded_bytes, 3);
    assert_int_equal(live.load_bytes, 100);
    assert_string_equal(live.stage, "finished");
    close_journal(&launch);
    fixture_folder_remove(launch.folder);
}

// The next launch of a run shows what the last one left, until it has figures of its own.
static void test_figures_of_the_launch_before(void **state) {
    struct launch launch;
    struct error err;
    struct ledger_device device = {0};
    (void)state;
    begin(&launch);
    ok(ledger_launch_works(launch.journal.ledger, &err));
    ledger_device_set(&device, FIGURE_POWER, 70);
    journal_device(&launch.journal, &device);
    journal_count_from(&launch.journal, &(struct journal_counts){.batches = 5, .problems = 9, .failed = 1});
    journal_drift(&launch.journal, "steady", 0.5);
    ok(journal_show(&launch.journal, &err));
    journal_end(&launch.journal, STATUS_STOPPED, false, &(struct error){.message = "stopped"});
    close_journal(&launch);
    begin_in(&launch, launch.folder);
    assert_int_equal(launch.journal.epoch, 2);
    assert_int_equal(journal_counts(&launch.journal).batches, 5);
    journal_calibrates(&launch.journal);
    ok(journal_stage(&launch.journal, "calibrating", &err));
    ok(ledger_launch_works(launch.journal.ledger, &err));
    struct ledger_progress live = shown(&launch);
    double power;
    assert_int_equal(live.batches, 5);
    assert_int_equal(live.problems, 9);
    assert_string_equal(live.drift, "calibrating");
    assert_false(ledger_device_get(&live.device, FIGURE_POWER, &power));
    close_journal(&launch);
    fixture_folder_remove(launch.folder);
}

// A ledger that refuses figures from now on, with words of its own.
static void refuse_figures(struct launch *launch) {
    struct error err;
    char path[PATH_SIZE + 32];
    sqlite3 *db;
    ledger_close(launch->journal.ledger);
    snprintf(path, sizeof path, "%s/ledger.sqlite", launch->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "CREATE TRIGGER refuse BEFORE INSERT ON start "
                                  "BEGIN SELECT RAISE(FAIL, 'no figures'); END",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    ok(ledger_open(&launch->journal.ledger, launch->folder, &err));
}

// A ledger that refuses: first it is open for reading alone, then it takes no figures. The first refusal is
// the one that is told.
static void test_refusal(void **state) {
    struct launch launch;
    struct error err;
    (void)state;
    begin(&launch);
    ok(journal_check(&launch.journal, &err));
    ledger_close(launch.journal.ledger);
    ok(ledger_open_read(&launch.journal.ledger, launch.folder, &err));
    journal_event(&launch.journal, LOG_LEVEL_INFO, "warn", "lost");
    int status = journal_check(&launch.journal, &err);
    assert_int_not_equal(status, STATUS_OK);
    struct error first = err;
    refuse_figures(&launch);
    assert_int_not_equal(journal_show(&launch.journal, &err), STATUS_OK);
    assert_non_null(strstr(err.message, "no figures"));
    assert_null(strstr(first.message, "no figures"));
    assert_int_equal(journal_check(&launch.journal, &err), status);
    assert_string_equal(err.message, first.message);
    close_journal(&launch);
    fixture_folder_remove(launch.folder);
}

// The end that a thread records while others are at work is the last that is written: they wait for the
// ledger from then on.
static void test_nothing_is_written_after_leaving(void **state) {
    struct launch launch;
    (void)state;
    begin(&launch);
    assert_int_equal(pthread_mutex_trylock(&launch.journal.lock), 0); // free until then
    journal_unlock(&launch.journal);
    journal_leave(&launch.journal, STATUS_STOPPED, "stopped");
    assert_string_equal(shown(&launch).stage, "stopped");
    assert_int_equal(pthread_mutex_trylock(&launch.journal.lock), EBUSY);
    journal_unlock(&launch.journal); // so that the test can close it
    close_journal(&launch);
    fixture_folder_remove(launch.folder);
}

// Before the launch is in a ledger there is none to write to.
static void test_end_without_ledger(void **state) {
    struct log log;
    struct journal journal;
    struct error err;
    (void)state;
    ok(log_open(&log, NULL, &err));
    journal_start(&journal, &log);
    journal_end(&journal, STATUS_JOB, false, &(struct error){.message = "no job"});
    journal_close(&journal);
    journal_start(&journal, &log);
    journal_leave(&journal, STATUS_STOPPED, "stopped");
    log_close(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_news_of_several_threads),
        cmocka_unit_test(test_when_figures_are_written),
        cmocka_unit_test(test_figures_of_the_launch_before),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_nothing_is_written_after_leaving),
        cmocka_unit_test(test_end_without_ledger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
