// SPDX-License-Identifier: MIT
// The writer's own fields, shared by shard.c (life of a shard) and shard_replay.c.
#ifndef STRATA_CHECKPOINTS_SHARD_WRITER_H
#define STRATA_CHECKPOINTS_SHARD_WRITER_H

#include "base/file.h"
#include "checkpoints/shard.h"
#include "checkpoints/shard_columns.h"
#include "checkpoints/statistics.h"

enum { SHARD_LAYERS = 1024 }; // hidden states a shard can hold

struct shard_writer {
    const struct shard_layout *layout;
    char folder[PATH_SIZE];     // the run directory
    char open_in[PATH_SIZE];    // where the open .tmp file lies: there, or in another folder
    struct copy_claim claim;    // of copies from there
    char aside[PATH_SIZE];      // path of the open .tmp file
    struct arena arena;         // every buffer below
    struct column *latents;     // [layer_count]
    struct statistics *figures; // [layer_count]
    struct shard_columns columns;
    hid_t type; // of the latents
    hid_t file; // invalid while no shard is open
    uint64_t number;
    bool open;
    bool broken; // HDF5 failed: it is not called again
};

#endif
