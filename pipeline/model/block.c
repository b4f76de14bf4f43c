#include "model/block.h"

#include "base/size.h"
#include "kernels/operations.h"
#include "model/block_latent.h"

enum block_kind block_step_kind(enum block_step step) {
    switch (step) {
    case BLOCK_QUERY_DOWN:
    case BLOCK_QUERY_UP:
    case BLOCK_KEY_DOWN:
    case BLOCK_KEY_UP:
    case BLOCK_QKV:
    case BLOCK_OUTPUT:
    case BLOCK_GATE_UP:
    case BLOCK_DOWN:
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

// ---- the list of matmuls ----

#define WEIGHT(member) offsetof(struct block_weights, member)
#define BUFFER(member) offsetof(struct block_buffers, member)

// Whether a branch's last operation adds to x itself.
static bool adds_at_once(const struct model_config *config) {
    return config->branches == BRANCHES_SERIAL &&
           (config->norms == NORMS_BEFORE || config->norms == NORMS_OF_SUM) && config->residual_scale == 0;
}

static bool has_shared(const struct model_config *config, size_t block) {
    return config_has_experts(config, block) && config->experts.shared_width > 0;
}

// The same of the second branch: experts and the MLP beside them are one sum before it is added.
static bool mlp_adds_at_once(const struct model_config *config, size_t block) {
    return adds_at_once(config) && !has_shared(config, block);
}

static bool has_norm_before(const struct model_config *config) {
    return config->norms == NORMS_BEFORE || config->norms == NORMS_AROUND;
}

// What the first matmul of a branch reads.
static size_t branch_in(const struct model_config *config) {
    return has_norm_before(config) ? BUFFER(normed) : BUFFER(x);
}

// What the last one writes. Serial branches that are not added at once have no more need of what they read;
// experts read it to the end.
static size_t branch_out(const struct model_config *config, bool at_once) {
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

// Of the products before and behind what mixes tokens.
static const char *const mixer_keys[][2] = {
    [MIXER_ATTENTION] = {"'hidden_size' and heads of 'head_dim' times their numbers",
                         "'hidden_size' and 'num_attention_heads' times 'head_dim'"},
    [MIXER_DELTA_NET] = {"'hidden_size' and the heads of linear attention",
                         "'hidden_size' and 'linear_num_value_heads' times 'linear_value_head_dim'"},
    [MIXER_CONVOLUTION] = {"three times 'hidden_size'", "'hidden_size'"}};

size_t block_matmuls(const struct model_config *config, size_t block,
                     struct block_matmul out[BLOCK_MATMULS_MOST]) {
    const bool serial = config->branches == BRANCHES_SERIAL;
    const bool mlp_at_once = mlp_adds_at_once(config, block);
    const enum block_mixer mixer = config_mixer(config, block);
    const bool latent = config->latent.key > 0;
    const struct block_matmul all[] = {
        {.step = BLOCK_QUERY_DOWN,
         .keys = "'hidden_size' and 'q_lora_rank'",
         .matrix = WEIGHT(query_down),
         .bias = WEIGHT(query_down_bias),
         .in = branch_in(config),
         .out = BUFFER(latent)},
        {.step = BLOCK_QUERY_UP,
         .keys = "'q_lora_rank' and heads of 'qk_nope_head_dim' and 'qk_rope_head_dim'",
         .matrix = WEIGHT(query_up),
         .bias = WEIGHT(qkv_bias), // which no latent has
         .in = config->latent.query > 0 ? BUFFER(latent) : branch_in(config),
         .out = BUFFER(inner)},
        {.step = BLOCK_KEY_DOWN,
         .keys = "'hidden_size', 'kv_lora_rank' and 'qk_rope_head_dim'",
         .matrix = WEIGHT(key_down),
         .bias = WEIGHT(key_down_bias),
         .in = branch_in(config),
         .out = BUFFER(latent)},
        {.step = BLOCK_KEY_UP,
         .keys = "'kv_lora_rank' and heads of 'qk_nope_head_dim' and 'v_head_dim'",
         .matrix = WEIGHT(key_up),
         .bias = WEIGHT(qkv_bias),
         .in = BUFFER(key_latent),
         .out = BUFFER(inner)},
        {.step = BLOCK_QKV,
         .keys = mixer_keys[mixer][0],
         .store = DEVICE_STORE,
         .matrix = WEIGHT(qkv),
         .bias = WEIGHT(qkv_bias),
         .in = branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_OUTPUT,
         .keys = mixer_keys[mixer][1],
         .store = adds_at_once(config) ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(output),
         .bias = WEIGHT(output_bias),
         .in = latent ? BUFFER(wide) : BUFFER(inner),
         .out = branch_out(config, adds_at_once(config))},
        {.step = BLOCK_GATE_UP,
         .keys = config->plain_mlp ? "'hidden_size' and 'intermediate_size'"
                                   : "'hidden_size' and twice 'intermediate_size'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(gate_up),
         .bias = WEIGHT(gate_up_bias),
         .in = branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_DOWN,
         .keys = "'hidden_size' and 'intermediate_size'",
         .store = mlp_at_once || !serial ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(down),
         .bias = WEIGHT(down_bias),
         .in = BUFFER(inner),
         .out = branch_out(config, mlp_at_once)},
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
         .out = branch_out(config, false)},
    };
    _Static_assert(sizeof all / sizeof all[0] <= BLOCK_MATMULS_MOST, "more matmuls than a list holds");
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        count += list_matmul(config, block, &all[i], &out[count]);
    }
    return count;
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

// Of attention, of a short convolution, or of a delta net's convolution and state: each number of it is
// scaled, read for a key, added to and read for a query.
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
        multiply_adds +=
            (double)config->hidden * (double)(experts->count + 3 * experts->chosen * experts->width);
    }
    return 2 * multiply_adds * (double)tokens + mixer_flops(config, block, tokens, squared_lengths);
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
    return has && has_norm_before(pass->config) ? block_norm(pass, pass->buffers.normed, weight, bias, err)
                                                : STATUS_OK;
}

// x += what a branch has come to, normalised or scaled where the family does so.
static int run_add(const struct block_pass *pass, const void *weight, struct error *err) {
    const struct model_config *config = pass->config;
    const void *branch = buffer_at(&pass->buffers, branch_out(config, false));
    if (config->norms != NORMS_BEFORE) {
        return norm_into(pass, pass->buffers.x, branch, weight, NULL, DEVICE_ADD, err);
    }
    float scale = config->residual_scale == 0 ? 1 : (float)config->residual_scale;
    return device_add(pass->device, pass->buffers.x, branch, scale, pass->tokens, config->hidden, err);
}

static int add_attention(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct model_config *config = pass->config;
    if (config->norms == NORMS_OF_SUM) {
        return block_norm(pass, pass->buffers.x, w->input_norm, w->input_norm_bias, err);
    }
    return config->branches != BRANCHES_SERIAL || adds_at_once(config)
               ? STATUS_OK
               : run_add(pass, w->attention_norm, err);
}

static int add_mlp(const struct block_pass *pass, const struct block_weights *w, size_t block,
                   struct error *err) {
    if (pass->config->norms == NORMS_OF_SUM) {
        return block_norm(pass, pass->buffers.x, w->mlp_norm, w->mlp_norm_bias, err);
    }
    return mlp_adds_at_once(pass->config, block) ? STATUS_OK : run_add(pass, w->branch_norm, err);
}

// Norms of queries and keys, each of `count` groups of columns side by side.
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
                               .query_scale = pass->query_scale,
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
    return config->qk_norm == QK_NORM_AFTER ? norm_qk(pass, w, heads, err) : STATUS_OK;
}

static int run_delta_net(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_delta_net net = pass->config->delta_net;
    net.convolution = w->net_convolution;
    net.decay = w->net_decay;
    net.step_bias = w->net_step_bias;
    net.norm = w->net_norm;
    net.epsilon = (float)pass->config->norm_epsilon;
    return device_delta_net(pass->device, b->inner, b->wide, &net, pass->texts,
                            pass->texts.kept == NULL ? NULL : pass->kept, pass->scratch, err);
}

// Keeps keys and values where a later slice or block takes them, and says where attention has its own from.
static int keep(const struct block_pass *pass, size_t block, struct device_heads heads,
                struct device_texts *texts, struct error *err) {
    enum block_keys keys = config_keys(pass->config, block);
    void *shared = pass->shared[pass->config->layer_slides[block] != 0];
    bool is_slice = texts->kept != NULL;
    if (keys == KEYS_SHARED) {
        texts->kept = shared;
        return STATUS_OK;
    }
    if (keys == KEYS_KEPT && is_slice) {
        texts->kept = shared;
    }
    return keys == KEYS_OWN && !is_slice
               ? STATUS_OK
               : device_keep(pass->device, keys == KEYS_KEPT ? shared : pass->kept, texts->before,
                             pass->buffers.wide, heads, pass->tokens, err);
}

// Of a slice over the keys and values of the text so far. A gate of a query lies behind it.
static int run_attention(const struct block_pass *pass, const struct block_weights *w, size_t block,
                         struct device_attention *shape, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_heads heads = shape->heads;
    struct device_texts texts = pass->texts;
    shape->sinks = w->sinks;
    shape->slopes = pass->slopes;
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

static int run_convolution(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_short_convolution convolution = pass->config->convolution;
    convolution.weight = w->convolution;
    convolution.bias = w->convolution_bias;
    return device_short_convolution(pass->device, b->inner, b->wide, &convolution, pass->texts,
                                    pass->texts.kept == NULL ? NULL : pass->kept, err);
}

static int run_mixer(const struct block_pass *pass, const struct block_weights *w, size_t block,
                     struct device_attention *shape, struct error *err) {
    switch (config_mixer(pass->config, block)) {
    case MIXER_DELTA_NET:
        return run_delta_net(pass, w, err);
    case MIXER_CONVOLUTION:
        return run_convolution(pass, w, err);
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

static struct device_routing routing_of(const struct expert_config *experts, const struct block_weights *w) {
    return (struct device_routing){.experts = experts->count,
                                   .chosen = experts->chosen,
                                   .scores = experts->scores,
                                   .normalised = experts->normalised,
                                   .rounds_logits = !experts->wide_router,
                                   .rounds_weights = experts->rounds_weights,
                                   .scaling = (float)experts->scaling,
                                   .sum_more = (float)experts->sum_more,
                                   .wide_router = experts->wide_router,
                                   .correction = experts->has_correction ? w->correction : NULL,
                                   .groups = experts->groups,
                                   .chosen_groups = experts->chosen_groups,
                                   .group_pairs = experts->group_pairs};
}

static int run_experts(const struct block_pass *pass, const struct block_weights *w, size_t block,
                       struct error *err) {
    const struct model_config *config = pass->config;
    const struct block_buffers *b = &pass->buffers;
    struct device_routing routing = routing_of(&config->experts, w);
    struct device_experts experts = block_experts(config);
    bool at_once = mlp_adds_at_once(config, block);
    bool adds = at_once || has_shared(config, block) || config->branches != BRANCHES_SERIAL;
    const void *in = buffer_at(b, branch_in(config));
    void *out = buffer_at(b, branch_out(config, at_once));
    if (!config_has_experts(config, block)) {
        return STATUS_OK;
    }
    if (w->shared_gate != NULL) { // out holds what the MLP beside the experts has come to
        TRY(device_gate_rows(pass->device, out, in, w->shared_gate, pass->tokens, config->hidden,
                             config->hidden, err));
    }
    experts.gate_up = &w->experts_gate_up;
    experts.gate_up_bias = w->experts_gate_up_bias;
    experts.down = &w->experts_down;
    experts.down_bias = w->experts_down_bias;
    TRY(device_route(pass->device, &b->routes, in, w->router, w->router_bias, &routing, pass->tokens,
                     config->hidden, err));
    return device_experts(pass->device, out, in, &b->routes, &experts, adds ? DEVICE_ADD : DEVICE_STORE,
                          pass->tokens, pass->scratch, err);
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
                                             buffer_at(&pass->buffers, branch_out(config, false)), &norm,
                                             DEVICE_ADD, pass->tokens, config->hidden, err);
}

int block_run_step(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                   enum block_step step, struct error *err) {
    struct device_attention shape = block_attention(pass->config, block, pass->longest);
    bool attends = config_mixer(pass->config, block) == MIXER_ATTENTION;
    switch (step) {
    // x += output(attention(rope(qkv(norm(x)))))
    case BLOCK_ATTENTION_NORM:
        return run_norm(pass, true, weights->input_norm, weights->input_norm_bias, err);
    case BLOCK_ROPE:
        return attends ? run_rope(pass, weights, block, shape.heads, err) : STATUS_OK;
    case BLOCK_ATTENTION:
        return run_mixer(pass, weights, block, &shape, err);
    case BLOCK_ATTENTION_ADD:
        return add_attention(pass, weights, err);
    // x += down(activation(gate(norm(x))) * up(norm(x))), the sum of some experts that are alike, or both
    case BLOCK_MLP_NORM:
        return run_norm(pass, pass->config->branches != BRANCHES_ONE_NORM, weights->mlp_norm,
                        weights->mlp_norm_bias, err);
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
    case BLOCK_OUTPUT:
    case BLOCK_GATE_UP:
    case BLOCK_DOWN:
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
