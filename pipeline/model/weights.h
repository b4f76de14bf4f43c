// The weights of a model: the table of its family (weight_table.h) drives everything that is done with them:
// validation of a checkpoint, counting, memory planning and loading.
#ifndef STRATA_MODEL_WEIGHTS_H
#define STRATA_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/weight_table.h"

// One block on the device. Vectors and matrices have the computation dtype; NULL where the model has none.
struct block_weights {
    void *input_norm;             // [hidden]
    struct device_matrix qkv;     // [(heads + 2 kv_heads) * head_dim, hidden]: q | k | v
    void *qkv_bias;               // [(heads + 2 kv_heads) * head_dim]
    void *q_norm;                 // [head_dim]
    void *k_norm;                 // [head_dim]
    struct device_matrix output;  // [hidden, heads * head_dim]
    void *output_bias;            // [hidden]
    void *post_norm;              // [hidden], before the MLP
    struct device_matrix gate_up; // [2 * intermediate, hidden]: gate | up
    void *gate_up_bias;           // [2 * intermediate]
    struct device_matrix down;    // [hidden, intermediate]
    void *down_bias;              // [hidden]
};

struct model_weights {
    void *embedding;              // [vocabulary, hidden]
    void *final_norm;             // [hidden]
    struct block_weights *blocks; // [block_count]
    size_t first_block;           // the blocks that are resident
    size_t block_count;
    bool has_embedding; // and what is before and after all blocks
    bool has_final_norm;
};

// What a tensor of the checkpoint is.
struct weight_use {
    const struct weight_row *row; // NULL: nothing that hidden states need
    size_t block;                 // of a block's weight
    size_t copy;                  // of one that the block has several of: which
};

// Checks every tensor's name, shape and dtype. *out gets one use for each of checkpoint->tensors.entries
// (the caller frees it). STATUS_DATA naming a tensor that is missing, extra or wrong. What lies beside the
// blocks (model/beside.h) is ignored.
int weights_match(struct weight_use **out, const struct model_config *config,
                  const struct checkpoint *checkpoint, struct error *err);

// Parameters in all tensors of the model, its output head included where it is not tied.
uint64_t weights_count(const struct model_config *config, bool with_head);

// The shape of what lies at this offset of struct block_weights in block number `block`, all parts of a fused
// tensor together (a vector has one column); false where that block has none.
bool weights_shape(const struct model_config *config, size_t block, size_t place, size_t *rows,
                   size_t *columns);

// Plans or takes the memory of all resident weights. Which they are is set, and weights->blocks.
int weights_lay_out(struct layout *layout, struct model_weights *weights, const struct model_config *config,
                    struct error *err);

// True when the tensor belongs to a block (or the final norm) that is not resident.
bool weights_left_out(const struct model_weights *weights, struct weight_use use);

// Rows of a tensor as loading sees them (a vector is one row a number), and the numbers in each.
void weights_rows(const struct model_config *config, struct weight_use use, size_t *rows, size_t *columns);

// Puts rows [row, row + count) of a tensor, in `format`, into its place.
int weights_put(struct device *device, struct model_weights *weights, const struct model_config *config,
                struct weight_use use, size_t row, size_t count, const void *source,
                const struct weight_format *format, struct error *err);

#endif
