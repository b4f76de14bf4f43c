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
    {.model_type = "lfm2_moe",
     .weights = &weight_table_lfm2,
     .keys = {.epsilon = "norm_eps", .activation = "", .tied = "tie_embedding"},
     .defaults = {32, 2048, 7168, 32, 8, 0, 65536, 128000, 0, 1e-5, 1e6, 0, true},
     .qk_norm = QK_NORM_HEADS,
     .mixers = MIXERS_LISTED,
     .experts = &lfm2_experts},
};

const struct family_list family_list_hybrids = {rows, sizeof rows / sizeof rows[0]};
