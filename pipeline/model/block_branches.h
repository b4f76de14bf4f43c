// SPDX-License-Identifier: MIT
// How the two branches of a block join the residual stream (private to block.c and block_matmuls.c).
#ifndef STRATA_MODEL_BLOCK_BRANCHES_H
#define STRATA_MODEL_BLOCK_BRANCHES_H

#include "model/block.h"

// Whether a branch's last operation adds to x itself.
bool block_adds_at_once(const struct model_config *config);

// The same of the second branch: experts and the MLP beside them are one sum before it is added.
bool block_mlp_adds_at_once(const struct model_config *config, size_t block);

// Whether an MLP lies beside the experts.
bool block_has_shared(const struct model_config *config, size_t block);

bool block_has_norm_before(const struct model_config *config);

// Offsets in struct block_buffers of what the first matmul of a branch reads, and of what its last one
// writes. Serial branches that are not added at once have no more need of what they read; experts read it to
// the end.
size_t block_branch_in(const struct model_config *config);
size_t block_branch_out(const struct model_config *config, bool at_once);

#endif
