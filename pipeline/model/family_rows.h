// SPDX-License-Identifier: MIT
// The rows of the table of families (family.h), in lists by kind, and what rows of several lists share
// (private to the lists).
#ifndef STRATA_MODEL_FAMILY_ROWS_H
#define STRATA_MODEL_FAMILY_ROWS_H

#include "model/family.h"

struct family_list {
    const struct family_row *rows;
    size_t count;
};

extern const struct family_list family_list_dense;
extern const struct family_list family_list_mixtures; // of experts
extern const struct family_list family_list_latent;   // the same, of latent attention
extern const struct family_list family_list_hybrids;  // of attention with other mixers

extern const char *const family_text_prefixes[]; // of nested text models: what is saved now, and before

// Rows give their defaults in the order of struct family_defaults: layers, hidden, intermediate, heads,
// kv_heads, head_dim, vocabulary, positions, window, epsilon, theta, part, tied.
#define ATTENTION_BIAS                                                                                       \
    { .key = "attention_bias" }
#define ALWAYS                                                                                               \
    { .always = true }
#define LAYER_NORM_EPS .keys = {.epsilon = "layer_norm_eps"}

// As DeepSeek-V3 chooses experts and has some beside them.
#define SIGMOID_EXPERTS                                                                                      \
    .count_key = "n_routed_experts", .other_count_key = "num_local_experts",                                 \
    .width_key = "moe_intermediate_size", .normalised_key = "norm_topk_prob", .normalised = true,            \
    .scores = DEVICE_SCORES_SIGMOID, .shared_count_key = "n_shared_experts", .shared_count = 1,              \
    .scaling_key = "routed_scaling_factor", .sum_more = 1e-20, .wide_router = true, .has_correction = true,  \
    .groups = GROUPS_BY_PAIRS

#endif
