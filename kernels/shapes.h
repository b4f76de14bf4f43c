// SPDX-License-Identifier: MIT
// What operations are told beside their buffers (operations.h): texts, heads, shapes. Back ends, and code
// that only counts or lays out, need these and no operation: adding one does not build them again.
#ifndef STRATA_KERNELS_SHAPES_H
#define STRATA_KERNELS_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/size.h"

struct device_matrix; // device.h

// Where a text of a batch goes on from, whose first tokens the batch does not have again: it has those of
// another text, or of the head, in common with it. The results have the bits of a batch that has each text
// whole.
struct device_origin {
    int32_t
        parent; // a text of the batch with a lower number; DEVICE_HEAD: the head, or with `before` 0 nothing
    int32_t before; // tokens before the text's own, which begin with number `before`. The parent has them:
                    // its own, and before those its parent's
};
enum { DEVICE_HEAD = -1 };

// The texts of a packed batch, one after another without padding: text i is tokens starts[i]..starts[i + 1].
struct device_texts {
    const int32_t *starts;      // [count + 1] in device memory
    const int32_t *host_starts; // the same numbers in host memory (for the grid)
    size_t count;
    // Where the batch is a slice of one text, its tokens from number `before` on, a multiple of DEVICE_SLICE:
    // keys and values of the text's tokens up to the slice's end, as device_keep kept them. With `before` 0
    // it may be any texts: kept row t is the batch's token t. NULL: whole texts, with keys and values of
    // their own.
    const void *kept;
    size_t before;
    // [count] in device memory, and the same in host memory; NULL: every text is here from its first token
    // on. Of a slice `before` counts from the text's start, a multiple of DEVICE_SLICE more than
    // origins[0].before, and kept row r is of token origins[0].before + r.
    const struct device_origin *origins;
    const struct device_origin *host_origins;
    // Of the head's tokens: keys and values, as device_keep kept them (attention); rows of numbers (pooling);
    // or the state that the last one leaves (what carries one along). NULL: there is no head.
    const void *head;
    size_t head_tokens;
};

// A multiple of every back end's tile of queries, so that a slice's tiles are those of the whole text, and
// with them every bit.
enum { DEVICE_SLICE = 192 };

// How keys and values are kept for texts that go on from them: as they are computed, or in blocks of 32
// numbers of a head as ggml has them (block_q8_0: a float16 scale and 32 int8; block_q4_0: a float16 scale
// and 16 bytes, the first 16 numbers in the low halves).
enum device_keeping { DEVICE_KEEP_COMPUTED, DEVICE_KEEP_Q8_0, DEVICE_KEEP_Q4_0 };

enum { DEVICE_KEEP_BLOCK = 32, DEVICE_KEEP_Q8_0_BYTES = 34, DEVICE_KEEP_Q4_0_BYTES = 18 };

enum device_store {
    DEVICE_STORE, // out = x * W^T + bias
    DEVICE_ADD,   // out = out + (x * W^T + bias): the residual add. Halves: the product is rounded, then the
                  // sum
};

// How a row is normalised; mean, sum of squares and products are float32.
enum device_norm_kind {
    DEVICE_NORM_RMS,            // weight * (x / rms); halves: x / rms is rounded, then the product (Llama)
    DEVICE_NORM_RMS_ONCE,       // weight * (x / rms), rounded once (OLMo, gpt-oss)
    DEVICE_NORM_RMS_PLUS_ONE,   // (1 + weight) * (x / rms), rounded once (Gemma, Qwen3.5)
    DEVICE_NORM_LAYER,          // (x - mean) / deviation * weight + bias, rounded once
    DEVICE_NORM_LAYER_PLUS_ONE, // the same with 1 + weight, which is rounded first (Nemotron)
};

struct device_norm {
    enum device_norm_kind kind;
    float epsilon;      // added to the mean of squares, or to the variance
    const void *weight; // [width]; NULL: as if every product with it were not there
    const void *bias;   // [width] of the two with a mean; NULL: none
};

// Columns of rows that are normalised in groups, each for itself.
struct device_groups {
    size_t stride; // numbers from one row to the next
    size_t from;   // the first group's first column where it is read
    size_t first;  // and where it is written: the same, or columns that no group is read from
    size_t count;
    size_t width;     // of a group
    bool own_weights; // the norm's weight has as many rows as there are groups, one each; no bias
};

// Columns of rows that are copied in groups.
struct device_columns {
    size_t in_stride; // numbers from one row to the next
    size_t in_first;  // the first group's first column
    size_t in_apart;  // from one group to the next; 0: all are the same columns
    size_t stride;    // the same where they are written
    size_t first;
    size_t apart;
    size_t count;
    size_t width; // of a group
};

// A row of q | k | v.
struct device_heads {
    size_t heads;    // query heads
    size_t kv_heads; // key and value heads; divides heads: query head h reads kv head h / (heads / kv_heads)
    size_t head_dim; // even
    size_t gap;      // numbers behind each query that are not its own (its gate)
};

static inline size_t device_heads_apart(struct device_heads heads) { // columns from one query to the next
    return heads.head_dim + heads.gap;
}

static inline size_t device_heads_key(struct device_heads heads) { // the first key's column
    return heads.heads * device_heads_apart(heads);
}

static inline size_t device_heads_width(struct device_heads heads) { // numbers of a row
    return device_heads_key(heads) + 2 * heads.kv_heads * heads.head_dim;
}

// Bytes of a token's keys and values as they are kept, of numbers of so many bytes.
static inline size_t device_kept_bytes(struct device_heads heads, enum device_keeping keeping,
                                       size_t number_size) {
    size_t numbers = 2 * heads.kv_heads * heads.head_dim;
    switch (keeping) {
    case DEVICE_KEEP_Q8_0:
        return numbers / DEVICE_KEEP_BLOCK * DEVICE_KEEP_Q8_0_BYTES;
    case DEVICE_KEEP_Q4_0:
        return numbers / DEVICE_KEEP_BLOCK * DEVICE_KEEP_Q4_0_BYTES;
    case DEVICE_KEEP_COMPUTED:
        break;
    }
    return numbers * number_size;
}

enum device_pairing {
    DEVICE_PAIR_HALVES,     // numbers i and i + part / 2 turn together
    DEVICE_PAIR_NEIGHBOURS, // 2 i and 2 i + 1
};

enum device_rope_rounding {    // of halves; float32 rounds nothing
    DEVICE_ROPE_ROUNDS_ALL,    // cosine and sine, each product, each sum
    DEVICE_ROPE_ROUNDS_TABLES, // cosine and sine, then the result
    DEVICE_ROPE_ROUNDS_ONCE,   // the result
};

struct device_rope {           // what happens to query and key heads before attention
    struct device_norm q_norm; // of each head, before rotation; weight NULL: none
    struct device_norm k_norm;
    const float *cosine; // [.., part / 2], float32
    const float *sine;
    const int32_t *row; // [tokens] of the tables
    size_t first;       // numbers of a head before those that turn
    size_t part;        // numbers that turn, even; 0: none
    enum device_pairing pairing;
    enum device_rope_rounding rounding;
    const float *query_scale; // [..] by `row`: what queries are multiplied with last, rounded before and
                              // after; NULL: none
    bool wide_query_scale;    // halves: the scale itself is not rounded (Llama 4)
};

struct device_attention {
    struct device_heads heads;
    float scale;       // of the scores, usually head_dim^-1/2
    size_t window;     // keys seen by a query, itself included; 0: all before it
    size_t chunk;      // a query sees only keys of its own so many tokens of the text; 0: all
    float softcap;     // scores become softcap * tanh(score / softcap) after scaling; 0: they stay
    const void *sinks; // [heads] scores of a key without a value, in every softmax; NULL: none
    const float
        *slopes;    // [heads] what a key's place in the text times adds to a score (ALiBi); NULL: nothing
    size_t longest; // tokens of the longest text in any batch: what scratch was planned for
};

enum device_activation {
    DEVICE_SILU,
    DEVICE_GELU,      // x Phi(x), by erf
    DEVICE_GELU_TANH, // its approximation by tanh: gelu_new, gelu_pytorch_tanh
    DEVICE_RELU,
    DEVICE_RELU_SQUARED,
    DEVICE_XIELU, // which has learned numbers: only by device_xielu
};

enum { DEVICE_XIELU_NUMBERS = 4 }; // alpha of positive numbers, alpha of others, beta, epsilon

struct device_gates { // numbers of a row in groups, which go with as many groups side by side
    size_t stride;    // numbers from one row to the next
    size_t apart;     // from one group to the next
    size_t groups;
    size_t width; // of a group
};

// ---- mixtures of experts ----

enum {
    DEVICE_EXPERTS_MOST = 1024,     // of a layer
    DEVICE_EXPERT_GROUPS_MOST = 32, // that these may be divided into
};

enum device_scores {       // what becomes of a router's logits
    DEVICE_SCORES_ALL,     // their softmax over all experts; the greatest are chosen
    DEVICE_SCORES_CHOSEN,  // the greatest logits are chosen; softmax over these
    DEVICE_SCORES_SIGMOID, // each logit's sigmoid; the greatest are chosen
    // The greatest logit m is chosen, then the greatest of the others, and so on. The score of each is its
    // softmax over the logits l that are not chosen before it and for which (m - l) / max(|l|, m) is at most
    // `spread`; halves: the difference, the quotient and the bound are rounded. (SparseMixer: Liu, Gao and
    // Chen, arXiv 2310.00811, as PhiMoE has it.) Without groups.
    DEVICE_SCORES_IN_TURN,
};

// Mixtral: ALL, normalised, logits rounded. Qwen2-MoE, Qwen3-MoE, OLMoE: the same, normalised where
// norm_topk_prob says so, and weights rounded. GraniteMoe, gpt-oss (which has a bias): CHOSEN, both rounded.
// DeepSeek-V3, GLM-4.5: SIGMOID with a correction, groups by pairs and a wide router, nothing rounded.
// MiniMax-M2: SIGMOID, normalised, with a correction that is rounded as logits are. ERNIE 4.5: ALL,
// normalised by a least sum, with a correction and a wide router, weights rounded. Mistral 4: ALL, groups by
// pairs, logits and weights rounded. DeepSeek-V2: ALL, groups, a wide router. Gemma 4: ALL, normalised,
// logits scaled and rounded, and scales of experts.
struct device_routing {
    size_t experts;
    size_t chosen; // experts that a token goes to: those of the greatest logits (NaN above all numbers), of
                   // equal ones the lower numbers, where torch.topk takes any
    enum device_scores scores;
    bool normalised;     // the chosen scores are divided by their sum
    float logit_scale;   // of x times the router, before its bias is added; 0: none
    bool rounds_logits;  // halves: logits are rounded before anything is made of them
    bool rounds_weights; // halves: so are the weights, last
    float scaling;       // of the weights, before they are rounded
    float sum_more;      // added to that sum
    float sum_least;     // what it is at least; 0: anything
    bool wide_router; // the router is float32 whatever the dtype, and x is widened to be multiplied with it
    // [experts] float32 in device memory: added to the scores of all experts, by which they are then chosen;
    // weights are made without it. NULL: none. Not with CHOSEN.
    const float *correction;
    bool rounds_correction; // halves: it is rounded first
    float spread;           // of IN_TURN
    // [experts] numbers in device memory: an expert's weights are multiplied with its own after `scaling`.
    // NULL: none.
    const void *expert_scales;
    // Experts are chosen among those of `chosen_groups` of so many groups of equal size, side by side: the
    // groups of the greatest experts, or with group_pairs of the greatest sum of two experts (then scores
    // decide, with their correction, among groups and experts). 0: all experts are one group.
    size_t groups;
    size_t chosen_groups;
    bool group_pairs;
};

// Whether experts are chosen by their scores; otherwise by their logits, whose order is the same.
static inline bool device_routing_by_scores(const struct device_routing *routing) {
    return routing->correction != NULL || routing->group_pairs;
}

struct device_routes { // of a batch's tokens, in device memory
    int32_t *experts;  // [tokens, chosen] ascending
    float *weights;    // [tokens, chosen]
};

struct device_experts {
    size_t experts;
    size_t chosen;
    size_t hidden;
    size_t width;                        // of an expert's inner activations
    const struct device_matrix *gate_up; // [experts * 2 width, hidden]: gate | up of one expert after another
    const void *gate_up_bias;            // [experts * 2 width]; NULL: none
    const struct device_matrix *down;    // [experts * hidden, width]
    const void *down_bias;               // [experts * hidden]; NULL: none
    bool plain; // there is no gate: gate_up has width rows of an expert, which are up, its bias too, and the
                // inner activation is activation(up). Not with a limit
    // Llama 4: a token's row is multiplied with its weight for an expert, and rounded, before that expert's
    // gate_up; what its experts come to is added up as it is.
    bool scales_input;
    enum device_activation activation;
    // > 0 (gpt-oss): gate is cut to at most limit, up to +-limit, and the inner activation is
    // gate * sigmoid(1.702 gate) * (up + 1) whatever `activation` says.
    float limit;
};

static inline size_t device_experts_rows(const struct device_experts *experts) { // of gate_up, of an expert
    return experts->plain ? experts->width : 2 * experts->width;
}

// ---- linear attention ----

// A gated delta net (Yang, Kautz and Hatamizadeh, arXiv 2412.06464, as Qwen3-Next has it). Of each token, in
// columns: q | k | v | z | b | a.
struct device_delta_net {
    size_t key_heads;   // of queries and of keys
    size_t value_heads; // a multiple of it: value head h goes with key head h / (value_heads / key_heads)
    size_t key_dim;     // of a query and of a key
    size_t value_dim;
    size_t taps; // of the causal convolution over q, k and v: the token itself and taps - 1 before it
    const void *convolution; // [device_delta_net_mixed, taps]; the last tap is the token's own
    const void *decay;       // [value_heads] the logarithm of A
    const void *step_bias;   // [value_heads] added to a
    const void *norm;        // [value_dim] of what comes out, head by head
    float epsilon;           // of that norm
};

static inline size_t device_delta_net_mixed(const struct device_delta_net *net) { // columns of q, k and v
    return 2 * net->key_heads * net->key_dim + net->value_heads * net->value_dim;
}

static inline size_t device_delta_net_out(const struct device_delta_net *net) { // and of z
    return net->value_heads * net->value_dim;
}

static inline size_t device_delta_net_width(const struct device_delta_net *net) { // numbers of a row
    return device_delta_net_mixed(net) + device_delta_net_out(net) + 2 * net->value_heads;
}

// What a text leaves for its next slice: float32 [value_heads, key_dim, value_dim], then in numbers the last
// taps - 1 tokens' q | k | v before the convolution, zeros where there were fewer.
static inline size_t device_delta_net_state(const struct device_delta_net *net, size_t number_size) {
    return net->value_heads * net->key_dim * net->value_dim * sizeof(float) +
           (net->taps - 1) * device_delta_net_mixed(net) * number_size;
}

// ---- state spaces ----

// A selective state space (Mamba-2: Dao and Gu, arXiv 2405.21060). Of each token, in columns:
// z | x | B | C | dt, of which x is heads * head_dim wide as z is, B and C groups * state.
struct device_state_space {
    size_t heads; // a multiple of groups: head h goes with group h / (heads / groups)
    size_t head_dim;
    size_t groups;
    size_t state;            // numbers that each number of a head has
    size_t taps;             // of the causal convolution over x, B and C, at most DEVICE_TAPS_MOST
    const void *convolution; // [device_state_space_mixed, taps]; the last tap is the token's own
    const void *bias;        // [device_state_space_mixed] of it; NULL: none
    const void *decay;       // [heads] the logarithm of -A
    const void *step_bias;   // [heads] added to dt
    const void *skip;        // [heads] D
    const void *norm;        // [heads * head_dim] of what comes out
    size_t norm_groups;      // each of which is normalised by itself; they divide heads * head_dim
    float epsilon;           // of that norm
    float step_least;        // what steps are cut to, rounded as they are
    float step_most;
};

static inline size_t device_state_space_out(const struct device_state_space *space) { // and of z
    return space->heads * space->head_dim;
}

static inline size_t device_state_space_mixed(const struct device_state_space *space) { // columns of x, B, C
    return device_state_space_out(space) + 2 * space->groups * space->state;
}

static inline size_t device_state_space_width(const struct device_state_space *space) { // numbers of a row
    return device_state_space_out(space) + device_state_space_mixed(space) + space->heads;
}

// What a text leaves for its next slice: float32 [heads, state, head_dim], then in numbers the last taps - 1
// tokens' x | B | C before the convolution, zeros where there were fewer.
static inline size_t device_state_space_state(const struct device_state_space *space, size_t number_size) {
    return space->heads * space->head_dim * space->state * sizeof(float) +
           (space->taps - 1) * device_state_space_mixed(space) * number_size;
}

// Scratch on a GPU, in float32: of every token B | C of each group, gates of each head, and x, whose rows are
// padded to multiples of QUAD; x twice where a state has more than CHUNK numbers, which one launch of the
// scan has in registers.
enum { DEVICE_STATE_SPACE_QUAD = 4, DEVICE_STATE_SPACE_GATES = 4, DEVICE_STATE_SPACE_CHUNK = 256 };

// False on overflow. device_state_space_scratch asks the back end itself; this is for plans without a device.
static inline bool device_state_space_gpu_scratch(const struct device_state_space *space, size_t tokens,
                                                  size_t *bytes) {
    size_t dim, state, keys, gates, x, all;
    return size_round_up(space->head_dim, DEVICE_STATE_SPACE_QUAD, &dim) &&
           size_round_up(space->state, DEVICE_STATE_SPACE_QUAD, &state) &&
           size_mul(space->groups, 2, &keys) && size_mul(keys, state, &keys) &&
           size_mul(space->heads, DEVICE_STATE_SPACE_GATES, &gates) && size_mul(space->heads, dim, &x) &&
           size_mul(x, space->state > DEVICE_STATE_SPACE_CHUNK ? 2 : 1, &x) && size_add(keys, gates, &all) &&
           size_add(all, x, &all) && size_mul(all, tokens, &all) && size_mul(all, sizeof(float), bytes);
}

// ---- short convolutions ----

enum { DEVICE_TAPS_MOST = 16 };

// A gated causal convolution, number by number (LFM2). Of each token, in columns: b | c | x.
struct device_short_convolution {
    size_t width;
    size_t taps;        // the token itself and taps - 1 before it, at most DEVICE_TAPS_MOST
    const void *weight; // [width, taps]; the last tap is the token's own
    const void *bias;   // [width]; NULL: none
};

// What a text leaves for its next slice: the last taps - 1 tokens' b | c | x.
static inline size_t device_short_convolution_state(const struct device_short_convolution *shape,
                                                    size_t number_size) {
    return (shape->taps - 1) * 3 * shape->width * number_size;
}

struct device_shape { // of a model's blocks
    struct device_heads heads;
    size_t hidden;
    size_t intermediate;
    size_t experts;      // that a block chooses from; 0: none
    size_t expert_width; // of their inner activations
    size_t key_dim;      // of a delta net; 0: there is none
    size_t value_dim;
};

struct device_refusal { // of a shape
    enum device_dimension {
        DEVICE_HIDDEN,
        DEVICE_INTERMEDIATE,
        DEVICE_HEADS,
        DEVICE_KV_HEADS,
        DEVICE_HEAD_DIM,
        DEVICE_EXPERTS,
        DEVICE_EXPERT_WIDTH,
        DEVICE_KEY_DIM, // of a delta net
        DEVICE_VALUE_DIM
    } dimension;   // the one that is refused
    char can[128]; // which ones are not: "multiples of 8 up to 512"
};

#endif
