// SPDX-License-Identifier: MIT
// What config.json says of packed weights: its quantization_config (or compression_config). How a weight is
// packed its tensors decide (packing.h); this tells what they cannot, and what they must not contradict.
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
    QUANTIZATION_MXFP4,
};

enum quantization_strategy { // what shares a scale
    STRATEGY_TENSOR,
    STRATEGY_CHANNEL, // a row
    STRATEGY_GROUP,   // columns of a row
    STRATEGY_BLOCK,   // rows and columns
};

struct quantization_scheme { // of some weights: compressed-tensors has several
    bool is_float;           // codes are float8, else integers
    size_t bits;
    enum quantization_strategy strategy;
    size_t group; // STRATEGY_GROUP: columns
    size_t block_rows;
    size_t block_columns;
    bool has_zeros; // asymmetric
    bool by_order;  // columns may be of any group
};

struct quantization_setting { // of some modules: what GPTQ's `dynamic` says beside that of all
    size_t bits;
    size_t group;
    bool by_order;
};

enum { QUANTIZATION_SCHEMES = 16 };

struct quantization {
    enum quantization_method method;
    char name[32];       // "awq", as config.json writes it; "" where it says nothing
    size_t bits;         // of a code: awq, gptq, bitsandbytes
    size_t group;        // awq, gptq: columns that share a scale; 0: all (group_size -1)
    bool gptq_v2;        // zero points are stored as they are, not one less
    bool gptq_by_order;  // desc_act: columns may be of any group
    bool gptq_overrides; // `dynamic`: modules may have settings of their own
    struct quantization_setting gptq_settings[QUANTIZATION_SCHEMES]; // that it names; it may name none
    size_t gptq_setting_count;
    bool zeros_in_middle; // gptq: all zero points are, as packing_settle found
    size_t block_rows;    // fp8: weight_block_size; 0: none
    size_t block_columns;
    struct quantization_scheme schemes[QUANTIZATION_SCHEMES]; // compressed-tensors
    size_t scheme_count;
};

// From the key of config.json; all zeros where it is absent. STATUS_DATA naming the method and what to do
// instead where it, or one of its settings, is not supported.
int quantization_read(struct quantization *out, const struct values *config, struct error *err);

#endif
