// SPDX-License-Identifier: MIT
// What one shard's commit will say: the outcome of each problem and the timings of each batch, with their
// texts kept until the ledger has them.
#ifndef STRATA_STAGES_OUTCOMES_H
#define STRATA_STAGES_OUTCOMES_H

#include "checkpoints/ledger.h"

struct outcome {
    struct ledger_problem problem; // id and reason are offsets into texts until outcomes_resolve
    size_t id_at;
    size_t reason_at; // SIZE_MAX: none
};

struct outcomes {
    struct outcome *items;
    size_t count;
    size_t capacity;
    struct ledger_batch *batches;
    size_t batch_count;
    size_t batch_capacity;
    struct buffer texts;
    struct ledger_problem *resolved; // [capacity]
};

void outcomes_destroy(struct outcomes *outcomes); // accepts zeros; leaves zeros
void outcomes_clear(struct outcomes *outcomes);   // memory kept

// Copies the problem's id and reason.
int outcomes_add(struct outcomes *outcomes, const struct ledger_problem *problem, struct error *err);
int outcomes_add_batch(struct outcomes *outcomes, const struct ledger_batch *batch, struct error *err);

// The problems with their texts in place; valid until the next call.
const struct ledger_problem *outcomes_resolve(struct outcomes *outcomes);

// The record that goes with a partial shard, as JSON: timings of its batches, and the problems that failed in
// them.
int outcomes_write_record(const struct outcomes *outcomes, struct buffer *out, struct error *err);

struct outcomes_failure {
    uint64_t ordinal;
    char reason[256];
};

// Reads it back: batches into outcomes, failures into *failures (the caller frees them).
int outcomes_read_record(struct outcomes *outcomes, const void *record, size_t size,
                         struct outcomes_failure **failures, size_t *failure_count, struct error *err);

#endif
