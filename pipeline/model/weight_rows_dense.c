// SPDX-License-Identifier: MIT
// The tables of weights of families without experts: how their files name them.
#include "model/weight_rows.h"

static size_t heads(const struct model_config *config, size_t block) {
    return config_heads(config, block).heads;
}

static size_t key_heads(const struct model_config *config, size_t block) {
    return config_heads(config, block).kv_heads;
}

// clang-format off
static const struct weight_row dense[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
};

static const struct weight_row fused[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"),
    MATRIX("layers.{i}.self_attn.qkv_proj.weight", DIM_QKV, DIM_HIDDEN, BLOCK(qkv), NULL),
    O_PROJ("self_attn.o_proj"), MLP_NORM("post_attention_layernorm"), FUSED_MLP,
};

static const struct weight_row gemma[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION,
    NORM_BEHIND("post_attention_layernorm", attention_norm), MLP_NORM("pre_feedforward_layernorm"), GATED_MLP,
    NORM_BEHIND("post_feedforward_layernorm", branch_norm),
};

// Where values are what keys are made of, their columns are computed from those of keys; keys and values of
// another block are read in its own place.
static const struct weight_row gemma4[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"),
    MATRIX("layers.{i}.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("layers.{i}.self_attn.k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), has_keys),
    MATRIX("layers.{i}.self_attn.v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), has_values),
    NOWHERE(DIM_KV, DIM_HIDDEN, BLOCK(qkv), lacks_keys),
    NOWHERE(DIM_KV, DIM_HIDDEN, BLOCK(qkv), lacks_values),
    VECTOR("layers.{i}.self_attn.q_proj.bias", DIM_Q, BLOCK(qkv_bias), attention_bias),
    VECTOR("layers.{i}.self_attn.k_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias),
    VECTOR("layers.{i}.self_attn.v_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias),
    VECTOR("layers.{i}.self_attn.q_norm.weight", DIM_HEAD, BLOCK(q_norm), NULL),
    VECTOR("layers.{i}.self_attn.k_norm.weight", DIM_HEAD, BLOCK(k_norm), has_keys),
    O_PROJ("self_attn.o_proj"),
    NORM_BEHIND("post_attention_layernorm", attention_norm), MLP_NORM("pre_feedforward_layernorm"), GATED_MLP,
    NORM_BEHIND("post_feedforward_layernorm", branch_norm),
    {"embed_tokens_per_layer.weight", FORM_TABLE, DIM_LAYER_VOCABULARY, DIM_LAYER_INPUTS, GLOBAL(layer_embedding), has_layer_input, NULL, FILE_ROWS},
    MATRIX("per_layer_model_projection.weight", DIM_LAYER_INPUTS, DIM_HIDDEN, GLOBAL(layer_projection), has_layer_input),
    VECTOR("per_layer_projection_norm.weight", DIM_LAYER_INPUT, GLOBAL(layer_norm), has_layer_input),
    MATRIX("layers.{i}.per_layer_input_gate.weight", DIM_LAYER_INPUT, DIM_HIDDEN, BLOCK(input_gate), has_layer_input),
    MATRIX("layers.{i}.per_layer_projection.weight", DIM_HIDDEN, DIM_LAYER_INPUT, BLOCK(input_down), has_layer_input),
    VECTOR("layers.{i}.post_per_layer_input_norm.weight", DIM_HIDDEN, BLOCK(input_add_norm), has_layer_input),
    VECTOR("layers.{i}.layer_scalar", DIM_ONE, BLOCK(scale), NULL),
    OF_EXPERTS("layers.{i}.post_feedforward_layernorm_1.weight", DIM_HIDDEN, BLOCK(mlp_branch_norm)),
    OF_EXPERTS("layers.{i}.pre_feedforward_layernorm_2.weight", DIM_HIDDEN, BLOCK(experts_norm)),
    OF_EXPERTS("layers.{i}.post_feedforward_layernorm_2.weight", DIM_HIDDEN, BLOCK(experts_branch_norm)),
    OF_EXPERTS("layers.{i}.router.scale", DIM_HIDDEN, BLOCK(router_norm)),
    OF_EXPERTS("layers.{i}.router.per_expert_scale", DIM_EXPERTS, BLOCK(expert_scales)),
    ROUTER("layers.{i}.router.proj.weight"),
    ALL_EXPERTS("layers.{i}.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS),
    ALL_EXPERTS("layers.{i}.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS),
};

static const struct weight_row norms_after[] = {
    ENDS("norm"), ATTENTION, NORM_BEHIND("post_attention_layernorm", attention_norm), GATED_MLP,
    NORM_BEHIND("post_feedforward_layernorm", branch_norm),
};

static const struct weight_row hunyuan[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), Q_K_V("self_attn."),
    QK_NORMS("self_attn.query_layernorm", "self_attn.key_layernorm"), O_PROJ("self_attn.o_proj"),
    MLP_NORM("post_attention_layernorm"), GATED_MLP,
};

// post_attention_layernorm is what comes before the MLP here too.
static const struct weight_row glm4[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION,
    NORM_BEHIND("post_self_attn_layernorm", attention_norm), MLP_NORM("post_attention_layernorm"), FUSED_MLP,
    NORM_BEHIND("post_mlp_layernorm", branch_norm),
};

static const struct weight_row glm[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), FUSED_MLP,
};

static const struct weight_row vaultgemma[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("pre_feedforward_layernorm"), GATED_MLP,
};

#define OF_EACH_HEAD(NAME, PLACE, HEADS) \
    {"layers.{i}.self_attn." NAME ".norms.{e}.weight", FORM_VECTOR, DIM_HEAD, DIM_ONE, BLOCK(PLACE), norms_of_each, HEADS, FILE_ROWS}

static const struct weight_row stablelm[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), Q_K_V("self_attn."),
    OF_EACH_HEAD("q_layernorm", q_norm, heads), OF_EACH_HEAD("k_layernorm", k_norm, key_heads),
    O_PROJ("self_attn.o_proj"), MLP_NORM("post_attention_layernorm"), GATED_MLP,
};

// None of its norms has a weight.
static const struct weight_row nanochat[] = {
    EMBEDDING("embed_tokens.weight"), Q_K_V("self_attn."), O_PROJ("self_attn.o_proj"), PLAIN_MLP("fc1", "fc2"),
};

static const struct weight_row starcoder2[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"),
    PLAIN_MLP("c_fc", "c_proj"),
};

#define XIELU(NAME, FILE) {"layers.{i}.mlp.act_fn." NAME, FORM_VECTOR, DIM_ONE, DIM_ONE, BLOCK(xielu), has_xielu, NULL, FILE}

static const struct weight_row apertus[] = {
    ENDS("norm"), INPUT_NORM("attention_layernorm"), ATTENTION, MLP_NORM("feedforward_layernorm"),
    PLAIN_MLP("up_proj", "down_proj"),
    XIELU("alpha_p", FILE_ROWS), XIELU("alpha_n", FILE_ROWS), XIELU("beta", FILE_SCALAR), XIELU("eps", FILE_SCALAR),
};

static const struct weight_row plain[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"),
    PLAIN_MLP("up_proj", "down_proj"),
};

static const struct weight_row phi[] = {
    ENDS("final_layernorm"), INPUT_NORM("input_layernorm"), Q_K_V("self_attn."), O_PROJ("self_attn.dense"),
    PLAIN_MLP("fc1", "fc2"),
};

static const struct weight_row neox[] = {
    EMBEDDING("embed_in.weight"),
    VECTOR("final_layer_norm.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("final_layer_norm.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), NULL),
    INPUT_NORM("input_layernorm"),
    {"layers.{i}.attention.query_key_value.weight", FORM_MATRIX, DIM_QKV, DIM_HIDDEN, BLOCK(qkv), NULL, NULL, FILE_HEADS},
    {"layers.{i}.attention.query_key_value.bias", FORM_VECTOR, DIM_QKV, DIM_ONE, BLOCK(qkv_bias), attention_bias, NULL, FILE_HEADS},
    O_PROJ("attention.dense"), MLP_NORM("post_attention_layernorm"),
    PLAIN_MLP("dense_h_to_4h", "dense_4h_to_h"),
};

static const struct weight_row gpt2[] = {
    EMBEDDING("wte.weight"),
    POSITIONS("wpe.weight"),
    VECTOR("ln_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("ln_f.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), NULL),
    VECTOR("h.{i}.ln_1.weight", DIM_HIDDEN, BLOCK(input_norm), NULL),
    VECTOR("h.{i}.ln_1.bias", DIM_HIDDEN, BLOCK(input_norm_bias), NULL),
    CONV1D("h.{i}.attn.c_attn.weight", DIM_QKV, DIM_HIDDEN, BLOCK(qkv)),
    VECTOR("h.{i}.attn.c_attn.bias", DIM_QKV, BLOCK(qkv_bias), NULL),
    CONV1D("h.{i}.attn.c_proj.weight", DIM_HIDDEN, DIM_Q, BLOCK(output)),
    VECTOR("h.{i}.attn.c_proj.bias", DIM_HIDDEN, BLOCK(output_bias), NULL),
    VECTOR("h.{i}.ln_2.weight", DIM_HIDDEN, BLOCK(mlp_norm), NULL),
    VECTOR("h.{i}.ln_2.bias", DIM_HIDDEN, BLOCK(mlp_norm_bias), NULL),
    CONV1D("h.{i}.mlp.c_fc.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up)),
    VECTOR("h.{i}.mlp.c_fc.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), NULL),
    CONV1D("h.{i}.mlp.c_proj.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down)),
    VECTOR("h.{i}.mlp.c_proj.bias", DIM_HIDDEN, BLOCK(down_bias), NULL),
};

static const struct weight_row gptj[] = {
    EMBEDDING("wte.weight"),
    VECTOR("ln_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("ln_f.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), NULL),
    VECTOR("h.{i}.ln_1.weight", DIM_HIDDEN, BLOCK(input_norm), NULL),
    VECTOR("h.{i}.ln_1.bias", DIM_HIDDEN, BLOCK(input_norm_bias), NULL),
    MATRIX("h.{i}.attn.q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("h.{i}.attn.k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("h.{i}.attn.v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("h.{i}.attn.out_proj.weight", DIM_HIDDEN, DIM_Q, BLOCK(output), NULL),
    LINEAR("h.{i}.mlp.fc_in", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, NULL, NULL),
    LINEAR("h.{i}.mlp.fc_out", DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, NULL),
};

static const struct weight_row gpt_neo[] = {
    EMBEDDING("wte.weight"), POSITIONS("wpe.weight"),
    VECTOR("ln_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("ln_f.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), NULL),
    VECTOR("h.{i}.ln_1.weight", DIM_HIDDEN, BLOCK(input_norm), NULL),
    VECTOR("h.{i}.ln_1.bias", DIM_HIDDEN, BLOCK(input_norm_bias), NULL),
    MATRIX("h.{i}.attn.attention.q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("h.{i}.attn.attention.k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("h.{i}.attn.attention.v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), NULL),
    LINEAR("h.{i}.attn.attention.out_proj", DIM_HIDDEN, DIM_Q, output, NULL, NULL),
    VECTOR("h.{i}.ln_2.weight", DIM_HIDDEN, BLOCK(mlp_norm), NULL),
    VECTOR("h.{i}.ln_2.bias", DIM_HIDDEN, BLOCK(mlp_norm_bias), NULL),
    LINEAR("h.{i}.mlp.c_fc", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, NULL, NULL),
    LINEAR("h.{i}.mlp.c_proj", DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, NULL),
};

// final_layer_norm names both the norm before a block's MLP and the last one of all.
static const struct weight_row opt[] = {
    EMBEDDING("embed_tokens.weight"), POSITIONS("embed_positions.weight"),
    MATRIX("project_in.weight", DIM_HIDDEN, DIM_EMBEDDING, GLOBAL(project_in), has_projection),
    VECTOR("final_layer_norm.weight", DIM_HIDDEN, GLOBAL(final_norm), has_final_norm),
    VECTOR("final_layer_norm.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), final_norm_bias),
    INPUT_NORM("self_attn_layer_norm"), Q_K_V("self_attn."), O_PROJ("self_attn.out_proj"),
    MLP_NORM("final_layer_norm"),
    LINEAR("layers.{i}.fc1", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, NULL, mlp_bias),
    LINEAR("layers.{i}.fc2", DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, mlp_bias),
};

static const struct weight_row bloom[] = {
    EMBEDDING("word_embeddings.weight"),
    VECTOR("word_embeddings_layernorm.weight", DIM_HIDDEN, GLOBAL(embedding_norm), NULL),
    VECTOR("word_embeddings_layernorm.bias", DIM_HIDDEN, GLOBAL(embedding_norm_bias), NULL),
    VECTOR("ln_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("ln_f.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), NULL),
    VECTOR("h.{i}.input_layernorm.weight", DIM_HIDDEN, BLOCK(input_norm), NULL),
    VECTOR("h.{i}.input_layernorm.bias", DIM_HIDDEN, BLOCK(input_norm_bias), NULL),
    {"h.{i}.self_attention.query_key_value.weight", FORM_MATRIX, DIM_QKV, DIM_HIDDEN, BLOCK(qkv), NULL, NULL, FILE_HEADS},
    {"h.{i}.self_attention.query_key_value.bias", FORM_VECTOR, DIM_QKV, DIM_ONE, BLOCK(qkv_bias), NULL, NULL, FILE_HEADS},
    LINEAR("h.{i}.self_attention.dense", DIM_HIDDEN, DIM_Q, output, NULL, NULL),
    VECTOR("h.{i}.post_attention_layernorm.weight", DIM_HIDDEN, BLOCK(mlp_norm), NULL),
    VECTOR("h.{i}.post_attention_layernorm.bias", DIM_HIDDEN, BLOCK(mlp_norm_bias), NULL),
    LINEAR("h.{i}.mlp.dense_h_to_4h", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, NULL, NULL),
    LINEAR("h.{i}.mlp.dense_4h_to_h", DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, NULL),
};

// Norms by two names, as branches are side by side with a norm each, or not.
#define NORM_OF(NAME, PLACE, PRESENT) \
    VECTOR("h.{i}." NAME ".weight", DIM_HIDDEN, BLOCK(PLACE), PRESENT), \
    VECTOR("h.{i}." NAME ".bias", DIM_HIDDEN, BLOCK(PLACE##_bias), PRESENT)

static const struct weight_row falcon[] = {
    EMBEDDING("word_embeddings.weight"),
    VECTOR("ln_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("ln_f.bias", DIM_HIDDEN, GLOBAL(final_norm_bias), NULL),
    NORM_OF("input_layernorm", input_norm, has_no_apart_norms), NORM_OF("ln_attn", input_norm, has_apart_norms),
    {"h.{i}.self_attention.query_key_value.weight", FORM_MATRIX, DIM_QKV, DIM_HIDDEN, BLOCK(qkv), NULL, NULL, FILE_HEADS},
    {"h.{i}.self_attention.query_key_value.bias", FORM_VECTOR, DIM_QKV, DIM_ONE, BLOCK(qkv_bias), attention_bias, NULL, FILE_HEADS},
    LINEAR("h.{i}.self_attention.dense", DIM_HIDDEN, DIM_Q, output, NULL, output_bias),
    NORM_OF("post_attention_layernorm", mlp_norm, is_serial), NORM_OF("ln_mlp", mlp_norm, has_apart_norms),
    LINEAR("h.{i}.mlp.dense_h_to_4h", DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, NULL, mlp_bias),
    LINEAR("h.{i}.mlp.dense_4h_to_h", DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, mlp_bias),
};

static const struct weight_row mpt[] = {
    EMBEDDING("wte.weight"),
    VECTOR("norm_f.weight", DIM_HIDDEN, GLOBAL(final_norm), NULL),
    VECTOR("blocks.{i}.norm_1.weight", DIM_HIDDEN, BLOCK(input_norm), NULL),
    MATRIX("blocks.{i}.attn.Wqkv.weight", DIM_QKV, DIM_HIDDEN, BLOCK(qkv), NULL),
    MATRIX("blocks.{i}.attn.out_proj.weight", DIM_HIDDEN, DIM_Q, BLOCK(output), NULL),
    VECTOR("blocks.{i}.norm_2.weight", DIM_HIDDEN, BLOCK(mlp_norm), NULL),
    MATRIX("blocks.{i}.ffn.up_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), NULL),
    MATRIX("blocks.{i}.ffn.down_proj.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), NULL),
};

const struct weight_table weight_table_dense = TABLE(dense);
const struct weight_table weight_table_fused = TABLE(fused);
const struct weight_table weight_table_gemma = TABLE(gemma);
const struct weight_table weight_table_gemma4 = TABLE(gemma4);
const struct weight_table weight_table_norms_after = TABLE(norms_after);
const struct weight_table weight_table_hunyuan = TABLE(hunyuan);
const struct weight_table weight_table_glm4 = TABLE(glm4);
const struct weight_table weight_table_glm = TABLE(glm);
const struct weight_table weight_table_vaultgemma = TABLE(vaultgemma);
const struct weight_table weight_table_stablelm = TABLE(stablelm);
const struct weight_table weight_table_nanochat = TABLE(nanochat);
const struct weight_table weight_table_starcoder2 = TABLE(starcoder2);
const struct weight_table weight_table_apertus = TABLE(apertus);
const struct weight_table weight_table_plain = TABLE(plain);
const struct weight_table weight_table_phi = TABLE(phi);
const struct weight_table weight_table_neox = TABLE(neox);
const struct weight_table weight_table_gpt2 = TABLE(gpt2);
const struct weight_table weight_table_gptj = TABLE(gptj);
const struct weight_table weight_table_gpt_neo = TABLE(gpt_neo);
const struct weight_table weight_table_opt = TABLE(opt);
const struct weight_table weight_table_bloom = TABLE(bloom);
const struct weight_table weight_table_falcon = TABLE(falcon);
const struct weight_table weight_table_mpt = TABLE(mpt);
// clang-format on
