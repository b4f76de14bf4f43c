// SPDX-License-Identifier: MIT
#include "checkpoints/survey_file.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/file.h"
#include "base/shortage.h"

// No lock is taken: what is read never changes, and what is written nobody else has.
#define NO_LOCKS "unix-none"

enum { FORMAT = 1, APPLICATION = 0x53545356 };

struct connection {
    sqlite3 *db;
    const char *path;
    int kind; // of its errors
};

static int fail(const struct connection *connection, struct error *err) {
    bool shortage = sqlite_is_shortage(connection->db, sqlite3_extended_errcode(connection->db));
    return error_set(err, shortage ? STATUS_INTERNAL : connection->kind, "%s: %s", connection->path,
                     sqlite3_errmsg(connection->db));
}

static int connect(struct connection *connection, int flags, struct error *err) {
    TRY(file_check_own(connection->path, err));
    if (sqlite3_open_v2(connection->path, &connection->db, flags | SQLITE_OPEN_NOMUTEX, NO_LOCKS) !=
        SQLITE_OK) {
        return connection->db == NULL ? error_set(err, STATUS_INTERNAL, "%s: out of memory", connection->path)
                                      : fail(connection, err);
    }
    return STATUS_OK;
}

static int prepare(const struct connection *connection, sqlite3_stmt **out, const char *sql,
                   struct error *err) {
    return sqlite3_prepare_v2(connection->db, sql, -1, out, NULL) == SQLITE_OK ? STATUS_OK
                                                                               : fail(connection, err);
}

// ---- the hash of it all ----

static int digest_text(struct digest *digest, const char *text, struct error *err) {
    return digest_field(digest, text, strlen(text), err);
}

static int digest_blocks(struct digest *digest, const struct row_blocks *blocks, struct error *err) {
    const uint64_t numbers[] = {blocks->count, blocks->rows, blocks->per_block, blocks->enters};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        TRY(digest_number(digest, numbers[i], err));
    }
    for (size_t i = 0; i < blocks->count; i++) {
        const struct row_block *block = &blocks->blocks[i];
        TRY(digest_number(digest, (uint64_t)block->rowid, err));
        TRY(digest_number(digest, block->bytes, err));
        TRY(digest_text(digest, block->sha256, err));
    }
    return STATUS_OK;
}

static int hash(const struct survey_file *survey, char hex[DIGEST_HEX], struct error *err) {
    struct digest *digest = NULL;
    char identity[DIGEST_HEX];
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = digest_text(digest, survey->problems_sha256, err));
    TRY_TO(done, status = digest_text(digest, survey->ids_sha256, err));
    TRY_TO(done, status = digest_blocks(digest, &survey->blocks, err));
    TRY_TO(done, status = identity_hash(&survey->identity, identity, err));
    TRY_TO(done, status = digest_text(digest, identity, err));
    status = digest_finish(digest, hex, err);
done:
    digest_destroy(digest);
    return status;
}

int survey_file_hash(struct survey_file *survey, struct error *err) {
    return hash(survey, survey->sha256, err);
}

// ---- writing ----

static const char schema[] =
    "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA application_id=1398035286; PRAGMA "
    "user_version=1;"
    "CREATE TABLE survey (problems INTEGER, problems_sha256 TEXT, ids_sha256 TEXT, blocks INTEGER,"
    " rows_per_block INTEGER, enters INTEGER, sha256 TEXT);"
    "CREATE TABLE identity (place INTEGER PRIMARY KEY, key TEXT, value TEXT);"
    "CREATE TABLE block (number INTEGER PRIMARY KEY, rowid_of_first INTEGER, bytes INTEGER, sha256 TEXT);"
    "BEGIN";
_Static_assert(APPLICATION == 1398035286, "the schema names another application");

static int run(const struct connection *connection, sqlite3_stmt *statement, struct error *err) {
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? STATUS_OK : fail(connection, err);
}

static int write_totals(const struct connection *connection, const struct survey_file *survey,
                        struct error *err) {
    sqlite3_stmt *statement = NULL;
    TRY(prepare(connection, &statement, "INSERT INTO survey VALUES(?,?,?,?,?,?,?)", err));
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)survey->blocks.rows);
    sqlite3_bind_text(statement, 2, survey->problems_sha256, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, survey->ids_sha256, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 4, (sqlite3_int64)survey->blocks.count);
    sqlite3_bind_int64(statement, 5, (sqlite3_int64)survey->blocks.per_block);
    sqlite3_bind_int(statement, 6, survey->blocks.enters);
    sqlite3_bind_text(statement, 7, survey->sha256, -1, SQLITE_STATIC);
    int status = run(connection, statement, err);
    sqlite3_finalize(statement);
    return status;
}

static int write_identity(const struct connection *connection, const struct identity *identity,
                          struct error *err) {
    sqlite3_stmt *statement = NULL;
    int status;
    TRY(prepare(connection, &statement, "INSERT INTO identity VALUES(?,?,?)", err));
    for (size_t i = 0; i < identity->count; i++) {
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)i);
        sqlite3_bind_text(statement, 2, identity->entries[i].key, -1, SQLITE_STATIC);
        sqlite3_bind_text(statement, 3, identity->entries[i].value, -1, SQLITE_STATIC);
        TRY_TO(done, status = run(connection, statement, err));
    }
    status = STATUS_OK;
done:
    sqlite3_finalize(statement);
    return status;
}

static int write_blocks(const struct connection *connection, const struct row_blocks *blocks,
                        struct error *err) {
    sqlite3_stmt *statement = NULL;
    int status;
    TRY(prepare(connection, &statement, "INSERT INTO block VALUES(?,?,?,?)", err));
    for (size_t i = 0; i < blocks->count; i++) {
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)i);
        sqlite3_bind_int64(statement, 2, blocks->blocks[i].rowid);
        sqlite3_bind_int64(statement, 3, (sqlite3_int64)blocks->blocks[i].bytes);
        sqlite3_bind_text(statement, 4, blocks->blocks[i].sha256, -1, SQLITE_STATIC);
        TRY_TO(done, status = run(connection, statement, err));
    }
    status = STATUS_OK;
done:
    sqlite3_finalize(statement);
    return status;
}

static int execute(const struct connection *connection, const char *sql, struct error *err) {
    return sqlite3_exec(connection->db, sql, NULL, NULL, NULL) == SQLITE_OK ? STATUS_OK
                                                                            : fail(connection, err);
}

static int write_aside(const struct survey_file *survey, const char *path, struct error *err) {
    struct connection connection = {.path = path, .kind = STATUS_WRITE};
    int status;
    TRY_TO(done, status = file_remove(path, err));
    TRY_TO(done, status = connect(&connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err));
    TRY_TO(done, status = execute(&connection, schema, err));
    TRY_TO(done, status = write_totals(&connection, survey, err));
    TRY_TO(done, status = write_identity(&connection, &survey->identity, err));
    TRY_TO(done, status = write_blocks(&connection, &survey->blocks, err));
    status = execute(&connection, "COMMIT", err);
done:
    sqlite3_close(connection.db);
    return status;
}

// Two parts may write the same survey at once where no lock holds: each has a file of its own aside.
int survey_file_write(struct survey_file *survey, const char *path, struct error *err) {
    char aside[PATH_SIZE];
    int status;
    TRY(aside_name(aside, path, err));
    TRY(survey_file_hash(survey, err));
    TRY_TO(done, status = write_aside(survey, aside, err));
    TRY_TO(done, status = file_sync(aside, err));
    status = file_publish(aside, path, err);
done:
    if (status != STATUS_OK) {
        unlink(aside);
    }
    return status;
}

// ---- reading ----

static void take_text(char *out, size_t size, sqlite3_stmt *statement, int column) {
    const unsigned char *text = sqlite3_column_text(statement, column);
    snprintf(out, size, "%s", text == NULL ? "" : (const char *)text);
}

static int damaged(const struct connection *connection, struct error *err) {
    return error_set(err, STATUS_DATA, "%s is damaged, or no survey: remove it and run strata survey again",
                     connection->path);
}

static int next_row(const struct connection *connection, sqlite3_stmt *statement, bool *row,
                    struct error *err) {
    int code = sqlite3_step(statement);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : fail(connection, err);
}

static int read_number(const struct connection *connection, const char *sql, int64_t *number,
                       struct error *err) {
    sqlite3_stmt *statement = NULL;
    TRY(prepare(connection, &statement, sql, err));
    bool found = false;
    int status = next_row(connection, statement, &found, err);
    *number = found ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return status;
}

static int check_format(const struct connection *connection, struct error *err) {
    int64_t application = 0;
    int64_t format = 0;
    TRY(read_number(connection, "PRAGMA application_id", &application, err));
    TRY(read_number(connection, "PRAGMA user_version", &format, err));
    if (application != APPLICATION) {
        return damaged(connection, err);
    }
    return format == FORMAT ? STATUS_OK
                            : error_set(err, STATUS_DATA, "%s has format %lld; this program knows %d",
                                        connection->path, (long long)format, FORMAT);
}

// How many blocks there are, too.
static int read_totals(const struct connection *connection, struct survey_file *survey, struct error *err) {
    sqlite3_stmt *statement = NULL;
    TRY(prepare(
        connection, &statement,
        "SELECT problems, problems_sha256, ids_sha256, blocks, rows_per_block, enters, sha256 FROM survey",
        err));
    bool found = false;
    int status = next_row(connection, statement, &found, err);
    if (found) {
        survey->blocks.rows = (uint64_t)sqlite3_column_int64(statement, 0);
        take_text(survey->problems_sha256, sizeof survey->problems_sha256, statement, 1);
        take_text(survey->ids_sha256, sizeof survey->ids_sha256, statement, 2);
        survey->blocks.count = (size_t)sqlite3_column_int64(statement, 3);
        survey->blocks.per_block = (uint64_t)sqlite3_column_int64(statement, 4);
        survey->blocks.enters = sqlite3_column_int(statement, 5) != 0;
        take_text(survey->sha256, sizeof survey->sha256, statement, 6);
    }
    sqlite3_finalize(statement);
    return status != STATUS_OK || found ? status : damaged(connection, err);
}

static int read_identity(const struct connection *connection, struct identity *identity, struct error *err) {
    sqlite3_stmt *statement = NULL;
    bool row = false;
    int status;
    TRY(prepare(connection, &statement, "SELECT key, value FROM identity ORDER BY place", err));
    while ((status = next_row(connection, statement, &row, err)) == STATUS_OK && row) {
        const char *key = (const char *)sqlite3_column_text(statement, 0);
        const char *value = (const char *)sqlite3_column_text(statement, 1);
        TRY_TO(done, status = key == NULL || value == NULL ? damaged(connection, err)
                                                           : identity_add(identity, key, value, err));
    }
done:
    sqlite3_finalize(statement);
    return status;
}

static int read_blocks(const struct connection *connection, struct row_blocks *blocks, struct error *err) {
    sqlite3_stmt *statement = NULL;
    uint64_t count = blocks->count;
    int64_t there = 0;
    blocks->count = 0;
    TRY(read_number(connection, "SELECT count(*) FROM block", &there, err));
    if (blocks->per_block == 0 || count != (uint64_t)there ||
        count != (blocks->rows + blocks->per_block - 1) / blocks->per_block || count > UINT32_MAX) {
        return damaged(connection, err);
    }
    TRY(memory_zeroed(&blocks->blocks, count, sizeof *blocks->blocks, err));
    TRY(prepare(connection, &statement, "SELECT rowid_of_first, bytes, sha256 FROM block ORDER BY number",
                err));
    bool row = false;
    int status;
    while ((status = next_row(connection, statement, &row, err)) == STATUS_OK && row &&
           blocks->count < count) {
        struct row_block *block = &blocks->blocks[blocks->count++];
        block->rowid = sqlite3_column_int64(statement, 0);
        block->bytes = (uint64_t)sqlite3_column_int64(statement, 1);
        take_text(block->sha256, sizeof block->sha256, statement, 2);
    }
    sqlite3_finalize(statement);
    return status != STATUS_OK || blocks->count == count ? status : damaged(connection, err);
}

static int read_all(const struct connection *connection, struct survey_file *survey, struct error *err) {
    char hex[DIGEST_HEX];
    TRY(check_format(connection, err));
    TRY(read_totals(connection, survey, err));
    TRY(read_identity(connection, &survey->identity, err));
    TRY(read_blocks(connection, &survey->blocks, err));
    TRY(hash(survey, hex, err));
    return strcmp(hex, survey->sha256) == 0 ? STATUS_OK : damaged(connection, err);
}

int survey_file_read(struct survey_file *survey, const char *path, bool *found, struct error *err) {
    struct connection connection = {.path = path, .kind = STATUS_DATA};
    int status;
    *survey = (struct survey_file){0};
    *found = file_exists(path);
    if (!*found) {
        return STATUS_OK;
    }
    TRY_TO(done, status = connect(&connection, SQLITE_OPEN_READONLY, err));
    status = read_all(&connection, survey, err);
done:
    sqlite3_close(connection.db);
    if (status != STATUS_OK) {
        survey_file_destroy(survey);
    }
    return status;
}

void survey_file_destroy(struct survey_file *survey) {
    free(survey->blocks.blocks);
    identity_destroy(&survey->identity);
    *survey = (struct survey_file){0};
}

// ---- parts ----

static double weight_of(const struct row_blocks *blocks, size_t block) {
    uint64_t first = block * blocks->per_block;
    uint64_t left = blocks->rows - first;
    return (double)blocks->blocks[block].bytes +
           (double)(left < blocks->per_block ? left : blocks->per_block);
}

// Where the parts [index, end) of `count` begin, and where the last of them ends: a part begins at the first
// block that has index/count of all weight before itself. One pass over the blocks.
static void cut(const struct survey_file *survey, uint64_t index, uint64_t end, uint64_t count,
                uint64_t *begins) {
    const struct row_blocks *blocks = &survey->blocks;
    double all = (double)blocks->rows;
    double before = 0;
    uint64_t next = index;
    for (size_t i = 0; i < blocks->count; i++) {
        all += (double)blocks->blocks[i].bytes;
    }
    for (size_t i = 0; i < blocks->count; i++) {
        while (next <= end && next < count && before * (double)count >= all * (double)next) {
            begins[next++ - index] = i * blocks->per_block;
        }
        before += weight_of(blocks, i);
    }
    while (next <= end) {
        begins[next++ - index] = blocks->rows;
    }
}

void survey_file_part(const struct survey_file *survey, uint64_t index, uint64_t count, uint64_t *first,
                      uint64_t *end) {
    uint64_t begins[2];
    cut(survey, index, index + 1, count, begins);
    *first = begins[0];
    *end = begins[1];
}

int survey_file_parts(const struct survey_file *survey, uint64_t count, uint64_t **begins,
                      struct error *err) {
    TRY(memory_zeroed(begins, (size_t)count + 1, sizeof **begins, err));
    cut(survey, 0, count, count, *begins);
    return STATUS_OK;
}
