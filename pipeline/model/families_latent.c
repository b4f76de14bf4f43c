// SPDX-License-Identifier: MIT
// The families whose attention has latents, with experts and without.
#include "model/family_rows.h"

static const struct family_experts glm4_lite_experts = {
    SIGMOID_EXPERTS,       .count = 64,    .chosen = 4,      .width = 1536,     .dense_blocks = 1,
    .listed_blocks = true, .scaling = 1.8, .group_count = 1, .group_chosen = 1,
};

// As DeepSeek-V3 has them, but for their groups.
#define LARGE_EXPERTS                                                                                        \
    SIGMOID_EXPERTS, .count = 256, .chosen = 8, .width = 2048, .dense_key = "first_k_dense_replace",         \
                     .dense_blocks = 3, .scaling = 2.5

static const struct family_experts deepseek_v3_experts = {LARGE_EXPERTS, .group_count = 8, .group_chosen = 4};

static const struct family_experts deepseek_v32_experts = {LARGE_EXPERTS, .listed_blocks = true,
                                                           .group_count = 8, .group_chosen = 4};

static const struct family_experts glm_dsa_experts = {LARGE_EXPERTS, .listed_blocks = true, .group_count = 1,
                                                      .group_chosen = 1};

static const struct family_experts deepseek_v2_experts = {
    .count_key = "n_routed_experts",
    .other_count_key = "num_experts",
    .count = 64,
    .chosen = 6,
    .width_key = "moe_intermediate_size",
    .width = 1407,
    .normalised_key = "",
    .shared_count_key = "n_shared_experts",
    .shared_count = 2,
    .dense_key = "first_k_dense_replace",
    .scaling_key = "routed_scaling_factor",
    .scaling = 1,
    .wide_router = true,
    .groups = GROUPS_BY_METHOD,
    .group_count = 1,
    .group_chosen = 1,
};

static const struct family_experts mistral4_experts = {
    .count_key = "n_routed_experts",
    .other_count_key = "num_local_experts",
    .count = 128,
    .chosen = 4,
    .width_key = "moe_intermediate_size",
    .width = 2048,
    .normalised_key = "norm_topk_prob",
    .normalised = true,
    .rounds_weights = true,
    .shared_count_key = "n_shared_experts",
    .shared_count = 1,
    .dense_key = "first_k_dense_replace",
    .scaling_key = "routed_scaling_factor",
    .scaling = 1,
    .sum_more = 1e-20,
    .groups = GROUPS_BY_PAIRS,
    .group_count = 1,
    .group_chosen = 1,
};

static const struct family_latent mistral4_latent = {1024, 256, 64, 64, 128};
static const struct family_latent deepseek_latent = {1536, 512, 128, 64, 128};
static const struct family_latent glm4_lite_latent = {768, 512, 192, 64, 256};
static const struct family_latent glm_dsa_latent = {2048, 512, 192, 64, 256};

// ---- the rows ----

static const struct family_row rows[] = {
    {.model_type = "glm4_moe_lite",
     .weights = &weight_table_deepseek_v3,
     .defaults = {47, 2048, 10240, 20, 20, 0, 154880, 202752, 0, 1e-5, 1e4, 0, false},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing_key = "rope_interleave",
     .latent = &glm4_lite_latent,
     .experts = &glm4_lite_experts},
    {.model_type = "deepseek_v3",
     .weights = &weight_table_deepseek_v3,
     .defaults = {61, 7168, 18432, 128, 128, 0, 129280, 4096, 0, 1e-6, 1e4, 0, false},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing_key = "rope_interleave",
     .latent = &deepseek_latent,
     .experts = &deepseek_v3_experts},
    {.model_type = "deepseek_v32",
     .weights = &weight_table_deepseek_v3,
     .defaults = {61, 7168, 18432, 128, 128, 0, 129280, 163840, 0, 1e-6, 1e4, 0, false},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .latent = &deepseek_latent,
     .has_indexer = true,
     .experts = &deepseek_v32_experts},
    {.model_type = "glm_moe_dsa",
     .weights = &weight_table_deepseek_v3,
     .defaults = {78, 6144, 12288, 64, 64, 0, 154880, 202752, 0, 1e-5, 1e4, 0, false},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .latent = &glm_dsa_latent,
     .has_indexer = true,
     .experts = &glm_dsa_experts},
    {.model_type = "deepseek_v2",
     .weights = &weight_table_deepseek_v2,
     .defaults = {32, 4096, 11008, 32, 32, 0, 102400, 2048, 0, 1e-6, 1e4, 0, false},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_ONCE,
     .latent = &deepseek_latent,
     .experts = &deepseek_v2_experts},
    {.model_type = "youtu",
     .weights = &weight_table_deepseek_v3,
     .defaults = {32, 2048, 6144, 16, 16, 0, 128256, 131072, 0, 1e-6, 1e4, 0, true},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .zeroes_pad = true,
     .pairing_key = "rope_interleave",
     .latent = &deepseek_latent},
    {.model_type = "mistral4",
     .weights = &weight_table_mistral4,
     .prefixes = family_text_prefixes,
     .defaults = {36, 4096, 12288, 32, 32, 0, 131072, 1048576, 0, 1e-6, 1e4, 1, false},
     .ungrouped = true,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing_key = "rope_interleave",
     .query_beta_key = "llama_4_scaling_beta",
     .needs_scaling = true,
     .latent = &mistral4_latent,
     .experts = &mistral4_experts},
};

const struct family_list family_list_latent = {rows, sizeof rows / sizeof rows[0]};
