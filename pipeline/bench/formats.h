// SPDX-License-Identifier: MIT
// Weight formats that models come in, and matrices of random weights in them (private to this room).
#ifndef STRATA_BENCH_FORMATS_H
#define STRATA_BENCH_FORMATS_H

#include "base/error.h"
#include "kernels/weight_format.h"

// Format number `index` from 0 on; NULL after the last.
const struct weight_format *bench_format(size_t index);

// Fills a matrix, laid out as weight_layout says, with random codes; what multiplies them is small, so that
// every number is finite.
void bench_format_fill(const struct weight_format *format, size_t columns, const struct weight_layout *layout,
                       unsigned char *out);

#endif
