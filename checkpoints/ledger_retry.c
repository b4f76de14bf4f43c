// SPDX-License-Identifier: MIT
// What the ledger knows of trying failed problems again; ledger_commit.c has the transactions.
#include "checkpoints/ledger_retry.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

// A failed problem that reached a batch was computed and came out not finite: the same row may succeed on
// sound hardware. Before a batch only memory that ran out is no fault of the row: it stood in the reason of
// older programs by that name, or as the place -1, -1 that a JSON parser without memory gives. (Programs
// since then end with exit code 70 and record nothing.)
#define IS_TRANSIENT                                                                                         \
    "(batch IS NOT NULL OR instr(reason, 'out of memory') > 0 OR instr(reason, 'line -1, column -1') > 0)"
#define FAILED "FROM problem WHERE state = 1"

void ledger_retry_destroy(struct ledger_retry *retry) {
    free(retry->ordinals);
    *retry = (struct ledger_retry){0};
}

static int compare_ordinals(const void *a, const void *b) {
    uint64_t one = *(const uint64_t *)a;
    uint64_t other = *(const uint64_t *)b;
    return (one > other) - (one < other);
}

bool ledger_retry_has(const struct ledger_retry *retry, uint64_t ordinal) {
    return retry->count > 0 && bsearch(&ordinal, retry->ordinals, retry->count, sizeof *retry->ordinals,
                                       compare_ordinals) != NULL;
}

// The ordinals that a statement gives, ascending; `checkpoint` is its parameter, if it has one.
static int collect(struct ledger *ledger, const char *sql, uint64_t checkpoint, struct ledger_retry *retry,
                   struct error *err) {
    struct query query;
    size_t capacity = 0;
    bool row = false;
    query_begin(&query, ledger, sql);
    if (sqlite3_bind_parameter_count(query.statement) > 0) {
        query_bind_u64(&query, 1, checkpoint);
    }
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    while (row) {
        if (retry->count == capacity) {
            void *block = retry->ordinals;
            capacity = size_max(64, capacity * 2);
            TRY_TO(done, status = memory_resize(&block, capacity, sizeof *retry->ordinals, err));
            retry->ordinals = block;
        }
        retry->ordinals[retry->count++] = query_u64(&query, 0);
        TRY_TO(done, status = query_next(&query, &row, err));
    }
done:
    query_end(&query);
    return status;
}

int ledger_retry_number(struct ledger *ledger, uint64_t *checkpoint, struct error *err) {
    int64_t number = 0;
    bool has = false;
    int status = ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &has, err);
    if (has) {
        status =
            ledger_number(ledger,
                          "SELECT began FROM (SELECT max(checkpoint) AS began FROM retry) WHERE began NOT "
                          "NULL AND NOT EXISTS(SELECT 1 FROM checkpoint WHERE number > began AND "
                          "finished = 1)",
                          &number, err);
    }
    *checkpoint = (uint64_t)number;
    return status;
}

int ledger_retry_source(struct ledger *ledger, char problems_sha256[DIGEST_HEX], struct error *err) {
    struct query query;
    bool has = false;
    bool row = false;
    problems_sha256[0] = 0;
    int status = ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &has, err);
    if (!has) {
        return status;
    }
    query_begin(&query, ledger, "SELECT problems_sha256 FROM retry_source ORDER BY checkpoint DESC LIMIT 1");
    TRY_TO(done, status = query_next(&query, &row, err));
    if (row) {
        query_text(&query, 0, problems_sha256, DIGEST_HEX);
    }
done:
    query_end(&query);
    return status;
}

int ledger_retry_waiting(struct ledger *ledger, uint64_t checkpoint, uint64_t *waiting, struct error *err) {
    struct query query;
    bool row = false;
    *waiting = 0;
    query_begin(&query, ledger,
                "SELECT count(*) FROM retry AS r JOIN problem AS p ON p.ordinal = r.ordinal "
                "WHERE r.checkpoint = ?1 AND p.checkpoint < ?1");
    query_bind_u64(&query, 1, checkpoint);
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    if (row) {
        *waiting = query_u64(&query, 0);
    }
done:
    query_end(&query);
    return status;
}

int ledger_retry_open(struct ledger *ledger, struct ledger_retry *retry, bool *found, struct error *err) {
    uint64_t checkpoint = 0;
    *retry = (struct ledger_retry){0};
    *found = false;
    TRY(ledger_retry_number(ledger, &checkpoint, err));
    *found = checkpoint > 0;
    if (!*found) {
        return STATUS_OK;
    }
    TRY(collect(ledger, "SELECT ordinal FROM retry WHERE checkpoint = ?1 ORDER BY ordinal", checkpoint, retry,
                err));
    return ledger_retry_waiting(ledger, checkpoint, &retry->waiting, err);
}

int ledger_retry_candidates(struct ledger *ledger, enum ledger_retry_scope scope, struct ledger_retry *retry,
                            struct error *err) {
    *retry = (struct ledger_retry){0};
    int status =
        collect(ledger,
                scope == RETRY_ALL ? "SELECT ordinal " FAILED " ORDER BY ordinal"
                                   : "SELECT ordinal " FAILED " AND " IS_TRANSIENT " ORDER BY ordinal",
                0, retry, err);
    retry->waiting = retry->count;
    return status;
}

static int count_tried(struct ledger *ledger, struct ledger_retry_counts *counts, struct error *err) {
    struct query query;
    bool row = false;
    uint64_t checkpoint = 0;
    query_begin(&query, ledger,
                "SELECT count(*), ifnull(sum(p.state = 0), 0) FROM retry AS r JOIN problem AS p "
                "ON p.ordinal = r.ordinal WHERE r.checkpoint = (SELECT max(checkpoint) FROM retry)");
    int status = query_next(&query, &row, err);
    if (status == STATUS_OK && row) {
        counts->tried = query_u64(&query, 0);
        counts->succeeded = query_u64(&query, 1);
    }
    query_end(&query);
    TRY(status);
    TRY(ledger_retry_number(ledger, &checkpoint, err));
    return checkpoint > 0 ? ledger_retry_waiting(ledger, checkpoint, &counts->waiting, err) : STATUS_OK;
}

int ledger_retry_counts(struct ledger *ledger, struct ledger_retry_counts *counts, struct error *err) {
    int64_t transient = 0;
    bool has = false;
    *counts = (struct ledger_retry_counts){0};
    TRY(ledger_number(ledger, "SELECT count(*) " FAILED " AND " IS_TRANSIENT, &transient, err));
    counts->transient = (uint64_t)transient;
    TRY(ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &has, err));
    return has ? count_tried(ledger, counts, err) : STATUS_OK;
}

int ledger_earlier_reasons(struct ledger *ledger, uint64_t ordinal, struct buffer *reasons, size_t *count,
                           struct error *err) {
    struct query query;
    bool row = false;
    bool has = false;
    *count = 0;
    int status = ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &has, err);
    if (!has) {
        return status;
    }
    query_begin(
        &query, ledger,
        "SELECT reason FROM superseded AS s WHERE ordinal = ?1 AND EXISTS(SELECT 1 FROM problem AS p WHERE "
        "p.ordinal = ?1 AND p.checkpoint > s.checkpoint AND p.checkpoint <= ?2 UNION ALL SELECT 1 FROM "
        "superseded AS t WHERE t.ordinal = ?1 AND t.checkpoint > s.checkpoint AND t.checkpoint <= ?2) "
        "ORDER BY checkpoint");
    query_bind_u64(&query, 1, ordinal);
    query_bind_i64(&query, 2, ledger->view.checkpoint);
    TRY_TO(done, status = query_next(&query, &row, err));
    while (row) {
        char reason[512];
        query_text(&query, 0, reason, sizeof reason);
        (*count)++;
        TRY_TO(done, status = buffer_append(reasons, reason, strlen(reason) + 1, err));
        TRY_TO(done, status = query_next(&query, &row, err));
    }
done:
    query_end(&query);
    return status;
}

int ledger_is_transient(struct ledger *ledger, uint64_t ordinal, bool *transient, struct error *err) {
    struct query query;
    query_begin(&query, ledger, "SELECT 1 " FAILED " AND ordinal = ?1 AND " IS_TRANSIENT);
    query_bind_u64(&query, 1, ordinal);
    int status = query_next(&query, transient, err);
    query_end(&query);
    return status;
}

// ---- within a transaction ----

static int change_one(struct query *query, bool *changed, struct error *err) {
    int status = query_run(query, err);
    *changed = status == STATUS_OK && sqlite3_changes(query->ledger->db) == 1;
    return status;
}

// Never more than one outcome (invariant 5).
int ledger_retry_supersede(struct ledger *ledger, uint64_t checkpoint, const struct ledger_problem *problem,
                           struct error *err) {
    struct query query;
    bool kept = false;
    bool gone = false;
    query_begin(
        &query, ledger,
        "INSERT INTO superseded SELECT ordinal, id, state, reason, batch, shard, place, tokens, rows, "
        "steps, truncated, checkpoint " FAILED " AND ordinal = ?1 AND id = ?2 AND checkpoint < ?3 AND "
        "EXISTS(SELECT 1 FROM retry WHERE retry.checkpoint = ?3 AND retry.ordinal = ?1)");
    query_bind_u64(&query, 1, problem->ordinal);
    query_bind_id(&query, 2, problem->id, problem->id_size);
    query_bind_u64(&query, 3, checkpoint);
    int status = change_one(&query, &kept, err);
    query_end(&query);
    TRY(status);
    if (kept) {
        query_begin(&query, ledger, "DELETE FROM problem WHERE ordinal = ?1");
        query_bind_u64(&query, 1, problem->ordinal);
        status = change_one(&query, &gone, err);
        query_end(&query);
        TRY(status);
    }
    return gone ? STATUS_OK
                : error_set(err, STATUS_INTERNAL, "problem '%.*s' (row %llu) is not one to try again",
                            (int)size_min(problem->id_size, 200), problem->id,
                            (unsigned long long)problem->ordinal);
}

int ledger_retry_insert(struct ledger *ledger, uint64_t checkpoint, const struct ledger_retry *retry,
                        struct error *err) {
    struct query query;
    query_begin(&query, ledger, "INSERT INTO retry_source(checkpoint, problems_sha256) VALUES(?1, ?2)");
    query_bind_u64(&query, 1, checkpoint);
    query_bind_text(&query, 2, retry->problems_sha256);
    int status = query_run(&query, err);
    query_end(&query);
    query_begin(&query, ledger,
                "INSERT INTO retry(checkpoint, ordinal) SELECT ?1, ordinal " FAILED " AND ordinal = ?2");
    for (size_t i = 0; status == STATUS_OK && i < retry->count; i++) {
        bool failed = false;
        query_bind_u64(&query, 1, checkpoint);
        query_bind_u64(&query, 2, retry->ordinals[i]);
        status = change_one(&query, &failed, err);
        if (status == STATUS_OK && !failed) {
            status = error_set(err, STATUS_INTERNAL, "row %llu is to be tried again and has not failed",
                               (unsigned long long)retry->ordinals[i]);
        }
    }
    query_end(&query);
    return status;
}
