// SPDX-License-Identifier: MIT
// Texts that are longer than a batch and run in slices: what there is to say of them.
#ifndef STRATA_START_SLICES_H
#define STRATA_START_SLICES_H

#include "start/inputs.h"

// Appended, where there are such texts: "3 texts are longer than a batch: the longest, of 65,536 tokens, runs
// in 9 slices, with 0.27 GB of keys and values of a block at a time and 0.54 GB of residual stream". `limits`
// as they are settled.
int slices_describe(const struct inputs *inputs, const struct model_limits *limits, struct buffer *text,
                    struct error *err);

#endif
