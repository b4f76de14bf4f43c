// SPDX-License-Identifier: MIT
// What a model takes, by purpose and by block, counted from its configuration and the formats of its weights
// alone: no device, and where the checkpoint is not there no weights. Plans for machines that are not here go
// by it. Sums that no memory holds are UINT64_MAX.
#ifndef STRATA_MODEL_FOOTPRINT_H
#define STRATA_MODEL_FOOTPRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/model.h"

struct footprint_block {
    uint64_t held;     // bytes on a device
    uint64_t file;     // in the checkpoint's files
    uint64_t expanded; // of what is kept packed, stored as computed
    uint64_t largest;  // of that, one matrix: the scratch to expand into
};

struct footprint {                     // of the weights
    const struct model_config *config; // the caller's
    enum dtype dtype;                  // of computation
    size_t blocks;                     // that are computed
    struct footprint_block *block;     // [blocks]
    uint64_t embedding;
    uint64_t final_norm;         // 0 where no hidden state is behind it
    uint64_t all_blocks;         // held
    uint64_t expansion;          // the largest matrix of all blocks that is kept packed
    struct footprint_block most; // of each, in any block
};

// Of the blocks before hidden state `last`. The matrices are held as the checkpoint and the model's options
// say, or where `quantize` asks for it quantised when they are loaded (STATUS_JOB where they are packed
// already).
int footprint_of_model(struct footprint *out, const struct model *model, size_t last, enum dtype dtype,
                       enum model_quantize quantize, struct error *err);

// The same of a checkpoint that is not there: of numbers, in the type that config.json gives.
int footprint_of_config(struct footprint *out, const struct model_config *config, size_t last,
                        enum dtype dtype, enum model_quantize quantize, struct error *err);

void footprint_destroy(struct footprint *footprint); // accepts zeros; leaves zeros

struct footprint_batch {  // beside the weights
    uint64_t activations; // tables and what is pooled among them
    uint64_t keys_values; // of the activations: those of one block, of the longest text where it is in slices
    // Beside the activations, of the head that texts go on from: what all blocks keep of it, and where
    // weights stream, the block that keeps most, with residual streams of its own.
    uint64_t head;
    uint64_t head_streamed;
    uint64_t residuals; // beside the activations: the other slices of that text; they are a group's too
    uint64_t scratch;   // of a GPU: its workspaces
    uint64_t staging;   // of a GPU in host memory; a processor's is its own
};

// Of batches of these limits. `has_own_memory`: of a GPU.
void footprint_of_batch(struct footprint_batch *out, const struct model_config *config, enum dtype dtype,
                        const struct model_limits *limits, bool has_own_memory);

// Bytes of a token's residual stream, and of what lies beside it as long.
uint64_t footprint_residual(const struct model_config *config, enum dtype dtype);

// Parameters of the whole model with its output head, and the bytes that they take with the matrices of
// blocks at 16 bits, or as `quantize` says, and everything else at 16 bits.
uint64_t footprint_parameters(const struct model_config *config);
uint64_t footprint_of_all(const struct model_config *config, enum model_quantize quantize);

// Of these, those that compute a token: of experts the chosen ones.
uint64_t footprint_active_parameters(const struct model_config *config);

// Whether the matrices of the family's blocks can be quantised when they are loaded (model.quantize).
bool footprint_can_quantise(const struct model_config *config);

#endif
