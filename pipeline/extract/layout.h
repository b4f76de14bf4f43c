// The layout and attributes that all shards of a run share.
#ifndef STRATA_EXTRACT_LAYOUT_H
#define STRATA_EXTRACT_LAYOUT_H

#include "checkpoints/shard.h"
#include "extract/inputs.h"

enum { LAYOUT_ATTRIBUTES = 16, LAYOUT_NAME = 256 };

struct run_layout {
    struct shard_layout shard;
    struct shard_attribute attributes[LAYOUT_ATTRIBUTES];
    char identity[DIGEST_HEX];
    char model[LAYOUT_NAME];
};

// Pointers go to `inputs`, which outlives it. After the model was loaded (its fingerprint is an attribute).
void layout_make(struct run_layout *layout, const struct inputs *inputs,
                 const char identity_hash[DIGEST_HEX]);

// The model folder's own name, without the path to it, links or slashes: what shards and identities call the
// model.
void layout_model_name(char out[LAYOUT_NAME], const char *path);

#endif
