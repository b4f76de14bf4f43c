// SPDX-License-Identifier: MIT
// What the ledger keeps about the run as a whole: identity, notes, survey, launches.
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "checkpoints/ledger_chain.h"
#include "checkpoints/ledger_retry.h"

static int read_identity(struct ledger *ledger, struct identity *stored, bool *found, struct error *err) {
    struct query query;
    bool row = false;
    *stored = (struct identity){0};
    *found = false;
    query_begin(&query, ledger, "SELECT key, value FROM identity ORDER BY place");
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    while (row) {
        size_t size;
        const char *key = query_bytes(&query, 0, &size);
        const char *value = query_bytes(&query, 1, &size);
        if (key == NULL || value == NULL) {
            status = error_set(err, STATUS_DATA, "ledger %s: the identity is damaged", ledger->path);
            goto done;
        }
        *found = true;
        TRY_TO(done, status = identity_add(stored, key, value, err));
        TRY_TO(done, status = query_next(&query, &row, err));
    }
done:
    query_end(&query);
    return status;
}

int ledger_identity(struct ledger *ledger, struct identity *stored, bool *found, struct error *err) {
    char problems[DIGEST_HEX];
    int status;
    TRY_TO(done, status = read_identity(ledger, stored, found, err));
    if (*found) {
        TRY_TO(done, status = ledger_retry_source(ledger, problems, err));
    }
    if (*found && problems[0] != 0) {
        TRY_TO(done, status = identity_replace(stored, IDENTITY_PROBLEMS, problems, err));
    }
done:
    if (status != STATUS_OK) {
        identity_destroy(stored);
        *found = false;
    }
    return status;
}

int ledger_set_note(struct ledger *ledger, const char *key, const char *value, struct error *err) {
    struct query query;
    TRY(ledger_transaction(ledger, err));
    query_begin(&query, ledger, "INSERT OR REPLACE INTO note(key, value) VALUES(?1, ?2)");
    query_bind_text(&query, 1, key);
    query_bind_text(&query, 2, value);
    int status = query_run(&query, err);
    query_end(&query);
    return ledger_transaction_end(ledger, status, err);
}

int ledger_note(struct ledger *ledger, const char *key, struct buffer *value, bool *found,
                struct error *err) {
    struct query query;
    *found = false;
    query_begin(&query, ledger, "SELECT value FROM note WHERE key = ?1");
    query_bind_text(&query, 1, key);
    int status;
    TRY_TO(done, status = query_next(&query, found, err));
    if (*found) {
        size_t size;
        const char *bytes = query_bytes(&query, 0, &size);
        TRY_TO(done, status = buffer_append(value, bytes == NULL ? "" : bytes, size, err));
    }
done:
    query_end(&query);
    return status;
}

static int insert_identity(struct ledger *ledger, const struct identity *identity, struct error *err) {
    struct query query;
    int status = STATUS_OK;
    query_begin(&query, ledger, "INSERT INTO identity(place, key, value) VALUES(?1, ?2, ?3)");
    for (size_t i = 0; i < identity->count; i++) {
        query_bind_u64(&query, 1, i);
        query_bind_text(&query, 2, identity->entries[i].key);
        query_bind_text(&query, 3, identity->entries[i].value);
        TRY_TO(done, status = query_run(&query, err));
    }
done:
    query_end(&query);
    return status;
}

static int insert_survey(struct ledger *ledger, const struct ledger_survey *survey, struct error *err) {
    struct query query;
    query_begin(
        &query, ledger,
        "INSERT INTO survey(one, problems, texts, tokens, rows, batches, squared_lengths, longest, truncated,"
        " problems_sha256) VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    query_bind_u64(&query, 1, survey->problems);
    query_bind_u64(&query, 2, survey->texts);
    query_bind_u64(&query, 3, survey->tokens);
    query_bind_u64(&query, 4, survey->rows);
    query_bind_u64(&query, 5, survey->batches);
    query_bind_f64(&query, 6, survey->squared_lengths);
    query_bind_u64(&query, 7, survey->longest);
    query_bind_u64(&query, 8, survey->truncated);
    query_bind_text(&query, 9, survey->problems_sha256);
    int status = query_run(&query, err);
    query_end(&query);
    return status;
}

static int insert_beginning(struct ledger *ledger, const struct identity *identity,
                            const struct ledger_survey *survey, struct error *err) {
    struct query query;
    char chain[DIGEST_HEX] = "";
    TRY(insert_identity(ledger, identity, err));
    TRY(insert_survey(ledger, survey, err));
    TRY(ledger_link(ledger, 0, chain, chain, err));
    query_begin(&query, ledger, "INSERT INTO checkpoint VALUES(0, ?1, ?2, 0, 0, 0, 0, 0, ?3)");
    query_bind_i64(&query, 1, clock_unix());
    query_bind_u64(&query, 2, ledger->epoch);
    query_bind_text(&query, 3, chain);
    int status = query_run(&query, err);
    query_end(&query);
    return status;
}

// Before the first shard (invariant 8).
int ledger_begin(struct ledger *ledger, const struct identity *identity, const struct ledger_survey *survey,
                 struct error *err) {
    TRY(ledger_transaction(ledger, err));
    return ledger_transaction_end(ledger, insert_beginning(ledger, identity, survey, err), err);
}

int ledger_survey(struct ledger *ledger, struct ledger_survey *survey, bool *found, struct error *err) {
    struct query query;
    *survey = (struct ledger_survey){0};
    query_begin(
        &query, ledger,
        "SELECT problems, texts, tokens, rows, batches, squared_lengths, longest, truncated, problems_sha256 "
        "FROM survey");
    int status;
    TRY_TO(done, status = query_next(&query, found, err));
    if (*found) {
        survey->problems = query_u64(&query, 0);
        survey->texts = query_u64(&query, 1);
        survey->tokens = query_u64(&query, 2);
        survey->rows = query_u64(&query, 3);
        survey->batches = query_u64(&query, 4);
        survey->squared_lengths = query_f64(&query, 5);
        survey->longest = query_u64(&query, 6);
        survey->truncated = query_u64(&query, 7);
        query_text(&query, 8, survey->problems_sha256, sizeof survey->problems_sha256);
    }
done:
    query_end(&query);
    return status;
}

int ledger_launch(struct ledger *ledger, int threads, uint64_t *epoch, struct error *err) {
    struct query query;
    char host[128] = "";
    TRY(ledger_transaction(ledger, err));
    gethostname(host, sizeof host - 1);
    query_begin(&query, ledger,
                "INSERT INTO launch(epoch, started, threads, process, host, worked) VALUES(?1, ?2, ?3, ?4, "
                "?5, 0)");
    query_bind_u64(&query, 1, ledger->epoch + 1);
    query_bind_i64(&query, 2, clock_unix());
    query_bind_i64(&query, 3, threads);
    query_bind_i64(&query, 4, getpid());
    query_bind_text(&query, 5, host);
    int status = query_run(&query, err);
    query_end(&query);
    TRY(ledger_transaction_end(ledger, status, err));
    *epoch = ++ledger->epoch;
    return STATUS_OK;
}

int ledger_launch_lost(struct ledger *ledger, uint64_t epoch, const char *host, struct error *err) {
    struct query query;
    if (epoch <= ledger->epoch) {
        return STATUS_OK;
    }
    TRY(ledger_transaction(ledger, err));
    query_begin(
        &query, ledger,
        "INSERT INTO launch(epoch, started, threads, process, host, reason, worked) VALUES(?1, ?2, 0, 0, "
        "?3, 'its ledger was left behind', 1)");
    query_bind_u64(&query, 1, epoch);
    query_bind_i64(&query, 2, clock_unix());
    query_bind_text(&query, 3, host);
    int status = query_run(&query, err);
    query_end(&query);
    TRY(ledger_transaction_end(ledger, status, err));
    ledger->epoch = epoch;
    return STATUS_OK;
}

int ledger_launch_works(struct ledger *ledger, struct error *err) {
    struct query query;
    TRY(ledger_transaction(ledger, err));
    query_begin(&query, ledger, "UPDATE launch SET worked = 1 WHERE epoch = ?1");
    query_bind_u64(&query, 1, ledger->epoch);
    int status = query_run(&query, err);
    query_end(&query);
    status = ledger_transaction_end(ledger, status, err);
    ledger->working = status == STATUS_OK;
    return status;
}

int ledger_launch_end(struct ledger *ledger, int exit_code, const char *reason, struct error *err) {
    struct query query;
    TRY(ledger_transaction(ledger, err));
    query_begin(&query, ledger, "UPDATE launch SET ended = ?2, exit_code = ?3, reason = ?4 WHERE epoch = ?1");
    query_bind_u64(&query, 1, ledger->epoch);
    query_bind_i64(&query, 2, clock_unix());
    query_bind_i64(&query, 3, exit_code);
    query_bind_text(&query, 4, reason == NULL ? "" : reason);
    int status = query_run(&query, err);
    query_end(&query);
    return ledger_transaction_end(ledger, status, err);
}
