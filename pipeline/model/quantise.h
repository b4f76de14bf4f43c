// SPDX-License-Identifier: MIT
// Matrices that a checkpoint has as numbers, quantised when they are loaded (kernels/quantise.h).
#ifndef STRATA_MODEL_QUANTISE_H
#define STRATA_MODEL_QUANTISE_H

#include "model/match.h"

// What a matrix of a block becomes; not for MODEL_QUANTIZE_NONE.
struct weight_format quantise_format(enum model_quantize how);

// Says of every matrix of a block that it is quantised. STATUS_JOB where the checkpoint is packed already
// (is_packed).
int quantise_matrices(struct weight_match *match, enum model_quantize how, bool is_packed, struct error *err);

#endif
