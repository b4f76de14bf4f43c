// SPDX-License-Identifier: MIT
// The store of the head (private to this room): on a stage, what each of its blocks keeps of the tokens that
// many texts begin with. Attention keeps keys and values, other mixers the state that the last token leaves.
// Where weights stream the head is computed in every sweep, and what one block keeps takes the place of what
// the one before it kept.
#ifndef STRATA_MODEL_HEAD_H
#define STRATA_MODEL_HEAD_H

#include "kernels/shapes.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/model.h"
#include "model/weights.h"

struct head_store {
    void **kept;     // [block_count] of the stage's blocks; NULL: the block keeps none of its own
    void *givers[2]; // keys and values that later blocks take, of blocks without a window and with one; NULL:
                     // none are
    void *common;    // where weights stream: of all blocks but those; NULL: each has a piece of its own
    void *
        *rows; // [layer_count] of the wanted hidden states that the stage takes, [head, hidden]; NULL: others
    void *expanded; // keys and values of one block as computed, where they are kept in blocks of numbers;
                    // NULL else
    size_t block_count;
    size_t layer_count;
};

// Whether the head can be of such a model and fits into the other limits.
int head_check_limits(const struct model_config *config, const struct model_limits *limits,
                      struct error *err);

// Residual streams of its own: none where it is computed before the first batch, in theirs.
size_t head_own_members(const struct model_weights *weights, const struct model_limits *limits);

// Host memory of the lists; freed by head_destroy, which accepts zeros.
int head_prepare(struct head_store *store, const struct model_weights *weights,
                 const struct model_limits *limits, struct error *err);
void head_destroy(struct head_store *store);

// Lists the store's pieces; limits->head > 0.
int head_lay_out(struct layout *layout, struct head_store *store, const struct model_weights *weights,
                 const struct model_config *config, const struct model_limits *limits, struct error *err);

// What block number `block` of the model has kept of the head, or of the block that it takes its keys and
// values from; NULL: nothing.
void *head_of_block(const struct head_store *store, const struct model_weights *weights,
                    const struct model_config *config, size_t block);

// Bytes that the givers' keys and values of the head take.
size_t head_giver_bytes(const struct model_config *config, const struct model_limits *limits, bool slides,
                        size_t number_size);

#endif
