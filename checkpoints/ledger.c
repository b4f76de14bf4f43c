// SPDX-License-Identifier: MIT
// Opening and closing the ledger, and its schema.
#include "checkpoints/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/folder_content.h"
#include "checkpoints/ledger_chain.h"
#include "checkpoints/ledger_rescue.h"
#include "checkpoints/ledger_totals.h"
#include "checkpoints/run_folder.h"

enum {
    APPLICATION = 0x53545241, // "STRA"
    BUSY_MILLISECONDS = 5000,
    HURRIED_MILLISECONDS = 500
};

// Format 1, which later formats add to. Ids and ordinals are unique, and so are batch numbers and shard
// names: nothing can be recorded twice.
static const char schema[] =
    "CREATE TABLE identity(place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);"
    "CREATE TABLE note(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE survey(one INTEGER PRIMARY KEY CHECK(one = 1), problems INTEGER NOT NULL, texts INTEGER "
    "NOT NULL,"
    " tokens INTEGER NOT NULL, rows INTEGER NOT NULL, batches INTEGER NOT NULL, squared_lengths REAL NOT "
    "NULL,"
    " longest INTEGER NOT NULL, truncated INTEGER NOT NULL, problems_sha256 TEXT NOT NULL);"
    "CREATE TABLE launch(epoch INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT "
    "0,"
    " exit_code INTEGER NOT NULL DEFAULT -1, threads INTEGER NOT NULL, process INTEGER NOT NULL, host TEXT "
    "NOT NULL,"
    " reason TEXT NOT NULL DEFAULT '');"
    "CREATE TABLE checkpoint(number INTEGER PRIMARY KEY, at INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " shards INTEGER NOT NULL, batches INTEGER NOT NULL, window INTEGER NOT NULL, window_batch INTEGER NOT "
    "NULL,"
    " finished INTEGER NOT NULL, chain TEXT NOT NULL);"
    "CREATE TABLE shard(number INTEGER PRIMARY KEY, checkpoint INTEGER NOT NULL UNIQUE, name TEXT NOT NULL "
    "UNIQUE,"
    " sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, problems INTEGER NOT NULL, rows INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL, first_batch INTEGER NOT NULL, batches INTEGER NOT NULL, sealed_at INTEGER NOT "
    "NULL);"
    "CREATE TABLE problem(ordinal INTEGER PRIMARY KEY, id NOT NULL UNIQUE, state INTEGER NOT NULL, reason "
    "TEXT,"
    " batch INTEGER, shard INTEGER, place INTEGER, tokens INTEGER NOT NULL, rows INTEGER NOT NULL,"
    " steps INTEGER NOT NULL, truncated INTEGER NOT NULL, checkpoint INTEGER NOT NULL);"
    "CREATE INDEX problem_checkpoint ON problem(checkpoint);"
    "CREATE TABLE batch(number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, problems INTEGER NOT NULL,"
    " rows INTEGER NOT NULL, tokens INTEGER NOT NULL, squared_lengths REAL, prepare_seconds REAL, "
    "wait_seconds REAL,"
    " compute_seconds REAL, write_seconds REAL, predicted_seconds REAL, score REAL, memory_bytes INTEGER,"
    " overflowed INTEGER NOT NULL, checkpoint INTEGER NOT NULL);"
    "CREATE INDEX batch_checkpoint ON batch(checkpoint);"
    "CREATE TABLE partial(one INTEGER PRIMARY KEY CHECK(one = 1), shard INTEGER NOT NULL, name TEXT NOT NULL,"
    " sha256 TEXT NOT NULL, batches INTEGER NOT NULL, record BLOB NOT NULL);"
    "CREATE TABLE progress(one INTEGER PRIMARY KEY CHECK(one = 1), epoch INTEGER, updated INTEGER, stage "
    "TEXT,"
    " batches INTEGER, problems INTEGER, tokens INTEGER, rows INTEGER, seconds REAL, tokens_per_second REAL,"
    " score REAL, drift TEXT, memory_bytes INTEGER, loaded_bytes INTEGER, load_bytes INTEGER);"
    "CREATE TABLE event(number INTEGER PRIMARY KEY, at INTEGER NOT NULL, epoch INTEGER NOT NULL, kind TEXT "
    "NOT NULL,"
    " text TEXT NOT NULL);"
    "PRAGMA application_id = 1398035009;"
    "PRAGMA user_version = 1;";

// Format 2: what the device said of itself (struct ledger_device). Columns that are added last and hold NULL
// in older rows leave the chain of those rows as it is.
#define FIGURES_OF(table)                                                                                    \
    "ALTER TABLE " table " ADD COLUMN upload_seconds REAL;"                                                  \
    "ALTER TABLE " table " ADD COLUMN device_seconds REAL;"                                                  \
    "ALTER TABLE " table " ADD COLUMN download_seconds REAL;"                                                \
    "ALTER TABLE " table " ADD COLUMN memory_used INTEGER;"                                                  \
    "ALTER TABLE " table " ADD COLUMN process_memory INTEGER;"                                               \
    "ALTER TABLE " table " ADD COLUMN utilization INTEGER;"                                                  \
    "ALTER TABLE " table " ADD COLUMN sm_clock INTEGER;"                                                     \
    "ALTER TABLE " table " ADD COLUMN power REAL;"                                                           \
    "ALTER TABLE " table " ADD COLUMN temperature INTEGER;"                                                  \
    "ALTER TABLE " table " ADD COLUMN throttle_reasons INTEGER;"                                             \
    "ALTER TABLE " table " ADD COLUMN pcie_received REAL;"                                                   \
    "ALTER TABLE " table " ADD COLUMN pcie_sent REAL;"                                                       \
    "ALTER TABLE " table " ADD COLUMN xid INTEGER;"

// Format 3: sums kept with each checkpoint (ledger_totals.c); which launches worked on the run, and the live
// state of one that is still at its start, which leaves that of the others alone (ledger_live.c).
#define LAUNCHES                                                                                             \
    "ALTER TABLE launch ADD COLUMN worked INTEGER NOT NULL DEFAULT 1;"                                       \
    "CREATE TABLE start(one INTEGER PRIMARY KEY CHECK(one = 1), epoch INTEGER, updated INTEGER, stage TEXT," \
    " batches INTEGER, problems INTEGER, tokens INTEGER, rows INTEGER, seconds REAL, tokens_per_second "     \
    "REAL,"                                                                                                  \
    " score REAL, drift TEXT, memory_bytes INTEGER, loaded_bytes INTEGER, load_bytes INTEGER);"
// And retries. Which problems each tries and the hash of the rows it reads them from, by the checkpoint
// that began it; and the failed outcomes that newer ones replaced, as they stood in `problem`.
#define RETRIES                                                                                              \
    "CREATE TABLE retry(checkpoint INTEGER NOT NULL, ordinal INTEGER NOT NULL,"                              \
    " PRIMARY KEY(checkpoint, ordinal)) WITHOUT ROWID;"                                                      \
    "CREATE TABLE retry_source(checkpoint INTEGER PRIMARY KEY, problems_sha256 TEXT NOT NULL);"              \
    "CREATE TABLE superseded(ordinal INTEGER NOT NULL, id NOT NULL, state INTEGER NOT NULL, reason TEXT,"    \
    " batch INTEGER, shard INTEGER, place INTEGER, tokens INTEGER NOT NULL, rows INTEGER NOT NULL,"          \
    " steps INTEGER NOT NULL, truncated INTEGER NOT NULL, checkpoint INTEGER NOT NULL,"                      \
    " UNIQUE(ordinal, checkpoint));"                                                                         \
    "CREATE INDEX superseded_checkpoint ON superseded(checkpoint, ordinal);"                                 \
    "CREATE INDEX problem_failed ON problem(ordinal) WHERE state = 1;"

// Format 4: which of several devices computed a batch.
#define DEVICES "ALTER TABLE batch ADD COLUMN device TEXT;"

// What leads from each format to the next, the first from 1 to 2. Rows that are there stay as they are.
static const char *const raises[] = {
    FIGURES_OF("batch") FIGURES_OF("progress") "PRAGMA user_version = 2;",
    LAUNCHES FIGURES_OF("start") RETRIES LEDGER_TOTALS_TABLE "PRAGMA user_version = 3;",
    DEVICES "PRAGMA user_version = 4;",
};
_Static_assert(sizeof raises / sizeof raises[0] == LEDGER_FORMAT - 1, "one step for each format");

static int set_up(struct ledger *ledger, int flags, struct error *err) {
    TRY(file_check_own_database(ledger->path, err));
    // Of a copy, which is replaced and never written to, nobody holds a lock; its file system may have none.
    const char *files = ledger->is_copy ? "unix-none" : NULL;
    if (sqlite3_open_v2(ledger->path, &ledger->db, flags, files) != SQLITE_OK) {
        return ledger->db == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for SQLite")
                                  : ledger_failed(ledger, "cannot be opened", err);
    }
    sqlite3_extended_result_codes(ledger->db, 1);
    sqlite3_busy_timeout(ledger->db, ledger->read_only ? 1000 * LEDGER_READER_SECONDS : BUSY_MILLISECONDS);
    // Sorting in memory: a run directory holds nothing but its own files.
    return ledger_execute(
        ledger, "PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON", err);
}

int ledger_connect(struct ledger *ledger, struct error *err) {
    sqlite3_close_v2(ledger->db);
    ledger->db = NULL;
    TRY(set_up(ledger, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_PRIVATECACHE, err));
    // DELETE with EXTRA: the folder is synced after the journal is gone, which is what makes a commit survive
    // a power cut.
    return ledger_execute(ledger, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA", err);
}

static int check_format(struct ledger *ledger, int64_t *tables, struct error *err) {
    int64_t application = 0;
    int status;
    TRY_TO(done, status = ledger_number(ledger, "SELECT count(*) FROM sqlite_master", tables, err));
    TRY_TO(done, status = ledger_number(ledger, "PRAGMA application_id", &application, err));
    TRY_TO(done, status = ledger_number(ledger, "PRAGMA user_version", &ledger->format, err));
done:
    if (status != STATUS_OK || (*tables == 0 && application == 0 && ledger->format == 0)) {
        return status;
    }
    if (application != APPLICATION) {
        return error_set(err, STATUS_DATA, "%s is a database, but not a ledger", ledger->path);
    }
    if (ledger->format < 1 || ledger->format > LEDGER_FORMAT) {
        return error_set(err, STATUS_DATA, "ledger %s has format %lld; this program knows 1 to %d",
                         ledger->path, (long long)ledger->format, LEDGER_FORMAT);
    }
    return STATUS_OK;
}

static int write_format(struct ledger *ledger, bool empty, struct error *err) {
    if (empty) {
        TRY(ledger_execute(ledger, schema, err));
    }
    for (int64_t format = empty ? 1 : ledger->format; format < LEDGER_FORMAT; format++) {
        TRY(ledger_execute(ledger, raises[format - 1], err));
    }
    return STATUS_OK;
}

// Makes an empty file a ledger, or raises an older one, whose rows stay as they are: in one transaction.
static int raise_format(struct ledger *ledger, bool empty, struct error *err) {
    if (!empty && ledger->format == LEDGER_FORMAT) {
        return STATUS_OK;
    }
    TRY(ledger_execute_patiently(ledger, "BEGIN IMMEDIATE", err));
    TRY(ledger_transaction_end(ledger, write_format(ledger, empty, err), err));
    ledger->format = LEDGER_FORMAT;
    return STATUS_OK;
}

static int begin_open(struct ledger **out, const char *folder, struct error *err) {
    void *block = NULL;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct ledger *ledger = block;
    int status = run_folder_file(ledger->path, folder, "ledger.sqlite", err);
    if (status != STATUS_OK) {
        free(ledger);
        return status;
    }
    ledger->view = (struct ledger_view){INT64_MAX, INT64_MAX, INT64_MAX};
    *out = ledger;
    return STATUS_OK;
}

// No shard is written before the ledger has its identity: a ledger without one beside shards took the place
// of one that was lost, and would have every shard swept away as unknown (invariant 8).
static int refuse_lost_ledger(const char *folder, struct error *err) {
    char shard[RUN_FOLDER_NAME];
    TRY(folder_content_shard(shard, folder, err));
    if (shard[0] != 0) {
        return error_set(err, STATUS_DATA,
                         "%s has shards/%s and no record of a run: its ledger.sqlite was lost; restore the "
                         "ledger, or move the folder away to start anew",
                         folder, shard);
    }
    return STATUS_OK;
}

static int check_not_lost(struct ledger *ledger, const char *folder, struct error *err) {
    int64_t facts = 0;
    TRY(ledger_number(ledger, "SELECT count(*) FROM identity", &facts, err));
    return facts == 0 ? refuse_lost_ledger(folder, err) : STATUS_OK;
}

int ledger_open(struct ledger **out, const char *folder, struct error *err) {
    struct ledger *ledger;
    int64_t tables = 0;
    int64_t epoch = 0;
    TRY(begin_open(out, folder, err));
    ledger = *out;
    // Before SQLite makes the file, and drops a journal that lies beside an empty one.
    int status;
    if (folder_content_lacks_ledger(folder)) {
        TRY_TO(done, status = refuse_lost_ledger(folder, err));
    }
    TRY_TO(done, status = ledger_connect(ledger, err));
    TRY_TO(done, status = check_format(ledger, &tables, err));
    if (tables == 0) {
        TRY_TO(done, status = raise_format(ledger, true, err));
    }
    TRY_TO(done, status = check_not_lost(ledger, folder, err));
    TRY_TO(done, status = ledger_check_tail(ledger, err));
    TRY_TO(done, status = raise_format(ledger, false, err));
    TRY_TO(done, status = ledger_number(ledger, "SELECT ifnull(max(epoch), 0) FROM launch", &epoch, err));
done:
    if (status != STATUS_OK) {
        ledger_close(ledger);
        *out = NULL;
        return status;
    }
    ledger->epoch = (uint64_t)epoch;
    return STATUS_OK;
}

// Opens and reads one page, which shows whether SQLite can make sense of the file without writing to it.
static int probe(struct ledger *ledger, int flags, struct error *err) {
    int64_t tables;
    sqlite3_close_v2(ledger->db);
    ledger->db = NULL;
    TRY(set_up(ledger, flags | SQLITE_OPEN_PRIVATECACHE, err));
    return check_format(ledger, &tables, err);
}

// A runner killed within a transaction leaves its journal behind, and the pages it had written must be taken
// back before anything can be read. Whoever may write does it (SQLite's locks keep a live runner apart);
// others read a private copy.
static int open_past_journal(struct ledger *ledger, struct error *err) {
    if (ledger_rescue_permitted(ledger)) {
        if (probe(ledger, SQLITE_OPEN_READWRITE, err) == STATUS_OK) {
            return probe(ledger, SQLITE_OPEN_READONLY, err);
        }
    }
    TRY(ledger_rescue_copy(ledger, err));
    return probe(ledger, SQLITE_OPEN_READWRITE, err);
}

static int probe_or_rescue(struct ledger *ledger, struct error *err) {
    int status = probe(ledger, SQLITE_OPEN_READONLY, err);
    return status != STATUS_OK && ledger_rescue_needed(ledger) ? open_past_journal(ledger, err) : status;
}

// One statement, so that the numbers belong to one moment of a running run. What a checkpoint acknowledged
// never changes: all that a reader is told later is of this moment, without a lock that would keep the runner
// from its commits (invariant 12).
static int take_view(struct ledger *ledger, struct error *err) {
    struct query query;
    bool row = false;
    query_begin(&query, ledger,
                "SELECT (SELECT user_version FROM pragma_user_version),"
                " (SELECT ifnull(max(number), -1) FROM checkpoint),"
                " (SELECT ifnull(max(number), 0) FROM event), (SELECT ifnull(max(epoch), 0) FROM launch)");
    int status;
    TRY_TO(done, status = query_next(&query, &row, err));
    if (row) {
        ledger->format = query_i64(&query, 0);
        ledger->view = (struct ledger_view){query_i64(&query, 1), query_i64(&query, 2), query_i64(&query, 3)};
    }
done:
    query_end(&query);
    return status;
}

int ledger_open_file(struct ledger **out, const struct ledger_source *source, int64_t *tables,
                     struct error *err) {
    struct ledger *ledger;
    TRY(begin_open(out, source->folder, err));
    ledger = *out;
    ledger->read_only = true;
    ledger->is_copy = source->is_copy;
    ledger->for_runner = source->for_runner;
    int status;
    if (!file_exists(ledger->path)) {
        status = error_set(err, STATUS_DATA, "there is no ledger in %s", source->folder);
        goto done;
    }
    TRY_TO(done, status = probe_or_rescue(ledger, err));
    status = check_format(ledger, tables, err);
done:
    if (status != STATUS_OK) {
        ledger_close(ledger);
        *out = NULL;
    }
    return status;
}

int ledger_open_read(struct ledger **out, const char *folder, struct error *err) {
    struct ledger_source source;
    int64_t tables = 0;
    *out = NULL;
    TRY(ledger_place_find(&source, folder, err));
    TRY(run_folder_check(folder, err));
    if (source.none) {
        return error_set(err, STATUS_DATA, "%s has no copy of its ledger: %s; look from there", folder,
                         source.elsewhere);
    }
    TRY(ledger_open_file(out, &source, &tables, err));
    struct ledger *ledger = *out;
    int status;
    snprintf(ledger->elsewhere, sizeof ledger->elsewhere, "%s", source.elsewhere);
    if (tables == 0) {
        status = error_set(err, STATUS_DATA, "the ledger in %s is empty: no run has begun there", folder);
        goto done;
    }
    TRY_TO(done, status = ledger_execute(ledger, "PRAGMA query_only = ON", err));
    TRY_TO(done, status = take_view(ledger, err));
done:
    if (status != STATUS_OK) {
        ledger_close(ledger);
        *out = NULL;
    }
    return status;
}

const char *ledger_elsewhere(const struct ledger *ledger) {
    return ledger->elsewhere;
}

const char *ledger_path(const struct ledger *ledger) {
    return ledger->path;
}

int ledger_read_begin(struct ledger *ledger, struct error *err) {
    TRY(ledger_execute(ledger, "BEGIN", err));
    return take_view(ledger, err);
}

int ledger_read_end(struct ledger *ledger, struct error *err) {
    return ledger_execute(ledger, "COMMIT", err);
}

void ledger_hurry(struct ledger *ledger) {
    ledger->hurried = true;
    sqlite3_busy_timeout(ledger->db, HURRIED_MILLISECONDS);
}

void ledger_close(struct ledger *ledger) {
    if (ledger == NULL) {
        return;
    }
    sqlite3_close_v2(ledger->db);
    ledger_rescue_end(ledger);
    free(ledger);
}
