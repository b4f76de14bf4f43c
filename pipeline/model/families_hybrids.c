// SPDX-License-Identifier: MIT
// The families whose blocks mix tokens by more than attention: delta nets, short convolutions, state spaces.
#include "model/family_rows.h"

#define QWEN3_NEXT                                                                                           \
    .norm = DEVICE_NORM_RMS_PLUS_ONE, .qk_norm = QK_NORM_HEADS, .qkv_bias = ATTENTION_BIAS,                  \
    .output_bias = ATTENTION_BIAS, .query_gates = true, .mixers = MIXERS_DELTA_NET, .full_every = 4

static const struct family_experts qwen3_next_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 512,
    .chosen = 10,
    .width_key = "moe_intermediate_size",
    .width = 512,
    .normalised_key = "norm_topk_prob",
    .normalised = true,
    .rounds_weights = true,
    .some_blocks = true,
    .shared_key = "shared_expert_intermediate_size",
    .shared_width = 512,
    .shared_gate = true,
};

static const struct family_experts qwen3_5_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 256,
    .chosen = 8,
    .width_key = "moe_intermediate_size",
    .width = 512,
    .rounds_weights = true,
    .shared_key = "shared_expert_intermediate_size",
    .shared_width = 512,
    .shared_gate = true,
};

static const struct family_experts nemotron_experts = {
    .count_key = "n_routed_experts",
    .other_count_key = "num_local_experts",
    .count = 8,
    .chosen = 2,
    .width_key = "moe_intermediate_size",
    .width = 7688,
    .normalised_key = "norm_topk_prob",
    .normalised = true,
    .scores = DEVICE_SCORES_SIGMOID,
    .shared_key = "moe_shared_expert_intermediate_size",
    .shared_width = 7688,
    .scaling_key = "routed_scaling_factor",
    .scaling = 1,
    .sum_more = 1e-20,
    .wide_router = true,
    .latent_key = "moe_latent_size",
    .has_correction = true,
    .groups = GROUPS_BY_PAIRS,
    .group_count = 1,
    .group_chosen = 1,
};

static const struct family_experts granite_hybrid_experts = {
    .count_key = "num_local_experts",
    .may_be_none = true,
    .count = 8,
    .chosen = 2,
    .width_key = "intermediate_size",
    .width = 11008,
    .scores = DEVICE_SCORES_CHOSEN,
    .rounds_weights = true,
    .shared_key = "shared_intermediate_size",
    .shared_width = 1024,
};

static const struct family_space nemotron_space = {
    .list_key = "layers_block_type",
    .list_alias = "layer_types",
    .pattern_key = "hybrid_override_pattern",
    .heads = {"mamba_num_heads", NULL, 128},
    .head_dim = {"mamba_head_dim", NULL, 64},
    .groups = {"n_groups", "mamba_n_groups", 8},
    .state = {"ssm_state_size", NULL, 128},
    .taps = {"conv_kernel", "mamba_d_conv", 4},
    .bias_key = "use_bias",
    .mixed_bias_key = "use_conv_bias",
    .old_mixed_bias_key = "mamba_conv_bias",
    .activation_key = "mamba_hidden_act",
    .least_key = "time_step_min",
    .old_least_key = "mamba_dt_min",
    .step_least = 0.001,
};

#define GRANITE_SPACE                                                                                        \
    .heads = {"mamba_n_heads", NULL, 128}, .head_dim = {"mamba_d_head", NULL, 0},                            \
    .groups = {"mamba_n_groups", NULL, 1}, .state = {"mamba_d_state", NULL, 256},                            \
    .taps = {"mamba_d_conv", NULL, 4}, .expand = {"mamba_expand", NULL, 2}, .bias_key = "mamba_proj_bias",   \
    .mixed_bias_key = "mamba_conv_bias", .limits_key = "time_step_limit"

static const struct family_space granite_space = {
    GRANITE_SPACE,
    .list_key = "layer_types",
    .list_alias = "layers_block_type",
};

static const struct family_space bamba_space = {
    GRANITE_SPACE,
    .indices_key = "attn_layer_indices",
};

static const char *const nemotron_prefixes[] = {"backbone.", "model.", "", NULL};

static const struct family_experts lfm2_experts = {
    .count_key = "num_experts",
    .count = 32,
    .chosen = 4,
    .width_key = "moe_intermediate_size",
    .width = 1792,
    .normalised_key = "norm_topk_prob",
    .normalised = true,
    .rounds_weights = true,
    .scores = DEVICE_SCORES_SIGMOID,
    .dense_key = "num_dense_layers",
    .dense_blocks = 2,
    .scaling_key = "routed_scaling_factor",
    .scaling = 1,
    .sum_more = 1e-6,
    .has_correction = true,
    .correction_key = "use_expert_bias",
};

// ---- the rows ----

static const struct family_row rows[] = {
    {.model_type = "qwen3_next",
     .weights = &weight_table_qwen3_next,
     .defaults = {48, 2048, 5632, 16, 2, 256, 151936, 32768, 0, 1e-6, 1e4, 0.25, false},
     QWEN3_NEXT,
     .experts = &qwen3_next_experts},
    {.model_type = "qwen3_5_text",
     .weights = &weight_table_qwen3_5,
     .prefixes = family_text_prefixes,
     .defaults = {32, 4096, 12288, 16, 4, 256, 248320, 32768, 0, 1e-6, 1e4, 0.25, false},
     QWEN3_NEXT},
    {.model_type = "qwen3_5_moe_text",
     .weights = &weight_table_qwen3_5_moe,
     .other_weights = &weight_table_qwen3_5_moe_fused,
     .prefixes = family_text_prefixes,
     .defaults = {40, 2048, 5632, 16, 2, 256, 248320, 32768, 0, 1e-6, 1e4, 0.25, false},
     QWEN3_NEXT,
     .experts = &qwen3_5_experts},
    {.model_type = "lfm2",
     .weights = &weight_table_lfm2,
     .keys = {.epsilon = "norm_eps", .activation = "", .tied = "tie_embedding"},
     .defaults = {32, 2560, 12288, 32, 8, 0, 65536, 128000, 0, 1e-5, 1e6, 0, true},
     .qk_norm = QK_NORM_HEADS,
     .mixers = MIXERS_CONVOLUTION,
     .rounds_mlp = true},
    {.model_type = "nemotron_h",
     .weights = &weight_table_nemotron_h,
     .other_weights = &weight_table_nemotron_h_fused,
     .prefixes = nemotron_prefixes,
     .keys = {.epsilon = "layer_norm_epsilon", .activation = "mlp_hidden_act", .tied = ""},
     .defaults = {0, 4096, 21504, 32, 8, 128, 131072, 4096, 0, 1e-5, 1e4, 0, false},
     .norm = DEVICE_NORM_RMS_ONCE,
     .mlp_bias = {.key = "mlp_bias"},
     .activation = DEVICE_RELU_SQUARED,
     .plain_mlp = true,
     .mixers = MIXERS_LONE_BRANCHES,
     .ropes = ROPES_NONE,
     .space = &nemotron_space,
     .experts = &nemotron_experts},
    {.model_type = "granitemoehybrid",
     .weights = &weight_table_granitemoehybrid,
     .keys = {.intermediate = "shared_intermediate_size"},
     .defaults = {32, 4096, 1024, 32, 0, 0, 32000, 2048, 0, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .scale_key = "attention_multiplier",
     .scale_default = 1,
     .embedding_key = "embedding_multiplier",
     .residual_key = "residual_multiplier",
     .mixers = MIXERS_STATE_SPACE,
     .ropes = ROPES_IF_NAMED,
     .space = &granite_space,
     .experts = &granite_hybrid_experts},
    {.model_type = "lfm2_moe",
     .weights = &weight_table_lfm2,
     .keys = {.epsilon = "norm_eps", .activation = "", .tied = "tie_embedding"},
     .defaults = {32, 2048, 7168, 32, 8, 0, 65536, 128000, 0, 1e-5, 1e6, 0, true},
     .qk_norm = QK_NORM_HEADS,
     .mixers = MIXERS_LISTED,
     .experts = &lfm2_experts},
    {.model_type = "bamba",
     .weights = &weight_table_bamba,
     .defaults = {32, 4096, 14336, 32, 8, 0, 128000, 262144, 0, 1e-5, 1e4, 0.5, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .mlp_bias = {.key = "mlp_bias"},
     .part_inside = true,
     .mixers = MIXERS_STATE_SPACE,
     .space = &bamba_space},
};

const struct family_list family_list_hybrids = {rows, sizeof rows / sizeof rows[0]};
