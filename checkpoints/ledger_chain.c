// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_chain.h"

#include <string.h>

enum { END_OF_ROWS = 99 }; // no type of SQLite's has this number

// Hashes every column of the current row with its type.
static int hash_row(struct digest *digest, sqlite3_stmt *statement, struct error *err) {
    for (int i = 0; i < sqlite3_column_count(statement); i++) {
        int type = sqlite3_column_type(statement, i);
        TRY(digest_number(digest, (uint64_t)type, err));
        uint64_t bits;
        double real;
        switch (type) {
        case SQLITE_INTEGER:
            TRY(digest_number(digest, (uint64_t)sqlite3_column_int64(statement, i), err));
            break;
        case SQLITE_FLOAT:
            real = sqlite3_column_double(statement, i);
            memcpy(&bits, &real, sizeof bits);
            TRY(digest_number(digest, bits, err));
            break;
        case SQLITE_NULL:
            break;
        default:
            TRY(digest_field(digest, sqlite3_column_blob(statement, i),
                             (size_t)sqlite3_column_bytes(statement, i), err));
        }
    }
    return STATUS_OK;
}

// Hashes all rows of a SELECT with the checkpoint's number as its parameter.
static int hash_rows(struct digest *digest, struct ledger *ledger, const char *sql, uint64_t checkpoint,
                     struct error *err) {
    struct query query;
    bool row = false;
    query_begin(&query, ledger, sql);
    if (sqlite3_bind_parameter_count(query.statement) > 0) {
        query_bind_u64(&query, 1, checkpoint);
    }
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    while (row) {
        TRY_TO(done, status = hash_row(digest, query.statement, err));
        TRY_TO(done, status = query_next(&query, &row, err));
    }
done:
    query_end(&query);
    TRY(status);
    return digest_number(digest, END_OF_ROWS, err);
}

// Rows of a checkpoint that its link holds only where it has any, so that the links of formats without them
// stay as they are.
static int hash_if_any(struct digest *digest, struct ledger *ledger, uint64_t checkpoint, const char *count,
                       const char *rows, struct error *err) {
    struct query query;
    bool row = false;
    query_begin(&query, ledger, count);
    query_bind_u64(&query, 1, checkpoint);
    int status = query_next(&query, &row, err);
    bool told = status == STATUS_OK && row && query_i64(&query, 0) > 0;
    query_end(&query);
    return told ? hash_rows(digest, ledger, rows, checkpoint, err) : status;
}

// What devices said of the batches, and which of several computed each. Checkpoints of format 1 have no such
// figures, and neither has one whose devices said nothing.
static int hash_figures(struct digest *digest, struct ledger *ledger, uint64_t checkpoint,
                        struct error *err) {
    bool has = false;
    TRY(ledger_has_format(ledger, LEDGER_FORMAT_FIGURES, &has, err));
    if (has) {
        TRY(hash_if_any(digest, ledger, checkpoint,
                        "SELECT count(*) FROM batch WHERE checkpoint = ?1 AND "
                        "coalesce(" LEDGER_FIGURE_COLUMNS ") IS NOT NULL",
                        "SELECT number, " LEDGER_FIGURE_COLUMNS
                        " FROM batch WHERE checkpoint = ?1 ORDER BY number",
                        err));
    }
    TRY(ledger_has_format(ledger, LEDGER_FORMAT_DEVICES, &has, err));
    return has ? hash_if_any(digest, ledger, checkpoint,
                             "SELECT count(*) FROM batch WHERE checkpoint = ?1 AND device IS NOT NULL",
                             "SELECT number, device FROM batch WHERE checkpoint = ?1 ORDER BY number", err)
               : STATUS_OK;
}

// What a retry tries; other checkpoints have no such rows, and their links are those of format 2.
static int hash_retry(struct digest *digest, struct ledger *ledger, uint64_t checkpoint, struct error *err) {
    static const char source[] = "SELECT checkpoint, problems_sha256 FROM retry_source WHERE checkpoint = ?1";
    static const char all[] = "SELECT checkpoint, ordinal FROM retry WHERE checkpoint = ?1 ORDER BY ordinal";
    struct query query;
    bool row = false;
    query_begin(&query, ledger, source);
    query_bind_u64(&query, 1, checkpoint);
    int status = query_next(&query, &row, err);
    query_end(&query);
    if (status != STATUS_OK || !row) {
        return status;
    }
    TRY(hash_rows(digest, ledger, source, checkpoint, err));
    return hash_rows(digest, ledger, all, checkpoint, err);
}

// An outcome that a retry replaced still belongs to the checkpoint that acknowledged it.
#define PROBLEMS_FROM(table)                                                                                 \
    "SELECT ordinal, id, state, reason, batch, place, tokens, rows, steps, truncated, shard FROM " table     \
    " WHERE checkpoint = ?1 "
static const char problems_alone[] = PROBLEMS_FROM("problem") "ORDER BY ordinal";
static const char problems_and_superseded[] =
    PROBLEMS_FROM("problem") "UNION ALL " PROBLEMS_FROM("superseded") "ORDER BY ordinal";

int ledger_link(struct ledger *ledger, uint64_t checkpoint, const char previous[DIGEST_HEX],
                char hex[DIGEST_HEX], struct error *err) {
    bool retries = false;
    TRY(ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &retries, err));
    const char *const first[] = {"SELECT place, key, value FROM identity ORDER BY place",
                                 "SELECT * FROM survey"};
    const char *const later[] = {
        "SELECT number, at, epoch, shards, batches, window, window_batch, finished FROM checkpoint WHERE "
        "number = ?1",
        "SELECT number, name, sha256, bytes, problems, rows, tokens, first_batch, batches, sealed_at FROM "
        "shard "
        "WHERE checkpoint = ?1 ORDER BY number",
        retries ? problems_and_superseded : problems_alone,
        "SELECT number, epoch, problems, rows, tokens, squared_lengths, prepare_seconds, wait_seconds, "
        "compute_seconds, write_seconds, predicted_seconds, score, memory_bytes, overflowed, checkpoint "
        "FROM batch WHERE checkpoint = ?1 ORDER BY number",
    };
    const char *const *parts = checkpoint == 0 ? first : later;
    size_t count = checkpoint == 0 ? sizeof first / sizeof first[0] : sizeof later / sizeof later[0];
    struct digest *digest = NULL;
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    if (checkpoint > 0) {
        TRY_TO(done, status = digest_field(digest, previous, DIGEST_HEX - 1, err));
    }
    for (size_t i = 0; i < count; i++) {
        TRY_TO(done, status = hash_rows(digest, ledger, parts[i], checkpoint, err));
    }
    if (checkpoint > 0) {
        TRY_TO(done, status = hash_figures(digest, ledger, checkpoint, err));
    }
    if (checkpoint > 0 && retries) {
        TRY_TO(done, status = hash_retry(digest, ledger, checkpoint, err));
    }
    TRY_TO(done, status = digest_finish(digest, hex, err));
done:
    digest_destroy(digest);
    return status;
}

struct link {
    uint64_t number;
    char chain[DIGEST_HEX];
    char shard[64]; // name of its shard, or empty
    bool sound;     // what the hash does not cover: its own length, and the first checkpoint's zeros
};

// Links from `first` on, by number; *found false at the end. A gap in the numbers is a broken chain.
static int read_link(struct ledger *ledger, uint64_t first, struct link *link, bool *found,
                     struct error *err) {
    struct query query;
    query_begin(
        &query, ledger,
        "SELECT c.number, c.chain, ifnull((SELECT name FROM shard WHERE shard.checkpoint = c.number "
        "LIMIT 1), ''), "
        "length(c.chain) = 64 AND (c.number > 0 OR (c.shards = 0 AND c.batches = 0 AND c.window = 0 AND "
        "c.window_batch = 0 AND c.finished = 0)) FROM checkpoint AS c WHERE c.number >= ?1 ORDER BY c.number "
        "LIMIT 1");
    query_bind_u64(&query, 1, first);
    int status = query_next(&query, found, err);
    if (status == STATUS_OK && *found) {
        link->number = query_u64(&query, 0);
        query_text(&query, 1, link->chain, sizeof link->chain);
        query_text(&query, 2, link->shard, sizeof link->shard);
        link->sound = query_i64(&query, 3) != 0;
    }
    query_end(&query);
    if (status == STATUS_OK && *found && link->number != first) {
        return error_set(err, STATUS_DATA, "ledger %s: checkpoint %llu is missing", ledger->path,
                         (unsigned long long)first);
    }
    return status;
}

static int check_link(struct ledger *ledger, const struct link *link, const char previous[DIGEST_HEX],
                      struct error *err) {
    char hex[DIGEST_HEX];
    TRY(ledger_link(ledger, link->number, previous, hex, err));
    if (!link->sound || strcmp(hex, link->chain) != 0) {
        const char *shard = link->shard[0] != 0 ? link->shard
                            : link->number == 0 ? "identity and survey"
                                                : "no shard";
        return error_set(err, STATUS_DATA,
                         "ledger %s: the rows of checkpoint %llu (%s) are not those that were written",
                         ledger->path, (unsigned long long)link->number, shard);
    }
    return STATUS_OK;
}

int ledger_check_tail(struct ledger *ledger, struct error *err) {
    int64_t last = 0;
    int64_t count = 0;
    struct link link = {0};
    struct link before = {0};
    bool found = false;
    TRY(ledger_number(ledger, "SELECT count(*) FROM checkpoint", &count, err));
    if (count == 0) {
        return STATUS_OK;
    }
    TRY(ledger_number(ledger, "SELECT max(number) FROM checkpoint", &last, err));
    if (last > 0) {
        TRY(read_link(ledger, (uint64_t)last - 1, &before, &found, err));
    }
    TRY(read_link(ledger, (uint64_t)last, &link, &found, err));
    return check_link(ledger, &link, before.chain, err);
}

struct stray_rule {
    const char *sql; // counts rows that should not be
    const char *what;
};

static int check_rules(struct ledger *ledger, const struct stray_rule *rules, size_t count,
                       struct error *err) {
    for (size_t i = 0; i < count; i++) {
        int64_t strays = 0;
        TRY(ledger_number(ledger, rules[i].sql, &strays, err));
        if (strays != 0) {
            return error_set(err, STATUS_DATA, "ledger %s: %lld %s", ledger->path, (long long)strays,
                             rules[i].what);
        }
    }
    return STATUS_OK;
}

// Every row belongs to a checkpoint that is there; rows of none would escape the links (invariant 9). And an
// outcome is set aside only for a later one.
static int check_strays(struct ledger *ledger, struct error *err) {
// Each is one statement, of the moment it runs: checkpoints that came since the reader's have their rows. Two
// ends of an index, which takes no time, so that nobody waits for it.
#define STRAYS_IN(table)                                                                                     \
    {                                                                                                        \
        "SELECT (SELECT count(*) FROM " table " WHERE checkpoint < 1) + (SELECT count(*) FROM " table        \
        " WHERE checkpoint > (SELECT ifnull(max(number), 0) FROM checkpoint))",                              \
            "rows belong to no checkpoint"                                                                   \
    }
    static const struct stray_rule rules[] = {STRAYS_IN("problem"), STRAYS_IN("shard"), STRAYS_IN("batch")};
    static const struct stray_rule of_retries[] = {
        STRAYS_IN("superseded"),
        STRAYS_IN("retry_source"),
        {"SELECT count(*) FROM retry WHERE checkpoint NOT IN (SELECT checkpoint FROM retry_source)",
         "rows belong to no retry"},
        {"SELECT count(*) FROM superseded AS s WHERE s.state <> 1 OR NOT EXISTS (SELECT 1 FROM problem AS p "
         "WHERE p.ordinal = s.ordinal AND p.id = s.id AND p.checkpoint > s.checkpoint)",
         "outcomes were set aside and nothing took their place"},
    };
    bool retries = false;
    TRY(check_rules(ledger, rules, sizeof rules / sizeof rules[0], err));
    TRY(ledger_has_format(ledger, LEDGER_FORMAT_RETRIES, &retries, err));
    return retries ? check_rules(ledger, of_retries, sizeof of_retries / sizeof of_retries[0], err)
                   : STATUS_OK;
}

int ledger_check_pages(struct ledger *ledger, struct error *err) {
    struct query query;
    bool row = false;
    char text[256] = "";
    query_begin(&query, ledger, "PRAGMA integrity_check(1)");
    int status = query_next(&query, &row, err);
    if (status == STATUS_OK && row) {
        query_text(&query, 0, text, sizeof text);
    }
    query_end(&query);
    if (status == STATUS_OK && strcmp(text, "ok") != 0) {
        text[strcspn(text, "\n")] = 0;
        ledger_clean_text(text);
        return error_set(err, STATUS_DATA, "ledger %s is damaged: %s", ledger->path, text);
    }
    return status;
}

int ledger_check_chain(struct ledger *ledger, struct error *err) {
    struct link link = {0};
    char previous[DIGEST_HEX] = "";
    bool found = false;
    uint64_t number = 0;
    TRY(read_link(ledger, 0, &link, &found, err));
    while (found) {
        TRY(check_link(ledger, &link, previous, err));
        memcpy(previous, link.chain, sizeof previous);
        found = (int64_t)++number <= ledger->view.checkpoint;
        if (found) {
            TRY(read_link(ledger, number, &link, &found, err));
        }
    }
    return check_strays(ledger, err);
}
