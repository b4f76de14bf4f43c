// The families with mixtures of experts.
#include "model/family_rows.h"

static const struct family_experts qwen3_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 128,
    .chosen = 8,
    .width_key = "moe_intermediate_size",
    .width = 768,
    .normalised_key = "norm_topk_prob",
    .rounds_weights = true,
    .some_blocks = true,
};

static const struct family_experts qwen2_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 60,
    .chosen = 4,
    .width_key = "moe_intermediate_size",
    .width = 1408,
    .normalised_key = "norm_topk_prob",
    .rounds_weights = true,
    .some_blocks = true,
    .shared_key = "shared_expert_intermediate_size",
    .shared_width = 5632,
    .shared_gate = true,
};

static const struct family_experts mixtral_experts = {
    .count_key = "num_local_experts",
    .count = 8,
    .chosen = 2,
    .width_key = "intermediate_size",
    .width = 14336,
};

static const struct family_experts olmoe_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 64,
    .chosen = 8,
    .width_key = "intermediate_size",
    .width = 2048,
    .normalised_key = "norm_topk_prob",
    .rounds_weights = true,
};

static const struct family_experts gpt_oss_experts = {
    .count_key = "num_local_experts",
    .count = 128,
    .chosen = 4,
    .width_key = "intermediate_size",
    .width = 2880,
    .scores = DEVICE_SCORES_CHOSEN,
    .rounds_weights = true,
    .limit_key = "swiglu_limit",
    .limit = 7,
    .has_bias = true,
};

static const struct family_experts granite_experts = {
    .count_key = "num_local_experts",
    .count = 8,
    .chosen = 2,
    .width_key = "intermediate_size",
    .width = 11008,
    .scores = DEVICE_SCORES_CHOSEN,
    .rounds_weights = true,
};

// As DeepSeek-V3 chooses experts and has some beside them.
#define SIGMOID_EXPERTS                                                                                      \
    .count_key = "n_routed_experts", .other_count_key = "num_local_experts",                                 \
    .width_key = "moe_intermediate_size", .normalised_key = "norm_topk_prob", .normalised = true,            \
    .scores = DEVICE_SCORES_SIGMOID, .shared_count_key = "n_shared_experts", .shared_count = 1,              \
    .scaling_key = "routed_scaling_factor", .sum_more = 1e-20, .wide_router = true, .has_correction = true,  \
    .groups = GROUPS_BY_PAIRS

static const struct family_experts glm4_experts = {
    SIGMOID_EXPERTS,
    .count = 128,
    .chosen = 8,
    .width = 1408,
    .dense_key = "first_k_dense_replace",
    .dense_blocks = 1,
    .scaling = 1,
    .group_count = 1,
    .group_chosen = 1,
};

static const struct family_experts glm4_lite_experts = {
    SIGMOID_EXPERTS,       .count = 64,    .chosen = 4,      .width = 1536,     .dense_blocks = 1,
    .listed_blocks = true, .scaling = 1.8, .group_count = 1, .group_chosen = 1,
};

static const struct family_experts deepseek_v3_experts = {
    SIGMOID_EXPERTS,
    .count = 256,
    .chosen = 8,
    .width = 2048,
    .dense_key = "first_k_dense_replace",
    .dense_blocks = 3,
    .scaling = 2.5,
    .group_count = 8,
    .group_chosen = 4,
};

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

static const struct family_experts minimax_m2_experts = {
    .count_key = "num_local_experts",
    .other_count_key = "num_experts",
    .count = 256,
    .chosen = 8,
    .width_key = "intermediate_size",
    .width = 1536,
    .scores = DEVICE_SCORES_SIGMOID,
    .has_correction = true,
    .rounds_correction = true,
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

static const struct family_experts ernie4_5_experts = {
    .count_key = "moe_num_experts",
    .other_count_key = "num_experts",
    .count = 64,
    .chosen_key = "moe_k",
    .other_chosen_key = "num_experts_per_tok",
    .chosen = 6,
    .width_key = "moe_intermediate_size",
    .width = 1536,
    .rounds_weights = true,
    .shared_count_key = "moe_num_shared_experts",
    .shared_count = 2,
    .shared_may_lack = true,
    .dense_key = "moe_layer_start_index",
    .dense_blocks = 1,
    .end_key = "moe_layer_end_index",
    .step_key = "moe_layer_interval",
    .least_key = "moe_norm_min",
    .sum_least = 1e-12,
    .wide_router = true,
    .has_correction = true,
};

static const struct family_latent mistral4_latent = {1024, 256, 64, 64, 128};
static const struct family_latent deepseek_latent = {1536, 512, 128, 64, 128};
static const struct family_latent glm4_lite_latent = {768, 512, 192, 64, 256};

// ---- the rows ----

static const struct family_row rows[] = {
    {.model_type = "qwen3_moe",
     .weights = &weight_table_experts,
     .defaults = {24, 2048, 6144, 32, 4, 0, 151936, 32768, 4096, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .qk_norm = QK_NORM_HEADS,
     .windows = WINDOWS_ALL_IF_USED,
     .experts = &qwen3_experts},
    {.model_type = "qwen2_moe",
     .weights = &weight_table_shared_expert,
     .defaults = {24, 2048, 5632, 16, 16, 0, 151936, 32768, 4096, 1e-6, 1e4, 0, false},
     .qkv_bias = {.key = "qkv_bias", .otherwise = true},
     .windows = WINDOWS_IN_TURN,
     .experts = &qwen2_experts},
    {.model_type = "mixtral",
     .weights = &weight_table_mixtral,
     .defaults = {32, 4096, 14336, 32, 8, 0, 32000, 4096 * 32, 0, 1e-5, 1e6, 0, false},
     .windows = WINDOWS_ALL,
     .experts = &mixtral_experts},
    {.model_type = "olmoe",
     .weights = &weight_table_experts,
     .defaults = {16, 2048, 2048, 16, 0, 0, 50304, 4096, 0, 1e-5, 1e4, 0, false},
     .qk_norm = QK_NORM_WHOLE,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .qkv_limit_key = "clip_qkv",
     .experts = &olmoe_experts},
    {.model_type = "glm4_moe",
     .weights = &weight_table_glm4_moe,
     .defaults = {46, 4096, 10944, 96, 8, 0, 151552, 131072, 0, 1e-5, 1e4, 0.5, false},
     .qkv_bias = ATTENTION_BIAS,
     .qk_norm = QK_NORM_HEADS,
     .qk_norm_key = "use_qk_norm",
     .experts = &glm4_experts},
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
    {.model_type = "gpt_oss",
     .weights = &weight_table_gpt_oss,
     .defaults = {36, 2880, 2880, 64, 8, 64, 201088, 131072, 128, 1e-5, 1.5e5, 0, false},
     .norm = DEVICE_NORM_RMS_ONCE,
     .qkv_bias = {.key = "attention_bias", .otherwise = true},
     .output_bias = {.key = "attention_bias", .otherwise = true},
     .has_sinks = true,
     .windows = WINDOWS_BY_TYPE,
     .full_every = 2,
     .needs_scaling = true,
     .experts = &gpt_oss_experts},
    {.model_type = "granitemoe",
     .weights = &weight_table_granitemoe,
     .defaults = {32, 4096, 11008, 32, 0, 0, 32000, 2048, 0, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .scale_key = "attention_multiplier",
     .scale_default = 1,
     .embedding_key = "embedding_multiplier",
     .residual_key = "residual_multiplier",
     .experts = &granite_experts},
    {.model_type = "minimax_m2",
     .weights = &weight_table_minimax_m2,
     .defaults = {62, 3072, 1536, 48, 8, 128, 200064, 196608, 0, 1e-6, 5e6, 1, false},
     .qk_norm = QK_NORM_WHOLE,
     .rotary_part = true,
     .experts = &minimax_m2_experts},
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
    {.model_type = "ernie4_5_moe",
     .weights = &weight_table_ernie4_5_moe,
     .defaults = {28, 2560, 12288, 20, 4, 0, 103424, 131072, 0, 1e-5, 5e5, 0, true},
     .qkv_bias = {.key = "use_bias"},
     .output_bias = {.key = "use_bias"},
     .mlp_bias = {.key = "use_bias"},
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_ONCE,
     .experts = &ernie4_5_experts},
};

const struct family_list family_list_mixtures = {rows, sizeof rows / sizeof rows[0]};
