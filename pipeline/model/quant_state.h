// SPDX-License-Identifier: MIT
// What bitsandbytes writes beside each matrix of 4-bit codes: its quant_state, JSON in a tensor of bytes.
#ifndef STRATA_MODEL_QUANT_STATE_H
#define STRATA_MODEL_QUANT_STATE_H

#include <stddef.h>

#include "base/error.h"
#include "kernels/weight_format.h"

enum { QUANT_STATE_BYTES = 4096 }; // more than any has

struct quant_state {
    size_t rows; // of the matrix
    size_t columns;
    struct weight_lookups lookups;
};

// `type` is the one that the tensor's name ends with, "nf4" or "fp4". STATUS_DATA naming what is wrong.
int quant_state_parse(struct quant_state *out, const char *text, size_t size, const char *type,
                      struct error *err);

#endif
