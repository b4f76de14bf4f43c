// SPDX-License-Identifier: MIT
// A window of the query: up to `window` prepared problems and their batch plan, in memory that is reused
// window after window. A window is a function of the rows from its first one on, so that a resume needs to
// know only where it begins.
#ifndef STRATA_STAGES_WINDOW_H
#define STRATA_STAGES_WINDOW_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/memory.h"
#include "stages/batch_plan.h"
#include "stages/markup.h"
#include "stages/prepare.h"

// One problem, with its texts as offsets into the window's memory.
struct window_problem {
    uint64_t ordinal;
    enum problem_state state;
    size_t id_at;
    size_t id_size;
    size_t metadata_at;
    size_t metadata_size;
    size_t reason_at; // 0-ended, failed and skipped problems only
    size_t tokens_at; // first of its tokens
    size_t rows_at;   // first of its rows
    size_t mask_at;   // of its tokens, where the job keeps loss masks
    uint32_t token_count;
    uint32_t row_count;
    uint32_t step_count;
    bool truncated;
};

// What problems refer to.
struct window_store {
    struct buffer bytes;  // ids, metadata, reasons
    struct buffer tokens; // int32
    struct buffer rows;   // struct shard_row
    struct buffer masks;  // uint8, beside the tokens; empty where the job keeps none
};

struct window {
    uint64_t first;       // ordinal of its first row
    uint64_t end;         // ordinal after its last row
    uint64_t first_batch; // number of its first batch
    struct window_problem *problems;
    size_t count;
    uint32_t *ready; // [ready_count] problems that run: what the plan's order indexes
    uint32_t *ready_tokens;
    const int32_t **ready_ids; // of the store; NULL where texts go on from nothing
    size_t ready_count;
    struct plan plan;
    struct window_store store;
    atomic_size_t pending; // works that still need it
};

int window_create(struct window *window, const struct plan_limits *limits, struct error *err);
void window_destroy(struct window *window); // accepts zeros

// Where windows come from, one after another.
struct window_reader {
    const struct plan_limits *limits;
    struct source *source;
    struct preparer *preparer;
    const struct ledger_retry *only; // NULL: all; otherwise rows that it does not list are passed by
    struct digest *digest;           // NULL, or what every row read is added to
    struct markup *markup;           // NULL, or what looks at every text
    struct window_problem *rest;     // [limits.window] read, and left for the next window
    size_t rest_count;
    struct window_store rest_store;
};

// Gives a reader whose first members are there the memory of the rest.
int window_reader_open(struct window_reader *reader, struct error *err);
void window_reader_close(struct window_reader *reader); // accepts zeros; digest stays the caller's

// Takes what the window before left, reads rows and prepares them until the window is full or the source ends
// (*end), then plans.
int window_fill(struct window *window, struct window_reader *reader, bool *end, struct error *err);

const char *window_text(const struct window *window, size_t at);
const int32_t *window_tokens(const struct window *window, const struct window_problem *problem);
const uint8_t *window_loss_mask(const struct window *window,
                                const struct window_problem *problem); // NULL where the job keeps none
const struct shard_row *window_rows(const struct window *window, const struct window_problem *problem);

// Problem number `index` of batch `batch` of the plan.
const struct window_problem *window_batch_problem(const struct window *window, size_t batch, size_t index);
size_t window_batch_size(const struct window *window, size_t batch);

// What the problems of a batch go on from; NULL where none does.
const struct device_origin *window_batch_origins(const struct window *window, size_t batch);

#endif
