// SPDX-License-Identifier: MIT
// The ways to run a model on a machine, and what each comes to.
#ifndef STRATA_COMMANDS_PLAN_WAYS_H
#define STRATA_COMMANDS_PLAN_WAYS_H

#include <jansson.h>
#include <stdio.h>

#include "commands/plan_machine.h"
#include "job/job.h"

struct plan_work {             // what is to be run
    const struct model *model; // NULL: only its configuration is there
    const struct model_config *config;
    const struct model_limits *limits;
    struct forecast_work work;
    bool has_problems; // else the work is texts of one length, and takes no time
    size_t group;      // batches of a sweep; 0: as a run chooses
    const char *way;   // that the job is for: its model.weights; NULL: there is no job
    const char *split; // its model.split
    size_t devices;    // its number of them, as the machine has them
    bool is_held;      // packed by the checkpoint, or quantised by the job: not quantised again
    enum dtype dtype;
    uint64_t file; // bytes of the checkpoint's files; 0: they are not there
};

struct plan_way {
    const char *name; // "resident", "host", "disk", "nf4", "nf4_double"
    enum forecast_way way;
    struct footprint footprint;
    struct forecast forecast;
};

enum { PLAN_WAYS = 5 };

struct plan_ways {
    const struct plan_work *work;
    const struct plan_machine *machine;
    const struct plan_options *options;
    struct plan_way way[PLAN_WAYS];
    size_t count;
    struct generation generation; // where options->context asks for it
};

int plan_ways_make(struct plan_ways *out, const struct plan_work *work, const struct plan_machine *machine,
                   const struct plan_options *options, struct error *err);
void plan_ways_destroy(struct plan_ways *ways); // accepts zeros

// The numbers of GPUs that are told of: 2, 4, 8 ... and the most, that options->gpus says. 0 after the last.
int plan_ways_gpus(const struct plan_ways *ways, int index);

// What several such GPUs come to. False: nothing can stream where blocks are shared.
bool plan_ways_several(const struct plan_ways *ways, const struct plan_way *way, enum job_split split,
                       size_t gpus, struct forecast_several *out);

// Whether a way is one of its own: streaming is none where nothing has to stream, unless the job asks for it.
bool plan_ways_is_told(const struct plan_ways *ways, const struct plan_way *way);

// A table with a line a way; with --details the memory by purpose and by block.
void plan_ways_write(FILE *out, const struct plan_ways *ways);

// All of it; NULL when memory is out.
json_t *plan_ways_json(const struct plan_ways *ways);

#endif
