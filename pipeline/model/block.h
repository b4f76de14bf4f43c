// SPDX-License-Identifier: MIT
// A transformer block, written once: its operations in order, and the list of its matmuls. Running a model,
// tuning it, checking shapes, sizing buffers, counting operations and measuring (bench/) all go by what is
// here. What families differ in is in struct model_config; a family with a new kind of block changes this
// file and block.c, what a block holds (weights.h) and the tables of weights (weight_rows_*.c) and families
// (families_*.c).
//
// A block knows neither the model nor where its buffers come from: the caller fills a struct block_pass.
#ifndef STRATA_MODEL_BLOCK_H
#define STRATA_MODEL_BLOCK_H

#include "kernels/device.h"
#include "kernels/shapes.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/weights.h"

enum block_step { // the operations of a block, in order; a block passes over those that it has not
    BLOCK_ATTENTION_NORM,
    BLOCK_QUERY_DOWN, // of latent attention, in place of BLOCK_QKV
    BLOCK_QUERY_NORM,
    BLOCK_QUERY_UP,
    BLOCK_KEY_DOWN,
    BLOCK_KEY_NORM,
    BLOCK_KEY_UP,
    BLOCK_KEY_PLACE,
    BLOCK_QKV,
    BLOCK_ROPE,           // norms of heads, where the model has them, and rotation
    BLOCK_ATTENTION,      // or what stands in its place (enum block_mixer)
    BLOCK_ATTENTION_GATE, // of what has come of it, from the norm before
    BLOCK_GATING,
    BLOCK_OUTPUT,
    BLOCK_ATTENTION_ADD, // of a branch that is normalised or scaled before it is added
    BLOCK_MLP_NORM,
    BLOCK_GATE_UP,
    BLOCK_ACTIVATION,
    BLOCK_DOWN,
    BLOCK_EXPERTS_DOWN, // what experts compute with, where it is not as wide as the residual stream
    BLOCK_EXPERTS,      // the gate of the MLP beside them, the choice and the products
    BLOCK_EXPERTS_UP,
    BLOCK_MLP_ADD,
    BLOCK_INPUT_GATE, // what the block has of a token of its own
    BLOCK_INPUT_ACTIVATION,
    BLOCK_INPUT_DOWN,
    BLOCK_INPUT_ADD,
    BLOCK_SCALE,
    BLOCK_STEPS
};

enum block_kind { BLOCK_KIND_MATMUL, BLOCK_KIND_NORM, BLOCK_KIND_OTHER };

enum block_kind block_step_kind(enum block_step step);

// What the operations read and write, on the device and of its dtype; shared by all blocks.
struct block_buffers {
    void *x;                     // [tokens, hidden] the residual stream
    void *normed;                // [tokens, hidden]
    void *wide;                  // [tokens, max(qkv, gate_up)] these two are never alive together
    void *inner;                 // [tokens, max(heads * head_dim, intermediate)] nor are their results
    void *latent;                // [tokens, ..] of latent attention: a product; of experts with a latent:
                                 // what they read; NULL: there is none
    void *key_latent;            // [tokens, latent] what keys and values are made from; what experts write
    void *branch;                // [tokens, hidden] of branches that are not added at once; NULL: none
    struct device_routes routes; // of blocks with experts; NULL: none has
};

// A batch on its way through the blocks.
struct block_pass {
    struct device *device;
    const struct model_config *config;
    struct block_buffers buffers;
    void *scratch;       // of attention and of experts
    const float *cosine; // [.., rotated / 2] rotary tables
    const float *sine;
    const float *local_cosine; // the same of blocks with BLOCK_ROPE_LOCAL; NULL: there are none
    const float *local_sine;
    const int32_t *rope_row;  // [tokens] rows of the tables
    const float *query_scale; // [..] by rope_row; NULL: none
    const float *slopes;      // [heads]; NULL: none
    struct device_texts texts;
    const void *layer_inputs; // [tokens, layers * layer_input]; NULL: blocks have none
    void *shared[2]; // keys and values of the pass's texts that later blocks take, from their first token on:
                     // of blocks without a window, and with one; NULL: none are
    void *kept; // of a slice: texts.kept, to which its own keys and values are added; another mixer's state
    void *head; // what the block keeps of the head, for texts that go on from it; NULL: none does
    void *head_expanded;         // where its keys and values are expanded, unless they are kept as computed
    enum device_keeping keeping; // of them
    bool makes_head;             // the pass is over the head: the block is to keep it
    size_t tokens;
    size_t longest; // tokens of the longest text in any batch
};

// ---- running ----

// Queues all operations of block number `block`.
int block_run(const struct block_pass *pass, const struct block_weights *weights, size_t block,
              struct error *err);

// Queues one of them.
int block_run_step(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                   enum block_step step, struct error *err);

// out = the norm of x, as the family has it. bias NULL: none.
int block_norm(const struct block_pass *pass, void *out, const void *weight, const void *bias,
               struct error *err);

// ---- the list of matmuls ----

struct block_matmul {
    enum block_step step;    // that runs it
    const char *keys;        // of config.json that its sizes come from
    enum device_store store; // buffers.out (+)= buffers.in * matrix^T + bias
    size_t rows;             // of the matrix
    size_t columns;
    bool has_bias;
    // Offsets of its matrix and bias in struct block_weights, and of what it reads and writes in struct
    // block_buffers.
    size_t matrix;
    size_t bias;
    size_t in;
    size_t out;
};

enum { BLOCK_MATMULS_MOST = 13 }; // in one block

// The matmuls of block number `block`, in the order in which they run: how many.
size_t block_matmuls(const struct model_config *config, size_t block,
                     struct block_matmul out[BLOCK_MATMULS_MOST]);

struct block_operands { // of a matmul, as device_matmul takes them
    void *out;
    void *in;
    const struct device_matrix *matrix;
    const void *bias; // NULL: none
};

struct block_operands block_operands(const struct block_matmul *matmul, const struct block_buffers *buffers,
                                     const struct block_weights *weights);

// Floating-point operations of block number `block` (model_flops).
double block_flops(const struct model_config *config, size_t block, size_t tokens, double squared_lengths);

// ---- memory ----

// The attention of block number `block`.
struct device_attention block_attention(const struct model_config *config, size_t block, size_t longest);

// The sizes of the experts of blocks that have some.
struct device_experts block_experts(const struct model_config *config);

// Numbers that a token has in all buffers together.
size_t block_buffer_numbers(const struct model_config *config);

// Buffers for batches of at most `tokens` tokens, wide enough for every block of the model, and x for so many
// residual streams one after another.
int block_lay_out_buffers(struct layout *layout, struct block_buffers *buffers,
                          const struct model_config *config, size_t tokens, size_t streams,
                          struct error *err);

// What attention and experts need beside them in `count` blocks from number `first` on: the largest of their
// needs, since full and sliding ones may differ.
int block_lay_out_scratch(struct layout *layout, void **scratch, const struct model_config *config,
                          size_t first, size_t count, size_t tokens, size_t longest, struct error *err);

// What a text's slices leave for the next one, of one block at a time: keys and values of up to `longest`
// tokens, or another mixer's state. False on overflow.
bool block_kept_bytes(const struct model_config *config, size_t longest, size_t number_size, size_t *bytes);

// What block number `block` keeps of the head: keys and values of `tokens` tokens, or another mixer's state,
// whatever they are. False on overflow.
bool block_head_bytes(const struct model_config *config, size_t block, size_t tokens,
                      enum device_keeping keeping, size_t number_size, size_t *bytes);

// Bytes of one token's routes: which experts, and their weights.
size_t block_route_bytes(const struct model_config *config);

#endif
