// SPDX-License-Identifier: MIT
// The list of a block's matmuls, and what is counted by it.
#include "model/block.h"
#include "model/block_branches.h"

#define WEIGHT(member) offsetof(struct block_weights, member)
#define BUFFER(member) offsetof(struct block_buffers, member)

bool block_adds_at_once(const struct model_config *config) {
    return config->branches == BRANCHES_SERIAL &&
           (config->norms == NORMS_BEFORE || config->norms == NORMS_OF_SUM) && config->residual_scale == 0;
}

bool block_has_shared(const struct model_config *config, size_t block) {
    return config_has_experts(config, block) &&
           (config->experts.shared_width > 0 || config->experts.beside_mlp);
}

bool block_mlp_adds_at_once(const struct model_config *config, size_t block) {
    return block_adds_at_once(config) && !block_has_shared(config, block);
}

bool block_has_norm_before(const struct model_config *config) {
    return config->norms == NORMS_BEFORE || config->norms == NORMS_AROUND;
}

size_t block_branch_in(const struct model_config *config) {
    return block_has_norm_before(config) ? BUFFER(normed) : BUFFER(x);
}

size_t block_branch_out(const struct model_config *config, bool at_once) {
    if (at_once) {
        return BUFFER(x);
    }
    return config->branches == BRANCHES_SERIAL && config->experts.count == 0 ? BUFFER(normed)
                                                                             : BUFFER(branch);
}

// Sizes are those of the table of weights.
static size_t list_matmul(const struct model_config *config, size_t block, const struct block_matmul *matmul,
                          struct block_matmul *out) {
    size_t rows;
    size_t columns;
    *out = *matmul;
    if (!weights_shape(config, block, matmul->matrix, &out->rows, &out->columns)) {
        return 0;
    }
    out->has_bias = weights_shape(config, block, matmul->bias, &rows, &columns);
    return 1;
}

static size_t list_matmuls(const struct model_config *config, size_t block, const struct block_matmul *all,
                           size_t count, struct block_matmul *out) {
    size_t listed = 0;
    for (size_t i = 0; i < count; i++) {
        listed += list_matmul(config, block, &all[i], &out[listed]);
    }
    return listed;
}

enum { OF_ATTENTION = 7, OF_MLP = 6 };
_Static_assert(OF_ATTENTION + OF_MLP <= BLOCK_MATMULS_MOST, "more matmuls than a list holds");

// Of what mixes tokens.
static size_t list_attention(const struct model_config *config, size_t block, struct block_matmul *out) {
    const bool attends = config_mixer(config, block) == MIXER_ATTENTION;
    const bool convolves = config_mixer(config, block) == MIXER_CONVOLUTION;
    const bool scans = config_mixer(config, block) == MIXER_STATE_SPACE;
    const bool latent = config->latent.key > 0;
    const struct block_matmul all[OF_ATTENTION] = {
        {.step = BLOCK_QUERY_DOWN,
         .keys = "'hidden_size' and 'q_lora_rank'",
         .matrix = WEIGHT(query_down),
         .bias = WEIGHT(query_down_bias),
         .in = block_branch_in(config),
         .out = BUFFER(latent)},
        {.step = BLOCK_QUERY_UP,
         .keys = "'q_lora_rank' and heads of 'qk_nope_head_dim' and 'qk_rope_head_dim'",
         .matrix = WEIGHT(query_up),
         .bias = WEIGHT(no_bias),
         .in = config->latent.query > 0 ? BUFFER(latent) : block_branch_in(config),
         .out = BUFFER(inner)},
        {.step = BLOCK_KEY_DOWN,
         .keys = "'hidden_size', 'kv_lora_rank' and 'qk_rope_head_dim'",
         .matrix = WEIGHT(key_down),
         .bias = WEIGHT(key_down_bias),
         .in = block_branch_in(config),
         .out = BUFFER(latent)},
        {.step = BLOCK_KEY_UP,
         .keys = "'kv_lora_rank' and heads of 'qk_nope_head_dim' and 'v_head_dim'",
         .matrix = WEIGHT(key_up),
         .bias = WEIGHT(no_bias),
         .in = BUFFER(key_latent),
         .out = BUFFER(inner)},
        {.step = BLOCK_QKV,
         .keys = attends     ? "'hidden_size' and heads of 'head_dim' times their numbers"
                 : convolves ? "three times 'hidden_size'"
                 : scans     ? "'hidden_size' and the heads, groups and states of a state space"
                             : "'hidden_size' and the heads of linear attention",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(qkv),
         .bias = WEIGHT(qkv_bias),
         .in = block_branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_ATTENTION_GATE,
         .keys = "'hidden_size' and 'num_attention_heads' times 'head_dim'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(attention_gate),
         .bias = WEIGHT(no_bias),
         .in = block_branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_OUTPUT,
         .keys = attends     ? "'hidden_size' and 'num_attention_heads' times 'head_dim'"
                 : convolves ? "'hidden_size'"
                 : scans     ? "'hidden_size' and the heads of a state space"
                             : "'hidden_size' and 'linear_num_value_heads' times 'linear_value_head_dim'",
         .store = block_adds_at_once(config) ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(output),
         .bias = WEIGHT(output_bias),
         .in = latent ? BUFFER(wide) : BUFFER(inner),
         .out = block_branch_out(config, block_adds_at_once(config))},
    };
    return list_matmuls(config, block, all, OF_ATTENTION, out);
}

static size_t list_mlp(const struct model_config *config, size_t block, struct block_matmul *out) {
    const bool serial = config->branches == BRANCHES_SERIAL;
    const bool mlp_at_once = block_mlp_adds_at_once(config, block);
    const bool experts_add = mlp_at_once || block_has_shared(config, block) || !serial;
    const struct block_matmul all[OF_MLP] = {
        {.step = BLOCK_GATE_UP,
         .keys = config->plain_mlp ? "'hidden_size' and 'intermediate_size'"
                                   : "'hidden_size' and twice 'intermediate_size'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(gate_up),
         .bias = WEIGHT(gate_up_bias),
         .in = block_branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_DOWN,
         .keys = "'hidden_size' and 'intermediate_size'",
         .store = mlp_at_once || !serial ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(down),
         .bias = WEIGHT(down_bias),
         .in = BUFFER(inner),
         .out = block_branch_out(config, mlp_at_once)},
        {.step = BLOCK_EXPERTS_DOWN,
         .keys = "'hidden_size' and 'moe_latent_size'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(latent_down),
         .bias = WEIGHT(latent_down_bias),
         .in = block_branch_in(config),
         .out = BUFFER(latent)},
        {.step = BLOCK_EXPERTS_UP,
         .keys = "'hidden_size' and 'moe_latent_size'",
         .store = experts_add ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(latent_up),
         .bias = WEIGHT(latent_up_bias),
         .in = BUFFER(key_latent),
         .out = block_branch_out(config, mlp_at_once)},
        {.step = BLOCK_INPUT_GATE,
         .keys = "'hidden_size' and 'hidden_size_per_layer_input'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(input_gate),
         .bias = WEIGHT(no_bias),
         .in = BUFFER(x),
         .out = BUFFER(wide)},
        {.step = BLOCK_INPUT_DOWN,
         .keys = "'hidden_size' and 'hidden_size_per_layer_input'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(input_down),
         .bias = WEIGHT(no_bias),
         .in = BUFFER(inner),
         .out = block_branch_out(config, false)},
    };
    return list_matmuls(config, block, all, OF_MLP, out);
}

size_t block_matmuls(const struct model_config *config, size_t block,
                     struct block_matmul out[BLOCK_MATMULS_MOST]) {
    size_t count = list_attention(config, block, out);
    return count + list_mlp(config, block, out + count);
}

struct block_operands block_operands(const struct block_matmul *matmul, const struct block_buffers *buffers,
                                     const struct block_weights *weights) {
    const char *buffer = (const char *)buffers;
    const char *weight = (const char *)weights;
    return (struct block_operands){
        .out = *(void *const *)(const void *)(buffer + matmul->out),
        .in = *(void *const *)(const void *)(buffer + matmul->in),
        .matrix = (const void *)(weight + matmul->matrix),
        .bias = *(void *const *)(const void *)(weight + matmul->bias),
    };
}

// Of attention, of a short convolution, or of the convolution and the state of a delta net (each number of it
// is scaled, read for a key, added to and read for a query) or a state space (not read for a key).
static double mixer_flops(const struct model_config *config, size_t block, size_t tokens,
                          double squared_lengths) {
    if (config_mixer(config, block) == MIXER_DELTA_NET) {
        const struct device_delta_net *net = &config->delta_net;
        double state = (double)device_delta_net_out(net) * (double)net->key_dim;
        return (double)tokens * (7 * state + 2 * (double)(net->taps * device_delta_net_mixed(net)));
    }
    if (config_mixer(config, block) == MIXER_CONVOLUTION) {
        const struct device_short_convolution *convolution = &config->convolution;
        return (double)tokens * 2 * (double)((convolution->taps + 1) * convolution->width);
    }
    if (config_mixer(config, block) == MIXER_STATE_SPACE) {
        const struct device_state_space *space = &config->state_space;
        double state = (double)device_state_space_out(space) * (double)space->state;
        return (double)tokens * (5 * state + 2 * (double)(space->taps * device_state_space_mixed(space)));
    }
    if (config_mixer(config, block) == MIXER_NONE) {
        return 0;
    }
    struct device_heads heads = config_heads(config, block);
    return 2 * (double)heads.heads * (double)heads.head_dim * (squared_lengths + (double)tokens);
}

double block_flops(const struct model_config *config, size_t block, size_t tokens, double squared_lengths) {
    struct block_matmul list[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, block, list);
    double multiply_adds = 0; // of a token
    for (size_t i = 0; i < count; i++) {
        multiply_adds += (double)list[i].rows * (double)list[i].columns;
    }
    multiply_adds += (double)config->hidden * (double)config->layer_input; // before the blocks
    if (config_has_experts(config, block)) {
        const struct expert_config *experts = &config->experts;
        double products = (experts->plain ? 2 : 3) * (double)experts->chosen * (double)experts->width;
        multiply_adds += (double)config->hidden * (double)experts->count;
        multiply_adds += (double)config_expert_hidden(config) * products;
    }
    return 2 * multiply_adds * (double)tokens + mixer_flops(config, block, tokens, squared_lengths);
}
