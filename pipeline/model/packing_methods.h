// The methods that pack weights: what packing_find asks, one after another. Each has the contract of
// packing_find.
#ifndef STRATA_MODEL_PACKING_METHODS_H
#define STRATA_MODEL_PACKING_METHODS_H

#include "model/packing.h"

// NF4, FP4 and LLM.int8.
int packing_bitsandbytes_find(struct weight_source *out, const struct checkpoint *checkpoint,
                              const struct quantization *quantization, const char *stem, size_t rows,
                              size_t columns, bool *found, struct error *err);

// float8 numbers with scales of blocks, of rows or of the whole matrix (not those of compressed-tensors).
int packing_fp8_find(struct weight_source *out, const struct checkpoint *checkpoint,
                     const struct quantization *quantization, const char *stem, size_t rows, size_t columns,
                     bool *found, struct error *err);

#endif
