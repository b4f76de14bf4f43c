// SPDX-License-Identifier: MIT
// What `strata status` knows about a run at one moment: read from its ledger, its lock and its file system,
// nothing else.
#ifndef STRATA_COMMANDS_RUN_SNAPSHOT_H
#define STRATA_COMMANDS_RUN_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "checkpoints/ledger_lanes.h"
#include "commands/predicted.h"

enum run_state {
    RUN_NEW,     // no launch yet
    RUN_RUNNING, // a launch without an end, and the lock is held
    RUN_KILLED,  // a launch without an end, and nobody holds the lock
    RUN_ENDED,
};

struct run_snapshot {
    int64_t now; // unix seconds
    enum run_state state;
    uint64_t launches;
    struct ledger_launch_record launch; // the last one that worked on the run, or is at its start
    bool refused;                       // a later one came to nothing before it worked on the run
    struct ledger_launch_record refusal;
    bool has_survey;
    struct ledger_survey survey;
    struct ledger_totals totals; // sealed and acknowledged
    struct ledger_retry_counts failures;
    bool has_progress;
    struct ledger_progress progress; // live; zeros without one
    uint64_t remaining;              // problems without a final state
    uint64_t planned_batches;        // of the survey, or those that are sealed when a retry has added some
    uint64_t batches;                // computed: sealed ones, and those of the open shard while running
    uint64_t tokens;                 // as above
    uint64_t text_tokens; // of all texts, where those begin alike and fewer are computed; 0: as many are
    double overall_rate;  // tokens per second of computing; 0: not known
    double elapsed;       // seconds of all launches
    bool has_eta;
    double eta; // seconds
    uint64_t disk_free;
    bool has_planned;
    struct buffer cpu_paths; // "avx512bf16, avx2 from batch 12"; empty: the run has kept to one
    uint64_t batch_tokens; // of a GPU's shape: what every batch costs it; 0: not known, or a processor's run
    // Of it, computed for filled_tokens of texts; of sealed batches where a text is longer.
    uint64_t filled_shapes;
    uint64_t filled_tokens;
    struct buffer weights; // how matrices are held that are packed: "Q4_K and Q6_K"; empty: none is
    struct buffer
        elsewhere; // what a launch does on another machine, of which the ledger's copy here says nothing
    struct buffer adapter; // of the run's model: "LoRA of rank 8 on 14 matrices, SHA-256 ..."; empty: none
    struct ledger_lane lanes[LEDGER_LANES]; // of a run on several devices, of the last launch
    size_t lane_count;
    struct buffer residency; // the device's report after the load, a JSON object; empty: none
    struct predicted predicted;
    uint64_t planned; // bytes of shards still to be written, from the bytes a row took so far
};

const char *run_state_name(enum run_state state); // "new", "running", "killed", "ended"

// STATUS_DATA when there is no ledger in `folder` or it cannot be read.
int run_snapshot_take(struct run_snapshot *snapshot, const char *folder, struct error *err);

// Of a run's ledger, for run_snapshot.batch_tokens.
int run_snapshot_batch_tokens(uint64_t *tokens, struct ledger *ledger, struct error *err);
void run_snapshot_free(struct run_snapshot *snapshot); // also after a failure

#endif
