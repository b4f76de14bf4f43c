// SPDX-License-Identifier: MIT
// A matrix that is the product of two thin ones, added to the numbers of another (LoRA's merge).
//
// For every number: sum = b[row, 0] * a[0, column] + b[row, 1] * a[1, column] + ..., in float32 and in this
// order; then number += scale * sum. Plain multiplications and additions, on whatever instruction set the
// program runs: the result depends neither on the number of threads nor on how rows are cut into calls.
#ifndef STRATA_KERNELS_LOW_RANK_H
#define STRATA_KERNELS_LOW_RANK_H

#include <stdbool.h>
#include <stddef.h>

struct low_rank {
    const float *a; // [rank, columns]
    const float *b; // [rows, rank]
    size_t rank;
    size_t columns;
    float scale;
};

// Adds to rows [row, row + count) of the matrix, which are numbers[count, columns]. False where something
// that was added is not finite.
bool low_rank_add(float *numbers, const struct low_rank *delta, size_t row, size_t count, int threads);

#endif
