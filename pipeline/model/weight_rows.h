// SPDX-License-Identifier: MIT
// What the lists of weight_rows_*.c are written with: which blocks have a row, and parts of tables (private
// to the lists).
#ifndef STRATA_MODEL_WEIGHT_ROWS_H
#define STRATA_MODEL_WEIGHT_ROWS_H

#include "model/weight_table.h"
#include "model/weights.h"

#define GLOBAL(member) offsetof(struct model_weights, member)
#define BLOCK(member) offsetof(struct block_weights, member)

// ---- which blocks have a row ----

#define WHERE(NAME, CONDITION)                                                                               \
    static inline bool NAME(const struct model_config *config, size_t block) {                               \
        (void)block;                                                                                         \
        return CONDITION;                                                                                    \
    }

WHERE(attends, config_mixer(config, block) == MIXER_ATTENTION)
WHERE(convolves, config_mixer(config, block) == MIXER_CONVOLUTION)
WHERE(convolution_bias, config->convolution_bias &&convolves(config, block))
WHERE(has_delta_net, config_mixer(config, block) == MIXER_DELTA_NET)
WHERE(has_state_space, config_mixer(config, block) == MIXER_STATE_SPACE)
WHERE(space_bias, config->state_space_bias &&has_state_space(config, block))
WHERE(space_mixed_bias, config->state_space_mixed_bias &&has_state_space(config, block))
WHERE(mixes, config_mixer(config, block) != MIXER_NONE)
WHERE(has_second_branch, config_has_second_branch(config, block))
WHERE(attention_bias, config->attention_bias &&attends(config, block))
WHERE(output_bias, config->output_bias &&attends(config, block))
WHERE(mlp_bias, config->mlp_bias && !config_has_experts(config, block))
WHERE(norm_bias, config->norm_bias)
WHERE(has_projection, config->embedding_width > 0)
WHERE(has_norm, !config->bare_norms)
WHERE(has_final_norm, !config->bare_norms && !config->no_final_norm)
WHERE(final_norm_bias, config->norm_bias && !config->no_final_norm)
WHERE(is_serial, config->branches == BRANCHES_SERIAL)
WHERE(has_apart_norms, config->branches == BRANCHES_TWO_NORMS)
WHERE(has_no_apart_norms, config->branches != BRANCHES_TWO_NORMS)
WHERE(two_norms, !config->bare_norms && config->branches != BRANCHES_ONE_NORM)
WHERE(two_norm_biases, config->norm_bias && config->branches != BRANCHES_ONE_NORM)
WHERE(head_norms,
      attends(config, block) && (config->qk_norm == QK_NORM_HEADS || config->qk_norm == QK_NORM_AFTER))
WHERE(whole_norms, config->qk_norm == QK_NORM_WHOLE)
WHERE(norms_of_each, config->qk_norm == QK_NORM_EACH)
WHERE(has_mlp, !config_has_experts(config, block) || config->experts.beside_mlp)
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
WHERE(has_correction, config_has_experts(config, block) && config->experts.has_correction)
WHERE(has_shared, config_has_experts(config, block) && config->experts.shared_width > 0)
WHERE(has_lone_mlp, config_has_second_branch(config, block) && !config_has_experts(config, block))
WHERE(lone_mlp_bias, config->mlp_bias &&has_lone_mlp(config, block))
WHERE(shared_bias, config->mlp_bias &&has_shared(config, block))
WHERE(has_expert_latent, config_has_experts(config, block) && config->experts.latent > 0)
WHERE(expert_latent_bias, config->mlp_bias &&has_expert_latent(config, block))
WHERE(has_shared_gate, has_shared(config, block) && config->experts.shared_gate)

static inline size_t experts(const struct model_config *config, size_t block) {
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
#define OF_EXPERTS(NAME, LENGTH, PLACE)                                                                      \
    { NAME, FORM_VECTOR, LENGTH, DIM_ONE, PLACE, has_experts, NULL, FILE_ROWS }
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

// Of one expert after another in tensors of their own, and of all together.
#define EACH_EXPERT_OF(AT, GATE, UP, DOWN) \
    EXPERT("layers.{i}." AT ".experts.{e}." GATE ".weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)), \
    EXPERT("layers.{i}." AT ".experts.{e}." UP ".weight", DIM_EXPERT_WIDTH, DIM_HIDDEN, BLOCK(experts_gate_up)), \
    EXPERT("layers.{i}." AT ".experts.{e}." DOWN ".weight", DIM_HIDDEN, DIM_EXPERT_WIDTH, BLOCK(experts_down))
#define EACH_EXPERT EACH_EXPERT_OF("mlp", "gate_proj", "up_proj", "down_proj")
#define ALL_EXPERTS(NAME, ROWS, COLUMNS, PLACE, FILE) {NAME, FORM_MATRIX, ROWS, COLUMNS, PLACE, has_experts, NULL, FILE}
#define FUSED_EXPERTS \
    ALL_EXPERTS("layers.{i}.mlp.experts.gate_up_proj", DIM_EXPERTS_GATE_UP, DIM_HIDDEN, BLOCK(experts_gate_up), FILE_EXPERTS), \
    ALL_EXPERTS("layers.{i}.mlp.experts.down_proj", DIM_EXPERTS_DOWN, DIM_EXPERT_WIDTH, BLOCK(experts_down), FILE_EXPERTS)

// A state space.
#define STATE_SPACE(AT) \
    LINEAR("layers.{i}." AT "in_proj", DIM_SPACE_WIDTH, DIM_HIDDEN, qkv, has_state_space, space_bias), \
    {"layers.{i}." AT "conv1d.weight", FORM_TABLE, DIM_SPACE_MIXED, DIM_SPACE_TAPS, BLOCK(space_convolution), has_state_space, NULL, FILE_CONVOLUTION}, \
    VECTOR("layers.{i}." AT "conv1d.bias", DIM_SPACE_MIXED, BLOCK(space_convolution_bias), space_mixed_bias), \
    VECTOR("layers.{i}." AT "A_log", DIM_SPACE_HEADS, BLOCK(space_decay), has_state_space), \
    VECTOR("layers.{i}." AT "dt_bias", DIM_SPACE_HEADS, BLOCK(space_step_bias), has_state_space), \
    VECTOR("layers.{i}." AT "D", DIM_SPACE_HEADS, BLOCK(space_skip), has_state_space), \
    VECTOR("layers.{i}." AT "norm.weight", DIM_SPACE_OUT, BLOCK(space_norm), has_state_space), \
    LINEAR("layers.{i}." AT "out_proj", DIM_HIDDEN, DIM_SPACE_OUT, output, has_state_space, space_bias)

// The MLP beside experts.
#define SHARED_EXPERT(NAME) \
    MATRIX("layers.{i}.mlp." NAME ".gate_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_shared), \
    MATRIX("layers.{i}.mlp." NAME ".up_proj.weight", DIM_INTERMEDIATE, DIM_HIDDEN, BLOCK(gate_up), has_shared), \
    MATRIX("layers.{i}.mlp." NAME ".down_proj.weight", DIM_HIDDEN, DIM_INTERMEDIATE, BLOCK(down), has_shared), \
    {"layers.{i}.mlp." NAME "_gate.weight", FORM_TABLE, DIM_ONE, DIM_HIDDEN, BLOCK(shared_gate), has_shared_gate, NULL, FILE_ROWS}

// A router that stays in float32, and what corrects its scores.
#define WIDE_ROUTER(NAME) {NAME, FORM_FLOAT_TABLE, DIM_EXPERTS, DIM_HIDDEN, BLOCK(router), has_experts, NULL, FILE_ROWS}
#define CORRECTION(NAME) {NAME, FORM_FLOAT_VECTOR, DIM_EXPERTS, DIM_ONE, BLOCK(correction), has_correction, NULL, FILE_ROWS}

#define TABLE(ROWS) {ROWS, sizeof ROWS / sizeof ROWS[0]}
// clang-format on

#endif
