// SPDX-License-Identifier: MIT
// The families of models: a row each of what its blocks compute, how its configuration says so, and what its
// class takes where the configuration is silent (transformers 5.24). config.c and its companions read a
// configuration by a row; what they find is in struct model_config, which everything else goes by.
//
// A row's zeros are Llama's: rotation of whole heads by halves, norms before attention and MLP, a gated MLP.
#ifndef STRATA_MODEL_FAMILY_H
#define STRATA_MODEL_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "model/config.h"
#include "model/weight_table.h"

struct family_keys { // of a configuration; NULL: as Llama calls it; "": the class has none
    const char *layers;
    const char *hidden;
    const char *intermediate;
    const char *heads;
    const char *positions;
    const char *epsilon;
    const char *activation;
    const char *window;
    const char *tied; // wins over tie_word_embeddings; NULL: there is none; "": the class ties nothing
};

struct family_defaults { // where a key is absent
    int64_t layers;
    int64_t hidden;
    int64_t intermediate; // 0: four times hidden
    int64_t heads;
    int64_t kv_heads; // 0: as many as heads
    int64_t head_dim; // 0: hidden / heads
    int64_t vocabulary;
    int64_t positions;
    int64_t window; // 0: none
    double epsilon;
    double theta;
    double part; // of a head that turns; 0: all, and the key that says otherwise is not read
    bool tied;
};

struct family_flag { // such weights are there: always, where a key says so, or never (zeros)
    bool always;
    const char *key;
    bool otherwise; // where the key is absent
};

enum family_windows {     // which blocks see a window of keys only
    WINDOWS_NEVER,        // none, whatever the configuration says
    WINDOWS_ALL,          // all, unless it says null
    WINDOWS_ALL_IF_USED,  // all, if use_sliding_window (Qwen3-MoE)
    WINDOWS_IF_USED,      // those from max_window_layers on, if use_sliding_window (Qwen)
    WINDOWS_FROM_LAYER,   // those from max_window_layers on (dots.llm1)
    WINDOWS_IN_TURN,      // every other one of those before it, if use_sliding_window (Qwen2-MoE)
    WINDOWS_BY_TYPE,      // all but each `full_every`-th one, unless layer_types says otherwise
    WINDOWS_LISTED,       // where attention_types has "local" (GPT-Neo)
    WINDOWS_WITHOUT_ROPE, // those that do not rotate, if use_sliding_window (SmolLM3)
    WINDOWS_CHUNKED       // chunks in those that rotate, unless layer_types says otherwise (Llama 4)
};

enum family_mixers {    // which blocks mix tokens by what
    MIXERS_ATTENTION,   // all by attention
    MIXERS_DELTA_NET,   // all but each `full_every`-th one by a delta net, unless layer_types says otherwise
    MIXERS_CONVOLUTION, // those in full_attn_idxs by attention, unless layer_types says otherwise (LFM2)
    MIXERS_STATE_SPACE, // all by a state space, unless a list says otherwise (Granite 4)
    MIXERS_LONE_BRANCHES, // each block is one branch: a state space, attention, an MLP or experts
                          // (Nemotron-H)
    MIXERS_LISTED,        // by attention or convolution, as layer_types says (LFM2-MoE)
};

enum family_ropes {         // which blocks rotate how
    ROPES_ALIKE,            // all alike
    ROPES_LOCAL,            // those with a window have a theta of their own and no scaling (Gemma 3)
    ROPES_UNSCALED_WINDOWS, // those with a window have no scaling (OLMo 3)
    ROPES_BY_TYPE,        // those with a window otherwise than those without, as a map of each says (Gemma 4)
    ROPES_LISTED,         // not at all where no_rope_layers has 0, by default each fourth (SmolLM3)
    ROPES_LISTED_IF_ANY,  // the same, and an empty list is none (Llama 4)
    ROPES_WINDOWS_ONLY,   // not at all without a window (Cohere 2)
    ROPES_WINDOWS_IF_ANY, // the same where some block has a window (EXAONE 4)
    ROPES_IF_NAMED,       // not at all unless position_embedding_type is rope (Granite 4)
    ROPES_NONE,           // positions are learned, or added to scores
};

struct family_latent { // sizes of latent attention where their keys are absent
    int64_t query;     // q_lora_rank, which may be null
    int64_t key;       // kv_lora_rank
    int64_t unrotated; // qk_nope_head_dim
    int64_t rotated;   // qk_rope_head_dim
    int64_t value;     // v_head_dim
};

struct family_size {
    const char *key;
    const char *old_key; // wins; NULL: there is none
    int64_t otherwise;   // where there is no key
};

struct family_space {        // how a configuration speaks of state spaces
    const char *indices_key; // the blocks that have attention, by number; NULL: the next three say it
    const char *list_key;    // what each block is
    const char *list_alias;  // another name of the list, which wins
    const char *pattern_key; // or a letter a block, where neither is there; NULL: there is none
    struct family_size heads;
    struct family_size head_dim; // or "auto", where expand says it
    struct family_size groups;
    struct family_size state;
    struct family_size taps;
    struct family_size expand;  // times hidden: numbers of all heads; without a key: head_dim alone says it
    const char *bias_key;       // of the products around it
    const char *mixed_bias_key; // of the convolution
    const char *old_mixed_bias_key;
    const char *activation_key; // of the convolution; NULL: the MLP's
    const char *least_key;      // the least step; NULL: limits_key
    const char *old_least_key;
    const char *limits_key; // the least and the greatest step; NULL: there is no greatest
    double step_least;      // where the keys are absent
};

struct family_row {
    const char *model_type;
    const struct weight_table *weights; // NULL: weight_table_dense (family_weights)
    const char *const *prefixes;        // of names in files (family_prefixes); NULL: "model." or none
    struct family_keys keys;
    struct family_defaults defaults;

    bool ungrouped; // as many heads of keys as of queries, whatever the configuration says
    enum device_norm_kind norm;
    enum norm_places norms;
    enum branch_order branches; // where `parallel` holds; otherwise serial
    struct family_flag parallel;
    enum qk_norm qk_norm;
    bool qk_norm_always;     // whatever use_qk_norm says
    const char *qk_norm_key; // says whether they are there; NULL: they are
    bool qk_norm_otherwise;  // where the key is absent
    struct family_flag qkv_bias;
    struct family_flag output_bias;
    struct family_flag mlp_bias;
    bool norm_bias;
    bool bare_norms;
    bool has_old_norms; // do_layer_norm_before, word_embed_proj_dim and others of OPT's first files

    enum device_activation activation; // where its key is absent
    bool gelu_is_tanh;                 // the name "gelu" of old files means the approximation
    bool plain_mlp;                    // not gated
    const char *scale_key;             // of scores; NULL: head_dim^-1/2
    double scale_default;
    bool scale_is_root;   // the key's value to the power of -1/2
    bool scale_has_flags; // scale_attn_weights, scale_attn_by_inverse_layer_idx (GPT-2)
    bool has_sinks;
    const char *softcap_key;
    double softcap_default;
    const char *qkv_limit_key;
    bool embedding_root;            // embeddings are multiplied with the root of hidden
    const char *embedding_root_key; // if this says so, without rounding that first; NULL: never
    const char *embedding_key;      // or with this
    const char *residual_key;       // what both branches are multiplied with
    bool zeroes_pad; // the class makes the embedding of pad_token_id zero once it is loaded, which is not
                     // done here
    bool learned_positions;
    size_t position_offset; // rows of their table before position 0
    bool embedding_norm;
    bool has_slopes;
    bool has_multi_query;       // multi_query, new_decoder_architecture, num_kv_heads, parallel_attn and
                                // num_ln_in_parallel_attn say which heads and norms there are (Falcon)
    const char *attention_map;  // a map that holds clip_qkv and softmax_scale (MPT); NULL: there is none
    bool ends;                  // texts end where max_position_embeddings does
    const char *query_beta_key; // in the map of rotation
    bool tempers_unrotated;     // attn_temperature_tuning, attn_scale and floor_scale (Llama 4)

    enum family_windows windows;
    size_t full_every;
    const char *every_key; // says how many; NULL: sliding_window_pattern; "": it is fixed
    bool full_first;       // the first of each so many, not the last (CWM)
    bool full_heads;   // blocks without a window have heads of their own, and the last block is one (Gemma 4)
    bool layer_inputs; // blocks may have inputs of a token of their own (Gemma 4)
    bool value_norm;
    enum family_mixers mixers;
    bool rounds_mlp;     // to two thirds of intermediate_size, by block_auto_adjust_ff_dim and others (LFM2)
    bool query_gates;    // behind each query
    bool attention_gate; // from a product of their own (AFMoE)
    enum family_ropes ropes;
    size_t rotary_dim;     // > 0: a fixed table; where the key rotary_dim is absent (GPT-J)
    bool part_inside;      // partial_rotary_factor counts in the map of rotation alone (Bamba)
    bool rotary_part;      // that key stands for partial_rotary_factor where this is absent (MiniMax-M2)
    bool one_long;         // of longrope, short_factor and one mscale count at every length (PhiMoE)
    bool old_rope_keys;    // rotary_pct and rotary_emb_base (GPT-NeoX)
    bool old_long_names;   // longrope is called su or yarn too (Phi-3)
    bool turns_back;       // the other way round (nanochat)
    bool stretches_base;   // dynamic scaling with alpha is a base stretched once and for all (HunYuan)
    int64_t window_layers; // where max_window_layers is absent; 0: 28
    bool needs_scaling;    // the class has one of its own where the file names none, which is not followed
    enum device_pairing pairing;
    const char *pairing_key; // neighbours, unless it is false; NULL: as `pairing` says
    enum device_rope_rounding rope_rounding;

    const struct family_latent *latent; // NULL: attention has none
    bool has_indexer; // which leaves a token index_topk keys to see: of no more, all (DeepSeek-V3.2)
    const struct family_space *space;         // NULL: it has no state spaces
    const struct family_experts *experts;     // NULL: every block has an MLP
    const struct weight_table *other_weights; // of files that have all experts in one tensor; NULL: none
};

enum family_groups { // of experts
    GROUPS_NEVER,
    GROUPS_BY_PAIRS,  // n_group and topk_group, ranked by the two best (DeepSeek-V3)
    GROUPS_BY_METHOD, // where topk_method is group_limited_greedy, ranked by the best (DeepSeek-V2)
};

struct family_experts {      // how a configuration speaks of them
    const char *enabled_key; // says whether there are any, otherwise none; NULL: there are
    const char *count_key;
    bool may_be_none;            // a count of 0: then no block has experts
    const char *other_count_key; // NULL: there is one name only
    int64_t count;
    const char *chosen_key;       // NULL: num_experts_per_tok
    const char *other_chosen_key; // as other_count_key
    int64_t chosen;               // 0: the key has to be there, as with `count` and `shared_count`
    const char *width_key;
    int64_t width;
    const char *normalised_key; // NULL: weights are always divided by their sum; "": as the next says
    bool normalised;            // where the key is absent
    bool rounds_weights;
    enum device_scores scores;
    const char *limit_key;
    double limit;
    bool has_bias;
    bool some_blocks;       // mlp_only_layers and decoder_sparse_step say which blocks have them
    const char *shared_key; // the width of an MLP beside them; NULL: there is none
    int64_t shared_width;
    bool shared_gate;
    const char *shared_count_key; // or how many experts make it; NULL: shared_key
    int64_t shared_count;
    bool shared_may_lack;  // that number may be 0
    const char *dense_key; // how many first blocks have an MLP; NULL: none, or as some_blocks says
    int64_t dense_blocks;
    const char *end_key;     // the last block that has experts, -1: of all; NULL: of all
    const char *step_key;    // each so many blocks has them; NULL: decoder_sparse_step where some_blocks
    bool listed_blocks;      // mlp_layer_types says which; where it is absent, dense_blocks
    bool numbered_blocks;    // moe_layers says which; where it is absent, each interleave_moe_layer_step-th
    bool scales_input;       // struct device_experts
    const char *scaling_key; // of weights; NULL: they have none
    double scaling;
    double sum_more; // struct device_routing
    bool wide_router;
    const char *latent_key; // what experts compute with in place of the residual stream; NULL: that
    bool has_correction;
    const char *correction_key; // unless this is false; NULL: whatever is said
    bool has_columns;           // the file has columns for rows, unless there are as many (Qwen3-VL-MoE)
    const char *least_key;      // of the weights' sum; NULL: it may be anything
    double sum_least;
    const char *jitter_key; // half of the spread that scores in turn have
    double jitter;
    bool rounds_correction;
    enum family_groups groups;
    int64_t group_count; // where the keys are absent
    int64_t group_chosen;
    bool beside_mlp; // struct expert_config
};

struct family_nest { // a configuration whose text model lies under text_config
    const char *model_type;
    bool may_be_flat;      // or beside vision_config, without text_config
    const char *text_type; // of the text model where it does not say
    bool pads_places;      // ids that stand for images, sounds and films are embedded as the pad token
};

// The row of a model_type, or NULL.
const struct family_row *family_find(const char *model_type);

// The same of one whose text model lies inside.
const struct family_nest *family_nest_find(const char *model_type);

const struct weight_table *family_weights(const struct family_row *row);

// What may come before the table's names in a file, up to a NULL: the first that is found counts. Accepts
// NULL.
const char *const *family_prefixes(const struct family_row *row);

// Appends the names of all that are known, for messages.
void family_names(char *out, size_t size);

#endif
