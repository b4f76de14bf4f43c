// SPDX-License-Identifier: MIT
// The open shard: the batches written since the last checkpoint, and what its commit will say of their
// problems. Leaves out problems whose hidden states are not finite. Used by the writer's thread alone.
#ifndef STRATA_STAGES_OPEN_SHARD_H
#define STRATA_STAGES_OPEN_SHARD_H

#include "checkpoints/ledger_apart.h"
#include "checkpoints/run_folder.h"
#include "model/model.h"
#include "stages/feeder.h"
#include "stages/outcomes.h"

struct open_shard {
    const struct run_folder *folder;
    const struct shard_layout *layout;
    const struct model *model;
    struct shard_writer *shard;
    struct outcomes outcomes;
    uint64_t number;
    uint64_t batches;
    uint64_t problems;
    uint64_t
        first_new_batch; // batches before it were restored from a partial shard: their works carry no latents
    uint64_t kept_batches;             // of this shard, in the partial file that lies there already
    struct outcomes_failure *failures; // of the restored batches
    size_t failure_count;
    struct shard_problem *list; // [largest batch]
    struct shard_row *rows;     // [largest rows]
    bool *bad;                  // [largest batch]
    void **compacted;           // [layers] -> [largest rows, hidden]; touched only when a problem fails
    const void **latents;       // [layers]
};

// Pointers outlive it. `number` is the next shard's.
int open_shard_create(struct open_shard *open, const struct ledger_apart *apart,
                      const struct shard_layout *layout, const struct model *model,
                      const struct feeder_limits *limits, uint64_t number, struct error *err);
void open_shard_destroy(struct open_shard *open); // accepts zeros; drops what was not sealed

// Puts back the batches of a partial shard, the first of which is number `first_batch` of the plan.
int open_shard_restore(struct open_shard *open, const struct ledger_partial *partial, uint64_t first_batch,
                       struct error *err);

// True when this work's batch was restored: it needs no forward pass.
bool open_shard_has(const struct open_shard *open, const struct work *work);

// What came of a batch.
struct batch_result {
    uint64_t failed;     // problems with hidden states that are not finite
    uint64_t overflowed; // numbers beyond float16's range
};

// Appends a computed batch, or takes note of the problems of a restored one.
int open_shard_add(struct open_shard *open, const struct work *work, struct batch_result *result,
                   struct error *err);

// Failed and skipped problems of a window go with its first batch. *failed and *skipped get their numbers.
int open_shard_add_window(struct open_shard *open, const struct window *window, uint64_t *failed,
                          uint64_t *skipped, struct error *err);

// After a commit: the next shard, or the same number again when there was none to seal.
void open_shard_next(struct open_shard *open, uint64_t number);

#endif
