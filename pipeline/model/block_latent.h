// SPDX-License-Identifier: MIT
// The steps of latent attention between its matmuls (private to block.c).
#ifndef STRATA_MODEL_BLOCK_LATENT_H
#define STRATA_MODEL_BLOCK_LATENT_H

#include "model/block.h"

// BLOCK_QUERY_NORM, BLOCK_KEY_NORM or BLOCK_KEY_PLACE; nothing where attention has no latents.
int block_latent_step(const struct block_pass *pass, const struct block_weights *weights,
                      struct device_heads heads, enum block_step step, struct error *err);

// The heads' values, from attention's output in `inner` to `wide`, without what made them as wide as queries.
int block_latent_values(const struct block_pass *pass, struct device_heads heads, struct error *err);

#endif
