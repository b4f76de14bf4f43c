// The tables of weights: how each family's files name them.
#include "model/weight_table.h"
#include "model/weights.h"

#define GLOBAL(member) offsetof(struct model_weights, member)
#define BLOCK(member) offsetof(struct block_weights, member)

// ---- which blocks have a row ----

#define WHERE(NAME, CONDITION)                                                                               \
    static bool NAME(const struct model_config *config, size_t block) {                                      \
        (void)block;                                                                                         \
        return CONDITION;                                                                                    \
    }

WHERE(attends, config_mixer(config, block) == MIXER_ATTENTION)
WHERE(convolves, config_mixer(config, block) == MIXER_CONVOLUTION)
WHERE(convolution_bias, config->convolution_bias &&convolves(config, block))
WHERE(has_delta_net, config_mixer(config, block) == MIXER_DELTA_NET)
WHERE(attention_bias, config->attention_bias &&attends(config, block))
WHERE(output_bias, config->output_bias &&attends(config, block))
WHERE(mlp_bias, config->mlp_bias && !config_has_experts(config, block))
WHERE(norm_bias, config->norm_bias)
WHERE(has_projection, config->embedding_width > 0)
WHERE(has_norm, !config->bare_norms)
WHERE(has_final_norm, !config->bare_norms && !config->no_final_norm)
WHERE(final_norm_bias, config->norm_bias && !config->no_final_norm)
WHERE(two_norms, !config->bare_norms && config->branches != BRANCHES_ONE_NORM)
WHERE(two_norm_biases, config->norm_bias && config->branches != BRANCHES_ONE_NORM)
WHERE(head_norms,
      attends(config, block) && (config->qk_norm == QK_NORM_HEADS || config->qk_norm == QK_NORM_AFTER))
WHERE(whole_norms, config->qk_norm == QK_NORM_WHOLE)
WHERE(norms_of_each, config->qk_norm == QK_NORM_EACH)
WHERE(has_mlp, !config_has_experts(config, block))
WHERE(has_experts, config_has_experts(config, block))
WHERE(has_xielu, config->activation == DEVICE_XIELU)
WHERE(has_query_latent, config->latent.query > 0)
WHERE(has_no_query_latent, config->latent.query == 0)
WHERE(query_latent_bias, config->attention_bias && config->latent.query > 0)
WHERE(has_sinks, config->has_sinks)
WHERE(has_layer_input, config->layer_input > 0)
WHERE(has_keys, config_keys(config, block) != KEYS_SHARED)
WHERE(lacks_keys, !has_keys(config, block))
WHERE(has_values, has_keys(config, block) && !config_values_are_keys(config, block))
WHERE(lacks_values, !has_values(config, block))
WHERE(has_shared, config_has_experts(config, block) && config->experts.shared_width > 0)
WHERE(has_shared_gate, has_shared(config, block) && config->experts.shared_gate)

static size_t experts(const struct model_config *config, size_t block) {
    (void)block;
    return config->experts.count;
}

// ---- parts of tables ----

#define VECTOR(NAME, LENGTH, PLACE, PRESENT)                                                                 \
    { NAME, FORM_VECTOR, LENGTH, DIM_ONE, PLACE, PRESENT, NULL, FILE_ROWS }
#define NUMBERS(NAME, ROWS, COLUMNS, PLACE, PRESENT)                                                         \
    { NAME, FORM_TABLE, ROWS, COLUMNS, PLACE, PRESENT, NULL, FILE_ROWS }
#define MATRIX(NAME, ROWS, COLUMNS, PLACE, PRESENT)                                                          \
    { NAME, FORM_MATRIX, ROWS, COLUMNS, PLACE, PRESENT, NULL, FILE_ROWS }
// Rows of a fused matrix that no file has.
#define NOWHERE(ROWS, COLUMNS, PLACE, PRESENT)                                                               \
    { "layers.{i}", FORM_MATRIX, ROWS, COLUMNS, PLACE, PRESENT, NULL, FILE_NOWHERE }
#define EXPERT(NAME, ROWS, COLUMNS, PLACE)                                                                   \
    { NAME, FORM_MATRIX, ROWS, COLUMNS, PLACE, has_experts, experts, FILE_ROWS }
#define CONV1D(NAME, ROWS, COLUMNS, PLACE)                                                                   \
    { NAME, FORM_MATRIX, ROWS, COLUMNS, PLACE, NULL, NULL, FILE_TRANSPOSED }
#define EMBEDDING(NAME)                                                                                      \
    { NAME, FORM_TABLE, DIM_VOCABULARY, DIM_EMBEDDING, GLOBAL(embedding), NULL, NULL, FILE_ROWS }
#define POSITIONS(NAME)                                                                                      \
    { NAME, FORM_TABLE, DIM_POSITIONS, DIM_HIDDEN, GLOBAL(positions), NULL, NULL, FILE_ROWS }
#define ROUTER(NAME)                                                                                         \
    { NAME, FORM_TABLE, DIM_EXPERTS, DIM_HIDDEN, BLOCK(router), has_experts, NULL, FILE_ROWS }

// clang-format off
#define ENDS(NORM) \
    EMBEDDING("embed_tokens.weight"), \
    VECTOR(NORM ".weight", DIM_HIDDEN, GLOBAL(final_norm), has_final_norm), \
    VECTOR(NORM ".bias", DIM_HIDDEN, GLOBAL(final_norm_bias), final_norm_bias)

// Matrix and bias of one linear layer.
#define LINEAR(NAME, ROWS, COLUMNS, PLACE, PRESENT, BIASED) \
    MATRIX(NAME ".weight", ROWS, COLUMNS, BLOCK(PLACE), PRESENT), \
    VECTOR(NAME ".bias", ROWS, BLOCK(PLACE##_bias), BIASED)

#define Q_K_V(AT) \
    MATRIX("layers.{i}." AT "q_proj.weight", DIM_Q, DIM_HIDDEN, BLOCK(qkv), NULL), \
    MATRIX("layers.{i}." AT "k_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), NULL), \
    MATRIX("layers.{i}." AT "v_proj.weight", DIM_KV, DIM_HIDDEN, BLOCK(qkv), NULL), \
    VECTOR("layers.{i}." AT "q_proj.bias", DIM_Q, BLOCK(qkv_bias), attention_bias), \
    VECTOR("layers.{i}." AT "k_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias), \
    VECTOR("layers.{i}." AT "v_proj.bias", DIM_KV, BLOCK(qkv_bias), attention_bias)

#define O_PROJ(NAME) LINEAR("layers.{i}." NAME, DIM_HIDDEN, DIM_Q, output, NULL, output_bias)

#define QK_NORMS(Q, K) \
    VECTOR("layers.{i}." Q ".weight", DIM_HEAD, BLOCK(q_norm), head_norms), \
    VECTOR("layers.{i}." K ".weight", DIM_HEAD, BLOCK(k_norm), head_norms), \
    VECTOR("layers.{i}." Q ".weight", DIM_Q, BLOCK(q_norm), whole_norms), \
    VECTOR("layers.{i}." K ".weight", DIM_KV, BLOCK(k_norm), whole_norms), \
    NUMBERS("layers.{i}." Q ".weight", DIM_HEADS, DIM_HEAD, BLOCK(q_norm), norms_of_each), \
    NUMBERS("layers.{i}." K ".weight", DIM_KV_HEADS, DIM_HEAD, BLOCK(k_norm), norms_of_each)

#define ATTENTION \
    Q_K_V("self_attn."), \
    QK_NORMS("self_attn.q_norm", "self_attn.k_norm"), \
    O_PROJ("self_attn.o_proj")

// Norm and bias before a branch.
#define INPUT_NORM(NAME) \
    VECTOR("layers.{i}." NAME ".weight", DIM_HIDDEN, BLOCK(input_norm), has_norm), \
    VECTOR("layers.{i}." NAME ".bias", DIM_HIDDEN, BLOCK(input_norm_bias), norm_bias)
#define MLP_NORM(NAME) \
    VECTOR("layers.{i}." NAME ".weight", DIM_HIDDEN, BLOCK(mlp_norm), two_norms), \
    VECTOR("layers.{i}." NAME ".bias", DIM_HIDDEN, BLOCK(mlp_norm_bias), two_norm_biases)
// Behind one.
#define NORM_BEHIND(NAME, MEMBER) VECTOR("layers.{i}." NAME ".weight", DIM_HIDDEN, BLOCK(MEMBER), NULL)

#define GATED_MLP \
    MATRIX("layers.{i}.mlp.gate_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_mlp), \
    MATRIX("layers.{i}.mlp.up_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_mlp), \
    VECTOR("layers.{i}.mlp.gate_proj.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), mlp_bias), \
    VECTOR("layers.{i}.mlp.up_proj.bias", DIM_INTERMEDIATE, BLOCK(gate_up_bias), mlp_bias), \
    LINEAR("layers.{i}.mlp.down_proj", DIM_HIDDEN, DIM_INTERMEDIATE, down, has_mlp, mlp_bias)
#define FUSED_MLP \
    MATRIX("layers.{i}.mlp.gate_up_proj.weight", DIM_GATE_UP, DIM_HIDDEN, BLOCK(gate_up), NULL), \
    MATRIX("layers.{i}.mlp.down_proj.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), NULL)
#define PLAIN_MLP(UP, DOWN) \
    LINEAR("layers.{i}.mlp." UP, DIM_INTERMEDIATE, DIM_HIDDEN, gate_up, NULL, mlp_bias), \
    LINEAR("layers.{i}.mlp." DOWN, DIM_HIDDEN, DIM_INTERMEDIATE, down, NULL, mlp_bias)

// ---- the tables ----

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
    MATRIX("layers.{i}.feed_forward.w1.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), NULL),
    MATRIX("layers.{i}.feed_forward.w3.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), NULL),
    MATRIX("layers.{i}.feed_forward.w2.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), NULL),
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

// Of one expert after another in tensors of their own, and of all together.
#define EACH_EXPERT \
    EXPERT("layers.{i}.mlp.experts.{e}.gate_proj.weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)), \
    EXPERT("layers.{i}.mlp.experts.{e}.up_proj.weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)), \
    EXPERT("layers.{i}.mlp.experts.{e}.down_proj.weight", DIM_HIDDEN, DIM_EXPERT_WIDTH, BLOCK(experts_down))
#define ALL_EXPERTS(NAME, ROWS, COLUMNS, PLACE, FILE) {NAME, FORM_MATRIX, ROWS, COLUMNS, PLACE, has_experts, NULL, FILE}
#define FUSED_EXPERTS \
    ALL_EXPERTS("layers.{i}.mlp.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS), \
    ALL_EXPERTS("layers.{i}.mlp.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS)

static const struct weight_row of_experts[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"), EACH_EXPERT,
};

// The MLP beside experts.
#define SHARED_EXPERT(NAME) \
    MATRIX("layers.{i}.mlp." NAME ".gate_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_shared), \
    MATRIX("layers.{i}.mlp." NAME ".up_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_shared), \
    MATRIX("layers.{i}.mlp." NAME ".down_proj.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), has_shared), \
    {"layers.{i}.mlp." NAME "_gate.weight", FORM_TABLE, DIM_ONE, DIM_HIDDEN, BLOCK(shared_gate), has_shared_gate, NULL, FILE_ROWS}

static const struct weight_row shared_expert[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"), GATED_MLP,
    ROUTER("layers.{i}.mlp.gate.weight"), SHARED_EXPERT("shared_expert"), EACH_EXPERT,
};

// A router that stays in float32, and what corrects its scores.
#define WIDE_ROUTER(NAME) {NAME, FORM_FLOAT_TABLE, DIM_EXPERTS, DIM_HIDDEN, BLOCK(router), has_experts, NULL, FILE_ROWS}
#define CORRECTION(NAME) {NAME, FORM_FLOAT_VECTOR, DIM_EXPERTS, DIM_ONE, BLOCK(correction), has_experts, NULL, FILE_ROWS}

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

static const struct weight_row mixtral[] = {
    ENDS("norm"), INPUT_NORM("input_layernorm"), ATTENTION, MLP_NORM("post_attention_layernorm"),
    ROUTER("layers.{i}.block_sparse_moe.gate.weight"),
    EXPERT("layers.{i}.block_sparse_moe.experts.{e}.w1.weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)),
    EXPERT("layers.{i}.block_sparse_moe.experts.{e}.w3.weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)),
    EXPERT("layers.{i}.block_sparse_moe.experts.{e}.w2.weight", DIM_HIDDEN, DIM_EXPERT_WIDTH, BLOCK(experts_down)),
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

#define TABLE(ROWS) {ROWS, sizeof ROWS / sizeof ROWS[0]}

const struct weight_table weight_table_dense = TABLE(dense);
const struct weight_table weight_table_fused = TABLE(fused);
const struct weight_table weight_table_gemma = TABLE(gemma);
const struct weight_table weight_table_gemma4 = TABLE(gemma4);
const struct weight_table weight_table_norms_after = TABLE(norms_after);
const struct weight_table weight_table_hunyuan = TABLE(hunyuan);
const struct weight_table weight_table_glm4 = TABLE(glm4);
const struct weight_table weight_table_starcoder2 = TABLE(starcoder2);
const struct weight_table weight_table_apertus = TABLE(apertus);
const struct weight_table weight_table_plain = TABLE(plain);
const struct weight_table weight_table_lfm2 = TABLE(lfm2);
const struct weight_table weight_table_phi = TABLE(phi);
const struct weight_table weight_table_neox = TABLE(neox);
const struct weight_table weight_table_gpt2 = TABLE(gpt2);
const struct weight_table weight_table_experts = TABLE(of_experts);
const struct weight_table weight_table_shared_expert = TABLE(shared_expert);
const struct weight_table weight_table_qwen3_5 = TABLE(qwen3_5);
const struct weight_table weight_table_qwen3_5_moe = TABLE(qwen3_5_moe);
const struct weight_table weight_table_qwen3_5_moe_fused = TABLE(qwen3_5_moe_fused);
const struct weight_table weight_table_qwen3_next = TABLE(qwen3_next);
const struct weight_table weight_table_glm4_moe = TABLE(glm4_moe);
const struct weight_table weight_table_deepseek_v2 = TABLE(deepseek_v2);
const struct weight_table weight_table_deepseek_v3 = TABLE(deepseek_v3);
const struct weight_table weight_table_mixtral = TABLE(mixtral);
const struct weight_table weight_table_gpt_oss = TABLE(gpt_oss);
const struct weight_table weight_table_gptj = TABLE(gptj);
const struct weight_table weight_table_gpt_neo = TABLE(gpt_neo);
const struct weight_table weight_table_opt = TABLE(opt);
const struct weight_table weight_table_bloom = TABLE(bloom);
const struct weight_table weight_table_granitemoe = TABLE(granitemoe);
// clang-format on
