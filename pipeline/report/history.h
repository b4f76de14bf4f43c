// SPDX-License-Identifier: MIT
// What a run's ledger tells of its time: launches, batches along a timeline, events.
#ifndef STRATA_REPORT_HISTORY_H
#define STRATA_REPORT_HISTORY_H

#include "checkpoints/ledger.h"
#include "report/series.h"
#include "report/timeline.h"

enum history_metric {
    METRIC_RATE,        // tokens a second of computing and waiting, of all devices together
    METRIC_DRIFT,       // the detector's score
    METRIC_MEMORY,      // resident bytes of the process, or the GPU's in use
    METRIC_UTILIZATION, // from here on those of struct ledger_device
    METRIC_DEVICE_MEMORY,
    METRIC_POWER,
    METRIC_TEMPERATURE,
    METRIC_CLOCK,
    HISTORY_METRICS
};

enum { HISTORY_FIGURES = HISTORY_METRICS - METRIC_UTILIZATION };

enum history_stage {
    STAGE_COMPUTE,
    STAGE_WAIT,
    STAGE_PREPARE,
    STAGE_WRITE,
    STAGE_UPLOAD,
    STAGE_DEVICE,
    STAGE_DOWNLOAD,
    HISTORY_STAGES
};

enum { HISTORY_EVENTS = 200, HISTORY_DEVICES = 16 };

struct history_event {
    int64_t at;
    uint64_t launch;
    char *kind, *text;
};

struct history_shard { // of struct ledger_shard
    uint64_t first_batch, batches;
    int64_t sealed_at;
};

struct history {
    struct ledger_launch_record *launches;
    size_t launch_count;
    struct history_shard *shards;
    size_t shard_count;
    struct history_event events[HISTORY_EVENTS]; // the last ones, the latest first
    size_t event_count;
    uint64_t events_seen;
    struct timeline timeline; // of the launches that worked on the run
    struct series *series;    // [HISTORY_METRICS]
    struct series *by_device; // [device_count, HISTORY_FIGURES]
    double seconds[HISTORY_STAGES];
    bool known[HISTORY_STAGES]; // some batch has it
    uint64_t batches;
    char devices[HISTORY_DEVICES][LEDGER_DEVICE_NAME]; // of a run on several
    size_t device_count;
};

// All but the batches. The open launch goes on until now if the run does.
int history_read(struct history *history, struct ledger *ledger, int64_t now, bool running,
                 struct error *err);

// The batches, after timeline_arrange: the ledger knows when a shard was sealed and how long its batches
// took, from which follows when each of them was computed.
int history_read_batches(struct history *history, struct ledger *ledger, struct error *err);
// One device's figures, of a run on several; NULL for metrics that no device has of its own.
const struct series *history_of_device(const struct history *history, size_t device,
                                       enum history_metric metric);
void history_destroy(struct history *history); // accepts zeros; leaves zeros

#endif
