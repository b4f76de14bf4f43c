// SPDX-License-Identifier: MIT
// The transactions that add a checkpoint: the one that acknowledges a shard and its problems, and the one
// that begins a retry.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "checkpoints/ledger_chain.h"
#include "checkpoints/ledger_retry.h"
#include "checkpoints/ledger_totals.h"

const char *problem_state_name(enum problem_state state) {
    static const char *const names[] = {"done", "failed", "skipped"};
    return state <= PROBLEM_SKIPPED ? names[state] : "unknown";
}

struct last_checkpoint {
    bool found;
    uint64_t number;
    bool finished;
    struct ledger_position position;
    char chain[DIGEST_HEX];
};

static int read_last(struct ledger *ledger, struct last_checkpoint *last, struct error *err) {
    struct query query;
    *last = (struct last_checkpoint){0};
    query_begin(&query, ledger,
                "SELECT number, shards, batches, window, window_batch, finished, chain FROM checkpoint "
                "WHERE number <= ?1 ORDER BY number DESC LIMIT 1");
    query_bind_i64(&query, 1, ledger->view.checkpoint);
    int status;
    TRY_TO(done, status = query_next(&query, &last->found, err));
    if (last->found) {
        last->number = query_u64(&query, 0);
        last->position = (struct ledger_position){query_u64(&query, 1), query_u64(&query, 2),
                                                  query_u64(&query, 3), query_u64(&query, 4)};
        last->finished = query_i64(&query, 5) != 0;
        query_text(&query, 6, last->chain, sizeof last->chain);
    }
done:
    query_end(&query);
    return status;
}

int ledger_position(struct ledger *ledger, struct ledger_position *position, struct error *err) {
    struct last_checkpoint last;
    int status = read_last(ledger, &last, err);
    *position = last.position;
    return status;
}

// What a commit says must agree with itself and with the one before: a wrong number here is a row lost for
// good (invariant 4).
static int check_commit(const struct ledger_commit *commit, const struct last_checkpoint *last,
                        struct error *err) {
    const struct ledger_position *before = &last->position;
    const struct ledger_position *after = &commit->position;
    uint64_t done = 0;
    uint64_t rows = 0;
    uint64_t tokens = 0;
    for (size_t i = 0; i < commit->problem_count; i++) {
        const struct ledger_problem *problem = &commit->problems[i];
        bool is_done = problem->state == PROBLEM_DONE;
        done += is_done;
        rows += is_done ? problem->rows : 0;
        tokens += is_done ? problem->tokens : 0;
        if (!is_done && problem->reason == NULL) {
            return error_set(err, STATUS_INTERNAL, "problem '%.*s' is %s without a reason",
                             (int)size_min(problem->id_size, 200), problem->id,
                             problem_state_name(problem->state));
        }
    }
    if (!last->found || last->finished) {
        return error_set(err, STATUS_INTERNAL, "a commit %s",
                         last->found ? "after the last one" : "before the run began");
    }
    uint64_t shards = commit->shard == NULL ? 0 : 1;
    if (after->shards != before->shards + shards || after->batches < before->batches ||
        after->window < before->window) {
        return error_set(err, STATUS_INTERNAL,
                         "a commit goes from shard %llu, batch %llu to shard %llu, batch %llu",
                         (unsigned long long)before->shards, (unsigned long long)before->batches,
                         (unsigned long long)after->shards, (unsigned long long)after->batches);
    }
    if (commit->shard == NULL ? done != 0
                              : done != commit->shard->problems || rows != commit->shard->rows ||
                                    tokens != commit->shard->tokens) {
        return error_set(
            err, STATUS_INTERNAL,
            "%llu problems with %llu rows and %llu tokens are said to be done, and the shard holds others",
            (unsigned long long)done, (unsigned long long)rows, (unsigned long long)tokens);
    }
    return STATUS_OK;
}

static int insert_checkpoint(struct ledger *ledger, uint64_t number, const struct ledger_position *position,
                             bool finished, struct error *err) {
    struct query query;
    query_begin(
        &query, ledger,
        "INSERT INTO checkpoint(number, at, epoch, shards, batches, window, window_batch, finished, chain) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '')");
    query_bind_u64(&query, 1, number);
    query_bind_i64(&query, 2, clock_unix());
    query_bind_u64(&query, 3, ledger->epoch);
    query_bind_u64(&query, 4, position->shards);
    query_bind_u64(&query, 5, position->batches);
    query_bind_u64(&query, 6, position->window);
    query_bind_u64(&query, 7, position->window_batch);
    query_bind_i64(&query, 8, finished);
    int status = query_run(&query, err);
    query_end(&query);
    return status;
}

static int insert_shard(struct ledger *ledger, uint64_t checkpoint, const struct ledger_commit *commit,
                        const struct ledger_position *before, struct error *err) {
    struct query query;
    const struct shard_sealed *shard = commit->shard;
    query_begin(&query, ledger,
                "INSERT INTO shard(number, checkpoint, name, sha256, bytes, problems, rows, tokens, "
                "first_batch, batches,"
                " sealed_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
    query_bind_u64(&query, 1, before->shards);
    query_bind_u64(&query, 2, checkpoint);
    query_bind_text(&query, 3, shard->name);
    query_bind_text(&query, 4, shard->sha256);
    query_bind_u64(&query, 5, shard->bytes);
    query_bind_u64(&query, 6, shard->problems);
    query_bind_u64(&query, 7, shard->rows);
    query_bind_u64(&query, 8, shard->tokens);
    query_bind_u64(&query, 9, before->batches);
    query_bind_u64(&query, 10, commit->position.batches - before->batches);
    query_bind_i64(&query, 11, clock_unix());
    int status = query_run(&query, err);
    query_end(&query);
    return status;
}

// In a retry (the checkpoint that began it, or 0) each takes the place of a failed outcome (invariant 5).
static int insert_problems(struct ledger *ledger, uint64_t checkpoint, uint64_t shard, uint64_t retry,
                           const struct ledger_commit *commit, struct error *err) {
    struct query query;
    int status = STATUS_OK;
    query_begin(
        &query, ledger,
        "INSERT INTO problem(ordinal, id, state, reason, batch, shard, place, tokens, rows, steps, truncated,"
        " checkpoint) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
    for (size_t i = 0; status == STATUS_OK && i < commit->problem_count; i++) {
        const struct ledger_problem *problem = &commit->problems[i];
        bool done = problem->state == PROBLEM_DONE;
        if (retry > 0) {
            status = ledger_retry_supersede(ledger, retry, problem, err);
            if (status != STATUS_OK) {
                break;
            }
        }
        query_bind_u64(&query, 1, problem->ordinal);
        query_bind_id(&query, 2, problem->id, problem->id_size);
        query_bind_i64(&query, 3, problem->state);
        query_bind_text(&query, 4, problem->reason);
        query_bind_u64(&query, 5, problem->batch);
        query_bind_u64(&query, 6, done ? shard : UINT64_MAX);
        query_bind_u64(&query, 7, done ? problem->index : UINT64_MAX);
        query_bind_i64(&query, 8, problem->tokens);
        query_bind_i64(&query, 9, problem->rows);
        query_bind_i64(&query, 10, problem->steps);
        query_bind_i64(&query, 11, problem->truncated);
        query_bind_u64(&query, 12, checkpoint);
        status = query_run(&query, err);
        if (status != STATUS_OK) {
            error_wrap(err, "problem '%.*s' (row %llu)", (int)size_min(problem->id_size, 200), problem->id,
                       (unsigned long long)problem->ordinal);
        }
    }
    query_end(&query);
    return status;
}

static int insert_batches(struct ledger *ledger, uint64_t checkpoint, const struct ledger_commit *commit,
                          struct error *err) {
    struct query query;
    int status = STATUS_OK;
    query_begin(
        &query, ledger,
        "INSERT INTO batch(number, epoch, problems, rows, tokens, squared_lengths, prepare_seconds, "
        "wait_seconds,"
        " compute_seconds, write_seconds, predicted_seconds, score, memory_bytes, overflowed, "
        "checkpoint, " LEDGER_FIGURE_COLUMNS ", device) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, "
        "?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)");
    for (size_t i = 0; status == STATUS_OK && i < commit->batch_count; i++) {
        const struct ledger_batch *batch = &commit->batches[i];
        query_bind_u64(&query, 1, batch->number);
        query_bind_u64(&query, 2, batch->epoch);
        query_bind_i64(&query, 3, batch->problems);
        query_bind_i64(&query, 4, batch->rows);
        query_bind_u64(&query, 5, batch->tokens);
        query_bind_f64(&query, 6, batch->squared_lengths);
        query_bind_f64(&query, 7, batch->prepare_seconds);
        query_bind_f64(&query, 8, batch->wait_seconds);
        query_bind_f64(&query, 9, batch->compute_seconds);
        query_bind_f64(&query, 10, batch->write_seconds);
        query_bind_f64(&query, 11, batch->predicted_seconds);
        query_bind_f64(&query, 12, batch->score);
        query_bind_u64(&query, 13, batch->memory_bytes);
        query_bind_u64(&query, 14, batch->overflowed);
        query_bind_u64(&query, 15, checkpoint);
        query_bind_device(&query, 16, &batch->device);
        query_bind_text(&query, 16 + LEDGER_FIGURES, batch->device_name[0] == 0 ? NULL : batch->device_name);
        status = query_run(&query, err);
    }
    query_end(&query);
    return status;
}

// A finished run accounts for every problem of its survey, and a finished retry for all that it tried.
static int check_finished(struct ledger *ledger, uint64_t retry, struct error *err) {
    int64_t missing = 0;
    uint64_t waiting = 0;
    TRY(ledger_number(ledger, "SELECT (SELECT problems FROM survey) - (SELECT count(*) FROM problem)",
                      &missing, err));
    if (missing != 0) {
        return error_set(err, STATUS_INTERNAL,
                         "the run is said to be finished, and %lld problems are unaccounted for",
                         (long long)missing);
    }
    if (retry > 0) {
        TRY(ledger_retry_waiting(ledger, retry, &waiting, err));
    }
    if (waiting != 0) {
        return error_set(err, STATUS_INTERNAL,
                         "the retry is said to be finished, and %llu problems were not tried again",
                         (unsigned long long)waiting);
    }
    return STATUS_OK;
}

// The last thing of a checkpoint: its link to the one before.
static int close_checkpoint(struct ledger *ledger, uint64_t number, const char previous[DIGEST_HEX],
                            char chain[DIGEST_HEX], struct error *err) {
    struct query query;
    TRY(ledger_link(ledger, number, previous, chain, err));
    query_begin(&query, ledger, "UPDATE checkpoint SET chain = ?2 WHERE number = ?1");
    query_bind_u64(&query, 1, number);
    query_bind_text(&query, 2, chain);
    int status = query_run(&query, err);
    query_end(&query);
    return status;
}

static int write_rows(struct ledger *ledger, const struct ledger_commit *commit, uint64_t *number,
                      char chain[DIGEST_HEX], struct error *err) {
    struct last_checkpoint last;
    uint64_t retry = 0;
    TRY(read_last(ledger, &last, err));
    TRY(check_commit(commit, &last, err));
    TRY(ledger_retry_number(ledger, &retry, err));
    *number = last.number + 1;
    TRY(insert_checkpoint(ledger, *number, &commit->position, commit->finished, err));
    if (commit->shard != NULL) {
        TRY(insert_shard(ledger, *number, commit, &last.position, err));
    }
    TRY(insert_problems(ledger, *number, last.position.shards, retry, commit, err));
    TRY(insert_batches(ledger, *number, commit, err));
    TRY(ledger_totals_add(ledger, *number, err));
    if (commit->finished) {
        TRY(check_finished(ledger, retry, err));
    }
    TRY(ledger_execute(ledger, "DELETE FROM partial", err));
    return close_checkpoint(ledger, *number, last.chain, chain, err);
}

// After a COMMIT that failed: a new connection, and a look whether the transaction is there all the same. The
// failed sync is not tried again (invariant 10).
static bool look_again(struct ledger *ledger, uint64_t number, const char chain[DIGEST_HEX]) {
    struct error ignored;
    struct last_checkpoint last;
    return ledger_connect(ledger, &ignored) == STATUS_OK && read_last(ledger, &last, &ignored) == STATUS_OK &&
           last.found && last.number == number && strcmp(last.chain, chain) == 0;
}

// The edge from sealed to acknowledged, and to finished (invariant 3).
int ledger_commit(struct ledger *ledger, const struct ledger_commit *commit, bool *durable,
                  struct error *err) {
    char chain[DIGEST_HEX] = "";
    uint64_t number = 0;
    *durable = false;
    TRY(ledger_transaction(ledger, err));
    int status = write_rows(ledger, commit, &number, chain, err);
    if (status != STATUS_OK) {
        return ledger_transaction_end(ledger, status, err);
    }
    status = ledger_transaction_end(ledger, STATUS_OK, err);
    *durable = status == STATUS_OK || look_again(ledger, number, chain);
    if (status != STATUS_OK) {
        error_wrap(err, "checkpoint %llu (%s)", (unsigned long long)number,
                   *durable ? "the ledger has it nevertheless" : "the ledger does not have it");
    }
    return status;
}

// The query is read from its first row again; numbers of batches and shards go on.
static int write_retry(struct ledger *ledger, const struct ledger_retry *retry, struct error *err) {
    struct last_checkpoint last;
    char chain[DIGEST_HEX] = "";
    TRY(read_last(ledger, &last, err));
    if (!last.found || !last.finished || retry->count == 0) {
        return error_set(err, STATUS_INTERNAL, "a retry of %zu problems begins %s", retry->count,
                         last.finished ? "without any" : "before the run is finished");
    }
    const struct ledger_position start = {.shards = last.position.shards,
                                          .batches = last.position.batches,
                                          .window_batch = last.position.batches};
    TRY(insert_checkpoint(ledger, last.number + 1, &start, false, err));
    TRY(ledger_retry_insert(ledger, last.number + 1, retry, err));
    TRY(ledger_totals_add(ledger, last.number + 1, err));
    return close_checkpoint(ledger, last.number + 1, last.chain, chain, err);
}

int ledger_retry_begin(struct ledger *ledger, const struct ledger_retry *retry, struct error *err) {
    TRY(ledger_transaction(ledger, err));
    return ledger_transaction_end(ledger, write_retry(ledger, retry, err), err);
}
