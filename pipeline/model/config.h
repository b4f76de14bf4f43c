// SPDX-License-Identifier: MIT
// The shape of a model, read from its config.json or the metadata of its GGUF file by the row of its family
// (family.h). Zeros stand for what Llama does.
#ifndef STRATA_MODEL_CONFIG_H
#define STRATA_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/shapes.h"
#include "model/quantization.h"

struct weight_table;
struct family_row;

enum config_holder { CONFIG_JSON, CONFIG_GGUF };
enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONG };

struct rope_config {
    enum rope_kind kind;
    double theta;
    double factor;
    double low_freq_factor; // llama3
    double high_freq_factor;
    double original_positions; // original_max_position_embeddings (llama3, yarn, longrope);
                               // max_position_embeddings when absent
    double beta_fast;          // yarn
    double beta_slow;
    double attention_factor; // multiplies cosine and sine; 1 unless yarn, longrope or a GGUF file says so
    bool truncate;           // yarn: floor and ceil the correction range
    size_t rotated;          // numbers of a head that turn; 0: config_rotated's
    bool turns_back;         // the other way round
    size_t still;            // frequencies that are zero, the last ones: their numbers stay as they are
    float *divisors;         // [rotated / 2] of the frequencies, whatever their kind; NULL: none
    float *long_divisors;    // longrope: the same of texts longer than original_positions
};

// x is the residual stream, B a branch (attention or MLP), N its norm.
enum norm_places {
    NORMS_BEFORE, // x += B(N(x))
    NORMS_AFTER,  // x += N(B(x))
    NORMS_AROUND, // x += N'(B(N(x)))
    NORMS_OF_SUM, // x = N(x + B(x))
};

enum branch_order {
    BRANCHES_SERIAL,    // the MLP reads x with attention's branch in it
    BRANCHES_ONE_NORM,  // both read the same norm of x; x += attention + MLP
    BRANCHES_TWO_NORMS, // each its own norm of x; x += attention + MLP
};

enum qk_norm { // of queries and keys
    QK_NORM_NONE,
    QK_NORM_HEADS,  // of each head before rotation
    QK_NORM_AFTER,  // of each head after it
    QK_NORM_TURNED, // the same without weights, in blocks that rotate (Llama 4)
    QK_NORM_WHOLE,  // of all heads of queries together, and of keys
    QK_NORM_EACH,   // of each head before rotation, with weights of its own
};

enum block_rope { // which tables a block rotates by
    BLOCK_ROPE_MAIN,
    BLOCK_ROPE_LOCAL,
    BLOCK_ROPE_NONE,
};

enum block_mixer { // what mixes the tokens of a text
    MIXER_ATTENTION,
    MIXER_DELTA_NET,
    MIXER_CONVOLUTION, // a gated short convolution
    MIXER_STATE_SPACE,
    MIXER_NONE, // nothing: the block is its second branch alone
};

enum block_keys { // where a block with attention has its keys and values from
    KEYS_OWN,
    KEYS_KEPT,   // its own, which later blocks take too
    KEYS_SHARED, // from the last block before of its kind (with a window or without) that has its own
};

struct expert_config { // of blocks that have experts, in place of an MLP or beside it
    size_t count;      // 0: no block has
    size_t chosen;
    size_t width;
    bool normalised;
    bool rounds_weights;
    enum device_scores scores;
    double scaling;  // of weights
    double sum_more; // these: struct device_routing
    double sum_least;
    double spread;
    bool rounds_correction;
    bool wide_router; // nor are logits rounded
    bool has_correction;
    size_t groups;
    size_t chosen_groups;
    bool group_pairs;
    bool scales_input;   // struct device_experts
    float limit;         // of the inner activation (struct device_experts); 0: none
    bool has_bias;       // of the router and of every expert
    size_t shared_width; // of an MLP beside them that every token goes to; 0: none
    bool shared_gate;    // which is multiplied with a sigmoid of its own
    bool plain;          // not gated
    size_t latent;       // numbers that they compute with in place of the residual stream's; 0: those
    // Experts and the block's own MLP are branches of the same x, each with norms of its own before and
    // behind it, and are added before the norm behind both; the router reads x divided by its root mean
    // square and multiplied with a weight, and experts have scales (Gemma 4).
    bool beside_mlp;
};

// Latent attention (DeepSeek-V2): keys and values of all heads are made from a few numbers of each token. A
// head is what does not turn, then what does; of keys the latter is one for all heads.
struct latent_config {
    size_t query; // numbers that queries are made from; 0: from the residual stream's norm
    size_t key;   // that keys and values are made from; 0: attention has no latents
    size_t value; // numbers of a head's values
};

enum { CONFIG_PLACES = 3 };

struct model_config {
    enum config_holder holder; // that it was read from
    const struct family_row *family;
    const struct weight_table *weights; // that the family's blocks have
    char model_type[32];                // of the text model
    bool is_nested;                     // it lies under text_config, with towers beside it
    size_t layers;
    size_t hidden;
    size_t intermediate;
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    bool derived_head_dim; // config.json leaves it out: hidden / heads
    size_t vocabulary;
    size_t max_positions; // max_position_embeddings
    double norm_epsilon;
    bool tied_embeddings;
    bool attention_bias; // q, k, v
    bool output_bias;    // o_proj
    bool mlp_bias;
    bool norm_bias;
    bool bare_norms;    // norms have neither weights nor biases
    bool no_final_norm; // the last block's state is the last of all
    enum qk_norm qk_norm;
    enum device_norm_kind norm;
    enum norm_places norms;
    enum branch_order branches;
    enum device_activation activation;
    bool plain_mlp;         // down(activation(up(x))), without a gate
    double score_scale;     // 0: head_dim^-1/2
    bool scale_falls;       // block number i divides it by i + 1
    bool has_sinks;         // scores of keys without values
    double softcap;         // of scores; 0: none
    double qkv_limit;       // that queries, keys and values are cut to, up to +- it; 0: none
    double embedding_scale; // 0: none
    bool embedding_rounds;  // the scale is rounded to the computation dtype first
    double residual_scale;  // of both branches; 0: none
    size_t position_rows;   // of a table of learned positions; 0: none
    size_t position_offset; // its row of position 0
    bool embedding_norm;    // the embedding is normalised
    size_t
        embedding_width; // of its rows, and of what the last state is projected to; 0: as wide as the others
    bool has_slopes;     // a key's place times a head's slope is added to its scores (ALiBi)
    double query_beta;   // queries are multiplied with 1 + beta ln(1 + floor(place / original_positions))
    double query_step;   // > 0: with (place + 1) / query_step in it, in blocks that do not rotate (Llama 4)
    size_t window;       // sliding window in keys, itself included; 0: none
    size_t chunk;        // > 0: in its place, only keys of a query's own so many tokens of the text are seen
    size_t first_window_layer; // blocks from this one on slide (Qwen: max_window_layers), when no layer_types
                               // list says otherwise
    unsigned char *layer_slides;  // [layers] 1 where the block uses the window, or chunks
    unsigned char *layer_ropes;   // [layers] enum block_rope; NULL: all the main one
    unsigned char *layer_experts; // [layers] 1 where the block has experts; NULL: none
    unsigned char *layer_mixers;  // [layers] enum block_mixer; NULL: attention in all
    unsigned char *layer_mlps;    // [layers] 1 where the block has a second branch; NULL: in all
    bool query_gates;             // each head of attention's output is multiplied with sigmoids of its gate
    bool attention_gate;          // the same by a product of their own
    struct device_delta_net delta_net;           // its sizes, of blocks with MIXER_DELTA_NET
    struct device_short_convolution convolution; // the same of MIXER_CONVOLUTION
    bool convolution_bias;                       // of it and of the products around it
    struct device_state_space state_space;       // the sizes and limits of MIXER_STATE_SPACE
    bool state_space_bias;                       // of the products around it
    bool state_space_mixed_bias;                 // of its convolution
    size_t full_head_dim; // of blocks without a window; 0: all blocks have the same heads
    size_t full_kv_heads;
    bool full_values_are_keys; // in blocks without a window: values are what keys are made of
    bool value_norm;           // values are normalised, head by head, without a weight
    size_t layer_input; // numbers of a token that each block has of its own (per-layer embeddings); 0: none
    size_t layer_vocabulary; // rows of the table that they are made from
    size_t key_sharers;      // the last so many blocks have KEYS_SHARED
    bool double_mlp;         // and an MLP twice as wide as others
    struct latent_config latent;
    size_t longest_text; // tokens; of longer texts the class computes what is not computed here, or nothing;
                         // 0: texts may have any length
    const char *longest_key; // that says so
    size_t unrotated;        // numbers of a head that do not turn, its last ones
    enum device_pairing pairing;
    enum device_rope_rounding rope_rounding;
    struct rope_config rope;
    struct rope_config local_rope; // of blocks with BLOCK_ROPE_LOCAL
    bool has_local_rope;
    struct expert_config experts;
    int32_t places[CONFIG_PLACES]; // ids that are embedded as pad_id is
    size_t place_count;
    int32_t pad_id;
    char architecture[96];            // first of `architectures`; "" when absent, as the two below
    char tokenizer_class[64];         // of config.json
    char code[96];                    // a class of the folder's own code that auto_map names for the model
    struct quantization quantization; // of packed weights
    enum dtype checkpoint_dtype;      // torch_dtype / dtype; float32 when absent
};

// Numbers of a head that turn: columns of the rotary tables are half as many.
static inline size_t config_rotated(const struct model_config *config) {
    return config->head_dim - config->unrotated;
}

// The same of blocks that rotate by `rope`, one of the configuration's own.
static inline size_t config_rope_rotated(const struct model_config *config, const struct rope_config *rope) {
    return rope->rotated > 0 ? rope->rotated : config_rotated(config);
}

// Of all blocks, the most.
static inline size_t config_rotated_most(const struct model_config *config) {
    size_t rotated = config_rope_rotated(config, &config->rope);
    size_t local = config_rope_rotated(config, &config->local_rope);
    return config->has_local_rope && local > rotated ? local : rotated;
}

static inline enum block_rope config_block_rope(const struct model_config *config, size_t block) {
    return config->layer_ropes == NULL ? BLOCK_ROPE_MAIN : (enum block_rope)config->layer_ropes[block];
}

static inline bool config_has_experts(const struct model_config *config, size_t block) {
    return config->layer_experts != NULL && config->layer_experts[block] != 0;
}

static inline enum block_mixer config_mixer(const struct model_config *config, size_t block) {
    return config->layer_mixers == NULL ? MIXER_ATTENTION : (enum block_mixer)config->layer_mixers[block];
}

// Whether the block has an MLP, experts or both behind what mixes its tokens.
static inline bool config_has_second_branch(const struct model_config *config, size_t block) {
    return config->layer_mlps == NULL || config->layer_mlps[block] != 0;
}

// Numbers that experts read and write.
static inline size_t config_expert_hidden(const struct model_config *config) {
    return config->experts.latent > 0 ? config->experts.latent : config->hidden;
}

// The last hidden state that is as wide as the others, which is what runs hold.
static inline size_t config_last_state(const struct model_config *config) {
    return config->embedding_width == 0 ? config->layers : config->layers - 1;
}

// Stands among the numbers of hidden states for the residual stream behind the last block, before the final
// norm, which transformers' tuple does not have ("pre_norm"): one more than the tuple's last.
static inline size_t config_pre_norm(const struct model_config *config) {
    return config->layers + 1;
}

// Blocks that are computed for a hidden state.
static inline size_t config_blocks_for(const struct model_config *config, size_t state) {
    return state < config->layers ? state : config->layers;
}

// The heads of a block with attention.
static inline struct device_heads config_heads(const struct model_config *config, size_t block) {
    bool own = config->full_head_dim > 0 && config->layer_slides[block] == 0;
    return (struct device_heads){.heads = config->heads,
                                 .kv_heads = own ? config->full_kv_heads : config->kv_heads,
                                 .head_dim = own ? config->full_head_dim : config->head_dim,
                                 .gap = config->query_gates ? config->head_dim : 0};
}

static inline bool config_values_are_keys(const struct model_config *config, size_t block) {
    return config->full_values_are_keys && config->layer_slides[block] == 0;
}

// Numbers of a token that all blocks have of their own.
static inline size_t config_layer_inputs(const struct model_config *config) {
    return config->layers * config->layer_input;
}

enum block_keys config_keys(const struct model_config *config, size_t block);

// The block that blocks with KEYS_SHARED have theirs from, of those with a window or without; config->layers
// where there is none.
size_t config_key_giver(const struct model_config *config, bool slides);

// Numbers of a token's keys and values that are kept for later blocks, of those with a window or without.
size_t config_shared_keys(const struct model_config *config, bool slides);

// Numbers of a token's keys and values, in the block that has most of them.
size_t config_keys_values(const struct model_config *config);

// The width of a block's MLP, or of the one beside its experts; 0: it has none.
static inline size_t config_mlp_width(const struct model_config *config, size_t block) {
    bool doubled = config->double_mlp && block >= config->layers - config->key_sharers;
    if (!config_has_second_branch(config, block)) {
        return 0;
    }
    return config_has_experts(config, block) && !config->experts.beside_mlp
               ? config->experts.shared_width
               : (doubled ? 2 : 1) * config->intermediate;
}

// Reads the shape of a model (place.h). The text of its config.json is appended to `text`; a GGUF file has
// none. STATUS_DATA naming the key when it is missing, wrong, contradictory or not supported.
int model_config_read(struct model_config *config, struct buffer *text, const char *model, struct error *err);

// The same from the text of a config.json; `name` stands for it in messages.
int model_config_parse(struct model_config *config, const char *text, size_t size, const char *name,
                       struct error *err);

// "config.json", or what stands for it: in messages.
const char *model_config_holder(const struct model_config *config);

// Llama's blocks of the same sizes, with no list of their own: they stand for any family's where only the
// rate of its matmuls is asked for.
struct model_config model_config_plain(const struct model_config *config);

// Block number `block` as a model of its own, with its window, experts and mixer, which rotates in the plain
// way; STATUS_INTERNAL where it has heads or inputs by block, or keys of another block. The caller destroys
// `out`, also after a failure.
int model_config_block(struct model_config *out, const struct model_config *config, size_t block,
                       struct error *err);

void model_config_destroy(struct model_config *config); // accepts zeros; leaves zeros

#endif
