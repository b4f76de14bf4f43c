// SPDX-License-Identifier: MIT
// The ledger: the run's SQLite database, and the only truth about what is done. A shard and its problems
// count from the moment ledger_commit returns STATUS_OK; everything else in the run directory is a cache or a
// record. journal_mode=DELETE, synchronous=EXTRA; a runner epoch checked in every write fences a second
// runner; a hash chained over shards and problems shows changed rows. Readers open it read-only, during and
// after a run, and hold no lock while their callbacks run; what they are told of checkpoints, launches and
// events is of the moment they opened it, though the run goes on. One thread at a time uses a ledger.
#ifndef STRATA_CHECKPOINTS_LEDGER_H
#define STRATA_CHECKPOINTS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "checkpoints/identity.h"
#include "checkpoints/ledger_device.h"
#include "checkpoints/shard.h"

struct ledger;

// What is known before the first batch about the whole input (made once, kept for resumes).
struct ledger_survey {
    uint64_t problems; // rows of the query
    uint64_t texts;    // of them, those that can be run
    uint64_t tokens;   // that are computed: of texts after truncation, what batches have
    uint64_t rows;     // pooled rows
    uint64_t batches;
    double squared_lengths; // sum of tokens^2 over texts
    uint64_t longest;       // tokens
    uint64_t truncated;     // texts
    char problems_sha256[DIGEST_HEX];
};

// Creates FOLDER/ledger.sqlite or opens the one there, for the runner that holds the folder's lock. A ledger
// of an older format is raised to this program's, in one transaction, once its chain is found in order; from
// then on older programs refuse it. STATUS_DATA when it is not a ledger, of a newer format, or its hash chain
// is broken; and when it is missing or without an identity while the folder has shards, which were then
// written by a run whose ledger is lost.
int ledger_open(struct ledger **out, const char *folder, struct error *err);

// Read-only, while a runner may be at work; an older format is read as it is. Where the run directory says
// that its ledger is elsewhere, that one is read, or the last copy of it. STATUS_DATA when there is none;
// STATUS_STOPPED, here and in every later reading, when a runner has held it for half a minute: try again.
int ledger_open_read(struct ledger **out, const char *folder, struct error *err);

// Of a ledger to read: what a launch does elsewhere and this copy does not know (ledger_place.h), or "".
const char *ledger_elsewhere(const struct ledger *ledger);
const char *ledger_path(const struct ledger *ledger); // of the file that is read or written

// Between the two a reader sees the live state, notes and all else as of one moment too, and the runner's
// commits wait: for a few short readings, without callbacks that may block.
int ledger_read_begin(struct ledger *ledger, struct error *err);
int ledger_read_end(struct ledger *ledger, struct error *err);
void ledger_close(struct ledger *ledger); // accepts NULL

// From now on a ledger that somebody reads is waited for half a second, not a minute: the process is about to
// end.
void ledger_hurry(struct ledger *ledger);

// ---- the start of a run ----

#define IDENTITY_PROBLEMS "problems.sha256"

// *stored is filled (the caller destroys it) and *found set when the ledger has an identity already. After a
// retry its problems are those that the retry read, where rows of failed problems may have been mended.
int ledger_identity(struct ledger *ledger, struct identity *stored, bool *found, struct error *err);

// Facts that do not belong to the identity: "run.output", "job.text", "problems.total", "device.path" ... A
// note's last value wins.
int ledger_set_note(struct ledger *ledger, const char *key, const char *value, struct error *err);
int ledger_note(struct ledger *ledger, const char *key, struct buffer *value, bool *found, struct error *err);

// One transaction: stores the identity and the survey of a new run.
int ledger_begin(struct ledger *ledger, const struct identity *identity, const struct ledger_survey *survey,
                 struct error *err);
int ledger_survey(struct ledger *ledger, struct ledger_survey *survey, bool *found, struct error *err);

// Opens a launch (epoch + 1, host, process, threads, time). All later writes carry its epoch and fail
// (STATUS_WRITE) when another launch has begun since.
int ledger_launch(struct ledger *ledger, int threads, uint64_t *epoch, struct error *err);
// Records a launch that is known to have begun on another machine, and of which this ledger knows nothing
// more: later launches have higher numbers. One that it knows stays as it is.
int ledger_launch_lost(struct ledger *ledger, uint64_t epoch, const char *host, struct error *err);
// From now on this launch works on the run: its live state takes the place of an earlier launch's. One that
// ends before, refused for its identity or for want of a model, leaves the run's state as it was.
int ledger_launch_works(struct ledger *ledger, struct error *err);
int ledger_launch_end(struct ledger *ledger, int exit_code, const char *reason, struct error *err);

// ---- progress of a run ----

// Where a resumed run goes on: after the last sealed shard.
struct ledger_position {
    uint64_t shards;       // sealed: the next shard's number
    uint64_t batches;      // sealed batches of the plan: the next batch's number
    uint64_t window;       // first row (ordinal) of the planning window that holds the next batch
    uint64_t window_batch; // number of that window's first batch
};

int ledger_position(struct ledger *ledger, struct ledger_position *position, struct error *err);

enum problem_state { PROBLEM_DONE, PROBLEM_FAILED, PROBLEM_SKIPPED };
const char *problem_state_name(enum problem_state state); // "done", "failed", "skipped"

struct ledger_problem {
    uint64_t ordinal;
    const char *id;
    size_t id_size;
    enum problem_state state;
    const char *reason; // why failed or skipped; NULL when done
    uint64_t batch;     // of the plan; UINT64_MAX when it never was in one
    uint32_t tokens;
    uint32_t rows;
    uint32_t steps;
    bool truncated;
    uint32_t index; // place in its shard's /problems (done only)
    uint64_t shard; // filled by readers; UINT64_MAX when in none
};

enum { LEDGER_DEVICE_NAME = 32 };

struct ledger_batch {
    uint64_t number;
    uint64_t epoch;
    uint32_t problems;
    uint32_t rows;
    uint64_t tokens;
    double squared_lengths;
    double prepare_seconds; // tokenise and plan, in the reader thread
    double wait_seconds;    // the device waited for the reader or the writer
    double compute_seconds;
    double write_seconds; // in the writer thread
    double predicted_seconds;
    double score;          // drift: y of the detector (natural log of time over prediction and baseline)
    uint64_t memory_bytes; // resident memory of the process, or the GPU's memory in use
    uint64_t overflowed;   // numbers beyond float16's range
    struct ledger_device device;
    char device_name[LEDGER_DEVICE_NAME]; // "cuda:1", of a run on several devices; "" otherwise
};

struct ledger_commit {
    const struct shard_sealed *shard; // NULL: a closing commit of problems that no shard follows
    struct ledger_position position;  // after this commit
    const struct ledger_problem *problems;
    size_t problem_count;
    const struct ledger_batch *batches;
    size_t batch_count;
    bool finished; // every problem of the query is accounted for
};

// One transaction: acknowledges a shard, its problems and batches, drops the record of the partial shard it
// replaces. While a retry is open its problems are those of the retry, and their failed outcomes are set
// aside. When COMMIT returns an error the ledger is read again: *durable tells whether the transaction is
// there all the same.
int ledger_commit(struct ledger *ledger, const struct ledger_commit *commit, bool *durable,
                  struct error *err);

// A clean stop keeps the open shard as a partial file: a cache, not an acknowledgement. `batches` of the
// shard are in it; their failed problems and timings are in `record` (an opaque blob the runner understands).
struct ledger_partial {
    uint64_t shard;
    char name[64];
    char sha256[DIGEST_HEX];
    uint64_t batches;
    const void *record;
    size_t record_size;
};

int ledger_set_partial(struct ledger *ledger, const struct ledger_partial *partial, struct error *err);
// record is appended to *memory and partial->record points into it.
int ledger_partial(struct ledger *ledger, struct ledger_partial *partial, struct buffer *memory, bool *found,
                   struct error *err);
int ledger_drop_partial(struct ledger *ledger, struct error *err);

// ---- trying failed problems again ----
//
// A retry is a part that is added to the plan of a run whose problems are all accounted for: a checkpoint
// that opens the run again and lists the failed problems to try. Their batches and shards continue the run's
// numbers; sealed shards stay as they are. From its beginning a retry belongs to the run: until its last
// commit the run is not finished, and any launch carries it on. A new outcome is acknowledged like any other
// and takes the failed one's place; that is set aside, where the hash chain still covers it. Rows of failed
// problems may have been mended in between: the hash of all rows as the retry reads them goes with it.

// Which failed problems. Transient: their hidden states were not finite, or the reason speaks of memory that
// ran out, so that the same row may succeed. The others failed for what their row holds.
enum ledger_retry_scope { RETRY_TRANSIENT, RETRY_ALL };

struct ledger_retry {
    uint64_t *ordinals; // ascending; owned
    size_t count;
    uint64_t waiting;                 // of them, without a new outcome
    char problems_sha256[DIGEST_HEX]; // of the rows it reads
};

void ledger_retry_destroy(struct ledger_retry *retry); // accepts zeros; leaves zeros
bool ledger_retry_has(const struct ledger_retry *retry, uint64_t ordinal);

// The open retry; *found false without one. The caller destroys *retry.
int ledger_retry_open(struct ledger *ledger, struct ledger_retry *retry, bool *found, struct error *err);

// The failed problems that a retry would hold if it began now (count 0: there are none).
int ledger_retry_candidates(struct ledger *ledger, enum ledger_retry_scope scope, struct ledger_retry *retry,
                            struct error *err);

// One transaction: opens the finished run again for these problems, which must be failed.
int ledger_retry_begin(struct ledger *ledger, const struct ledger_retry *retry, struct error *err);

struct ledger_retry_counts {
    uint64_t transient; // failed problems that a retry would try again
    uint64_t tried;     // problems of the last retry, open or not
    uint64_t succeeded; // of them, done
    uint64_t waiting;   // of them, without a new outcome: the retry is open
};

int ledger_retry_counts(struct ledger *ledger, struct ledger_retry_counts *counts, struct error *err);

// Why a problem failed before it was tried again, the first time first: each reason with a 0 behind it.
int ledger_earlier_reasons(struct ledger *ledger, uint64_t ordinal, struct buffer *reasons, size_t *count,
                           struct error *err);

// Whether a retry would try this failed problem again.
int ledger_is_transient(struct ledger *ledger, uint64_t ordinal, bool *transient, struct error *err);

// The live state, one row, overwritten now and then (seconds apart) so that status works between checkpoints.
struct ledger_progress {
    uint64_t epoch;
    int64_t updated;  // unix seconds
    char stage[24];   // "surveying", "loading", "calibrating", "running", "stopped", "finished", "drift",
                      // "failed"
    uint64_t batches; // computed in all, sealed or not
    uint64_t problems;
    uint64_t tokens;
    uint64_t rows;
    double seconds;           // of computing, all launches
    double tokens_per_second; // over the last batches
    double score;             // drift
    char drift[64]; // "calibrating", "steady", "sharing: CAUSE, SHARE", "warned", "suspect", "stopped"
    uint64_t memory_bytes;
    uint64_t loaded_bytes; // of weights, while loading
    uint64_t load_bytes;
    struct ledger_device device; // as of the last batch
};

int ledger_set_progress(struct ledger *ledger, const struct ledger_progress *progress, struct error *err);
int ledger_progress(struct ledger *ledger, struct ledger_progress *progress, bool *found, struct error *err);
// That of the last launch that was at its start, whether or not it came to work.
int ledger_start_progress(struct ledger *ledger, struct ledger_progress *progress, bool *found,
                          struct error *err);

// Events: kind is "warn", "pace", "drift", "canary", "stop", "device", "error" ...; text is one line or a
// JSON object.
int ledger_event(struct ledger *ledger, const char *kind, const char *text, struct error *err);

// ---- reading ----

struct ledger_shard {
    uint64_t number;
    struct shard_sealed sealed;
    uint64_t first_batch;
    uint64_t batches;
    int64_t sealed_at; // unix seconds
};

struct ledger_totals {
    uint64_t done, failed, skipped;
    uint64_t shards, batches, rows, tokens, bytes, truncated, overflowed; // tokens: that were computed
    double compute_seconds, wait_seconds, write_seconds, prepare_seconds;
    int64_t last_commit; // unix seconds, 0 when none
    bool finished;       // and no retry is open
};

struct ledger_launch_record {
    uint64_t epoch;
    int64_t started, ended; // ended 0: still running or killed
    int exit_code;          // -1: none recorded
    int threads;
    int64_t process;
    char host[128];
    char reason[512];
    bool worked; // came to work on the run
};

int ledger_totals(struct ledger *ledger, struct ledger_totals *totals, struct error *err);

// What one launch's sealed batches took. Adds up their rows: fractions of a second for a million.
struct ledger_work {
    uint64_t tokens;
    double compute_seconds, wait_seconds;
};

int ledger_launch_work(struct ledger *ledger, uint64_t epoch, struct ledger_work *work, struct error *err);

// When the launch last committed, in unix seconds; 0: never. Of one that was killed that is the last sign.
int ledger_launch_committed(struct ledger *ledger, uint64_t epoch, int64_t *at, struct error *err);

// In how many slices of at most so many tokens the sealed batches are computed: one each, or more of a text
// that is longer.
int ledger_slices(struct ledger *ledger, uint64_t slice_tokens, uint64_t *count, struct error *err);

// Each calls `each` for every row in order until it returns non-zero, which is then returned. Pointers are
// valid during the call only.
int ledger_each_shard(struct ledger *ledger, int (*each)(void *context, const struct ledger_shard *shard),
                      void *context, struct error *err);
int ledger_each_batch(struct ledger *ledger, int (*each)(void *context, const struct ledger_batch *batch),
                      void *context, struct error *err);
int ledger_each_launch(struct ledger *ledger,
                       int (*each)(void *context, const struct ledger_launch_record *launch), void *context,
                       struct error *err);
int ledger_each_event(struct ledger *ledger,
                      int (*each)(void *context, int64_t at, uint64_t epoch, const char *kind,
                                  const char *text),
                      void *context, struct error *err);
// Problems by ordinal; with_state NULL: all.
int ledger_each_problem(struct ledger *ledger, const enum problem_state *with_state,
                        int (*each)(void *context, const struct ledger_problem *problem), void *context,
                        struct error *err);
// The done problems of one shard, by ordinal, which an index has in order.
int ledger_each_problem_of_shard(struct ledger *ledger, uint64_t shard,
                                 int (*each)(void *context, const struct ledger_problem *problem),
                                 void *context, struct error *err);
// One problem by id; *found false when it is not (yet) recorded. Text fields are appended to *memory.
int ledger_find_problem(struct ledger *ledger, const char *id, size_t id_size, struct ledger_problem *problem,
                        struct buffer *memory, bool *found, struct error *err);

// Recomputes the chained hash; STATUS_DATA naming the first shard whose rows do not match.
int ledger_check_chain(struct ledger *ledger, struct error *err);

// Counts the sums of every checkpoint again; STATUS_DATA naming the first that was kept wrong.
int ledger_check_totals(struct ledger *ledger, struct error *err);

// What SQLite can say of the file's pages. Readers only: it takes seconds for each gigabyte, and commits
// wait.
int ledger_check_pages(struct ledger *ledger, struct error *err);

#endif
