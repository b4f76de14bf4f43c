// SPDX-License-Identifier: MIT
// The schemes of compressed-tensors: what config_groups says of the weights (private to quantization.c).
#ifndef STRATA_MODEL_QUANTIZATION_SCHEMES_H
#define STRATA_MODEL_QUANTIZATION_SCHEMES_H

#include "model/quantization.h"

int schemes_read(struct quantization *out, const struct values *map, struct error *err);

// A list of two sizes, or "128x128"; both as they were where the key is absent.
int schemes_read_block(const struct values *map, const char *key, size_t *rows, size_t *columns,
                       struct error *err);

#endif
