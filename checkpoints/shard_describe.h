// SPDX-License-Identifier: MIT
// What a shard says about its layers: attributes and statistics. The virtual view says the same of the whole
// run.
#ifndef STRATA_CHECKPOINTS_SHARD_DESCRIBE_H
#define STRATA_CHECKPOINTS_SHARD_DESCRIBE_H

#include "checkpoints/hdf5_file.h"
#include "checkpoints/statistics.h"

int shard_set_u64(hid_t file, const char *path, const char *name, uint64_t value, struct error *err);

// Names the layer of the dataset at `path` three ways: the transformers index, the block and side of the
// final norm, and a sentence. Block 0 is the embedding; pre_norm has no index, but a flag.
int shard_name_layer(hid_t file, const char *path, size_t layer, size_t model_layers, enum dtype dtype,
                     struct error *err);

// Makes /statistics/hs_NNN; the group /statistics is there.
int shard_write_statistics(hid_t file, const struct statistics *figures, size_t layer, size_t model_layers,
                           size_t hidden, struct error *err);

#endif
