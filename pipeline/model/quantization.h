// What config.json says of packed weights: its quantization_config (or compression_config).
#ifndef STRATA_MODEL_QUANTIZATION_H
#define STRATA_MODEL_QUANTIZATION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "model/values.h"

enum quantization_method {
    QUANTIZATION_NONE, // config.json says nothing
    QUANTIZATION_AWQ,
    QUANTIZATION_GPTQ,
    QUANTIZATION_BITSANDBYTES,
    QUANTIZATION_FP8,
    QUANTIZATION_COMPRESSED_TENSORS,
};

struct quantization {
    enum quantization_method method;
    char name[32];      // "awq", as config.json writes it; "" where it says nothing
    size_t bits;        // of a code, where the method has a choice
    size_t group;       // columns that share a scale; 0: all (group_size -1)
    bool zero_point;    // awq
    bool gptq_v2;       // zero points are stored as they are, not one less
    bool gptq_by_order; // desc_act: columns may be of any group
    size_t block_rows;  // fp8: weight_block_size; 0: none
    size_t block_columns;
};

// From the key of config.json; all zeros where it is absent. STATUS_DATA naming the method and what to do
// instead where it, or one of its settings, is not supported.
int quantization_read(struct quantization *out, const struct values *config, struct error *err);

#endif
