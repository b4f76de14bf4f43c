// SPDX-License-Identifier: MIT
// How a checkpoint holds a weight: as numbers in a tensor of its own, or packed, in several tensors whose
// names begin alike (codes, scales, zero points). Which it is, the tensors that are there decide, weight by
// weight; the configuration (quantization.h) says what they mean. One file a method knows the method's
// tensors (packing_NAME.c); what they become is a weight_format and, part by part, a lossless rearrangement
// of their bytes (arrange.h).
#ifndef STRATA_MODEL_PACKING_H
#define STRATA_MODEL_PACKING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "kernels/weight_format.h"
#include "model/arrange.h"
#include "model/checkpoint.h"
#include "model/quantization.h"

enum { PACKING_COMPONENTS = 12, PACKING_STEM = 256 };

struct weight_component { // a tensor of a weight
    const struct tensor *tensor;
    bool is_read;           // false: known, and nothing that is needed (a shape, a scale of activations)
    enum weight_part part;  // that it becomes
    struct arrangement how; // its bytes become those of the part
};

struct weight_source { // how the checkpoint holds a weight
    struct weight_format format;
    struct weight_component components[PACKING_COMPONENTS];
    size_t component_count;
};

// Once for a checkpoint, before its weights are looked for: what only the numbers of its tensors tell
// (GPTQ: whether zero points are stored one less, which files are known to mislabel).
int packing_settle(struct quantization *quantization, const struct checkpoint *checkpoint, struct error *err);

// Finds the tensors of the weight [rows, columns] whose name is `stem` with ".weight" behind it (of all
// experts together: `stem`), where they are packed. *found is false where the checkpoint has none (the weight
// is a tensor of numbers, or missing). STATUS_DATA naming the tensor that is missing, of another shape, or
// contradicts the configuration.
int packing_find(struct weight_source *out, const struct checkpoint *checkpoint,
                 const struct quantization *quantization, const char *stem, size_t rows, size_t columns,
                 bool *found, struct error *err);

#endif
