// SPDX-License-Identifier: MIT
// A ledger with made-up shards, as the tests of writing and of reading it need one.
#ifndef STRATA_TESTS_CHECKPOINTS_LEDGER_TESTING_H
#define STRATA_TESTS_CHECKPOINTS_LEDGER_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "checkpoints/fixture.h"

static inline void ok(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%s", err->message);
    }
}

static inline struct ledger *open_at(const char *folder) {
    struct ledger *ledger;
    struct error err;
    ok(ledger_open(&ledger, folder, &err), &err);
    return ledger;
}

static inline struct ledger *begin_at(const char *folder, uint64_t problems) {
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
static inline int commit(struct ledger *ledger, uint64_t shard, uint64_t first, bool finished,
                         struct error *err) {
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

static inline int count_problem(void *context, const struct ledger_problem *problem) {
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

static inline int count_batch(void *context, const struct ledger_batch *batch) {
    assert_true(isnan(batch->score));
    assert_true(batch->compute_seconds == 0.25);
    ++*(uint64_t *)context;
    return STATUS_OK;
}

static inline int count_shard(void *context, const struct ledger_shard *shard) {
    assert_int_equal(shard->number, *(uint64_t *)context);
    assert_int_equal(shard->first_batch, shard->number);
    assert_int_equal(shard->batches, 1);
    ++*(uint64_t *)context;
    return *(uint64_t *)context == 1000 ? -1 : STATUS_OK;
}

static inline int count_event(void *context, int64_t at, uint64_t epoch, const char *kind, const char *text) {
    assert_true(at > 0 && epoch > 0 && kind[0] != 0 && text[0] != 0);
    ++*(uint64_t *)context;
    return STATUS_OK;
}

#endif
