// SPDX-License-Identifier: MIT
#include "model/block.h"

#include <math.h>

#include "base/size.h"
#include "kernels/operations.h"
#include "model/block_branches.h"
#include "model/block_latent.h"

enum block_kind block_step_kind(enum block_step step) {
    switch (step) {
    case BLOCK_QUERY_DOWN:
    case BLOCK_QUERY_UP:
    case BLOCK_KEY_DOWN:
    case BLOCK_KEY_UP:
    case BLOCK_QKV:
    case BLOCK_ATTENTION_GATE:
    case BLOCK_OUTPUT:
    case BLOCK_GATE_UP:
    case BLOCK_DOWN:
    case BLOCK_EXPERTS_DOWN:
    case BLOCK_EXPERTS_UP:
    case BLOCK_INPUT_GATE:
    case BLOCK_INPUT_DOWN:
        return BLOCK_KIND_MATMUL;
    case BLOCK_ATTENTION_NORM:
    case BLOCK_QUERY_NORM:
    case BLOCK_KEY_NORM:
    case BLOCK_MLP_NORM:
        return BLOCK_KIND_NORM;
    case BLOCK_KEY_PLACE:
    case BLOCK_ROPE:
    case BLOCK_ATTENTION:
    case BLOCK_GATING:
    case BLOCK_ATTENTION_ADD:
    case BLOCK_ACTIVATION:
    case BLOCK_EXPERTS:
    case BLOCK_MLP_ADD:
    case BLOCK_INPUT_ACTIVATION:
    case BLOCK_INPUT_ADD:
    case BLOCK_SCALE:
    case BLOCK_STEPS:
        break;
    }
    return BLOCK_KIND_OTHER;
}

// ---- running ----

static void *buffer_at(const struct block_buffers *buffers, size_t offset) {
    return *(void *const *)(const void *)((const char *)buffers + offset);
}

static int run_matmul(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                      enum block_step step, struct error *err) {
    struct block_matmul list[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(pass->config, block, list);
    for (size_t i = 0; i < count; i++) {
        if (list[i].step == step) {
            struct block_operands o = block_operands(&list[i], &pass->buffers, weights);
            return device_matmul(pass->device, o.out, o.in, o.matrix, o.bias, pass->tokens, list[i].store,
                                 err);
        }
    }
    return STATUS_OK;
}

static struct device_norm norm_of(const struct model_config *config, const void *weight, const void *bias) {
    return (struct device_norm){
        .kind = config->norm, .epsilon = (float)config->norm_epsilon, .weight = weight, .bias = bias};
}

static int norm_into(const struct block_pass *pass, void *out, const void *in, const void *weight,
                     const void *bias, enum device_store store, struct error *err) {
    struct device_norm norm = norm_of(pass->config, weight, bias);
    if (weight == NULL && !pass->config->bare_norms) { // which the device would take for ones
        return error_set(err, STATUS_INTERNAL, "a norm has no weight");
    }
    return device_norm(pass->device, out, in, &norm, store, pass->tokens, pass->config->hidden, err);
}

int block_norm(const struct block_pass *pass, void *out, const void *weight, const void *bias,
               struct error *err) {
    return norm_into(pass, out, pass->buffers.x, weight, bias, DEVICE_STORE, err);
}

// The norm before a branch, where the family has one.
static int run_norm(const struct block_pass *pass, bool has, const void *weight, const void *bias,
                    struct error *err) {
    return has && block_has_norm_before(pass->config)
               ? block_norm(pass, pass->buffers.normed, weight, bias, err)
               : STATUS_OK;
}

// x += what a branch has come to, normalised or scaled where the family does so.
static int run_add(const struct block_pass *pass, const void *weight, struct error *err) {
    const struct model_config *config = pass->config;
    const void *branch = buffer_at(&pass->buffers, block_branch_out(config, false));
    if (config->norms != NORMS_BEFORE) {
        return norm_into(pass, pass->buffers.x, branch, weight, NULL, DEVICE_ADD, err);
    }
    float scale = config->residual_scale == 0 ? 1 : (float)config->residual_scale;
    return device_add(pass->device, pass->buffers.x, branch, scale, pass->tokens, config->hidden, err);
}

static int add_attention(const struct block_pass *pass, const struct block_weights *w, size_t block,
                         struct error *err) {
    const struct model_config *config = pass->config;
    if (config_mixer(config, block) == MIXER_NONE) {
        return STATUS_OK;
    }
    if (config->norms == NORMS_OF_SUM) {
        return block_norm(pass, pass->buffers.x, w->input_norm, w->input_norm_bias, err);
    }
    return config->branches != BRANCHES_SERIAL || block_adds_at_once(config)
               ? STATUS_OK
               : run_add(pass, w->attention_norm, err);
}

static int add_mlp(const struct block_pass *pass, const struct block_weights *w, size_t block,
                   struct error *err) {
    if (!config_has_second_branch(pass->config, block)) {
        return STATUS_OK;
    }
    if (pass->config->norms == NORMS_OF_SUM) {
        return block_norm(pass, pass->buffers.x, w->mlp_norm, w->mlp_norm_bias, err);
    }
    return block_mlp_adds_at_once(pass->config, block) ? STATUS_OK : run_add(pass, w->branch_norm, err);
}

// Norms of queries and keys, which may have no weights, each of `count` groups of columns side by side.
static int norm_qk(const struct block_pass *pass, const struct block_weights *w, struct device_heads heads,
                   struct error *err) {
    bool whole = pass->config->qk_norm == QK_NORM_WHOLE;
    size_t width = device_heads_width(heads);
    const struct {
        const void *weight;
        size_t first;
        size_t heads;
    } parts[] = {{w->q_norm, 0, heads.heads}, {w->k_norm, device_heads_key(heads), heads.kv_heads}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct device_norm norm = norm_of(pass->config, parts[i].weight, NULL);
        struct device_groups groups = {.stride = width,
                                       .from = parts[i].first,
                                       .first = parts[i].first,
                                       .count = whole ? 1 : parts[i].heads,
                                       .width = (whole ? parts[i].heads : 1) * heads.head_dim,
                                       .own_weights = pass->config->qk_norm == QK_NORM_EACH};
        TRY(device_norm_groups(pass->device, pass->buffers.wide, &groups, &norm, pass->tokens, err));
    }
    return STATUS_OK;
}

// Of values, which have no weight, from what they are made of.
static int norm_values(const struct block_pass *pass, size_t block, struct device_heads heads,
                       struct error *err) {
    size_t key = device_heads_key(heads);
    size_t value = key + heads.kv_heads * heads.head_dim;
    struct device_norm norm = norm_of(pass->config, NULL, NULL);
    struct device_groups groups = {.stride = device_heads_width(heads),
                                   .from = config_values_are_keys(pass->config, block) ? key : value,
                                   .first = value,
                                   .count = heads.kv_heads,
                                   .width = heads.head_dim};
    return device_norm_groups(pass->device, pass->buffers.wide, &groups, &norm, pass->tokens, err);
}

// What queries are multiplied with by their place.
static const float *block_query_scale(const struct block_pass *pass, enum block_rope rope) {
    return pass->config->query_step > 0 && rope != BLOCK_ROPE_NONE ? NULL : pass->query_scale;
}

// qkv: q | k | v of each token.
static int run_rope(const struct block_pass *pass, const struct block_weights *w, size_t block,
                    struct device_heads heads, struct error *err) {
    const struct model_config *config = pass->config;
    enum block_rope which = config_block_rope(config, block);
    const struct rope_config *tables = which == BLOCK_ROPE_LOCAL ? &config->local_rope : &config->rope;
    bool normed = config->qk_norm == QK_NORM_HEADS;
    bool shared = config_keys(config, block) == KEYS_SHARED; // nothing reads what keys it has
    struct device_rope rope = {.q_norm = norm_of(config, normed ? w->q_norm : NULL, NULL),
                               .k_norm = norm_of(config,
                                                 !normed  ? NULL
                                                 : shared ? w->q_norm
                                                          : w->k_norm,
                                                 NULL),
                               .cosine = which == BLOCK_ROPE_LOCAL ? pass->local_cosine : pass->cosine,
                               .sine = which == BLOCK_ROPE_LOCAL ? pass->local_sine : pass->sine,
                               .row = pass->rope_row,
                               .first = config->latent.key > 0 ? config->unrotated : 0,
                               .part = which == BLOCK_ROPE_NONE ? 0 : config_rope_rotated(config, tables),
                               .query_scale = block_query_scale(pass, which),
                               .wide_query_scale = config->query_step > 0,
                               .pairing = config->pairing,
                               .rounding = config->rope_rounding};
    if (config->value_norm && !shared) {
        TRY(norm_values(pass, block, heads, err)); // before keys turn
    }
    if (config->qk_norm == QK_NORM_WHOLE || config->qk_norm == QK_NORM_EACH) {
        TRY(norm_qk(pass, w, heads, err));
    }
    if (config->qkv_limit > 0) {
        TRY(device_clamp(pass->device, pass->buffers.wide, (float)config->qkv_limit, pass->tokens,
                         device_heads_width(heads), err));
    }
    if (rope.part > 0 || normed || rope.query_scale != NULL) {
        TRY(device_qk_norm_rope(pass->device, pass->buffers.wide, &rope, heads, pass->tokens, err));
    }
    bool after = config->qk_norm == QK_NORM_AFTER || (config->qk_norm == QK_NORM_TURNED && rope.part > 0);
    return after ? norm_qk(pass, w, heads, err) : STATUS_OK;
}

// The state that a slice goes on from and leaves, of the text or of the head; NULL: texts are whole.
static void *state_of(const struct block_pass *pass) {
    return pass->makes_head ? pass->head : pass->texts.kept == NULL ? NULL : pass->kept;
}

// As mixers with a state take them.
static struct device_texts state_texts(const struct block_pass *pass) {
    struct device_texts texts = pass->texts;
    texts.head = pass->makes_head ? NULL : pass->head;
    return texts;
}

static int run_delta_net(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_delta_net net = pass->config->delta_net;
    net.convolution = w->net_convolution;
    net.decay = w->net_decay;
    net.step_bias = w->net_step_bias;
    net.norm = w->net_norm;
    net.epsilon = (float)pass->config->norm_epsilon;
    return device_delta_net(pass->device, b->inner, b->wide, &net, state_texts(pass), state_of(pass),
                            pass->scratch, err);
}

// Keeps keys and values where a later slice or block takes them, and says where attention has its own from.
static int keep(const struct block_pass *pass, size_t block, struct device_heads heads,
                struct device_texts *texts, struct error *err) {
    enum block_keys keys = config_keys(pass->config, block);
    void *shared = pass->shared[pass->config->layer_slides[block] != 0];
    bool is_slice = texts->kept != NULL;
    size_t row = is_slice && texts->origins != NULL ? texts->before - (size_t)texts->host_origins[0].before
                                                    : texts->before;
    if (keys == KEYS_SHARED) {
        texts->kept = shared;
        return STATUS_OK;
    }
    if (keys == KEYS_KEPT && is_slice) {
        texts->kept = shared;
    }
    return keys == KEYS_OWN && !is_slice ? STATUS_OK
                                         : device_keep(pass->device, keys == KEYS_KEPT ? shared : pass->kept,
                                                       row, pass->buffers.wide, heads, pass->tokens, err);
}

// Keeps those of the head itself, or brings them to where attention reads them.
static int keep_head(const struct block_pass *pass, size_t block, struct device_heads heads,
                     struct device_texts *texts, struct error *err) {
    bool packed = pass->keeping != DEVICE_KEEP_COMPUTED;
    if (pass->makes_head) {
        if (config_keys(pass->config, block) == KEYS_SHARED) {
            return STATUS_OK;
        }
        return packed ? device_keep_packed(pass->device, pass->head, texts->before, pass->buffers.wide, heads,
                                           pass->tokens, pass->keeping, err)
                      : device_keep(pass->device, pass->head, texts->before, pass->buffers.wide, heads,
                                    pass->tokens, err);
    }
    texts->head = packed && pass->head != NULL ? pass->head_expanded : pass->head;
    return packed && pass->head != NULL ? device_expand_kept(pass->device, pass->head_expanded, pass->head,
                                                             heads, texts->head_tokens, pass->keeping, err)
                                        : STATUS_OK;
}

// Of a slice over the keys and values of the text so far. A gate of a query lies behind it.
static int run_attention(const struct block_pass *pass, const struct block_weights *w, size_t block,
                         struct device_attention *shape, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_heads heads = shape->heads;
    struct device_texts texts = pass->texts;
    shape->sinks = w->sinks;
    shape->slopes = pass->slopes;
    TRY(keep_head(pass, block, heads, &texts, err));
    TRY(keep(pass, block, heads, &texts, err));
    TRY(device_attention(pass->device, b->inner, b->wide, shape, texts, pass->scratch, err));
    if (pass->config->latent.key > 0) {
        return block_latent_values(pass, heads, err);
    }
    if (heads.gap == 0) {
        return STATUS_OK;
    }
    const struct device_gates gates = {.stride = device_heads_width(heads),
                                       .apart = device_heads_apart(heads),
                                       .groups = heads.heads,
                                       .width = heads.head_dim};
    const char *first = (const char *)b->wide + heads.head_dim * dtype_size(device_dtype(pass->device));
    return device_gate(pass->device, b->inner, first, &gates, pass->tokens, err);
}

// Gates that a product of their own has given.
static int run_gating(const struct block_pass *pass, struct device_heads heads, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    const struct device_gates gates = {.stride = heads.heads * heads.head_dim,
                                       .apart = heads.head_dim,
                                       .groups = heads.heads,
                                       .width = heads.head_dim};
    return pass->config->attention_gate
               ? device_gate(pass->device, b->inner, b->wide, &gates, pass->tokens, err)
               : STATUS_OK;
}

static int run_convolution(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_short_convolution convolution = pass->config->convolution;
    convolution.weight = w->convolution;
    convolution.bias = w->convolution_bias;
    return device_short_convolution(pass->device, b->inner, b->wide, &convolution, state_texts(pass),
                                    state_of(pass), err);
}

static int run_state_space(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_state_space space = pass->config->state_space;
    space.convolution = w->space_convolution;
    space.bias = w->space_convolution_bias;
    space.decay = w->space_decay;
    space.step_bias = w->space_step_bias;
    space.skip = w->space_skip;
    space.norm = w->space_norm;
    space.epsilon = (float)pass->config->norm_epsilon;
    return device_state_space(pass->device, b->inner, b->wide, &space, state_texts(pass), state_of(pass),
                              pass->scratch, err);
}

static int run_mixer(const struct block_pass *pass, const struct block_weights *w, size_t block,
                     struct device_attention *shape, struct error *err) {
    switch (config_mixer(pass->config, block)) {
    case MIXER_DELTA_NET:
        return run_delta_net(pass, w, err);
    case MIXER_CONVOLUTION:
        return run_convolution(pass, w, err);
    case MIXER_STATE_SPACE:
        return run_state_space(pass, w, err);
    case MIXER_NONE:
        return STATUS_OK;
    case MIXER_ATTENTION:
        break;
    }
    return run_attention(pass, w, block, shape, err);
}

static int run_activation(const struct block_pass *pass, const struct block_weights *w, size_t block,
                          struct error *err) {
    const struct model_config *config = pass->config;
    const struct block_buffers *b = &pass->buffers;
    size_t width = config_mlp_width(config, block);
    if (config->activation == DEVICE_XIELU) {
        return device_xielu(pass->device, b->inner, b->wide, w->xielu, pass->tokens, width, err);
    }
    return width == 0 ? STATUS_OK
                      : device_activate(pass->device, b->inner, b->wide, config->activation,
                                        !config->plain_mlp, pass->tokens, width, err);
}

static struct device_routing routing_of(const struct expert_config *experts, const struct block_weights *w,
                                        size_t hidden) {
    return (struct device_routing){.experts = experts->count,
                                   .chosen = experts->chosen,
                                   .scores = experts->scores,
                                   .normalised = experts->normalised,
                                   .rounds_logits = !experts->wide_router,
                                   .rounds_weights = experts->rounds_weights,
                                   .scaling = (float)experts->scaling,
                                   .sum_more = (float)experts->sum_more,
                                   .sum_least = (float)experts->sum_least,
                                   .spread = (float)experts->spread,
                                   .rounds_correction = experts->rounds_correction,
                                   .logit_scale = experts->beside_mlp ? 1 / sqrtf((float)hidden) : 0,
                                   .wide_router = experts->wide_router,
                                   .correction = experts->has_correction ? w->correction : NULL,
                                   .expert_scales = w->expert_scales,
                                   .groups = experts->groups,
                                   .chosen_groups = experts->chosen_groups,
                                   .group_pairs = experts->group_pairs};
}

static struct device_experts experts_of(const struct model_config *config, const struct block_weights *w) {
    struct device_experts experts = block_experts(config);
    experts.gate_up = &w->experts_gate_up;
    experts.gate_up_bias = w->experts_gate_up_bias;
    experts.down = &w->experts_down;
    experts.down_bias = w->experts_down_bias;
    return experts;
}

// branch = the norm of branch, which the MLP has come to, and that of the experts' sum. The MLP has no more
// need of `normed` and `wide`.
static int run_beside(const struct block_pass *pass, const struct block_weights *w, void *branch,
                      struct error *err) {
    const struct model_config *config = pass->config;
    const struct block_buffers *b = &pass->buffers;
    struct device_routing routing = routing_of(&config->experts, w, config->hidden);
    struct device_experts experts = experts_of(config, w);
    struct device_norm of_router = norm_of(config, w->router_norm, NULL);
    of_router.kind =
        DEVICE_NORM_RMS; // the norm itself is without a weight, and is multiplied with one behind
    TRY(norm_into(pass, branch, branch, w->mlp_branch_norm, NULL, DEVICE_STORE, err));
    TRY(device_norm(pass->device, b->normed, b->x, &of_router, DEVICE_STORE, pass->tokens, config->hidden,
                    err));
    TRY(device_route(pass->device, &b->routes, b->normed, w->router, NULL, &routing, pass->tokens,
                     config->hidden, err));
    TRY(block_norm(pass, b->normed, w->experts_norm, NULL, err));
    TRY(device_experts(pass->device, b->wide, b->normed, &b->routes, &experts, DEVICE_STORE, pass->tokens,
                       pass->scratch, err));
    return norm_into(pass, branch, b->wide, w->experts_branch_norm, NULL, DEVICE_ADD, err);
}

static int run_experts(const struct block_pass *pass, const struct block_weights *w, size_t block,
                       struct error *err) {
    const struct model_config *config = pass->config;
    const struct block_buffers *b = &pass->buffers;
    struct device_routing routing = routing_of(&config->experts, w, config->hidden);
    struct device_experts experts = experts_of(config, w);
    bool at_once = block_mlp_adds_at_once(config, block);
    bool adds = at_once || block_has_shared(config, block) || config->branches != BRANCHES_SERIAL;
    bool latent = config->experts.latent > 0; // then their sum is a matmul's operand
    const void *in = buffer_at(b, block_branch_in(config));
    void *out = buffer_at(b, block_branch_out(config, at_once));
    if (!config_has_experts(config, block)) {
        return STATUS_OK;
    }
    if (config->experts.beside_mlp) {
        return run_beside(pass, w, out, err);
    }
    if (w->shared_gate != NULL) { // out holds what the MLP beside the experts has come to
        TRY(device_gate_rows(pass->device, out, in, w->shared_gate, pass->tokens, config->hidden,
                             config->hidden, err));
    }
    TRY(device_route(pass->device, &b->routes, in, w->router, w->router_bias, &routing, pass->tokens,
                     config->hidden, err));
    return device_experts(pass->device, latent ? b->key_latent : out, latent ? b->latent : in, &b->routes,
                          &experts, adds && !latent ? DEVICE_ADD : DEVICE_STORE, pass->tokens, pass->scratch,
                          err);
}

// inner = activation(gate(x)) * the block's own input
static int run_input(const struct block_pass *pass, size_t block, struct error *err) {
    const struct model_config *config = pass->config;
    size_t first = block * config->layer_input * dtype_size(device_dtype(pass->device));
    return config->layer_input == 0
               ? STATUS_OK
               : device_activate_by(pass->device, pass->buffers.inner, pass->buffers.wide,
                                    (const char *)pass->layer_inputs + first, config_layer_inputs(config),
                                    config->activation, pass->tokens, config->layer_input, err);
}

// x += the norm of what has come of it. The input is 2^1/2 times what transformers' is, which the norm takes
// back where its epsilon is twice as large.
static int add_input(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct model_config *config = pass->config;
    struct device_norm norm = norm_of(config, w->input_add_norm, NULL);
    norm.epsilon = (float)(2 * config->norm_epsilon);
    if (config->layer_input == 0) {
        return STATUS_OK;
    }
    return norm.weight == NULL ? error_set(err, STATUS_INTERNAL, "a norm has no weight")
                               : device_norm(pass->device, pass->buffers.x,
                                             buffer_at(&pass->buffers, block_branch_out(config, false)),
                                             &norm, DEVICE_ADD, pass->tokens, config->hidden, err);
}

int block_run_step(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                   enum block_step step, struct error *err) {
    struct device_attention shape = block_attention(pass->config, block, pass->longest);
    enum block_mixer mixer = config_mixer(pass->config, block);
    switch (step) {
    // x += output(attention(rope(qkv(norm(x)))))
    case BLOCK_ATTENTION_NORM:
        return run_norm(pass, mixer != MIXER_NONE, weights->input_norm, weights->input_norm_bias, err);
    case BLOCK_ROPE:
        return mixer == MIXER_ATTENTION ? run_rope(pass, weights, block, shape.heads, err) : STATUS_OK;
    case BLOCK_ATTENTION:
        return run_mixer(pass, weights, block, &shape, err);
    case BLOCK_GATING:
        return run_gating(pass, shape.heads, err);
    case BLOCK_ATTENTION_ADD:
        return add_attention(pass, weights, block, err);
    // x += down(activation(gate(norm(x))) * up(norm(x))), the sum of some experts that are alike, or both
    case BLOCK_MLP_NORM:
        return run_norm(pass,
                        pass->config->branches != BRANCHES_ONE_NORM &&
                            config_has_second_branch(pass->config, block),
                        weights->mlp_norm, weights->mlp_norm_bias, err);
    case BLOCK_ACTIVATION:
        return run_activation(pass, weights, block, err);
    case BLOCK_EXPERTS:
        return run_experts(pass, weights, block, err);
    case BLOCK_MLP_ADD:
        return add_mlp(pass, weights, block, err);
    // x += norm(down(activation(gate(x)) * what the block has of the token)), then x *= scale
    case BLOCK_INPUT_ACTIVATION:
        return run_input(pass, block, err);
    case BLOCK_INPUT_ADD:
        return add_input(pass, weights, err);
    case BLOCK_SCALE:
        return weights->scale == NULL ? STATUS_OK
                                      : device_scale(pass->device, pass->buffers.x, weights->scale,
                                                     pass->tokens, pass->config->hidden, err);
    case BLOCK_QUERY_NORM:
    case BLOCK_KEY_NORM:
    case BLOCK_KEY_PLACE:
        return block_latent_step(pass, weights, shape.heads, step, err);
    case BLOCK_QUERY_DOWN:
    case BLOCK_QUERY_UP:
    case BLOCK_KEY_DOWN:
    case BLOCK_KEY_UP:
    case BLOCK_QKV:
    case BLOCK_ATTENTION_GATE:
    case BLOCK_OUTPUT:
    case BLOCK_GATE_UP:
    case BLOCK_DOWN:
    case BLOCK_EXPERTS_DOWN:
    case BLOCK_EXPERTS_UP:
    case BLOCK_INPUT_GATE:
    case BLOCK_INPUT_DOWN:
        return run_matmul(pass, weights, block, step, err);
    case BLOCK_STEPS:
        break;
    }
    return error_set(err, STATUS_INTERNAL, "a block has no step %d", (int)step);
}

int block_run(const struct block_pass *pass, const struct block_weights *weights, size_t block,
              struct error *err) {
    for (int step = 0; step < BLOCK_STEPS; step++) {
        if (block_run_step(pass, weights, block, (enum block_step)step, err) != STATUS_OK) {
            return error_wrap(err, "block %zu", block);
        }
    }
    return STATUS_OK;
}
