// SPDX-License-Identifier: MIT
// What an engine that generates text (llama.cpp) needs of a GPU's memory for the same model, so that its
// users can compare: such an engine keeps the keys and values of a whole context for every layer. strata
// computes one layer after another and keeps those of one.
//
// Two accountings stand side by side: the one that is published in forums and planners, which takes a layer
// for the file's size by its layers and counts keys and values as wide as the hidden size; and the true one,
// which knows grouped-query attention, latents, layers that keep none, and the sizes of the cache's blocks.
#ifndef STRATA_MODEL_GENERATION_H
#define STRATA_MODEL_GENERATION_H

#include <stddef.h>
#include <stdint.h>

#include "model/config.h"

enum generation_cache { GENERATION_F16, GENERATION_Q8_0, GENERATION_Q4_0 };

// "f16", "q8_0" or "q4_0"; false when it is none of them.
bool generation_cache_find(const char *name, enum generation_cache *out);

struct generation_request {
    const struct model_config *config;
    double file;    // bytes of the file that the engine loads
    size_t context; // tokens
    enum generation_cache cache;
    double memory; // bytes of the card
    double in_use; // of it, by others
    double target; // share of the card's memory that may be taken, others' part in it
};

struct generation_account {
    double weights;     // bytes of a layer
    double keys_values; // bytes of a layer
    size_t layers;      // that fit on the card
};

struct generation {
    double cached; // numbers of a token and layer, on an average of the layers
    struct generation_account published;
    struct generation_account actual;
    double own; // bytes of keys and values that strata keeps for a text as long as the context, in 16 bits
    double own_residual; // and of its residual stream
};

void generation_count(struct generation *out, const struct generation_request *request);

#endif
