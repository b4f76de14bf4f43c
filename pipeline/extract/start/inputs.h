// SPDX-License-Identifier: MIT
// Everything a job names, opened and checked: problems, tokenizer, model, device. `strata run`, `check` and
// `plan` open the same inputs in the same order, by inputs_open; a check asks for one part after the other,
// so that it reports every one.
#ifndef STRATA_START_INPUTS_H
#define STRATA_START_INPUTS_H

#include "checkpoints/device_trail.h"
#include "checkpoints/identity.h"
#include "checkpoints/run_set.h"
#include "checkpoints/survey_file.h"
#include "job/job.h"
#include "model/model.h"
#include "stages/batch_plan.h"
#include "stages/prepare.h"
#include "start/survey.h"

enum { INPUTS_DEVICE_NAME = 16 };

// Told of each part that may wait for ever: for files that do not come, for a driver that does not answer.
struct inputs_phases {
    void (*begin)(void *context, const char *name, bool reads_files); // NULL: nobody is told
    void (*end)(void *context);
    void *context;
};

// A part of the job, where a run is one (number.count > 0).
struct part_of_set {
    struct run_part number;
    char folder[PATH_SIZE];    // of the set; job.output is that of the part
    struct survey_file survey; // of all parts
    uint64_t first;            // rows [first, end) of the query
    uint64_t end;
    struct run_set_shared shared; // what parts that came before settled
    bool is_shared;               // there is such a part
};

struct inputs {
    struct job job;
    struct part_of_set part;
    char *model_named; // model.path of the job where job.model_path is a copy of that; NULL: it is none
    struct inputs_phases phases;
    uint64_t limit;     // first rows of the query only; 0: all
    struct watch watch; // of the problems' reading
    struct source *source;
    struct tokenizer *tokenizer;
    struct model *model;
    // The model's, as it was opened, of several the first; `reason` says why this run computes on it. Zeros:
    // none yet.
    struct device_description device;
    char device_names[MODEL_DEVICES][INPUTS_DEVICE_NAME]; // "cuda:1"
    size_t device_count;
    struct device_trail trail; // on what the run computed so far
    bool path_changes;         // the run goes on with another CPU path than its last one
    struct preparer *preparer;
    struct buffer
        warnings; // what was found beside the files that are read and may change what transformers gives
    struct buffer notes;   // what else people may want to know; a line each, as in warnings; data may be NULL
    struct buffer weights; // how packed matrices are held (model_weight_formats); data NULL: none is packed
    struct buffer adapter; // what model.adapter is ("LoRA of rank 8 on 14 matrices, SHA-256 ..."); likewise
    size_t *layers;        // ascending transformers indices; config_pre_norm: before the final norm
    size_t layer_count;
    struct plan_limits limits;
    bool has_begun;       // the run is in the ledger: it goes on with what that says of batches
    struct buffer head;   // int32: tokens that texts go on from (limits.head); data NULL: there is none
    struct survey survey; // filled by the caller, as the rest
    bool retries;         // failed problems of a run are tried again
    struct survey retry;  // of those problems; zeros without
};

// overrides: NULL and 0 leave the job's values.
struct inputs_options {
    const char *job_path;
    const char *output;     // run directory, relative to the working folder
    const char *model_copy; // of model.path, to be read in its place; likewise
    uint64_t limit;
    int threads;
    struct run_part part; // count 0: the whole job
    const char *device;   // "cpu" or "cuda:N"
    struct watch watch;
    struct inputs_phases phases;
};

int inputs_read_job(struct inputs *inputs, const struct inputs_options *options, struct error *err);

// Where the job has its model: what is recorded of it, wherever it is read.
const char *inputs_model_path(const struct inputs *inputs);

// The parts of the inputs, in the order in which they are opened.
enum inputs_part {
    INPUTS_PROBLEMS = 1 << 0,  // database, query, ids
    INPUTS_TOKENIZER = 1 << 1, // and what lies beside it
    INPUTS_MODEL = 1 << 2,     // config, tensor headers, wanted layers; warnings
    INPUTS_DEVICE = 1 << 3,    // one that can compute the model, where that was opened
    INPUTS_TEMPLATE =
        1 << 4, // with steps and metadata, against the query's columns; after all but the device
};

// Opens the wanted `parts` (a sum of enum inputs_part) and asks the watch between two of them whether to stop
// (STATUS_STOPPED). `ledger`, for the device: of the run that goes on; NULL: of a new one.
int inputs_open(struct inputs *inputs, unsigned parts, struct ledger *ledger, struct error *err);

void inputs_close(struct inputs *inputs); // accepts zeros

// For the plan of this launch's batches. A failed problem is tried again with the head alone: where a number
// of a text that it went on from had become infinite, that may have been what failed it.
struct plan_limits inputs_plan_limits(const struct inputs *inputs);

// After the survey: the largest shapes the run will meet.
void inputs_model_limits(const struct inputs *inputs, struct model_limits *limits);

// Blocks that are computed for the wanted layers.
size_t inputs_blocks(const struct inputs *inputs);

// The same for sweeps of so many batches: group, slots, and members enough for the longest text.
void inputs_set_group(const struct inputs *inputs, struct model_limits *limits, size_t group);

// Slots of outputs for sweeps of so many batches a device, as the model is placed now, the canary's among
// them; and those of the canary, the last ones: on devices that queue it runs as a whole sweep.
size_t inputs_slots(const struct inputs *inputs, size_t group);
size_t inputs_canary_slots(const struct inputs *inputs, size_t group);

// The tokens of those shapes are a multiple of it. A device that queues runs its matmuls at one shape, in
// tiles: whole ones, so that a few tokens more or less in the largest batch change neither their number nor
// the algorithm that suits it.
enum { INPUTS_QUEUED_UNIT = 256 };
size_t inputs_token_unit(const struct inputs *inputs);

// Tokens of the largest shape for batches of so many: in whole units, and where the longest text is longer
// still, as many as its slices may have: a multiple of DEVICE_SLICE, and of the unit.
enum { INPUTS_SLICE_UNIT = 768 };
size_t inputs_shape_tokens(size_t unit, size_t tokens, size_t longest);

// After the survey: STATUS_DATA when no problem can be run, unless the job allows that.
int inputs_refuse_nothing(const struct inputs *inputs, struct error *err);

// Bytes of the shards of what a survey counted (of the whole run, of a retry), a little over rather than
// under.
uint64_t inputs_planned_bytes(const struct inputs *inputs, const struct survey *survey);

// "cuda:0", or "cuda:0, cuda:1".
enum { INPUTS_DEVICE_NAMES = MODEL_DEVICES * (INPUTS_DEVICE_NAME + 2) };
const char *inputs_device_names(const struct inputs *inputs, char text[INPUTS_DEVICE_NAMES]);

#define IDENTITY_WEIGHTS "model.weights" // of a run's identity, where any matrix is packed or quantised
#define IDENTITY_ADAPTER "model.adapter" // of a run with one

// Everything that may change a byte of output: content, not where it lies. The model's fingerprint is added
// when it is known (NULL: left out).
int inputs_identity(const struct inputs *inputs, const char *model_fingerprint, struct identity *identity,
                    struct error *err);

#endif
