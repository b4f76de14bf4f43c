// SPDX-License-Identifier: MIT
// A ledger as it is written: the begin of a run, checkpoints, partial shards, launches.
#include "checkpoints/ledger_testing.h"

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

struct slicing {
    uint64_t size;
    uint64_t count;
};

static int count_slices(void *context, const struct ledger_batch *batch) {
    struct slicing *slicing = context;
    slicing->count += batch->tokens / slicing->size + (batch->tokens % slicing->size != 0);
    return STATUS_OK;
}

// One a batch where none is longer; those of the last checkpoint count.
static void slices_of_batches(void **state) {
    (void)state;
    enum { SHARDS = 3 };
    char folder[PATH_SIZE];
    struct error err;
    uint64_t count;
    fixture_folder(folder);
    struct ledger *ledger = begin_at(folder, SHARDS * PROBLEMS);
    ok(ledger_slices(ledger, 5, &count, &err), &err);
    assert_int_equal(count, 0);
    for (uint64_t i = 0; i < SHARDS; i++) {
        ok(commit(ledger, i, i * PROBLEMS, i + 1 == SHARDS, &err), &err);
    }
    const uint64_t sizes[] = {1, 5, 7, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct slicing slicing = {.size = sizes[i]};
        ok(ledger_each_batch(ledger, count_slices, &slicing, &err), &err);
        ok(ledger_slices(ledger, sizes[i], &count, &err), &err);
        assert_int_equal(count, slicing.count);
    }
    assert_int_equal(count, SHARDS);
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
        cmocka_unit_test(slices_of_batches),
        cmocka_unit_test(finds_problems_by_any_id),
        cmocka_unit_test(records_nothing_twice),
        cmocka_unit_test(fences_the_older_runner),
        cmocka_unit_test(partial_and_progress),
        cmocka_unit_test(a_launch_at_its_start_replaces_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
