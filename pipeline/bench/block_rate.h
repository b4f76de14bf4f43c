// SPDX-License-Identifier: MIT
// How fast this machine's processor runs blocks of a model, measured on one with random weights: what a plan
// goes by where it plans for the machine at hand. Rates are those of threads that have their processors to
// themselves, also where others use them meanwhile.
#ifndef STRATA_BENCH_BLOCK_RATE_H
#define STRATA_BENCH_BLOCK_RATE_H

#include "kernels/device.h"
#include "model/config.h"

struct bench_block_rate {
    double operations; // a second, in whole blocks, attention and norms among them
    double conversion; // bytes a second of weights that are put into the layout of matmuls
    double expansion;  // bytes a second that are read and written where packed weights (NF4) are expanded
    size_t tokens;     // of the batch that was measured
};

// Batches of at most `tokens` tokens in texts of `length`; fewer where so many would take long. Takes about a
// second. STATUS_DEVICE where a block does not fit into memory.
int bench_block_rate(struct bench_block_rate *out, const struct model_config *config,
                     const struct device_options *options, size_t tokens, size_t length, struct error *err);

#endif
