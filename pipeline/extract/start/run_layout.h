// SPDX-License-Identifier: MIT
// The layout and attributes that all shards of a run share.
#ifndef STRATA_START_RUN_LAYOUT_H
#define STRATA_START_RUN_LAYOUT_H

#include "checkpoints/shard.h"
#include "start/inputs.h"
#include "start/recorded.h"

enum { RUN_LAYOUT_ATTRIBUTES = 20 };

struct run_layout {
    struct shard_layout shard;
    struct shard_attribute attributes[RUN_LAYOUT_ATTRIBUTES];
    char identity[DIGEST_HEX];
};

// Pointers go to `inputs` and `recorded`, which outlive it. After the model was loaded (its fingerprint is an
// attribute).
void run_layout_make(struct run_layout *layout, const struct inputs *inputs, const struct recorded *recorded,
                     const char identity_hash[DIGEST_HEX]);

#endif
