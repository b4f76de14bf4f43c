// SPDX-License-Identifier: MIT
// The same of families with mixtures of experts.
#include "model/weight_rows.h"

// clang-format off
static const struct weight_row of_experts[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"), EACH_EXPERT,
};

static const struct weight_row shared_expert[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"), SHARED_EXPERT("shared_expert"), EACH_EXPERT,
};

static const struct weight_row glm4_moe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    WIDE_ROUTER("layers.{i}.mlp.gate.weight"), CORRECTION("layers.{i}.mlp.gate.e_score_correction_bias"),
    SHARED_EXPERT("shared_experts"), EACH_EXPERT,
};

#define LATENT_ATTENTION \
    LINEAR("layers.{i}.self_attn.q_a_proj", DIM_LATENT_QUERY, DIM_HIDDEN, query_down, has_query_latent, query_latent_bias), \
    VECTOR("layers.{i}.self_attn.q_a_layernorm.weight", DIM_LATENT_QUERY, BLOCK(query_norm), has_query_latent), \
    MATRIX("layers.{i}.self_attn.q_b_proj.weight", DIM_Q, DIM_LATENT_QUERY, BLOCK(query_up), has_query_latent), \
    MATRIX("layers.{i}.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(query_up), has_no_query_latent), \
    LINEAR("layers.{i}.self_attn.kv_a_proj_with_mqa", DIM_LATENT_KEY_TURNED, DIM_HIDDEN, key_down, NULL, attention_bias), \
    VECTOR("layers.{i}.self_attn.kv_a_layernorm.weight", DIM_LATENT_KEY, BLOCK(key_norm), NULL), \
    MATRIX("layers.{i}.self_attn.kv_b_proj.weight", DIM_LATENT_KEY_VALUE, DIM_LATENT_KEY, BLOCK(key_up), NULL), \
    LINEAR("layers.{i}.self_attn.o_proj", DIM_HIDDEN, DIM_VALUES, output, NULL, output_bias)

static const struct weight_row deepseek_v3[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), LATENT_ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    WIDE_ROUTER("layers.{i}.mlp.gate.weight"), CORRECTION("layers.{i}.mlp.gate.e_score_correction_bias"),
    SHARED_EXPERT("shared_experts"), EACH_EXPERT,
};

static const struct weight_row deepseek_v2[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), LATENT_ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    WIDE_ROUTER("layers.{i}.mlp.gate.weight"), SHARED_EXPERT("shared_experts"), EACH_EXPERT,
};

static const struct weight_row exaone_moe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    WIDE_ROUTER("layers.{i}.mlp.gate.weight"), CORRECTION("layers.{i}.mlp.e_score_correction_bias"),
    SHARED_EXPERT("shared_experts"), EACH_EXPERT,
};

static const struct weight_row hy_v3[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    WIDE_ROUTER("layers.{i}.mlp.router.gate.weight"), CORRECTION("layers.{i}.mlp.expert_bias"),
    SHARED_EXPERT("shared_mlp"), EACH_EXPERT,
};

static const struct weight_row hunyuan_moe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), Q_K_V("self_attn."),
    QK_NORMS("self_attn.query_layernorm", "self_attn.key_layernorm"), O_PROJ("self_attn.o_proj"),
    MLP_NORM("post_attention_layernorm"), ROUTER("layers.{i}.mlp.gate.wg.weight"), SHARED_EXPERT("shared_mlp"), EACH_EXPERT,
};

static const struct weight_row afmoe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION,
    MATRIX("layers.{i}.self_attn.gate_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(attention_gate), NULL),
    NORM_BEHIND("post_attention_layernorm", attention_norm), MLP_NORM("pre_mlp_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.router.gate.weight"), CORRECTION("layers.{i}.mlp.expert_bias"),
    SHARED_EXPERT("shared_experts"), EACH_EXPERT, NORM_BEHIND("post_mlp_layernorm", branch_norm),
};

static const struct weight_row flex_olmo[] = {
    ENDS("norm"), ATTENTION, NORM_BEHIND("post_attention_layernorm", attention_norm),
    ROUTER("layers.{i}.mlp.gate.weight"), EACH_EXPERT, NORM_BEHIND("post_feedforward_layernorm", branch_norm),
};

static const struct weight_row qwen3_vl_moe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"),
    ALL_EXPERTS("layers.{i}.mlp.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS_TRANSPOSED),
    ALL_EXPERTS("layers.{i}.mlp.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS_TRANSPOSED),
};

// As transformers saves them.
static const struct weight_row qwen3_vl_moe_rows[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"),
    ALL_EXPERTS("layers.{i}.mlp.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS),
    ALL_EXPERTS("layers.{i}.mlp.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS),
};
#define NUMBERED_EXPERTS \
    EXPERT("layers.{i}.block_sparse_moe.experts.{e}.w1.weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)), \
    EXPERT("layers.{i}.block_sparse_moe.experts.{e}.w3.weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)), \
    EXPERT("layers.{i}.block_sparse_moe.experts.{e}.w2.weight", DIM_HIDDEN, DIM_EXPERT_WIDTH, BLOCK(experts_down))

static const struct weight_row mixtral[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"),
    ROUTER("layers.{i}.block_sparse_moe.gate.weight"),
    NUMBERED_EXPERTS,
};

static const struct weight_row minimax_m2[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"),
    ROUTER("layers.{i}.block_sparse_moe.gate.weight"), CORRECTION("layers.{i}.block_sparse_moe.e_score_correction_bias"),
    NUMBERED_EXPERTS,
};

static const struct weight_row mistral4[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), LATENT_ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"), SHARED_EXPERT("shared_experts"), FUSED_EXPERTS,
};

// The MLP beside experts has biases where others do; the correction is a row of a table.
static const struct weight_row ernie4_5_moe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    WIDE_ROUTER("layers.{i}.mlp.gate.weight"),
    {"layers.{i}.mlp.moe_statics.e_score_correction_bias", FORM_FLOAT_TABLE, DIM_ONE, DIM_EXPERTS, BLOCK(correction), has_experts, NULL, FILE_ROWS},
    SHARED_EXPERT("shared_experts"),
    VECTOR("layers.{i}.mlp.shared_experts.gate_proj.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), shared_bias),
    VECTOR("layers.{i}.mlp.shared_experts.up_proj.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), shared_bias),
    VECTOR("layers.{i}.mlp.shared_experts.down_proj.bias", DIM_HIDDEN, BLOCK(down_bias), shared_bias),
    EACH_EXPERT,
};

#define ALL_BIASES(NAME, ROWS, PLACE, FILE) {NAME, FORM_VECTOR, ROWS, DIM_ONE, PLACE, has_experts, NULL, FILE}

static const struct weight_row gpt_oss[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION,
    VECTOR("layers.{i}.self_attn.sinks", DIM_HEADS, BLOCK(sinks), has_sinks),
    MLP_NORM("post_attention_layernorm"),
    ROUTER("layers.{i}.mlp.router.weight"),
    VECTOR("layers.{i}.mlp.router.bias", DIM_EXPERTS, BLOCK(router_bias), has_experts),
    ALL_EXPERTS("layers.{i}.mlp.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS_ALTERNATING),
    ALL_BIASES("layers.{i}.mlp.experts.gate_up_proj_bias", DIM_EXPERTS_GATE_UP, BLOCK(experts_gate_up_bias), FILE_EXPERTS_ALTERNATING),
    ALL_EXPERTS("layers.{i}.mlp.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS_TRANSPOSED),
    ALL_BIASES("layers.{i}.mlp.experts.down_proj_bias", DIM_EXPERTS_DOWN, BLOCK(experts_down_bias), FILE_EXPERTS),
};

static const struct weight_row granitemoe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"),
    ROUTER("layers.{i}.block_sparse_moe.router.layer.weight"),
    ALL_EXPERTS("layers.{i}.block_sparse_moe.input_linear.weight", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS),
    ALL_EXPERTS("layers.{i}.block_sparse_moe.output_linear.weight", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS),
};

#define FEED_FORWARD(AT, PRESENT) \
    MATRIX("layers.{i}.feed_forward." AT "gate_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), PRESENT), \
    MATRIX("layers.{i}.feed_forward." AT "up_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), PRESENT), \
    MATRIX("layers.{i}.feed_forward." AT "down_proj.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), PRESENT)

static const struct weight_row llama4[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), FEED_FORWARD("", has_mlp),
    ROUTER("layers.{i}.feed_forward.router.weight"), FEED_FORWARD("shared_expert.", has_shared),
    ALL_EXPERTS("layers.{i}.feed_forward.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS_TRANSPOSED),
    ALL_EXPERTS("layers.{i}.feed_forward.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS_TRANSPOSED),
};

const struct weight_table weight_table_experts = TABLE(of_experts);
const struct weight_table weight_table_shared_expert = TABLE(shared_expert);
const struct weight_table weight_table_glm4_moe = TABLE(glm4_moe);
const struct weight_table weight_table_deepseek_v2 = TABLE(deepseek_v2);
const struct weight_table weight_table_deepseek_v3 = TABLE(deepseek_v3);
const struct weight_table weight_table_exaone_moe = TABLE(exaone_moe);
const struct weight_table weight_table_hy_v3 = TABLE(hy_v3);
const struct weight_table weight_table_hunyuan_moe = TABLE(hunyuan_moe);
const struct weight_table weight_table_afmoe = TABLE(afmoe);
const struct weight_table weight_table_flex_olmo = TABLE(flex_olmo);
const struct weight_table weight_table_qwen3_vl_moe = TABLE(qwen3_vl_moe);
const struct weight_table weight_table_qwen3_vl_moe_rows = TABLE(qwen3_vl_moe_rows);
const struct weight_table weight_table_mixtral = TABLE(mixtral);
const struct weight_table weight_table_gpt_oss = TABLE(gpt_oss);
const struct weight_table weight_table_granitemoe = TABLE(granitemoe);
const struct weight_table weight_table_llama4 = TABLE(llama4);
const struct weight_table weight_table_minimax_m2 = TABLE(minimax_m2);
const struct weight_table weight_table_mistral4 = TABLE(mistral4);
const struct weight_table weight_table_ernie4_5_moe = TABLE(ernie4_5_moe);
// clang-format on
