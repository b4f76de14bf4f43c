// SPDX-License-Identifier: MIT
// The ledger's way with SQLite, for ledger*.c only: the handle, statements whose first error sticks until
// they are run, and write transactions that carry the runner's epoch.
#ifndef STRATA_CHECKPOINTS_LEDGER_SQL_H
#define STRATA_CHECKPOINTS_LEDGER_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoints/ledger.h"
#include "checkpoints/ledger_place.h"

// The highest numbers that a reader sees, as of one moment; the runner sees all.
struct ledger_view {
    int64_t checkpoint; // -1: none
    int64_t event;
    int64_t launch;
};

struct ledger {
    bool hurried; // wait for no reader: the process is about to end
    sqlite3 *db;
    char path[PATH_SIZE];
    char copy[PATH_SIZE]; // folder of a private copy that is read instead, or empty
    uint64_t epoch;       // of this launch; until ledger_launch the last one seen
    bool read_only;
    bool for_runner; // of a ledger that is looked at: ledger_place.h
    bool is_copy;    // ledger_place.h
    char elsewhere[sizeof(((struct ledger_source *)NULL)->elsewhere)]; // of a reader
    int64_t format; // of the file, as it was last looked at; a ledger to be written has this program's
    struct ledger_view view;
    bool working; // the launch is past its start (ledger_launch_works)
};

// How long a reader waits for a commit, which holds it up for as long as its syncs take.
enum { LEDGER_READER_SECONDS = 30 };

// Formats of the file: 1 had no figures of the device; 2 no kept sums, no word on refused launches, no
// retries; 3 no names of devices.
enum {
    LEDGER_FORMAT_FIGURES = 2,
    LEDGER_FORMAT_TOTALS = 3,
    LEDGER_FORMAT_RETRIES = 3,
    LEDGER_FORMAT_DEVICES = 4,
    LEDGER_FORMAT = 4,
};

// Columns of struct ledger_device in `batch` and `progress`, in its order; and what stands for them in an
// older ledger that is only read.
#define LEDGER_FIGURE_COLUMNS                                                                                \
    "upload_seconds, device_seconds, download_seconds, memory_used, process_memory, utilization, sm_clock, " \
    "power, temperature, throttle_reasons, pcie_received, pcie_sent, xid"
#define LEDGER_FIGURES_MISSING "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"

// Sets the message from the connection's last error. Kinds: damaged or not a database STATUS_DATA; a rule of
// a table broken STATUS_INTERNAL; everything else STATUS_WRITE (STATUS_DATA for readers).
int ledger_failed(struct ledger *ledger, const char *what, struct error *err);

// SQLite's messages quote names out of the file: of a damaged one, any bytes. Those that are not plain ASCII
// become '?'.
void ledger_clean_text(char *text);

// Runs statements that return nothing. `patiently` waits up to a minute for readers to let go.
int ledger_execute(struct ledger *ledger, const char *sql, struct error *err);
int ledger_execute_patiently(struct ledger *ledger, const char *sql, struct error *err);
int ledger_number(struct ledger *ledger, const char *sql, int64_t *value,
                  struct error *err); // first column, first row

// Whether the file has what this format brought; a runner may have raised it since a reader opened it.
int ledger_has_format(struct ledger *ledger, int64_t format, bool *has, struct error *err);

// BEGIN IMMEDIATE, then the fence: STATUS_WRITE when another launch has begun.
int ledger_transaction(struct ledger *ledger, struct error *err);
// COMMIT when status is OK, ROLLBACK otherwise; returns the first failure.
int ledger_transaction_end(struct ledger *ledger, int status, struct error *err);

// Opens a ledger to look at, wherever it lies; *tables is 0 of one that nothing was ever written to.
int ledger_open_file(struct ledger **out, const struct ledger_source *source, int64_t *tables,
                     struct error *err);

// Opens or opens again the connection of the runner.
int ledger_connect(struct ledger *ledger, struct error *err);

struct query {
    struct ledger *ledger;
    sqlite3_stmt *statement;
    int result; // SQLite's first error
};

void query_begin(struct query *query, struct ledger *ledger, const char *sql);
void query_bind_u64(struct query *query, int place, uint64_t value); // UINT64_MAX: NULL
void query_bind_i64(struct query *query, int place, int64_t value);
void query_bind_f64(struct query *query, int place, double value);      // NaN: NULL
void query_bind_text(struct query *query, int place, const char *text); // NULL: NULL; valid until query_run
void query_bind_bytes(struct query *query, int place, const void *bytes, size_t size);
// Ids: text, or bytes when a NUL is in them, which SQLite's text does not carry safely.
void query_bind_id(struct query *query, int place, const char *id, size_t size);

// LEDGER_FIGURES places or columns from `first` on (ledger_device.c). Not known: NULL.
void query_bind_device(struct query *query, int first, const struct ledger_device *device);
void query_device(struct query *query, int first, struct ledger_device *device);

int query_next(struct query *query, bool *row, struct error *err); // one step
int query_run(struct query *query,
              struct error *err); // steps to the end and makes it ready to be bound again
void query_end(struct query *query);

uint64_t query_u64(struct query *query, int column); // NULL: UINT64_MAX
int64_t query_i64(struct query *query, int column);
double query_f64(struct query *query, int column);                        // NULL: NaN
void query_text(struct query *query, int column, char *out, size_t size); // cut to size - 1 bytes
const char *query_bytes(struct query *query, int column,
                        size_t *size); // NULL when NULL; valid until the next step

#endif
