// SPDX-License-Identifier: MIT
// Running statistics of one layer's stored values, in float64 and in row order: the same rows give the same
// bits however they were cut into calls. Formulas: sum_j = sum over rows of x_ij; norm_sum = sum over rows of
// sqrt(sum_j x_ij^2), the inner sum taken in 8 interleaved parts (column j in part j mod 8) that are added
// pairwise, so that it vectorises.
#ifndef STRATA_CHECKPOINTS_STATISTICS_H
#define STRATA_CHECKPOINTS_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

// Memory is the caller's: four arrays of [hidden].
struct statistics {
    double *sum;
    double *sum_of_squares;
    double *minimum; // +infinity while there is no row, so that shards can be merged by min
    double *maximum;
    double norm_sum;
    uint64_t rows;
};

void statistics_reset(struct statistics *statistics, size_t hidden);
// latents: [rows, hidden] of `dtype`. A value that is not finite leaves norm_sum not finite.
void statistics_add(struct statistics *statistics, const void *latents, enum dtype dtype, size_t rows,
                    size_t hidden);

#endif
