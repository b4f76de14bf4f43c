// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_totals.h"

#include <math.h>
#include <string.h>

#include "checkpoints/run_set.h"

// Columns of `total` in the order of its table, without the checkpoint.
#define COLUMNS                                                                                              \
    "done, failed, skipped, truncated, shards, rows, tokens, bytes, batches, overflowed, compute_seconds, "  \
    "wait_seconds, write_seconds, prepare_seconds"

static void take_sums(struct query *query, int first, struct ledger_totals *totals) {
    uint64_t *const counts[] = {&totals->done,    &totals->failed,    &totals->skipped, &totals->truncated,
                                &totals->shards,  &totals->rows,      &totals->tokens,  &totals->bytes,
                                &totals->batches, &totals->overflowed};
    double *const seconds[] = {&totals->compute_seconds, &totals->wait_seconds, &totals->write_seconds,
                               &totals->prepare_seconds};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        *counts[i] = (uint64_t)query_i64(query, first++);
    }
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        *seconds[i] = query_f64(query, first++);
    }
}

// Where texts go on from what they have in common, their batches have fewer tokens than they.
#define COMPUTED_TOKENS                                                                                      \
    "CASE WHEN EXISTS(SELECT 1 FROM identity WHERE key = '" IDENTITY_PREFIXES "') THEN b.tokens ELSE "       \
    "s.tokens END"

// The sums over the rows of some checkpoints, counted.
#define COUNT(problems, condition)                                                                           \
    "SELECT ifnull(p.done, 0), ifnull(p.failed, 0), ifnull(p.skipped, 0), ifnull(p.truncated, 0), s.shards," \
    " ifnull(s.rows, 0), ifnull(" COMPUTED_TOKENS                                                            \
    ", 0), ifnull(s.bytes, 0), b.batches, ifnull(b.overflowed, 0),"                                          \
    " b.compute, b.wait, b.write, b.prepare FROM (" problems ") AS p, (" LEDGER_TOTALS_OF_SHARDS condition   \
    ") AS s, (" LEDGER_TOTALS_OF_BATCHES condition ") AS b"

// What one checkpoint adds: its outcomes, also those that a retry replaced since, less the failed ones that
// they replaced themselves. So a retry's may add fewer than no failures.
#define ADDED_OUTCOMES                                                                                       \
    "SELECT sum(o.state = 0) AS done, sum(o.state = 1) - count(s.ordinal) AS failed,"                        \
    " sum(o.state = 2) AS skipped, sum(o.truncated) - ifnull(sum(s.truncated), 0) AS truncated"              \
    " FROM (SELECT ordinal, state, truncated FROM problem WHERE checkpoint = ?1 UNION ALL"                   \
    " SELECT ordinal, state, truncated FROM superseded WHERE checkpoint = ?1) AS o"                          \
    " LEFT JOIN superseded AS s ON s.ordinal = o.ordinal AND s.checkpoint ="                                 \
    " (SELECT max(checkpoint) FROM superseded AS t WHERE t.ordinal = o.ordinal AND t.checkpoint < ?1)"

static int read_sums(struct ledger *ledger, const char *sql, int64_t checkpoint, bool *found,
                     struct ledger_totals *totals, struct error *err) {
    struct query query;
    query_begin(&query, ledger, sql);
    query_bind_i64(&query, 1, checkpoint);
    int status;
    TRY_TO(done, status = query_next(&query, found, err));
    if (*found) {
        take_sums(&query, 0, totals);
    }
done:
    query_end(&query);
    return status;
}

static int count_one(struct ledger *ledger, uint64_t checkpoint, struct ledger_totals *totals,
                     struct error *err) {
    bool found;
    return read_sums(ledger, COUNT(ADDED_OUTCOMES, " WHERE checkpoint = ?1"), (int64_t)checkpoint, &found,
                     totals, err);
}

static int read_kept(struct ledger *ledger, uint64_t checkpoint, bool *found, struct ledger_totals *totals,
                     struct error *err) {
    return read_sums(ledger, "SELECT " COLUMNS " FROM total WHERE checkpoint = ?1", (int64_t)checkpoint,
                     found, totals, err);
}

static void add(struct ledger_totals *sums, const struct ledger_totals *part) {
    sums->done += part->done;
    sums->failed += part->failed;
    sums->skipped += part->skipped;
    sums->truncated += part->truncated;
    sums->shards += part->shards;
    sums->rows += part->rows;
    sums->tokens += part->tokens;
    sums->bytes += part->bytes;
    sums->batches += part->batches;
    sums->overflowed += part->overflowed;
    sums->compute_seconds += part->compute_seconds;
    sums->wait_seconds += part->wait_seconds;
    sums->write_seconds += part->write_seconds;
    sums->prepare_seconds += part->prepare_seconds;
}

int ledger_totals_add(struct ledger *ledger, uint64_t checkpoint, struct error *err) {
    struct ledger_totals sums = {0};
    struct ledger_totals part = {0};
    struct query query;
    bool found = false;
    TRY(read_kept(ledger, checkpoint - 1, &found, &sums, err));
    if (!found && checkpoint > 1) {
        return error_set(err, STATUS_DATA, "ledger %s: the sums of checkpoint %llu are missing", ledger->path,
                         (unsigned long long)checkpoint - 1);
    }
    TRY(count_one(ledger, checkpoint, &part, err));
    add(&sums, &part);
    query_begin(&query, ledger,
                "INSERT INTO total(checkpoint, " COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
                "?11, ?12, ?13, ?14, ?15)");
    const uint64_t counts[] = {checkpoint,     sums.done,    sums.failed,    sums.skipped,
                               sums.truncated, sums.shards,  sums.rows,      sums.tokens,
                               sums.bytes,     sums.batches, sums.overflowed};
    const double seconds[] = {sums.compute_seconds, sums.wait_seconds, sums.write_seconds,
                              sums.prepare_seconds};
    int place = 1;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        query_bind_u64(&query, place++, counts[i]);
    }
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        query_bind_f64(&query, place++, seconds[i]);
    }
    int status = query_run(&query, err);
    query_end(&query);
    return status;
}

// ---- reading ----

static int read_checkpoint(struct ledger *ledger, uint64_t *number, struct ledger_totals *totals,
                           struct error *err) {
    struct query query;
    bool row = false;
    *number = 0;
    query_begin(&query, ledger,
                "SELECT number, at, finished FROM checkpoint WHERE number > 0 AND number <= ?1 "
                "ORDER BY number DESC LIMIT 1");
    query_bind_i64(&query, 1, ledger->view.checkpoint);
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    if (row) {
        *number = query_u64(&query, 0);
        totals->last_commit = query_i64(&query, 1);
        totals->finished = query_i64(&query, 2) != 0;
    }
done:
    query_end(&query);
    return status;
}

int ledger_totals(struct ledger *ledger, struct ledger_totals *totals, struct error *err) {
    uint64_t number = 0;
    bool found = false;
    *totals = (struct ledger_totals){0};
    int status = read_checkpoint(ledger, &number, totals, err);
    if (status != STATUS_OK || number == 0) {
        return status;
    }
    if (ledger->format < LEDGER_FORMAT_TOTALS) {
        return read_sums(
            ledger, COUNT(LEDGER_TOTALS_OF_PROBLEMS " WHERE +checkpoint <= ?1", " WHERE +checkpoint <= ?1"),
            (int64_t)number, &found, totals, err);
    }
    status = read_kept(ledger, number, &found, totals, err);
    return status == STATUS_OK && !found
               ? error_set(err, STATUS_DATA, "ledger %s: the sums of checkpoint %llu are missing",
                           ledger->path, (unsigned long long)number)
               : status;
}

int ledger_launch_work(struct ledger *ledger, uint64_t epoch, struct ledger_work *work, struct error *err) {
    struct query query;
    bool found;
    *work = (struct ledger_work){0};
    query_begin(&query, ledger,
                "SELECT ifnull(sum(tokens), 0), total(compute_seconds), total(wait_seconds) FROM batch "
                "WHERE epoch = ?1 AND checkpoint <= ?2");
    query_bind_u64(&query, 1, epoch);
    query_bind_i64(&query, 2, ledger->view.checkpoint);
    int status;
    TRY_TO(done, status = query_next(&query, &found, err));
    if (found) {
        *work = (struct ledger_work){query_u64(&query, 0), query_f64(&query, 1), query_f64(&query, 2)};
    }
done:
    query_end(&query);
    return status;
}

int ledger_launch_committed(struct ledger *ledger, uint64_t epoch, int64_t *at, struct error *err) {
    struct query query;
    bool found;
    *at = 0;
    query_begin(&query, ledger,
                "SELECT ifnull(max(at), 0) FROM checkpoint WHERE epoch = ?1 AND number <= ?2");
    query_bind_u64(&query, 1, epoch);
    query_bind_i64(&query, 2, ledger->view.checkpoint);
    int status = query_next(&query, &found, err);
    if (status == STATUS_OK && found) {
        *at = query_i64(&query, 0);
    }
    query_end(&query);
    return status;
}

int ledger_slices(struct ledger *ledger, uint64_t slice_tokens, uint64_t *count, struct error *err) {
    struct query query;
    bool row = false;
    *count = 0;
    query_begin(&query, ledger,
                "SELECT ifnull(sum((tokens + ?1 - 1) / ?1), 0) FROM batch WHERE checkpoint <= ?2");
    query_bind_u64(&query, 1, slice_tokens);
    query_bind_i64(&query, 2, ledger->view.checkpoint);
    int status = query_next(&query, &row, err);
    if (status == STATUS_OK && row) {
        *count = query_u64(&query, 0);
    }
    query_end(&query);
    return status;
}

// ---- checking ----

// Sums of seconds may be added in another order by another release of SQLite.
static bool same_seconds(double a, double b) {
    return isfinite(a) && isfinite(b) && fabs(a - b) <= 1e-9 * (1 + fabs(a));
}

static bool same(const struct ledger_totals *a, const struct ledger_totals *b) {
    return a->done == b->done && a->failed == b->failed && a->skipped == b->skipped &&
           a->truncated == b->truncated && a->shards == b->shards && a->rows == b->rows &&
           a->tokens == b->tokens && a->bytes == b->bytes && a->batches == b->batches &&
           a->overflowed == b->overflowed && same_seconds(a->compute_seconds, b->compute_seconds) &&
           same_seconds(a->wait_seconds, b->wait_seconds) &&
           same_seconds(a->write_seconds, b->write_seconds) &&
           same_seconds(a->prepare_seconds, b->prepare_seconds);
}

int ledger_check_totals(struct ledger *ledger, struct error *err) {
    struct ledger_totals sums = {0};
    uint64_t last = 0;
    int64_t strays = 0;
    if (ledger->format < LEDGER_FORMAT_TOTALS) {
        return STATUS_OK;
    }
    TRY(read_checkpoint(ledger, &last, &(struct ledger_totals){0}, err));
    for (uint64_t number = 1; number <= last; number++) {
        struct ledger_totals part = {0};
        struct ledger_totals kept = {0};
        bool found = false;
        TRY(count_one(ledger, number, &part, err));
        TRY(read_kept(ledger, number, &found, &kept, err));
        add(&sums, &part);
        if (!found || !same(&sums, &kept)) {
            return error_set(err, STATUS_DATA, "ledger %s: the sums kept with checkpoint %llu are %s",
                             ledger->path, (unsigned long long)number,
                             found ? "not those of its rows" : "missing");
        }
    }
    TRY(ledger_number(ledger,
                      "SELECT count(*) FROM total WHERE checkpoint < 1 OR checkpoint > "
                      "(SELECT ifnull(max(number), 0) FROM checkpoint)",
                      &strays, err));
    return strays != 0 ? error_set(err, STATUS_DATA, "ledger %s: %lld rows of sums belong to no checkpoint",
                                   ledger->path, (long long)strays)
                       : STATUS_OK;
}
