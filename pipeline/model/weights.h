// SPDX-License-Identifier: MIT
// The weights of a model on a device: counting, memory planning and loading, driven by the table of its
// family (weight_table.h) and by how the checkpoint holds them (match.h).
#ifndef STRATA_MODEL_WEIGHTS_H
#define STRATA_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/match.h"
#include "model/weight_table.h"

// One block on the device. Vectors and matrices have the computation dtype; NULL or zeros where the model has
// none.
struct block_weights {
    void *input_norm; // [hidden], before attention
    void *input_norm_bias;
    struct device_matrix qkv; // [.., hidden]: q | k | v, a gate behind each query; q | k | v | z | b | a;
                              // z | x | B | C | dt
    void *qkv_bias;           // [..]
    void *q_norm;             // [head_dim], or of all heads together, or [heads, head_dim]
    void *k_norm;             // the same of kv_heads
    void *convolution;        // [hidden, taps] of a short one
    void *convolution_bias;
    struct device_matrix query_down; // [latent, hidden] of latent attention
    void *query_down_bias;           // [latent]
    void *query_norm;                // [latent]
    struct device_matrix query_up;   // [heads * head_dim, latent], or [.., hidden]
    struct device_matrix key_down;   // [latent + rotated, hidden]
    void *key_down_bias;             // [latent + rotated]
    void *key_norm;                  // [latent]
    struct device_matrix key_up;     // [heads * (unrotated + value), latent]: k | v of one head after another
    void *net_convolution;           // of a delta net (struct device_delta_net)
    void *net_decay;
    void *net_step_bias;
    void *net_norm;
    void *space_convolution; // of a state space (struct device_state_space)
    void *space_convolution_bias;
    void *space_decay;
    void *space_step_bias;
    void *space_skip;
    void *space_norm;
    struct device_matrix attention_gate; // [heads * head_dim, hidden], of attention's result
    struct device_matrix output;         // [hidden, heads * head_dim]
    void *output_bias;                   // [hidden]
    void *attention_norm;                // [hidden], behind attention
    void *mlp_norm;                      // [hidden], before the MLP or the experts
    void *mlp_norm_bias;
    struct device_matrix
        gate_up; // [2 * intermediate, hidden]: gate | up; [intermediate, hidden] without gate
    void *gate_up_bias;
    void *xielu;                      // [DEVICE_XIELU_NUMBERS]
    struct device_matrix down;        // [hidden, intermediate]
    void *down_bias;                  // [hidden]
    void *branch_norm;                // [hidden], behind the MLP or the experts
    struct device_matrix input_gate;  // [layer_input, hidden], of the block's own input
    struct device_matrix input_down;  // [hidden, layer_input]
    void *input_add_norm;             // [hidden], behind it
    void *scale;                      // [1], of the block's result
    void *no_bias;                    // NULL, of matmuls that never have one
    void *sinks;                      // [heads]
    void *router;                     // [experts, hidden] numbers
    void *router_bias;                // [experts]
    void *router_norm;                // [hidden], of what it reads, where it reads x itself
    void *expert_scales;              // [experts] numbers (struct device_routing)
    void *mlp_branch_norm;            // [hidden], behind the MLP, where experts are a branch beside it
    void *experts_norm;               // [hidden], before the experts there
    void *experts_branch_norm;        // [hidden], behind them
    void *correction;                 // [experts] float32 (struct device_routing)
    struct device_matrix latent_down; // [expert_hidden, hidden], where experts have a latent
    void *latent_down_bias;
    // [experts * 2 * width, expert_hidden]: gate | up of one after another; without a gate [experts * width,
    // ..]. expert_hidden is that of their latent, or hidden.
    struct device_matrix experts_gate_up;
    void *experts_gate_up_bias;
    struct device_matrix experts_down; // [experts * expert_hidden, width]
    void *experts_down_bias;
    struct device_matrix latent_up; // [hidden, expert_hidden], behind them
    void *latent_up_bias;
    void *shared_gate; // [hidden] of the MLP beside the experts, which is gate_up and down here
};

// Memory that the blocks which are not resident take in turn.
enum { WEIGHT_SLOTS = 2 };

struct weight_slot {
    void *data; // on the device
    bool holds; // the weights of a block
    size_t block;
};

struct model_weights {
    void *embedding;                 // [vocabulary, hidden], or embedding_width
    struct device_matrix project_in; // [hidden, embedding_width]; zeros: none
    void *positions;                 // [position_rows, hidden]; NULL: none
    void *embedding_norm;            // [hidden]
    void *embedding_norm_bias;       // [hidden]
    void *layer_embedding; // [layer_vocabulary, layers * layer_input]; NULL: blocks have no own input
    struct device_matrix layer_projection; // [layers * layer_input, hidden]
    void *layer_norm;                      // [layer_input]
    void *final_norm;                      // [hidden]
    void *final_norm_bias;                 // [hidden]
    struct block_weights *blocks;          // [block_count]
    size_t first_block;                    // the blocks that are computed with these weights
    size_t block_count;
    size_t streamed;   // so many of them, the last ones, are not resident: they come into slots when needed
    size_t slot_count; // 1 to WEIGHT_SLOTS where any is streamed
    struct weight_slot slots[WEIGHT_SLOTS];
    bool has_embedding; // and what is before and after all blocks
    bool has_final_norm;
    const struct weight_match *match; // which matrices are kept as the checkpoint has them; NULL: none
};

// Parameters in all tensors of the model, its output head included where it is not tied.
uint64_t weights_count(const struct model_config *config, bool with_head);

// The shape of what lies at this offset of struct block_weights in block number `block`, all parts of a fused
// tensor together (a vector has one column); false where that block has none.
bool weights_shape(const struct model_config *config, size_t block, size_t place, size_t *rows,
                   size_t *columns);

// Plans or takes the memory of all weights. Which they are is set, and weights->blocks.
int weights_lay_out(struct layout *layout, struct model_weights *weights, const struct model_config *config,
                    struct error *err);

// The first block that comes into a slot (behind the last where none does), whether one does, and into which.
size_t weights_first_streamed(const struct model_weights *weights);
bool weights_is_streamed(const struct model_weights *weights, size_t block);
struct weight_slot *weights_slot(struct model_weights *weights, size_t block);

// Bytes that a block takes on the device, as it is held.
int weights_block_bytes(const struct model_weights *weights, const struct model_config *config,
                        const struct device *device, size_t block, size_t *bytes, struct error *err);

// True when the tensor belongs to a block (or the final norm) that is not computed with these weights.
bool weights_left_out(const struct model_weights *weights, struct weight_use use);

// Rows of a tensor as loading sees them (a vector is one row a number), and the numbers in each.
void weights_rows(const struct model_config *config, struct weight_use use, size_t *rows, size_t *columns);

// Puts rows [row, row + count) of a weight, in `format`, into its place, where it is stored as computed.
int weights_put(struct device *device, struct model_weights *weights, const struct model_config *config,
                struct weight_use use, size_t row, size_t count, const void *source,
                const struct weight_format *format, struct error *err);

// The same from a view of all its rows.
int weights_put_view(struct device *device, struct model_weights *weights, const struct model_config *config,
                     struct weight_use use, const struct weight_view *view, struct error *err);

// Whether the weight is kept as the checkpoint has it.
bool weights_are_kept(const struct model_weights *weights, const struct model_config *config,
                      struct weight_use use);

// Puts bytes of a part of such a weight (device_piece_load).
int weights_put_part(struct device *device, struct model_weights *weights, const struct model_config *config,
                     struct weight_use use, enum weight_part part, size_t offset, const void *source,
                     size_t bytes, struct error *err);

#endif
