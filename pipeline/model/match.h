// SPDX-License-Identifier: MIT
// A checkpoint's tensors against the table of weights: what each tensor is, and how the checkpoint holds each
// weight.
#ifndef STRATA_MODEL_MATCH_H
#define STRATA_MODEL_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model.h"
#include "model/packing.h"
#include "model/weight_table.h"

#define MATCH_HEAD "lm_head.weight" // the output head's tensor; the embedding's too where that is missing

// What a tensor of the checkpoint is.
struct weight_use {
    const struct weight_row *row; // NULL: nothing that hidden states need
    size_t block;                 // of a block's weight
    size_t copy;                  // of one that the block has several of: which
    size_t bound;                 // which of weight_match's
    size_t component;             // of its source
};

struct weight_bound { // a weight and how the checkpoint holds it
    struct weight_use use;
    struct weight_source source;
    bool is_quantised; // when it is loaded: a tensor of numbers becomes all parts of the format
};

struct weight_match {
    struct weight_use *uses;    // [checkpoint->tensors.count]
    struct weight_bound *bound; // [count] in the order of blocks, rows and copies
    size_t count;
    enum model_quantize quantize; // of matrices that the checkpoint has as numbers
    bool expands; // no matrix is kept in the checkpoint's format: all are expanded when they are loaded
};

// The table whose names the checkpoint has, where a family's files are of two kinds.
const struct weight_table *weights_table_of(const struct model_config *config,
                                            const struct checkpoint *checkpoint);

// Checks every tensor's name, shape and type. STATUS_DATA naming a tensor that is missing, extra or wrong.
// What lies beside the blocks (model/beside.h) is ignored.
int weights_match(struct weight_match *out, const struct model_config *config,
                  const struct checkpoint *checkpoint, struct error *err);
void weights_match_destroy(struct weight_match *match); // accepts zeros; leaves zeros

// How the checkpoint holds a weight that it has.
struct weight_source *weights_source(const struct weight_match *match, const struct weight_row *row,
                                     size_t block, size_t copy);

// From a copy's source to the next one's, and from its format to the next one's.
enum { WEIGHTS_SOURCE_APART = sizeof(struct weight_bound) };

// Whether a matrix stays as the checkpoint has it: one of its parts, in a block, is packed, and where experts
// have it each, in formats that are alike.
bool weights_keep(const struct weight_match *match, const struct model_config *config,
                  const struct weight_row *row, size_t block);

// Of a kept matrix of `rows`, each `row_bytes` stored as computed, of which experts have one each or all of
// them one: bytes that are expanded at a time, as device_plan_matrix has them.
size_t weights_at_once(const struct model_config *config, const struct weight_row *row, size_t block,
                       size_t rows, size_t row_bytes);

// How many experts' matrices the row's is made of; 0: it is none of experts.
size_t weights_experts(const struct model_config *config, const struct weight_row *row, size_t block);

#endif
