// SPDX-License-Identifier: MIT
// Which blocks of a model stay on its device and which stream through it, and how many batches a sweep takes,
// where the job lets blocks come from elsewhere (model.weights).
#ifndef STRATA_START_PLACEMENT_H
#define STRATA_START_PLACEMENT_H

#include "start/inputs.h"

bool placement_streams(const struct inputs *inputs); // the job allows it

// Tokens of a sweep, where the job does not say how many batches, on a device that has memory of its own or
// not.
size_t placement_tokens(bool has_own_memory);

// Settles the model's placement and the group and slots of `limits`: everything resident where that fits;
// otherwise as many batches a sweep as hide or outweigh the reading, or as the job says, and of the blocks as
// many resident as then fit. STATUS_DEVICE as model_check_fits where nothing fits. Takes no memory.
int placement_choose(const struct inputs *inputs, struct model_limits *limits, struct model_plan *plan,
                     struct error *err);

struct placement_found {
    size_t resident; // blocks that stay
    size_t group;    // batches of a sweep
};

// What placement_choose would find with this model.weights in place of the job's, where something has to
// stream. STATUS_DEVICE where that does not fit either. The model's placement is another one afterwards.
int placement_foresee(const struct inputs *inputs, const struct model_limits *limits,
                      enum job_weights weights, struct placement_found *found, struct error *err);

// What was settled, appended: "9 of 27 blocks stay, 18 come from host memory for every 32
// batches"; nothing
// where all are resident.
int placement_describe(const struct inputs *inputs, const struct model_limits *limits, struct buffer *text,
                       struct error *err);

#endif
