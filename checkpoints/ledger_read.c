// SPDX-License-Identifier: MIT
// Listing what the ledger holds. Rows are taken a page at a time and given out between the pages, when no
// lock is held: a listing that waits (piped into a pager, stopped with ^Z) must never keep the runner from
// its commit.
#include <stdlib.h>
#include <string.h>

#include "checkpoints/ledger_sql.h"

enum { PAGE_ROWS = 256 };

// A row in memory: fixed fields, and places in the page's text (which may move while it grows).
struct text_place {
    size_t start;
    size_t size;
    bool there;
};

union page_row {
    struct ledger_shard shard;
    struct ledger_batch batch;
    struct ledger_launch_record launch;
    struct {
        struct ledger_problem fields;
        struct text_place id;
        struct text_place reason;
    } problem;
    struct {
        int64_t at;
        uint64_t epoch;
        struct text_place kind;
        struct text_place text;
    } event;
};

// One kind of listing. The statement's first column is its key; ?1 is the last key given out, ?2 the last
// checkpoint, launch or event that the reader sees, ?3 a condition.
struct listing {
    const char *sql;
    int64_t before_first; // below every key
    int64_t until;
    int64_t condition;
    int (*take)(struct query *query, union page_row *row, struct buffer *text, struct error *err);
    int (*give)(const struct listing *listing, const union page_row *row, const char *text);
    void (*each)(void); // the caller's function, of the kind that `give` knows
    void *context;
};

static int take_page(struct ledger *ledger, const struct listing *listing, int64_t *key, union page_row *rows,
                     size_t *count, struct buffer *text, struct error *err) {
    struct query query;
    bool row = false;
    *count = 0;
    buffer_clear(text);
    query_begin(&query, ledger, listing->sql);
    query_bind_i64(&query, 1, *key);
    query_bind_i64(&query, 2, listing->until);
    if (sqlite3_bind_parameter_count(query.statement) > 2) {
        query_bind_i64(&query, 3, listing->condition);
    }
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    while (row && *count < PAGE_ROWS) {
        *key = query_i64(&query, 0);
        TRY_TO(done, status = listing->take(&query, &rows[(*count)++], text, err));
        TRY_TO(done, status = query_next(&query, &row, err));
    }
done:
    query_end(&query);
    return status;
}

static int list(struct ledger *ledger, const struct listing *listing, struct error *err) {
    struct buffer text = {0};
    void *rows = NULL;
    int64_t key = listing->before_first;
    size_t count = 0;
    int result = memory_zeroed(&rows, PAGE_ROWS, sizeof(union page_row), err);
    while (result == STATUS_OK) {
        result = take_page(ledger, listing, &key, rows, &count, &text, err);
        for (size_t i = 0; result == STATUS_OK && i < count; i++) {
            result = listing->give(listing, (union page_row *)rows + i, text.data);
        }
        if (count < PAGE_ROWS) {
            break;
        }
    }
    free(rows);
    buffer_destroy(&text);
    return result;
}

static int take_text(struct query *query, int column, struct text_place *place, struct buffer *text,
                     struct error *err) {
    const char *bytes = query_bytes(query, column, &place->size);
    place->there = bytes != NULL;
    place->start = text->size;
    if (bytes == NULL) {
        return STATUS_OK;
    }
    TRY(buffer_append(text, bytes, place->size, err));
    return buffer_append(text, "", 1, err);
}

static const char *placed(const char *text, const struct text_place *place) {
    return place->there ? text + place->start : NULL;
}

// ---- shards ----

typedef int (*each_shard)(void *context, const struct ledger_shard *shard);

static int take_shard(struct query *query, union page_row *row, struct buffer *text, struct error *err) {
    struct ledger_shard *shard = &row->shard;
    (void)text;
    (void)err;
    shard->number = query_u64(query, 0);
    query_text(query, 1, shard->sealed.name, sizeof shard->sealed.name);
    query_text(query, 2, shard->sealed.sha256, sizeof shard->sealed.sha256);
    shard->sealed.bytes = query_u64(query, 3);
    shard->sealed.problems = query_u64(query, 4);
    shard->sealed.rows = query_u64(query, 5);
    shard->sealed.tokens = query_u64(query, 6);
    shard->first_batch = query_u64(query, 7);
    shard->batches = query_u64(query, 8);
    shard->sealed_at = query_i64(query, 9);
    return STATUS_OK;
}

static int give_shard(const struct listing *listing, const union page_row *row, const char *text) {
    (void)text;
    return ((each_shard)listing->each)(listing->context, &row->shard);
}

int ledger_each_shard(struct ledger *ledger, each_shard each, void *context, struct error *err) {
    const struct listing listing = {.sql = "SELECT number, name, sha256, bytes, problems, rows, tokens, "
                                           "first_batch, batches, sealed_at FROM shard "
                                           "WHERE number > ?1 AND checkpoint <= ?2 ORDER BY number LIMIT 256",
                                    .before_first = -1,
                                    .until = ledger->view.checkpoint,
                                    .take = take_shard,
                                    .give = give_shard,
                                    .each = (void (*)(void))each,
                                    .context = context};
    return list(ledger, &listing, err);
}

// ---- batches ----

typedef int (*each_batch)(void *context, const struct ledger_batch *batch);

static int take_batch(struct query *query, union page_row *row, struct buffer *text, struct error *err) {
    (void)text;
    (void)err;
    row->batch = (struct ledger_batch){.number = query_u64(query, 0),
                                       .epoch = query_u64(query, 1),
                                       .problems = (uint32_t)query_i64(query, 2),
                                       .rows = (uint32_t)query_i64(query, 3),
                                       .tokens = query_u64(query, 4),
                                       .squared_lengths = query_f64(query, 5),
                                       .prepare_seconds = query_f64(query, 6),
                                       .wait_seconds = query_f64(query, 7),
                                       .compute_seconds = query_f64(query, 8),
                                       .write_seconds = query_f64(query, 9),
                                       .predicted_seconds = query_f64(query, 10),
                                       .score = query_f64(query, 11),
                                       .memory_bytes = query_u64(query, 12),
                                       .overflowed = query_u64(query, 13)};
    query_device(query, 14, &row->batch.device);
    query_text(query, 14 + LEDGER_FIGURES, row->batch.device_name, sizeof row->batch.device_name);
    return STATUS_OK;
}

static int give_batch(const struct listing *listing, const union page_row *row, const char *text) {
    (void)text;
    return ((each_batch)listing->each)(listing->context, &row->batch);
}

#define BATCH_COLUMNS                                                                                        \
    "SELECT number, epoch, problems, rows, tokens, squared_lengths, prepare_seconds, wait_seconds, "         \
    "compute_seconds, write_seconds, predicted_seconds, score, memory_bytes, overflowed, "
#define BATCH_PAGE " FROM batch WHERE number > ?1 AND checkpoint <= ?2 ORDER BY number LIMIT 256"

int ledger_each_batch(struct ledger *ledger, each_batch each, void *context, struct error *err) {
    const struct listing listing = {.sql = ledger->format >= LEDGER_FORMAT_DEVICES
                                               ? BATCH_COLUMNS LEDGER_FIGURE_COLUMNS ", device" BATCH_PAGE
                                           : ledger->format >= LEDGER_FORMAT_FIGURES
                                               ? BATCH_COLUMNS LEDGER_FIGURE_COLUMNS ", NULL" BATCH_PAGE
                                               : BATCH_COLUMNS LEDGER_FIGURES_MISSING ", NULL" BATCH_PAGE,
                                    .before_first = -1,
                                    .until = ledger->view.checkpoint,
                                    .take = take_batch,
                                    .give = give_batch,
                                    .each = (void (*)(void))each,
                                    .context = context};
    return list(ledger, &listing, err);
}

// ---- launches ----

typedef int (*each_launch)(void *context, const struct ledger_launch_record *launch);

static int take_launch(struct query *query, union page_row *row, struct buffer *text, struct error *err) {
    struct ledger_launch_record *launch = &row->launch;
    (void)text;
    (void)err;
    launch->epoch = query_u64(query, 0);
    launch->started = query_i64(query, 1);
    launch->ended = query_i64(query, 2);
    launch->exit_code = (int)query_i64(query, 3);
    launch->threads = (int)query_i64(query, 4);
    launch->process = query_i64(query, 5);
    query_text(query, 6, launch->host, sizeof launch->host);
    query_text(query, 7, launch->reason, sizeof launch->reason);
    launch->worked = query_i64(query, 8) != 0;
    return STATUS_OK;
}

static int give_launch(const struct listing *listing, const union page_row *row, const char *text) {
    (void)text;
    return ((each_launch)listing->each)(listing->context, &row->launch);
}

#define LAUNCH_COLUMNS "SELECT epoch, started, ended, exit_code, threads, process, host, reason"
#define LAUNCH_PAGE " FROM launch WHERE epoch > ?1 AND epoch <= ?2 ORDER BY epoch LIMIT 256"

int ledger_each_launch(struct ledger *ledger, each_launch each, void *context, struct error *err) {
    const struct listing listing = {.sql = ledger->format >= LEDGER_FORMAT_TOTALS
                                               ? LAUNCH_COLUMNS ", worked" LAUNCH_PAGE
                                               : LAUNCH_COLUMNS ", 1" LAUNCH_PAGE,
                                    .before_first = -1,
                                    .until = ledger->view.launch,
                                    .take = take_launch,
                                    .give = give_launch,
                                    .each = (void (*)(void))each,
                                    .context = context};
    return list(ledger, &listing, err);
}

// ---- events ----

typedef int (*each_event)(void *context, int64_t at, uint64_t epoch, const char *kind, const char *text);

static int take_event(struct query *query, union page_row *row, struct buffer *text, struct error *err) {
    row->event.at = query_i64(query, 1);
    row->event.epoch = query_u64(query, 2);
    TRY(take_text(query, 3, &row->event.kind, text, err));
    return take_text(query, 4, &row->event.text, text, err);
}

static int give_event(const struct listing *listing, const union page_row *row, const char *text) {
    const char *kind = placed(text, &row->event.kind);
    const char *line = placed(text, &row->event.text);
    return ((each_event)listing->each)(listing->context, row->event.at, row->event.epoch,
                                       kind == NULL ? "" : kind, line == NULL ? "" : line);
}

int ledger_each_event(struct ledger *ledger, each_event each, void *context, struct error *err) {
    const struct listing listing = {
        .sql = "SELECT number, at, epoch, kind, text FROM event WHERE number > ?1 AND number <= ?2 "
               "ORDER BY number LIMIT 256",
        .before_first = -1,
        .until = ledger->view.event,
        .take = take_event,
        .give = give_event,
        .each = (void (*)(void))each,
        .context = context};
    return list(ledger, &listing, err);
}

// ---- problems ----

typedef int (*each_problem)(void *context, const struct ledger_problem *problem);

#define PROBLEM_FIELDS                                                                                       \
    " ordinal, id, state, reason, batch, tokens, rows, steps, truncated, place, shard FROM "

// The outcomes under a condition that a reader sees, by ordinal. One that a retry replaced since the reader's
// moment lies in `superseded`: it stands for its problem until an outcome that the reader sees took its
// place.
#define OUTCOMES(condition)                                                                                  \
    "SELECT ordinal," PROBLEM_FIELDS "problem WHERE " condition " AND checkpoint <= ?2 "
#define OUTCOMES_SINCE_REPLACED(condition)                                                                   \
    "UNION ALL SELECT ordinal," PROBLEM_FIELDS "superseded AS s WHERE " condition " AND checkpoint <= ?2 "   \
    "AND NOT EXISTS(SELECT 1 FROM problem AS p WHERE p.ordinal = s.ordinal AND p.checkpoint <= ?2) "         \
    "AND NOT EXISTS(SELECT 1 FROM superseded AS t WHERE t.ordinal = s.ordinal AND "                          \
    "t.checkpoint > s.checkpoint AND t.checkpoint <= ?2) "
#define PAGE_OF_OUTCOMES "ORDER BY 1 LIMIT 256"

// The statement that suits the ledger's format: [without retries, with].
static int choose_outcomes(struct ledger *ledger, const char *const sql[2], const char **chosen,
                           struct error *err) {
    bool retries = false;
    int status = ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &retries, err);
    *chosen = sql[retries];
    return status;
}

// Columns 1 to 11 are PROBLEM_FIELDS; column 0 is the listing's key.
static int take_problem(struct query *query, union page_row *row, struct buffer *text, struct error *err) {
    uint64_t place = query_u64(query, 10);
    row->problem.fields = (struct ledger_problem){.ordinal = query_u64(query, 1),
                                                  .state = (enum problem_state)query_i64(query, 3),
                                                  .batch = query_u64(query, 5),
                                                  .tokens = (uint32_t)query_i64(query, 6),
                                                  .rows = (uint32_t)query_i64(query, 7),
                                                  .steps = (uint32_t)query_i64(query, 8),
                                                  .truncated = query_i64(query, 9) != 0,
                                                  .index = place == UINT64_MAX ? 0 : (uint32_t)place,
                                                  .shard = query_u64(query, 11)};
    TRY(take_text(query, 2, &row->problem.id, text, err));
    return take_text(query, 4, &row->problem.reason, text, err);
}

static struct ledger_problem whole_problem(const union page_row *row, const char *text) {
    struct ledger_problem problem = row->problem.fields;
    problem.id = placed(text, &row->problem.id);
    problem.id_size = row->problem.id.size;
    problem.reason = placed(text, &row->problem.reason);
    return problem;
}

static int give_problem(const struct listing *listing, const union page_row *row, const char *text) {
    struct ledger_problem problem = whole_problem(row, text);
    return ((each_problem)listing->each)(listing->context, &problem);
}

int ledger_each_problem(struct ledger *ledger, const enum problem_state *with_state, each_problem each,
                        void *context, struct error *err) {
    static const char *const all[] = {OUTCOMES("ordinal > ?1") PAGE_OF_OUTCOMES,
                                      OUTCOMES("ordinal > ?1") OUTCOMES_SINCE_REPLACED("ordinal > ?1")
                                          PAGE_OF_OUTCOMES};
    static const char *const some[] = {OUTCOMES("ordinal > ?1 AND state = ?3") PAGE_OF_OUTCOMES,
                                       OUTCOMES("ordinal > ?1 AND state = ?3")
                                           OUTCOMES_SINCE_REPLACED("ordinal > ?1 AND state = ?3")
                                               PAGE_OF_OUTCOMES};
    const char *sql = NULL;
    TRY(choose_outcomes(ledger, with_state == NULL ? all : some, &sql, err));
    const struct listing listing = {.sql = sql,
                                    .before_first = -1,
                                    .until = ledger->view.checkpoint,
                                    .condition = with_state == NULL ? 0 : (int64_t)*with_state,
                                    .take = take_problem,
                                    .give = give_problem,
                                    .each = (void (*)(void))each,
                                    .context = context};
    return list(ledger, &listing, err);
}

int ledger_each_problem_of_shard(struct ledger *ledger, uint64_t shard, each_problem each, void *context,
                                 struct error *err) {
    const struct listing listing = {
        .sql = "SELECT ordinal," PROBLEM_FIELDS
               "problem WHERE checkpoint = (SELECT checkpoint FROM shard WHERE number = ?3 AND "
               "checkpoint <= ?2) AND ordinal > ?1 AND state = 0 ORDER BY ordinal LIMIT 256",
        .before_first = -1,
        .until = ledger->view.checkpoint,
        .condition = (int64_t)shard,
        .take = take_problem,
        .give = give_problem,
        .each = (void (*)(void))each,
        .context = context};
    return list(ledger, &listing, err);
}

int ledger_find_problem(struct ledger *ledger, const char *id, size_t id_size, struct ledger_problem *problem,
                        struct buffer *memory, bool *found, struct error *err) {
    static const char *const sql[] = {OUTCOMES("id = ?1"),
                                      OUTCOMES("id = ?1") OUTCOMES_SINCE_REPLACED("id = ?1")};
    struct query query;
    union page_row row = {0};
    const char *chosen = NULL;
    int status;
    *found = false;
    TRY(choose_outcomes(ledger, sql, &chosen, err));
    query_begin(&query, ledger, chosen);
    query_bind_id(&query, 1, id, id_size);
    query_bind_i64(&query, 2, ledger->view.checkpoint);
    TRY_TO(done, status = query_next(&query, found, err));
    if (*found) {
        TRY_TO(done, status = take_problem(&query, &row, memory, err));
        *problem = whole_problem(&row, memory->data);
    }
done:
    query_end(&query);
    return status;
}
