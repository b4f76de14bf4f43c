// SPDX-License-Identifier: MIT
// A model in GGUF files: one, or the parts of a split one, NAME-00001-of-00003.gguf and so on, which lie
// beside each other.
#ifndef STRATA_MODEL_GGUF_OPEN_H
#define STRATA_MODEL_GGUF_OPEN_H

#include "model/checkpoint.h"
#include "model/gguf_metadata.h"

struct gguf_model {
    struct checkpoint checkpoint;  // tensors under transformers' names, in order
    struct gguf_metadata metadata; // of the first part
    struct tensor rope_factors; // rope_freqs.weight, which is none of the model's; name NULL: there is none
};

// STATUS_DATA with the file and the reason: also where parts contradict each other or their names.
int gguf_open(struct gguf_model *out, const char *path, struct error *err);
void gguf_close(struct gguf_model *model); // accepts zeros; leaves zeros

#endif
