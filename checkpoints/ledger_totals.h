// SPDX-License-Identifier: MIT
// Sums over what the ledger acknowledges, kept with every checkpoint: counting ten million problems takes ten
// seconds, and strata status asks every second. The row of checkpoint n holds the sums after it, so that a
// reader finds those of its own moment. They follow from rows that the hash chain covers, and are checked
// against them (ledger_check_totals), not chained.
#ifndef STRATA_CHECKPOINTS_LEDGER_TOTALS_H
#define STRATA_CHECKPOINTS_LEDGER_TOTALS_H

#include "checkpoints/ledger_sql.h"

// The table, filled for the checkpoints that an older format has.
#define LEDGER_TOTALS_TABLE                                                                                  \
    "CREATE TABLE total(checkpoint INTEGER PRIMARY KEY, done INTEGER NOT NULL, failed INTEGER NOT NULL,"     \
    " skipped INTEGER NOT NULL, truncated INTEGER NOT NULL, shards INTEGER NOT NULL, rows INTEGER NOT "      \
    "NULL,"                                                                                                  \
    " tokens INTEGER NOT NULL, bytes INTEGER NOT NULL, batches INTEGER NOT NULL, overflowed INTEGER NOT "    \
    "NULL,"                                                                                                  \
    " compute_seconds REAL NOT NULL, wait_seconds REAL NOT NULL, write_seconds REAL NOT NULL,"               \
    " prepare_seconds REAL NOT NULL);"                                                                       \
    "INSERT INTO total SELECT c.number, " LEDGER_TOTALS_SUMS                                                 \
    " FROM checkpoint AS c LEFT JOIN (" LEDGER_TOTALS_OF_PROBLEMS                                            \
    " GROUP BY checkpoint) AS p ON p.checkpoint = c.number"                                                  \
    " LEFT JOIN (" LEDGER_TOTALS_OF_SHARDS " GROUP BY checkpoint) AS s ON s.checkpoint = c.number"           \
    " LEFT JOIN (" LEDGER_TOTALS_OF_BATCHES " GROUP BY checkpoint) AS b ON b.checkpoint = c.number"          \
    " WHERE c.number > 0 WINDOW upto AS (ORDER BY c.number);"

#define LEDGER_TOTALS_OF_PROBLEMS                                                                            \
    "SELECT checkpoint, sum(state = 0) AS done, sum(state = 1) AS failed, sum(state = 2) AS skipped,"        \
    " sum(truncated) AS truncated FROM problem"
#define LEDGER_TOTALS_OF_SHARDS                                                                              \
    "SELECT checkpoint, count(*) AS shards, sum(rows) AS rows, sum(tokens) AS tokens, sum(bytes) AS bytes"   \
    " FROM shard"
#define LEDGER_TOTALS_OF_BATCHES                                                                             \
    "SELECT checkpoint, count(*) AS batches, sum(overflowed) AS overflowed, sum(tokens) AS tokens, "         \
    "total(compute_seconds) AS "                                                                             \
    "compute, total(wait_seconds) AS wait, total(write_seconds) AS write, total(prepare_seconds) AS "        \
    "prepare FROM batch"
#define LEDGER_TOTALS_SUM(column) "ifnull(sum(" column ") OVER upto, 0), "
#define LEDGER_TOTALS_SUMS                                                                                   \
    LEDGER_TOTALS_SUM("p.done")                                                                              \
    LEDGER_TOTALS_SUM("p.failed")                                                                            \
    LEDGER_TOTALS_SUM("p.skipped")                                                                           \
    LEDGER_TOTALS_SUM("p.truncated")                                                                         \
    LEDGER_TOTALS_SUM("s.shards")                                                                            \
    LEDGER_TOTALS_SUM("s.rows")                                                                              \
    LEDGER_TOTALS_SUM("s.tokens")                                                                            \
    LEDGER_TOTALS_SUM("s.bytes")                                                                             \
    LEDGER_TOTALS_SUM("b.batches")                                                                           \
    LEDGER_TOTALS_SUM("b.overflowed")                                                                        \
    "total(b.compute) OVER upto, total(b.wait) OVER upto, total(b.write) OVER upto, total(b.prepare) OVER "  \
    "upto"

// Within the commit of a checkpoint, after its rows: adds them to the sums of the one before.
int ledger_totals_add(struct ledger *ledger, uint64_t checkpoint, struct error *err);

#endif
