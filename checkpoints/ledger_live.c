// SPDX-License-Identifier: MIT
// What changes while a run goes on and is no acknowledgement: the partial shard, the live state, events.
#include <string.h>

#include "base/clock.h"
#include "checkpoints/ledger_sql.h"

int ledger_set_partial(struct ledger *ledger, const struct ledger_partial *partial, struct error *err) {
    struct query query;
    TRY(ledger_transaction(ledger, err));
    query_begin(&query, ledger, "INSERT OR REPLACE INTO partial VALUES(1, ?1, ?2, ?3, ?4, ?5)");
    query_bind_u64(&query, 1, partial->shard);
    query_bind_text(&query, 2, partial->name);
    query_bind_text(&query, 3, partial->sha256);
    query_bind_u64(&query, 4, partial->batches);
    query_bind_bytes(&query, 5, partial->record, partial->record_size);
    int status = query_run(&query, err);
    query_end(&query);
    return ledger_transaction_end(ledger, status, err);
}

int ledger_partial(struct ledger *ledger, struct ledger_partial *partial, struct buffer *memory, bool *found,
                   struct error *err) {
    struct query query;
    *partial = (struct ledger_partial){0};
    query_begin(&query, ledger, "SELECT shard, name, sha256, batches, record FROM partial");
    int status;
    TRY_TO(done, status = query_next(&query, found, err));
    if (*found) {
        size_t start = memory->size;
        partial->shard = query_u64(&query, 0);
        query_text(&query, 1, partial->name, sizeof partial->name);
        query_text(&query, 2, partial->sha256, sizeof partial->sha256);
        partial->batches = query_u64(&query, 3);
        const char *bytes = query_bytes(&query, 4, &partial->record_size);
        TRY_TO(done, status = buffer_append(memory, bytes, partial->record_size, err));
        partial->record = memory->data + start;
    }
done:
    query_end(&query);
    return status;
}

int ledger_drop_partial(struct ledger *ledger, struct error *err) {
    TRY(ledger_transaction(ledger, err));
    return ledger_transaction_end(ledger, ledger_execute(ledger, "DELETE FROM partial", err), err);
}

// The two tables have the same columns.
#define PROGRESS_INTO(table)                                                                                 \
    "INSERT OR REPLACE INTO " table " VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, "    \
    "?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)"

int ledger_set_progress(struct ledger *ledger, const struct ledger_progress *progress, struct error *err) {
    struct query query;
    TRY(ledger_transaction(ledger, err));
    query_begin(&query, ledger, ledger->working ? PROGRESS_INTO("progress") : PROGRESS_INTO("start"));
    query_bind_u64(&query, 1, progress->epoch);
    query_bind_i64(&query, 2, progress->updated);
    query_bind_text(&query, 3, progress->stage);
    query_bind_u64(&query, 4, progress->batches);
    query_bind_u64(&query, 5, progress->problems);
    query_bind_u64(&query, 6, progress->tokens);
    query_bind_u64(&query, 7, progress->rows);
    query_bind_f64(&query, 8, progress->seconds);
    query_bind_f64(&query, 9, progress->tokens_per_second);
    query_bind_f64(&query, 10, progress->score);
    query_bind_text(&query, 11, progress->drift);
    query_bind_u64(&query, 12, progress->memory_bytes);
    query_bind_u64(&query, 13, progress->loaded_bytes);
    query_bind_u64(&query, 14, progress->load_bytes);
    query_bind_device(&query, 15, &progress->device);
    int status = query_run(&query, err);
    query_end(&query);
    return ledger_transaction_end(ledger, status, err);
}

#define PROGRESS_COLUMNS                                                                                     \
    "SELECT epoch, updated, stage, batches, problems, tokens, rows, seconds, tokens_per_second, score, "     \
    "drift, memory_bytes, loaded_bytes, load_bytes, "

static int read_progress(struct ledger *ledger, const char *sql, struct ledger_progress *progress,
                         bool *found, struct error *err) {
    struct query query;
    query_begin(&query, ledger, sql);
    int status;
    TRY_TO(done, status = query_next(&query, found, err));
    if (*found) {
        progress->epoch = query_u64(&query, 0);
        progress->updated = query_i64(&query, 1);
        query_text(&query, 2, progress->stage, sizeof progress->stage);
        progress->batches = query_u64(&query, 3);
        progress->problems = query_u64(&query, 4);
        progress->tokens = query_u64(&query, 5);
        progress->rows = query_u64(&query, 6);
        progress->seconds = query_f64(&query, 7);
        progress->tokens_per_second = query_f64(&query, 8);
        progress->score = query_f64(&query, 9);
        query_text(&query, 10, progress->drift, sizeof progress->drift);
        progress->memory_bytes = query_u64(&query, 11);
        progress->loaded_bytes = query_u64(&query, 12);
        progress->load_bytes = query_u64(&query, 13);
        query_device(&query, 14, &progress->device);
    }
done:
    query_end(&query);
    return status;
}

int ledger_progress(struct ledger *ledger, struct ledger_progress *progress, bool *found, struct error *err) {
    *progress = (struct ledger_progress){0};
    return read_progress(ledger,
                         ledger->format >= LEDGER_FORMAT_FIGURES
                             ? PROGRESS_COLUMNS LEDGER_FIGURE_COLUMNS " FROM progress"
                             : PROGRESS_COLUMNS LEDGER_FIGURES_MISSING " FROM progress",
                         progress, found, err);
}

int ledger_start_progress(struct ledger *ledger, struct ledger_progress *progress, bool *found,
                          struct error *err) {
    *progress = (struct ledger_progress){0};
    *found = false;
    return ledger->format < LEDGER_FORMAT_TOTALS
               ? STATUS_OK
               : read_progress(ledger, PROGRESS_COLUMNS LEDGER_FIGURE_COLUMNS " FROM start", progress, found,
                               err);
}

int ledger_event(struct ledger *ledger, const char *kind, const char *text, struct error *err) {
    struct query query;
    TRY(ledger_transaction(ledger, err));
    query_begin(&query, ledger, "INSERT INTO event(at, epoch, kind, text) VALUES(?1, ?2, ?3, ?4)");
    query_bind_i64(&query, 1, clock_unix());
    query_bind_u64(&query, 2, ledger->epoch);
    query_bind_text(&query, 3, kind);
    query_bind_text(&query, 4, text);
    int status = query_run(&query, err);
    query_end(&query);
    return ledger_transaction_end(ledger, status, err);
}
