// SPDX-License-Identifier: MIT
// The same of families whose blocks mix tokens by more than attention.
#include "model/weight_rows.h"

// clang-format off
// With experts or without.
static const struct weight_row lfm2[] = {
    ENDS("embedding_norm"), INPUT_NORM("operator_norm"),
    MATRIX("layers.{i}.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(qkv), attends),
    MATRIX("layers.{i}.self_attn.k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), attends),
    MATRIX("layers.{i}.self_attn.v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), attends),
    QK_NORMS("self_attn.q_layernorm", "self_attn.k_layernorm"),
    MATRIX("layers.{i}.self_attn.out_proj.weight", DIM_HIDDEN, DIM_Q, BLOCK(output), attends),
    LINEAR("layers.{i}.conv.in_proj", DIM_CONVOLUTION, DIM_HIDDEN, qkv, convolves, convolution_bias),
    {"layers.{i}.conv.conv.weight", FORM_TABLE, DIM_HIDDEN, DIM_TAPS, BLOCK(convolution), convolves, NULL, FILE_CONVOLUTION},
    VECTOR("layers.{i}.conv.conv.bias", DIM_HIDDEN, BLOCK(convolution_bias), convolution_bias),
    LINEAR("layers.{i}.conv.out_proj", DIM_HIDDEN, DIM_HIDDEN, output, convolves, convolution_bias),
    MLP_NORM("ffn_norm"),
    MATRIX("layers.{i}.feed_forward.w1.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_mlp),
    MATRIX("layers.{i}.feed_forward.w3.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_mlp),
    MATRIX("layers.{i}.feed_forward.w2.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), has_mlp),
    ROUTER("layers.{i}.feed_forward.gate.weight"), CORRECTION("layers.{i}.feed_forward.expert_bias"),
    EACH_EXPERT_OF("feed_forward", "w1", "w3", "w2"),
};

// Gates behind the queries, and delta nets.
#define GATED_ATTENTION \
    MATRIX("layers.{i}.self_attn.q_proj.weight", DIM_Q_GATE, DIM_HIDDEN, BLOCK(qkv), attends), \
    MATRIX("layers.{i}.self_attn.k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), attends), \
    MATRIX("layers.{i}.self_attn.v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), attends), \
    VECTOR("layers.{i}.self_attn.q_proj.bias", DIM_Q_GATE, BLOCK(qkv_bias), attention_bias), \
    VECTOR("layers.{i}.self_attn.k_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias), \
    VECTOR("layers.{i}.self_attn.v_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias), \
    QK_NORMS("self_attn.q_norm", "self_attn.k_norm"), \
    LINEAR("layers.{i}.self_attn.o_proj", DIM_HIDDEN, DIM_Q, output, attends, output_bias)
#define DELTA_NET \
    {"layers.{i}.linear_attn.conv1d.weight", FORM_TABLE, DIM_NET_MIXED, DIM_NET_TAPS, BLOCK(net_convolution), has_delta_net, NULL, FILE_CONVOLUTION}, \
    VECTOR("layers.{i}.linear_attn.A_log", DIM_NET_HEADS, BLOCK(net_decay), has_delta_net), \
    VECTOR("layers.{i}.linear_attn.dt_bias", DIM_NET_HEADS, BLOCK(net_step_bias), has_delta_net), \
    VECTOR("layers.{i}.linear_attn.norm.weight", DIM_NET_VALUE, BLOCK(net_norm), has_delta_net), \
    MATRIX("layers.{i}.linear_attn.out_proj.weight", DIM_HIDDEN, DIM_NET_OUT, BLOCK(output), has_delta_net)
#define SPLIT_DELTA_NET \
    MATRIX("layers.{i}.linear_attn.in_proj_qkv.weight", DIM_NET_MIXED, DIM_HIDDEN, BLOCK(qkv), has_delta_net), \
    MATRIX("layers.{i}.linear_attn.in_proj_z.weight", DIM_NET_OUT, DIM_HIDDEN, BLOCK(qkv), has_delta_net), \
    MATRIX("layers.{i}.linear_attn.in_proj_b.weight", DIM_NET_HEADS, DIM_HIDDEN, BLOCK(qkv), has_delta_net), \
    MATRIX("layers.{i}.linear_attn.in_proj_a.weight", DIM_NET_HEADS, DIM_HIDDEN, BLOCK(qkv), has_delta_net), \
    DELTA_NET

static const struct weight_row qwen3_5[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), GATED_ATTENTION, SPLIT_DELTA_NET,
    MLP_NORM("post_attention_layernorm"), GATED_MLP,
};

static const struct weight_row qwen3_5_moe[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), GATED_ATTENTION, SPLIT_DELTA_NET,
    MLP_NORM("post_attention_layernorm"), ROUTER("layers.{i}.mlp.gate.weight"),
    SHARED_EXPERT("shared_expert"), EACH_EXPERT,
};

static const struct weight_row qwen3_5_moe_fused[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), GATED_ATTENTION, SPLIT_DELTA_NET,
    MLP_NORM("post_attention_layernorm"), ROUTER("layers.{i}.mlp.gate.weight"),
    SHARED_EXPERT("shared_expert"), FUSED_EXPERTS,
};

static const struct weight_row qwen3_next[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), GATED_ATTENTION,
    {"layers.{i}.linear_attn.in_proj_qkvz.weight", FORM_MATRIX, DIM_NET_QKVZ, DIM_HIDDEN, BLOCK(qkv), has_delta_net, NULL, FILE_NET_QKVZ},
    {"layers.{i}.linear_attn.in_proj_ba.weight", FORM_MATRIX, DIM_NET_BA, DIM_HIDDEN, BLOCK(qkv), has_delta_net, NULL, FILE_NET_BA},
    DELTA_NET,
    MLP_NORM("post_attention_layernorm"), GATED_MLP, ROUTER("layers.{i}.mlp.gate.weight"),
    SHARED_EXPERT("shared_expert"), EACH_EXPERT,
};

// Projections of attention in the blocks that have it.
#define SOME_ATTENTION(AT) \
    MATRIX("layers.{i}." AT "q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(qkv), attends), \
    MATRIX("layers.{i}." AT "k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), attends), \
    MATRIX("layers.{i}." AT "v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), attends), \
    VECTOR("layers.{i}." AT "q_proj.bias", DIM_Q, BLOCK(qkv_bias), attention_bias), \
    VECTOR("layers.{i}." AT "k_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias), \
    VECTOR("layers.{i}." AT "v_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias), \
    LINEAR("layers.{i}." AT "o_proj", DIM_HIDDEN, DIM_Q, output, attends, output_bias)

// One branch a block, its norm named as that of any other; an MLP's names with experts beside it or without.
#define NEMOTRON_H \
    EMBEDDING("embeddings.weight"), \
    VECTOR("norm_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL), \
    VECTOR("layers.{i}.norm.weight", DIM_HIDDEN, BLOCK(input_norm), mixes), \
    VECTOR("layers.{i}.norm.weight", DIM_HIDDEN, BLOCK(mlp_norm), has_second_branch), \
    SOME_ATTENTION("mixer."), STATE_SPACE("mixer."), \
    LINEAR("layers.{i}.mixer.up_proj", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, has_lone_mlp, lone_mlp_bias), \
    LINEAR("layers.{i}.mixer.down_proj", DIM_HIDDEN, DIM_INTERMEDIATE, down, has_lone_mlp, lone_mlp_bias), \
    LINEAR("layers.{i}.mixer.shared_experts.up_proj", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, has_shared, shared_bias), \
    LINEAR("layers.{i}.mixer.shared_experts.down_proj", DIM_HIDDEN, DIM_INTERMEDIATE, down, has_shared, shared_bias), \
    WIDE_ROUTER("layers.{i}.mixer.gate.weight"), CORRECTION("layers.{i}.mixer.gate.e_score_correction_bias"), \
    LINEAR("layers.{i}.mixer.fc1_latent_proj", DIM_EXPERT_HIDDEN, DIM_HIDDEN, latent_down, has_expert_latent, expert_latent_bias), \
    LINEAR("layers.{i}.mixer.fc2_latent_proj", DIM_HIDDEN, DIM_EXPERT_HIDDEN, latent_up, has_expert_latent, expert_latent_bias)

static const struct weight_row nemotron_h[] = {
    NEMOTRON_H,
    EXPERT("layers.{i}.mixer.experts.{e}.up_proj.weight", DIM_EXPERT_WIDTH, DIM_EXPERT_HIDDEN, BLOCK(experts_gate_up)),
    EXPERT("layers.{i}.mixer.experts.{e}.down_proj.weight", DIM_EXPERT_HIDDEN, DIM_EXPERT_WIDTH, BLOCK(experts_down)),
};

static const struct weight_row nemotron_h_fused[] = {
    NEMOTRON_H,
    ALL_EXPERTS("layers.{i}.mixer.experts.up_proj", DIM_EXPERTS_UP, DIM_EXPERT_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS),
    ALL_EXPERTS("layers.{i}.mixer.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS),
};

static const struct weight_row granitemoehybrid[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), SOME_ATTENTION("self_attn."), STATE_SPACE("mamba."),
    MLP_NORM("post_attention_layernorm"),
    MATRIX("layers.{i}.shared_mlp.input_linear.weight", DIM_GATE_UP, DIM_HIDDEN, BLOCK(gate_up), NULL),
    MATRIX("layers.{i}.shared_mlp.output_linear.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), NULL),
    ROUTER("layers.{i}.block_sparse_moe.router.layer.weight"),
    ALL_EXPERTS("layers.{i}.block_sparse_moe.input_linear.weight", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS),
    ALL_EXPERTS("layers.{i}.block_sparse_moe.output_linear.weight", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS),
};

static const struct weight_row bamba[] = {
    ENDS("final_layernorm"), INPUT_NORM("input_layernorm"), SOME_ATTENTION("self_attn."), STATE_SPACE("mamba."),
    MLP_NORM("pre_ff_layernorm"),
    MATRIX("layers.{i}.feed_forward.gate_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), NULL),
    MATRIX("layers.{i}.feed_forward.up_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), NULL),
    VECTOR("layers.{i}.feed_forward.gate_proj.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), mlp_bias),
    VECTOR("layers.{i}.feed_forward.up_proj.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), mlp_bias),
    LINEAR("layers.{i}.feed_forward.down_proj", DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, mlp_bias),
};

const struct weight_table weight_table_lfm2 = TABLE(lfm2);
const struct weight_table weight_table_bamba = TABLE(bamba);
const struct weight_table weight_table_nemotron_h = TABLE(nemotron_h);
const struct weight_table weight_table_nemotron_h_fused = TABLE(nemotron_h_fused);
const struct weight_table weight_table_granitemoehybrid = TABLE(granitemoehybrid);
const struct weight_table weight_table_qwen3_5 = TABLE(qwen3_5);
const struct weight_table weight_table_qwen3_5_moe = TABLE(qwen3_5_moe);
const struct weight_table weight_table_qwen3_5_moe_fused = TABLE(qwen3_5_moe_fused);
const struct weight_table weight_table_qwen3_next = TABLE(qwen3_next);
// clang-format on
