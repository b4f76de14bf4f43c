// SPDX-License-Identifier: MIT
// The feeder stage: a thread that walks the query window by window, prepares and plans it, and hands out
// packed batches in the plan's order. Windows and works are pools of fixed number; the feeder waits when none
// is free.
#ifndef STRATA_STAGES_FEEDER_H
#define STRATA_STAGES_FEEDER_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/telemetry.h"
#include "model/model.h"
#include "stages/queue.h"
#include "stages/window.h"

enum { FEEDER_WINDOWS = 3, FEEDER_WINDOWS_MOST = 32 };

// One batch on its way through the stages.
struct work {
    struct window *window;
    size_t index;         // of its batch in the window's plan
    uint64_t number;      // of the batch in the whole plan
    bool first_of_window; // carries the outcomes of the window's failed and skipped problems
    bool computes;        // false: nothing to run, only outcomes to record (a window without a single text)
    struct model_batch batch; // in the feeder's buffers
    double squared_lengths;
    double prepare_seconds;    // feeder time spent since the work before
    double wait_seconds;       // filled by the runner, as the rest
    double compute_seconds;    // from the end of the batch before, or its own queueing, to its end
    struct device_times times; // by the device's own clock; where that is the host's, what its threads worked
    double predicted_seconds;
    double score;
    size_t lane;                 // of the model, which computed it
    struct device_sample sample; // of its monitoring, when the batch was done
};

// What the batch of a work lies in. The ids of a text longer than a batch lie in its window.
struct feeder_buffers {
    int32_t *ids;                  // [limits.tokens]
    int32_t *starts;               // [limits.plan.problems + 1]
    struct device_origin *origins; // [limits.plan.problems]
    struct device_span *spans;     // [limits.rows]
};

struct feeder_limits {
    struct plan_limits plan;
    size_t tokens;  // largest batch of texts that are no longer than plan.tokens
    size_t rows;    // of any batch
    size_t works;   // those being packed, one written, and those on the device; also its output slots
    size_t windows; // FEEDER_WINDOWS to FEEDER_WINDOWS_MOST
};

struct feeder {
    struct feeder_limits limits;
    struct window_reader reader; // its digest, if any, is of all rows: the feeder began at the first
    struct window windows[FEEDER_WINDOWS_MOST]; // limits.windows of them
    struct work *works;                         // [limits.works]
    struct feeder_buffers *buffers;             // [limits.works] of the work with that slot
    struct work pause;                          // handed out where no work comes before others come back
    atomic_size_t handed;                       // works that were handed out and have not come back
    atomic_bool starves;                        // it waits for a window
    struct queue free_works;
    struct queue free_windows;
    struct queue ready;   // works for the runner, in order; closed after the last one or on an error
    uint64_t start_row;   // ordinal where the first window begins
    uint64_t start_batch; // number of that window's first batch
    uint64_t next_batch;  // the first batch to hand out
    char problems_sha256[DIGEST_HEX];
    pthread_t thread;
    bool running;
    int status; // read after feeder_finish
    struct error err;
};

// Starts the thread at a position of the ledger. The source is used by the feeder alone until feeder_finish;
// it stands before its first row. `only` may be NULL; otherwise the plan is made of the problems it lists.
int feeder_start(struct feeder *feeder, const struct feeder_limits *limits, struct source *source,
                 struct preparer *preparer, const struct ledger_retry *only,
                 const struct ledger_position *position, struct error *err);

// The next work, or NULL after the last one (or an error: see feeder_finish).
struct work *feeder_next(struct feeder *feeder);

// The same without waiting: false when nothing is ready yet.
bool feeder_try_next(struct feeder *feeder, struct work **work);

// Whether what was handed out is no work: all windows are in use, and the next work comes when one is free
// again. It is handed out again whenever a work came back and that is still so.
bool feeder_pauses(const struct feeder *feeder, const struct work *work);

// Works that were handed out and have not come back. Who holds all of them waits for nothing else in a pause.
size_t feeder_handed(const struct feeder *feeder);

// Gives a work back when every stage is through with it.
void feeder_release(struct feeder *feeder, struct work *work);

// Stops the thread, if need be before its end, and returns what stopped it. *complete tells whether it
// reached the last row.
int feeder_finish(struct feeder *feeder, bool *complete, struct error *err);
void feeder_destroy(struct feeder *feeder); // after feeder_finish

#endif
