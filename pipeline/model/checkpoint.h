// SPDX-License-Identifier: MIT
// A model's weight files: model.safetensors, the shards that model.safetensors.index.json names, or GGUF
// files; open, headers parsed, every tensor to be found by name. Picks the container; the rest of the room
// sees tensors.
#ifndef STRATA_MODEL_CHECKPOINT_H
#define STRATA_MODEL_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "model/config.h"
#include "model/tensors.h"

struct checkpoint_file {
    char *path;
    const char *name; // the last part of path
    int descriptor;   // open for reading, or -1
    size_t size;
};

struct checkpoint {
    struct checkpoint_file *files; // ascending by name
    size_t count;
    struct tensors tensors; // of all files
    struct buffer notes;    // for people: what was passed over, a line each; data may be NULL
};

// STATUS_DATA with the file, the tensor and the reason. Index and shards must agree in all that hidden states
// need.
int checkpoint_open(struct checkpoint *out, const char *model, const struct model_config *config,
                    struct error *err);

// Once a container's reader filled the directory: tensors_order, and STATUS_DATA where two files have a
// tensor of one name.
int checkpoint_order(struct checkpoint *checkpoint, struct error *err);

void checkpoint_close(struct checkpoint *checkpoint); // accepts zeros; leaves zeros

uint64_t checkpoint_bytes(const struct checkpoint *checkpoint); // of all files

#endif
